"""`config show DATASET [EXPERIMENT]`: every setting and the layer of params.yaml that it comes from.

`python -m mmrec.config show` is the same as `python -m mmrec config show`.
"""

import runpy
import sys
from dataclasses import MISSING, asdict, fields, is_dataclass
from typing import Any

from mmrec.config import Config, Experiment

Row = tuple[str, Any, str]  # setting, value, layer
ELSEWHERE = ("models", "training", "experiments", "instruction_set")  # shown with an experiment or with `runtime`


def show(settings: Config, dataset: str, name: str | None = None) -> str:
    """The table of a data set, or of one of its experiments.

    Raises ConfigError: no such data set or experiment.
    """
    settings.check_known(dataset)
    if name is None:
        names = tuple(experiment.name for experiment in settings.resolve(dataset))
        rows = [*_of_dataset(settings, dataset), ("experiments", names, "groups")]
    else:
        rows = _of_experiment(settings, settings.experiment(dataset, name))
    # Values come last: some are long.
    shown = [(key, layer, ", ".join(map(str, v)) if isinstance(v, tuple) else str(v)) for key, v, layer in rows]
    shown.insert(0, ("setting", "from", "value"))
    first, second = (max(len(row[column]) for row in shown) for column in (0, 1))
    return "\n".join(f"{key:{first}}  {layer:{second}}  {value}" for key, layer, value in shown)


def _of_dataset(settings: Config, dataset: str) -> list[Row]:
    """A value that equals its default comes from `default`."""
    chosen = settings.datasets[dataset]
    shared = {"runtime": settings.runtime, "protocol": settings.protocol, "seeds": settings.seeds}
    used = {"runtime": settings.runtime_of(dataset), "protocol": settings.protocol_of(dataset)}
    used["seeds"] = settings.seeds_of(dataset)
    own = {field.name: getattr(chosen, field.name) for field in fields(chosen) if field.name not in ELSEWHERE}
    defaults = _flat({field.name: field.default for field in fields(chosen)} | shared)
    values = _flat(own | used).items()
    return [(name, value, "default" if defaults.get(name, MISSING) == value else "data set") for name, value in values]


def _flat(values: dict[str, Any]) -> dict[str, Any]:
    """Sections of settings as `section.setting`."""
    flat = {}
    for name, value in values.items():
        inner = {f"{name}.{one.name}": getattr(value, one.name) for one in fields(value)} if is_dataclass(value) else {}
        flat |= _flat(inner) or {name: value}
    return flat


def _of_experiment(settings: Config, experiment: Experiment) -> list[Row]:
    """A modality that the data set lacks is gone from the value, with the layer kept."""
    layers = settings.layers(experiment.dataset, experiment.group, experiment.name)
    rows = [("model", type(experiment.model).__name__, "experiment"), ("control", experiment.control, "experiment")]
    for part, resolved in (("options", experiment.model), ("training", experiment.training), ("data", experiment.data)):
        for name, value in asdict(resolved).items():
            said = ["default", *(layer for layer, changes in layers if name in getattr(changes, part))]
            rows.append((f"{part}.{name}", value, said[-1]))
    return rows


if __name__ == "__main__":
    sys.argv.insert(1, "config")
    runpy.run_module("mmrec", run_name="__main__")
