"""An experiment: model, training and data controls; and the search that tunes it."""

from dataclasses import asdict, field, fields
from typing import Annotated, Any, Literal

from pydantic import Field

from mmrec.config.models import UNTRAINED, Model
from mmrec.config.types import Count, InstructionSet, Modalities, Name, Positive, Seed, Share, Weight, section


@section
class Runtime:
    """The arithmetic. CPU results are exact to the bit for one thread count and instruction set."""

    device: Literal["auto", "cpu", "cuda"]
    threads: Count  # of training, whose products are small
    encoder_threads: Count  # of feature extraction, whose products are large
    instruction_set: InstructionSet  # portable: any x86-64 processor since 2013, see runtime.py
    engine: Literal["local", "ray"] = "local"  # of runs: processes here, or tasks of a cluster. No result depends on it


@section
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


@section
class DataControls:
    """Changes to the data before a model sees them. The defaults change nothing."""

    features: Literal["own", "permuted", "random", "none"] = "own"  # permuted: of other items
    draws: Literal["once", "each_seed"] = "once"  # of permuted and random features
    categories: Literal["all", "rarest"] = "all"  # of each item
    histories: Literal["ordered", "shuffled"] = "ordered"


@section
class Changes:
    """Differences to the settings of lower layers, see `Config.layers`."""

    options: dict[str, Any] = field(default_factory=dict)  # of the model
    training: dict[str, Any] = field(default_factory=dict)
    data: dict[str, Any] = field(default_factory=dict)  # see `DataControls`


@section
class ExperimentEntry(Changes):
    """An experiment in params.yaml."""

    model: Name
    control: Name | None = None  # its control, of the same group or of one before it
    needs: Modalities = ()  # a data set that lacks one of these skips the experiment
    seeds: Count | None = None  # the data set's first so many; null: all


@section
class Experiment:
    """An experiment with every setting resolved for one data set."""

    dataset: str
    group: str
    name: str
    model: Model
    training: Training
    control: str | None = None
    seeds: int | None = None
    data: DataControls = DataControls()

    @property
    def determines(self) -> dict[str, Any]:
        """The experiment's part of a run's key: model class, `options`, `training` (None: untrained) and `controls`.

        A setting at its default is left out. So a new setting whose default means "as before" changes no key.
        """
        budget = None if isinstance(self.model, UNTRAINED) else _told(self.training)
        if budget and self.training.loss == "softmax":
            del budget["negatives"]  # it draws none
        name, options, controls = type(self.model).__name__, _told(self.model), _told(self.data)
        return {"model": name, "options": options, "training": budget, "controls": controls}


def _told(settings: Any) -> dict[str, Any]:
    """Settings that differ from the defaults of their class."""
    defaults = {one.name: one.default for one in fields(settings)}
    return {name: value for name, value in asdict(settings).items() if value != defaults[name]}


@section
class Space:
    """Settings that a search may change. Ranges: lowest and highest; lists: the candidates."""

    learning_rate: tuple[Positive, Positive]  # logarithmic
    dropout: tuple[Share, Share]
    dim: Annotated[tuple[Count, ...], Field(min_length=1)]
    layers: Annotated[tuple[Count, ...], Field(min_length=1)]
    positions_from: Annotated[tuple[Literal["oldest", "latest"], ...], Field(min_length=1)]
    fusion: Annotated[tuple[Literal["sum", "concat", "gate"], ...], Field(min_length=1)]  # MAF's score_fusion, too
    image_weight: tuple[Positive, Positive]  # logarithmic, as the next two; of losses that are on
    text_weight: tuple[Positive, Positive]
    category_weight: tuple[Positive, Positive]

    def __post_init__(self) -> None:
        for name in ("learning_rate", "dropout", "image_weight", "text_weight", "category_weight"):
            low, high = getattr(self, name)
            if low > high:
                raise ValueError(f"{name}: the lowest comes first, not {low}, {high}")


@section
class Tuning:
    """The budget of the search."""

    experiments: tuple[Name, ...]  # neural ones; others keep their settings, and variants take their control's
    trials: Count  # for each setting of an experiment that is searched; the first is the experiment as it stands
    seed: Seed
    training: dict[str, Any]  # of a trial: differences to the experiment's
    space: Space
