"""The same search for every neural model: number of trials, ranges, choice by validation.

Trial 0 is the experiment as it stands, so tuning cannot make validation worse. Optuna (TPE) proposes the others and
prunes those below the median of earlier ones. Optuna's storage holds the trials of a search: a killed search resumes
and ends as an uninterrupted one.
"""

from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pandas as pd
import torch
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from mmrec import config, training
from mmrec.config import Config, ConfigError, Experiment, Paths, Space
from mmrec.experiments import engine, grid, inputs, run, store

CHOICES = ("dim", "layers", "fusion")  # one of a list; all else is a range
COLUMNS = ["experiment", "trial", "state", "epochs", "valid_ndcg_10"]
TUNED = ("main", "baselines")  # groups; the others are variants of what these hold
STATES = {TrialState.COMPLETE: "complete", TrialState.PRUNED: "pruned"}  # of a trial that has ended
OTHER_END = {"oldest": "latest", "latest": "oldest"}
INTEGERS = {"dim": "Int64", "layers": "Int64"}  # with blanks
optuna.logging.set_verbosity(optuna.logging.WARNING)


def tune(paths: Paths, settings: Config, dataset: str, device: torch.device) -> pd.DataFrame:
    """Search for every neural experiment of the groups `TUNED` of a data set, several in parallel.

    Returns:
        trials.csv: a row a trial with `COLUMNS` and a column for each setting of the space, blank if a model lacks it.

    Raises:
        ConfigError: an experiment stands outside of the space.
    """
    tasks = [
        experiment
        for experiment in settings.resolve(dataset, tuned=False)
        if experiment.group in TUNED and not isinstance(experiment.model, config.UNTRAINED)
    ]
    for experiment in tasks:
        _check_inside(experiment, settings.tuning.space)
    work = partial(_search, paths, settings, device)
    found = engine.run_parallel(work, tasks, settings.runtime_of(dataset), device)
    table = pd.DataFrame([row for rows in found for row in rows])
    return table.astype({name: kind for name, kind in INTEGERS.items() if name in table})


def _check_inside(experiment: Experiment, space: Space) -> None:
    for name, value in _standing(experiment, space).items():
        allowed = getattr(space, name)
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
    usual = replace(experiment.training, **budget.training | own.training)
    experiment = replace(experiment, training=replace(usual, **budget.slow.get(experiment.name, {})))
    warm_up = round(budget.warm_up * experiment.training.epochs / usual.epochs)  # longer trials are pruned later
    asked = {"trials": budget.trials, "space": asdict(budget.space), "warm_up": warm_up, "optuna": optuna.__version__}
    folder = store.run_folder(run.run_key(experiment, budget.seed, data, settings) | asked, paths.runs)
    folder.mkdir(parents=True, exist_ok=True)
    with store.lock(folder):
        (folder / "study.log.lock").unlink(missing_ok=True)  # of a killed search; Optuna would wait for it
        study = optuna.create_study(
            storage=JournalStorage(JournalFileBackend(str(folder / "study.log"))),
            study_name="search",
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_startup_trials=2, n_warmup_steps=warm_up),
            load_if_exists=True,
        )
        shown = inputs.shown_to(experiment, data, budget.seed)
        # Sampler and pruner ignore an interrupted trial: it is proposed anew.
        while (number := len(study.get_trials(states=tuple(STATES)))) < budget.trials:
            # Each trial has its own sampler, so that a resumed search proposes the same.
            seed = int(np.random.SeedSequence([budget.seed, number]).generate_state(1)[0])
            study.sampler = optuna.samplers.TPESampler(
                seed=seed, n_startup_trials=budget.trials // 2, multivariate=False, constant_liar=False
            )
            if not number and not study.get_trials(states=(TrialState.WAITING,)):
                study.enqueue_trial(_standing(experiment, budget.space))
            trial = study.ask()
            values = propose(trial, experiment, budget.space)
            proposed = changed(experiment, values) if number else experiment
            checkpoint = folder / f"{number}.pt"
            reached = _train(trial, proposed, shown, settings, checkpoint)
            study.tell(trial, reached, TrialState.PRUNED if reached is None else TrialState.COMPLETE)
            checkpoint.unlink(missing_ok=True)
    rows = []
    for number, ended in enumerate(study.get_trials(states=tuple(STATES))):
        curve = ended.intermediate_values.values()
        told = (experiment.name, number, STATES[ended.state], len(curve), max(curve))
        rows.append(dict(zip(COLUMNS, told, strict=True)) | _rounded(ended.params))
    return rows


def _train(
    trial: optuna.Trial, experiment: Experiment, shown: inputs.Data, settings: Config, checkpoint: Path
) -> float | None:
    """The highest validation NDCG@10 of a trial; None if it was pruned."""
    reported = 0

    def lags(curve: list[dict[str, float]]) -> bool:
        nonlocal reported
        for row in curve[reported:]:  # several at once from a checkpoint
            trial.report(row["valid_ndcg_10"], int(row["epoch"]))
        reported = len(curve)
        return bool(trial.should_prune())

    label = f"{experiment.dataset} {experiment.name} trial {checkpoint.stem}"
    asked = {"seed": settings.tuning.seed, "max_length": settings.protocol.max_length, "checkpoint": checkpoint}
    _, curve = run.fit(experiment, shown, **asked, label=label, stop=lags)
    if lags(curve) and not training.finished(curve, experiment.training):
        return None
    return max(row["valid_ndcg_10"] for row in curve)


