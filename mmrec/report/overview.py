"""Tables of the settings of a data set's experiments, controls included."""

import textwrap
from dataclasses import asdict

import pandas as pd

from mmrec import config


def originals(experiments: list[config.Experiment]) -> list[config.Experiment]:
    """Experiments that are no variant: they have no control, or another model is their control."""
    models = {experiment.name: type(experiment.model) for experiment in experiments}
    return [e for e in experiments if e.control is None or models[e.control] is not type(e.model)]


def differences(experiments: list[config.Experiment]) -> pd.DataFrame:
    """The settings that each variant changes, as `setting: its own (its control's)`."""
    settings = {experiment.name: _settings(experiment) for experiment in experiments}
    others = originals(experiments)
    rows = []
    for variant in (experiment for experiment in experiments if experiment not in others):
        own, control = settings[variant.name], settings[variant.control]
        changes = [f"{name}: {own[name]} ({control[name]})" for name in own if own[name] != control[name]]
        rows.append((variant.group, variant.name, variant.control, "; ".join(changes)))
    return pd.DataFrame(rows, columns=["group", "experiment", "control", "differs in"])


def overview(experiments: list[config.Experiment]) -> pd.DataFrame:
    """Settings, a column an experiment; blank: it has no such setting. A line names those that are shared."""
    rows = [_settings(experiment) for experiment in experiments]
    table = pd.DataFrame(rows, index=[experiment.name for experiment in experiments]).T
    same = (table.nunique(axis=1) == 1) & (table.count(axis=1) > 1)
    alike = [f"{name} {of.dropna().iloc[0]}" for name, of in table[same].iterrows()]
    print(textwrap.fill(f"Shared by all that have it: {'; '.join(alike)}.", 110))
    return table[~same].fillna("")


def _settings(experiment: config.Experiment) -> dict[str, str]:
    trained = {} if isinstance(experiment.model, config.UNTRAINED) else asdict(experiment.training)
    settings = asdict(experiment.model) | trained | asdict(experiment.data)
    shown = {name: ", ".join(value) if isinstance(value, tuple) else str(value) for name, value in settings.items()}
    return {"model": type(experiment.model).__name__} | shown
