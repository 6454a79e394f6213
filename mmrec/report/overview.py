"""Tables of the settings of experiments."""

from dataclasses import asdict
from typing import Any

import pandas as pd

from mmrec import config


def originals(experiments: list[config.Experiment]) -> list[config.Experiment]:
    """Those that are no variant of their control: they have none, or it is another model.

    Args:
        experiments: all of a data set, controls included.
    """
    models = {experiment.name: type(experiment.model) for experiment in experiments}
    return [e for e in experiments if e.control is None or models[e.control] is not type(e.model)]


def differences(experiments: list[config.Experiment]) -> pd.DataFrame:
    """What each variant changes of its control: group, experiment, control, `setting: its own (control's)`.

    Args:
        experiments: all of a data set, controls included.
    """
    settings = {experiment.name: _settings(experiment) for experiment in experiments}
    others = {experiment.name for experiment in originals(experiments)}
    rows = []
    for experiment in experiments:
        if experiment.name not in others:
            own, control = settings[experiment.name], settings[experiment.control]
            changes = [f"{n}: {_shown(own[n])} ({_shown(control[n])})" for n in own if own[n] != control[n]]
            rows.append((experiment.group, experiment.name, experiment.control, "; ".join(changes)))
    return pd.DataFrame(rows, columns=["group", "experiment", "control", "differs in"])


def overview(experiments: list[config.Experiment]) -> pd.DataFrame:
    """Settings of each experiment, a column each; blank: does not apply."""
    settings = {experiment.name: _settings(experiment) for experiment in experiments}
    names = dict.fromkeys(name for options in settings.values() for name in options)
    shown = {experiment: [_shown(options.get(name, "")) for name in names] for experiment, options in settings.items()}
    return pd.DataFrame(shown, index=list(names))


def _settings(experiment: config.Experiment) -> dict[str, Any]:
    trained = {} if isinstance(experiment.model, config.UNTRAINED) else asdict(experiment.training)
    return {"model": type(experiment.model).__name__} | asdict(experiment.model) | trained | asdict(experiment.data)


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
