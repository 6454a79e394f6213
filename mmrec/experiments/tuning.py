"""The same search for every neural model: as many trials a setting, the same ranges, choice by validation.

Trial 0 is the experiment as it stands, so tuning cannot make validation worse. Optuna (TPE) proposes the others. No
trial is pruned: it would be judged by other trials of its own model alone. Optuna's storage holds the trials of a
search: a killed search resumes and ends as an uninterrupted one.
"""

from dataclasses import asdict, replace
from functools import partial
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from mmrec.config import Config, ConfigError, Experiment, Paths
from mmrec.experiments import engine, grid, inputs, run, store

CHOICES = ("dim", "layers", "positions_from", "fusion")  # one of a list; all else is a range
COLUMNS = ["experiment", "trial", "epochs", "valid_ndcg_10"]
INTEGERS = {"dim": "Int64", "layers": "Int64"}  # with blanks
optuna.logging.set_verbosity(optuna.logging.WARNING)


def tune(paths: Paths, settings: Config, dataset: str, device: torch.device) -> pd.DataFrame:
    """Search for those of `tuning.experiments` that a data set has, several in parallel.

    Returns:
        trials.csv: a row a trial with `COLUMNS` and a column for each setting of the space, blank if a model lacks it.

    Raises:
        ConfigError: an experiment stands outside of the space.
    """
    tasks = [one for one in settings.resolve(dataset, tuned=False) if one.name in settings.tuning.experiments]
    for experiment in tasks:
        _check_inside(experiment, settings)
    work = partial(_search, paths, settings, device)
    found = engine.run_parallel(work, tasks, settings.runtime_of(dataset), device)
    table = pd.DataFrame([row for rows in found for row in rows])
    return table.astype({name: kind for name, kind in INTEGERS.items() if name in table})


def _check_inside(experiment: Experiment, settings: Config) -> None:
    for name, value in _standing(experiment, settings).items():
        allowed = getattr(settings.tuning.space, name)
        if not (value in allowed if name in CHOICES else allowed[0] <= value <= allowed[1]):
            raise ConfigError(
                f"tuning.space.{name}: {experiment.name} stands at {value}, outside of {list(allowed)}: "
                "a search starts where the experiment stands"
            )


def _search(paths: Paths, settings: Config, device: torch.device, experiment: Experiment) -> list[dict[str, Any]]:
    """Rows of trials.csv of one experiment."""
    dataset, budget = experiment.dataset, settings.tuning
    data = engine.data_once(paths.processed(dataset), settings.datasets[dataset].modalities, device)
    # An experiment keeps its own training, such as its loss; the rest of a trial's budget is the same for all.
    own = settings.experiments[experiment.group][experiment.name]
    experiment = replace(experiment, training=replace(experiment.training, **budget.training | own.training))
    trials = budget.trials * len(_standing(experiment, settings))
    asked = {"trials": trials, "space": asdict(budget.space), "optuna": optuna.__version__}
    folder = store.run_folder(run.run_key(experiment, budget.seed, data, settings) | asked, paths.runs)
    folder.mkdir(parents=True, exist_ok=True)
    with store.lock(folder):
        (folder / "study.log.lock").unlink(missing_ok=True)  # of a killed search; Optuna would wait for it
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(folder / "study.log"))),
            study_name="search",
            direction="maximize",
            load_if_exists=True,
        )
        shown = inputs.shown_to(experiment, data, budget.seed)
        # The sampler ignores an interrupted trial: it is proposed anew.
        while (number := len(study.get_trials(states=(TrialState.COMPLETE,)))) < trials:
            # Each trial has its own sampler, so that a resumed search proposes the same.
            seed = int(np.random.SeedSequence([budget.seed, number]).generate_state(1)[0])
            study.sampler = optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=trials // 2, multivariate=False, constant_liar=False
            )
            if not number and not study.get_trials(states=(TrialState.WAITING,)):
                study.enqueue_trial(_standing(experiment, settings))
            trial = study.ask()
            values = propose(trial, experiment, settings)
            proposed = changed(experiment, values) if number else experiment
            checkpoint, label = folder / f"{number}.pt", f"{dataset} {experiment.name} trial {number + 1}/{trials}"
            limits = {"max_length": settings.protocol_of(dataset).max_length, "checkpoint": checkpoint}
            _, curve = run.fit(proposed, shown, seed=budget.seed, **limits, label=label)
            trial.set_user_attr("epochs", len(curve))
            study.tell(trial, max(row["valid_ndcg_10"] for row in curve))
            checkpoint.unlink(missing_ok=True)
    rows = []
    for number, ended in enumerate(study.get_trials(states=(TrialState.COMPLETE,))):
        told = (experiment.name, number, ended.user_attrs["epochs"], ended.value)
        rows.append(dict(zip(COLUMNS, told, strict=True)) | _rounded(ended.params))
    return rows


