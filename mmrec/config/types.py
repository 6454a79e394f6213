"""Types that several settings share: each one allows what its name says and nothing else."""

from typing import Annotated, Any, Literal, dataclass_transform

from pydantic import AfterValidator, ConfigDict, Field
from pydantic.dataclasses import dataclass

STRICT = ConfigDict(extra="forbid", strict=True)


@dataclass_transform(frozen_default=True, kw_only_default=True)
def section(kind: type) -> type:
    """A frozen dataclass of settings, by keyword alone; it refuses unknown keys and values of another type."""
    return dataclass(frozen=True, kw_only=True, config=STRICT)(kind)


def _different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) != len(values):
        raise ValueError("it holds one twice")
    return values


Different = AfterValidator(_different)

Modality = Literal["image", "text", "category"]
Modalities = Annotated[tuple[Modality, ...], Different]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Share = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1)]
InstructionSet = Literal["portable", "native"]
