"""Types that several settings share, with their validation."""

import json
import re
from dataclasses import is_dataclass
from functools import cache
from typing import Annotated, Any, Literal, dataclass_transform, get_args, get_type_hints

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass


@dataclass_transform(frozen_default=True, kw_only_default=True)
def section(kind: type) -> type:
    """A frozen dataclass of settings, by keyword alone; it refuses unknown keys and values of another type.

    A ValueError of its `__post_init__` is one more problem of its key.
    """
    return dataclass(frozen=True, kw_only=True, config=ConfigDict(extra="forbid", strict=True))(kind)


def _different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) != len(values):
        raise ValueError("it holds one twice")
    return values


Different = AfterValidator(_different)

Length = Annotated[int, Field(ge=2)]  # of a sequence

Modality = Literal["image", "text", "category"]
Modalities = Annotated[tuple[Modality, ...], Different]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Names = Annotated[tuple[Name, ...], Different]
RESERVED = ("figures", "weights")  # reports/figures, data/raw/weights
RULE = "a data set's name is lower-case letters, digits and _, begins with a letter, and is not a folder of the project"


def _dataset_name(name: str) -> str:
    if name in RESERVED or not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
        proposed = re.sub(r"[^a-z0-9]+", "_", words).strip("_")
        proposed = proposed if proposed[:1].isalpha() and proposed not in RESERVED else f"my_{proposed or 'shop'}"
        raise ValueError(f"{RULE} ({', '.join(RESERVED)}), such as {proposed}")
    return name


DatasetName = Annotated[str, AfterValidator(_dataset_name)]
Share = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1)]
InstructionSet = Literal["portable", "native"]


class ConfigError(ValueError):
    """A setting in params.yaml is wrong; the message is one line that names the key."""


def validate(kind: Any, value: Any, where: str) -> Any:
    """`value` as a `kind`.

    JSON mode lets a YAML list stand for a tuple and a YAML date for a date, and is strict in all else.

    Raises ConfigError: names each wrong key behind `where`.
    """
    try:
        return _adapter(kind).validate_json(json.dumps(value, default=str), strict=True)
    except TypeError as error:
        raise ConfigError(f"{where}: every key is a plain name: {error}") from None
    except ValidationError as error:
        raise ConfigError("; ".join(_line(problem, kind, where) for problem in error.errors())) from None


_adapter = cache(TypeAdapter)  # making one takes longer than using it


def _line(problem: Any, kind: Any, where: str) -> str:
    """A problem as `key: message`."""
    key, message = ".".join([where, *map(str, problem["loc"])]), problem["msg"].removeprefix("Value error, ")
    if problem["type"] == "unexpected_keyword_argument":
        return f"{key}: no such key; {_keys(kind, problem['loc'][:-1])}"
    shown = "" if isinstance(problem["input"], dict) or message != problem["msg"] else f" (it is {problem['input']!r})"
    return f"{key}: {message}{shown}"


def _keys(kind: Any, location: tuple[int | str, ...]) -> str:
    """The keys allowed in the mapping at `location` inside a `kind`."""
    for part in location:
        kind = get_type_hints(kind)[part] if is_dataclass(kind) else get_args(kind)
        if isinstance(part, int):
            kind = kind[0]  # of every place in a tuple
        elif isinstance(kind, tuple):  # of a dict: key and value; of a union: its members, chosen by their `kind`
            members = (one for one in kind if is_dataclass(one))
            kind = next((one for one in members if part in get_args(get_type_hints(one).get("kind"))), kind[-1])
    return f"one of {list(get_type_hints(kind))}" if get_type_hints(kind) else "it has no settings"
