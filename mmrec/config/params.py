"""params.yaml as a whole, and the experiments that it asks for."""

from collections.abc import Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mmrec.config.datasets import GIVEN, IMAGE_ENCODERS, TEXT_ENCODERS, Dataset, Encoder
from mmrec.config.experiments import Changes, DataControls, Experiment, ExperimentEntry, Training, Tuning
from mmrec.config.models import FDSA, MODELS, UNTRAINED, Model, sees
from mmrec.config.paths import Paths
from mmrec.config.types import (
    ConfigError,
    Count,
    DatasetName,
    Different,
    InstructionSet,
    Length,
    Name,
    Seed,
    Seeds,
    section,
    validate,
)


@section
class Runtime:
    """Arithmetic and engine. CPU results are exact to the bit for one thread count and instruction set."""

    device: Literal["auto", "cpu", "cuda"]
    threads: Count  # of training, whose products are small
    encoder_threads: Count  # of feature extraction, whose products are large
    instruction_set: InstructionSet  # portable: any x86-64 processor since 2013, see runtime.py
    engine: Literal["local", "ray"] = "local"  # of runs: processes here, or tasks of a cluster. No result depends on it


@section
class Protocol:
    """Input and scoring of every model."""

    max_length: Length  # latest interactions that a model sees
    ks: Annotated[tuple[Count, ...], Field(min_length=1), Different]
    negatives: Count  # of the sampled protocol, drawn once; at most as many as every user has left
    negatives_seed: Seed