def _standing(experiment: Experiment, settings: Config) -> dict[str, Any]:
    """The experiment's values of the settings that are searched, by their names in the space.

    A setting without effect is not searched: weights of losses that are off or whose modality the data set lacks, and
    the fusion of scores without streams.
    """
    has = asdict(experiment.training) | asdict(experiment.model)
    names = [name for name in asdict(settings.tuning.space) if _field(experiment, name) in has]
    heads = [f"{modality}_weight" for modality in settings.datasets[experiment.dataset].modalities]
    off = {name for name in names if name.endswith("_weight") and not (name in heads and has[name])}
    off |= {"fusion"} if not has.get("attention", True) else set()
    return {name: has[_field(experiment, name)] for name in names if name not in off}


def _field(experiment: Experiment, name: str) -> str:
    """The setting behind a name of the space: `fusion` is MAF's `score_fusion`."""
    return "score_fusion" if name == "fusion" and hasattr(experiment.model, "score_fusion") else name


def propose(trial: optuna.Trial, experiment: Experiment, settings: Config) -> dict[str, Any]:
    """The values of a trial."""
    for name in _standing(experiment, settings):
        chosen = getattr(settings.tuning.space, name)
        if name in CHOICES:
            trial.suggest_categorical(name, chosen)
        else:
            trial.suggest_float(name, *chosen, log=name != "dropout")
    return _rounded(trial.params)


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers of ranges with two digits, which params.yaml can hold exactly."""
    return {name: value if name in CHOICES else float(f"{value:.2g}") for name, value in values.items()}


def changed(experiment: Experiment, values: dict[str, Any]) -> Experiment:
    """The experiment with the values of a trial; `dim` is that of every stream."""
    values = {_field(experiment, name): value for name, value in values.items()}
    rate = values.pop("learning_rate")
    widths = {"stream_dim": values["dim"], "hidden": 2 * values["dim"]}
    values |= {name: width for name, width in widths.items() if hasattr(experiment.model, name)}
    budget = replace(experiment.training, learning_rate=rate)
    return replace(experiment, model=replace(experiment.model, **values), training=budget)


def finalists(paths: Paths, settings: Config, dataset: str, device: torch.device, trials: pd.DataFrame) -> pd.DataFrame:
    """Train each experiment, as it stands and with its best other trial, like a final run with the first seed.

    Trials are short, which favours fast learners over better models. The validation curve alone decides. The run of the
    chosen one is kept.

    Returns:
        finalists.csv: rows of `trials`, but with the epochs and the validation NDCG@10 of the whole run, and the
        `best_epoch`.
    """
    standing = {experiment.name: experiment for experiment in settings.resolve(dataset, tuned=False)}
    seed, first = settings.seeds_of(dataset)[0], trials["trial"] == 0
    rows = pd.concat([trials[first], best(trials[~first])]).sort_index(kind="stable").to_dict("records")
    wanted = [(_of_trial(standing[row["experiment"]], row, settings), seed) for row in rows]
    for row, result in zip(rows, grid.run_all(paths, settings, dataset, device, wanted), strict=True):
        reached = result.curve["valid_ndcg_10"]
        row |= {"epochs": len(reached), "valid_ndcg_10": reached.max(), "best_epoch": int(reached.argmax()) + 1}
    return pd.DataFrame(rows).astype(trials.dtypes)


def best(trials: pd.DataFrame) -> pd.DataFrame:
    """The row of each experiment with the highest validation NDCG@10."""
    return trials.loc[trials.groupby("experiment", sort=False)["valid_ndcg_10"].idxmax()]


def as_yaml(trials: pd.DataFrame, settings: Config, dataset: str) -> str:
    """The text of datasets.<dataset>.experiments in params.yaml for the best rows.

    An experiment is named with its differences to what it would be without a line of its own: the experiment as it
    stands, or, for a variant, its chosen control with the variant's own settings.
    """
    standing = {experiment.name: experiment for experiment in settings.resolve(dataset, tuned=False)}
    rows = best(trials).to_dict("records")
    chosen = {row["experiment"]: _of_trial(standing[row["experiment"]], row, settings) for row in rows}
    lines = []
    for name, after in chosen.items():
        before = standing[name]
        model, budget = before.model, before.training
        control = chosen.get(before.control)
        if control and type(control.model) is type(model):
            own = settings.experiments[before.group][name]
            model = replace(control.model, **{key: getattr(model, key) for key in own.options})
            budget = replace(control.training, **{key: getattr(budget, key) for key in own.training})
        parts = {"options": _differing(model, after.model), "training": _differing(budget, after.training)}
        if said := ", ".join(f"{part}: {{{changes}}}" for part, changes in parts.items() if changes):
            lines.append(f"      {name}: {{{said}}}")
    return "\n".join(["    experiments:" if lines else "    experiments: {}", *lines])


def _of_trial(experiment: Experiment, row: dict[str, Any], settings: Config) -> Experiment:
    """The experiment with the settings of a row of trials.csv or finalists.csv."""
    values = {name: row[name] for name in _standing(experiment, settings)}
    return changed(experiment, values) if row["trial"] else experiment


def _differing(before: Any, after: Any) -> str:
    held = asdict(before)
    return ", ".join(f"{name}: {new}" for name, new in asdict(after).items() if new != held[name])