def _standing(experiment: Experiment, space: Space) -> dict[str, Any]:
    """The experiment's values of the settings that are searched, by their names in the space."""
    has = asdict(experiment.training) | asdict(experiment.model)
    standing = {name: has[_field(experiment, name)] for name in asdict(space) if _field(experiment, name) in has}
    weights = [value for name, value in has.items() if name.endswith("_weight") and value > 0]
    return standing | ({"auxiliary_weight": weights[0]} if "regression" in has and weights else {})


def _field(experiment: Experiment, name: str) -> str:
    """The setting behind a name of the space: `fusion` is MAF's `score_fusion`."""
    return "score_fusion" if name == "fusion" and hasattr(experiment.model, "score_fusion") else name


def propose(trial: optuna.Trial, experiment: Experiment, space: Space) -> dict[str, Any]:
    """The values of a trial."""
    for name in _standing(experiment, space):
        chosen = getattr(space, name)
        if name in CHOICES:
            trial.suggest_categorical(name, chosen)
        else:
            trial.suggest_float(name, *chosen, log=name != "dropout")
    return _rounded(trial.params)


def _rounded(values: dict[str, Any]) -> dict[str, Any]:
    """Numbers of ranges with two digits, which params.yaml can hold exactly."""
    return {name: value if name in CHOICES else float(f"{value:.2g}") for name, value in values.items()}


def changed(experiment: Experiment, values: dict[str, Any]) -> Experiment:
    """The experiment with the values of a trial: `auxiliary_weight` is that of every head, `dim` of every stream."""
    values = {_field(experiment, name): value for name, value in values.items()}
    rate = values.pop("learning_rate")
    if weight := values.pop("auxiliary_weight", None):
        model = asdict(experiment.model)
        values |= {name: weight for name, value in model.items() if name.endswith("_weight") and value > 0}
    widths = {"stream_dim": values["dim"], "hidden": 2 * values["dim"]}
    values |= {name: width for name, width in widths.items() if hasattr(experiment.model, name)}
    budget = replace(experiment.training, learning_rate=rate)
    return replace(experiment, model=replace(experiment.model, **values), training=budget)


def finalists(paths: Paths, settings: Config, dataset: str, device: torch.device, trials: pd.DataFrame) -> pd.DataFrame:
    """Train each experiment, as it stands and with its best other trial, like a final run with the first seed.

    Trials are short, which favours fast learners over better models. Experiments of `tuning.both_ends` then train the
    better of the two with positions from the other end, too. The validation curve alone decides. The run of the chosen
    one is kept.

    Returns:
        finalists.csv: rows of `trials`, but with the epochs and the validation NDCG@10 of the whole run, the
        `best_epoch`, and `positions_from` (blank where a model has none).

    Raises:
        ConfigError: `tuning.both_ends` names an experiment whose model has no positions.
    """
    standing = {experiment.name: experiment for experiment in settings.resolve(dataset, tuned=False)}
    for name in settings.tuning.both_ends:
        if name in standing and not hasattr(standing[name].model, "positions_from"):
            raise ConfigError(f"tuning.both_ends: {name} has no positions")

    def trained(rows: list[dict[str, Any]]) -> pd.DataFrame:
        """Rows of trials with `epochs`, `valid_ndcg_10` and `best_epoch` of a whole run each."""
        seed = settings.seeds_of(dataset)[0]
        wanted = [(_of_trial(standing[row["experiment"]], row, settings.tuning.space), seed) for row in rows]
        for row, result in zip(rows, grid.run_all(paths, settings, dataset, device, wanted), strict=True):
            reached = result.curve["valid_ndcg_10"]
            row |= {"epochs": len(reached), "valid_ndcg_10": reached.max(), "best_epoch": int(reached.argmax()) + 1}
        return pd.DataFrame(rows).astype(trials.dtypes)

    chosen = trials[trials["trial"] > 0].pipe(best)
    rows = pd.concat([trials[trials["trial"] == 0], chosen]).sort_index().to_dict("records")
    for row in rows:
        row["positions_from"] = getattr(standing[row["experiment"]].model, "positions_from", None)
    table = trained(rows)
    better = best(table[table["experiment"].isin(settings.tuning.both_ends)]).to_dict("records")
    if turned := [row | {"positions_from": OTHER_END[row["positions_from"]]} for row in better]:
        table = pd.concat([table, trained(turned)])
    table = table.sort_values("experiment", key=lambda names: names.map(list(standing).index), kind="stable")
    return table.drop(columns="state").reset_index(drop=True)


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
    chosen = {row["experiment"]: _of_trial(standing[row["experiment"]], row, settings.tuning.space) for row in rows}
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


def _of_trial(experiment: Experiment, row: dict[str, Any], space: Space) -> Experiment:
    """The experiment with the settings of a row of trials.csv or finalists.csv."""
    if row["trial"]:
        experiment = changed(experiment, {name: row[name] for name in _standing(experiment, space)})
    if isinstance(start := row.get("positions_from"), str):
        experiment = replace(experiment, model=replace(experiment.model, positions_from=start))
    return experiment


def _differing(before: Any, after: Any) -> str:
    held = asdict(before)
    return ", ".join(f"{name}: {new}" for name, new in asdict(after).items() if new != held[name])