@section
class Config:
    """params.yaml."""

    runtime: Runtime
    datasets: dict[DatasetName, Dataset]
    protocol: Protocol
    encoders: dict[Name, Encoder]
    training: Training
    models: dict[Name, dict[str, Any]]
    experiments: dict[Name, dict[Name, ExperimentEntry]]
    tuning: Tuning
    seeds: Seeds

    @model_validator(mode="after")
    def _check(self) -> Self:
        if GIVEN in self.encoders:
            raise ValueError(f"encoders.{GIVEN}: the name stands for features that come with the data; choose another")
        for name, defaults in self.models.items():
            validate(_model(name, "models"), defaults, f"models.{name}")
        models = {name: entry.model for group in self.experiments.values() for name, entry in group.items()}
        neural = [name for name, model in models.items() if MODELS.get(model) not in UNTRAINED]
        if unknown := set(self.tuning.experiments) - set(neural):
            raise ValueError(f"tuning.experiments: no neural experiment {min(unknown)!r}; some of {neural}")
        for name, dataset in self.datasets.items():
            self._check_settings(name, dataset)
            self._check_groups(name, dataset)
            for group in self.experiments:
                self.resolve(name, group)
        return self

    def _check_settings(self, name: str, dataset: Dataset) -> None:
        trained = asdict(self.training) | dataset.training
        validate(Training, trained, f"datasets.{name}.training")
        validate(Training, trained | self.tuning.training, "tuning.training")
        where = f"datasets.{name}.models"
        for model, changes in dataset.models.items():
            validate(_model(model, where), self.models.get(model, {}) | changes, f"{where}.{model}")
        for modality, allowed in (("image", IMAGE_ENCODERS), ("text", TEXT_ENCODERS)):
            fitting = [key for key, encoder in self.encoders.items() if isinstance(encoder, allowed)]
            if (chosen := getattr(dataset, modality)) not in (None, GIVEN, *fitting):
                raise ValueError(
                    f"datasets.{name}.{modality}: no {modality} encoder {chosen!r}; one of {[*fitting, GIVEN]}"
                )

    def _check_groups(self, name: str, dataset: Dataset) -> None:
        if dataset.groups[:1] != ("main",):
            raise ValueError(f"datasets.{name}.groups: the first is main, not {list(dataset.groups)}")
        names: list[str] = []
        for group in dataset.groups:
            if group not in self.experiments:
                raise ValueError(f"datasets.{name}.groups: no group {group!r}; one of {list(self.experiments)}")
            if again := set(names) & set(self.experiments[group]):
                raise ValueError(f"datasets.{name}.groups: {sorted(again)} would be in two of them")
            names += self.experiments[group]
        if unknown := set(dataset.experiments) - set(names):
            raise ValueError(f"datasets.{name}.experiments: no experiment {sorted(unknown)}; one of {names}")
        experiments, main = self.resolve(name), self.resolve(name, "main")
        for one in experiments:
            where = f"with datasets.{name}, experiments.{one.group}.{one.name}"
            upto = dataset.groups[: dataset.groups.index(one.group) + 1]
            others = [e.name for e in experiments if e.group in upto and e.name != one.name]
            if one.control not in (None, *others):
                wrong = f"{one.control!r} is no other experiment of group {' or '.join(upto)}"
                raise ConfigError(f"{where}.control: {wrong}; one of {others}")
            if one.group != "main" and (same := [e.name for e in main if e.determines == one.determines]):
                mend = f"say what differs under datasets.{name}.experiments, or leave group {one.group} out"
                raise ConfigError(f"{where} is the same as {same[0]} of main: {mend}")

    def resolve(self, dataset: str, *groups: str, tuned: bool = True) -> list[Experiment]:
        """The experiments of `groups` whose needs the data set meets, see `layers`.

        A modality that the data set lacks is switched off.

        Args:
            groups: none means all groups of the data set.
            tuned: False leaves out `datasets.<dataset>.experiments`, the choices of tuning.
        """
        present = set(self.datasets[dataset].modalities)
        return [
            self._resolved(dataset, group, name, tuned)
            for group in groups or self.datasets[dataset].groups
            for name, entry in self.experiments[group].items()
            if set(entry.needs) <= present
        ]

    def _resolved(self, dataset: str, group: str, name: str, tuned: bool) -> Experiment:
        where = f"with datasets.{dataset}, experiments.{group}.{name}"
        entry, source = self.experiments[group][name], self.datasets[dataset]
        options, training, data = {}, {}, {}
        for _, said in self.layers(dataset, group, name, tuned):
            options, training, data = options | said.options, training | said.training, data | said.data
        model = validate(_model(entry.model, f"{where}.model"), options, f"{where}.options")
        data = validate(DataControls, data, f"{where}.data")
        unseen = not any(sees(model, modality) for modality in source.modalities)
        if data.features != "own" and unseen and group in source.groups:
            raise ConfigError(f"{where}.data.features: the model sees no feature of {dataset}; say own")
        shown = () if data.features == "none" else source.modalities
        if hasattr(model, "modalities"):
            model = replace(model, modalities=tuple(m for m in model.modalities if m in shown))
        needy = isinstance(model, FDSA) or getattr(model, "item_vector", "id") == "features"
        if needy and not model.modalities and group in source.groups:
            raise ConfigError(f"{where}: it needs a modality, and {dataset} has none of those it names")
        if data.categories != "all" and not ("category" in shown and sees(model, "category")):
            raise ConfigError(f"{where}.data.categories: no category is shown there; say all, or needs: [category]")
        training = validate(Training, training, f"{where}.training")
        about = {"dataset": dataset, "group": group, "name": name, "control": entry.control, "seeds": entry.seeds}
        return Experiment(**about, model=model, training=training, data=data)

    def layers(
        self, dataset: str, group: str, name: str, tuned: bool = True, variants: tuple[str, ...] = ()
    ) -> list[tuple[str, Changes]]:
        """Named layers of an experiment's settings. Later wins: defaults, data set, experiment.

        The last layer is `datasets.<dataset>.experiments`. A variant has the model of its control and starts from the
        settings of its control.

        Args:
            variants: experiments that start from this one.
        """
        source = self.datasets[dataset]
        upto = source.groups[: source.groups.index(group)] if group in source.groups else ["main"]
        entries = {key: one for part in (*upto, group) for key, one in self.experiments.get(part, {}).items()}
        entry = entries[name]
        control = entries.get(entry.control or "")
        if control is None or control.model != entry.model or entry.control == name:
            default = Changes(options=self.models.get(entry.model, {}), training=asdict(self.training))
            here = Changes(options=source.models.get(entry.model, {}), training=source.training)
            layers = [("default", default), ("data set", here)]
        elif entry.control in variants:
            raise ConfigError(f"experiments.{group}.{name}.control: {entry.control!r} starts from {name!r} itself")
        else:
            start = self.layers(dataset, group, entry.control, tuned, (name, *variants))
            layers = [(f"control {entry.control}" if "experiment" in layer else layer, said) for layer, said in start]
        layers.append(("experiment", entry))
        if tuned and name in source.experiments:
            layers.append(("experiment on this data set", source.experiments[name]))
        return layers

    def check_known(self, dataset: str) -> None:
        """Raise `ConfigError` unless params.yaml has the data set."""
        if dataset not in self.datasets:
            raise ConfigError(f"params.yaml has no data set {dataset!r}; one of {', '.join(self.datasets)}")

    def experiment(self, dataset: str, name: str) -> Experiment:
        """An experiment of a data set by its name. Raises `ConfigError`: no such data set or experiment."""
        self.check_known(dataset)
        known = {e.name: e for group in self.datasets[dataset].groups for e in self.resolve(dataset, group)}
        if name not in known:
            groups = [group for group, entries in self.experiments.items() if name in entries]
            mend = f"; add {groups[0]} to datasets.{dataset}.groups" if groups else ""
            raise ConfigError(f"data set {dataset} has no experiment {name!r}; one of {list(known)}{mend}")
        return known[name]

    def controls(self, dataset: str) -> dict[str, str]:
        """Each experiment of a data set that has a control -> its control."""
        return {experiment.name: experiment.control for experiment in self.resolve(dataset) if experiment.control}

    def runtime_of(self, dataset: str) -> Runtime:
        """The arithmetic of `dataset`'s runs."""
        own = self.datasets[dataset].instruction_set
        return replace(self.runtime, instruction_set=own) if own else self.runtime

    def protocol_of(self, dataset: str) -> Protocol:
        """Input and scoring of `dataset`'s models."""
        return replace(self.protocol, max_length=self.datasets[dataset].max_length or self.protocol.max_length)

    def seeds_of(self, dataset: str) -> tuple[Seed, ...]:
        """The seeds of experiments on `dataset`."""
        return self.datasets[dataset].seeds or self.seeds

    def grid(self, experiments: Iterable[Experiment]) -> list[tuple[Experiment, Seed]]:
        """Each experiment with each of its seeds."""
        return [(one, seed) for one in experiments for seed in self.seeds_of(one.dataset)[: one.seeds]]


def _model(name: str, where: str) -> type[Model]:
    if name not in MODELS:
        raise ConfigError(f"{where}: no model {name!r}; one of {list(MODELS)}")
    return MODELS[name]


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
    return validate(Config, raw, path.name)


def project() -> tuple[Paths, Config]:
    """Folders and settings of the project around the working directory."""
    paths = Paths.find()
    return paths, load(paths.root / "params.yaml")
