"""A data set: its source, filter, split, encoders, and the settings that differ on it."""

from dataclasses import field
from datetime import date
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from mmrec.config.experiments import Changes
from mmrec.config.sources import Source
from mmrec.config.types import Count, Different, InstructionSet, Modality, Name, Seeds, section


@section
class LeaveOneOut:
    """Each user's last item is the test item, the one before it the validation item."""

    kind: Literal["leave_one_out"] = "leave_one_out"


@section
class GlobalTime:
    """Two dates for all users: interactions before `valid` train.

    A user's first item from `valid` on is the validation item, the first from `test` on the test item. Unlike
    leave-one-out, no model learns from interactions that are later than the question.
    """

    kind: Literal["global_time"]
    valid: date
    test: date

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not self.valid < self.test:
            raise ValueError("valid must be before test")
        return self


Split = Annotated[LeaveOneOut | GlobalTime, Field(discriminator="kind")]


@section
class Statistics:
    """Published size of a data set after filtering."""

    users: Count
    items: Count
    interactions: Count | None = None  # not published
    on_mismatch: Literal["raise", "warn"] = "raise"  # warn: for releases that change after publication


@section
class Dataset:
    """One data set. Only `title` and `source` are needed; a data set without modalities has ids alone."""

    title: str
    source: Source
    user_core: Count = 5  # interactions a user must have ..
    item_core: Count = 5  # .. and an item, both repeated until nothing changes
    split: Split = LeaveOneOut()
    image: Name | None = None  # an encoder; null: no such modality
    text: Name | None = None
    category: bool = False
    expected: Statistics | None = None  # published size, compared with the filter's result
    groups: Annotated[tuple[Name, ...], Different] = ("main",)
    seeds: Seeds | None = None  # instead of `seeds`
    instruction_set: InstructionSet | None = None  # of its runs, instead of `runtime.instruction_set`
    archived: bool = False  # its finished runs are committed and reused; only missing weights are trained again
    models: dict[Name, dict[str, Any]] = field(default_factory=dict)  # differences to `models`
    training: dict[str, Any] = field(default_factory=dict)  # differences to `training`
    experiments: dict[Name, Changes] = field(default_factory=dict)  # differences of one experiment, such as tuned ones

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Modalities that the data set has."""
        present = {"image": self.image, "text": self.text, "category": self.category}
        return tuple(modality for modality, on in present.items() if on)
