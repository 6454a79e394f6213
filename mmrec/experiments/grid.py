"""All runs of groups of experiments, in parallel, and the tables that later stages read."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
from safetensors.torch import load_file

from mmrec import config
from mmrec.experiments import archive, store
from mmrec.experiments.build import Recommender, build
from mmrec.experiments.engine import data_once, run_parallel
from mmrec.experiments.inputs import Data, load_data, shown_to
from mmrec.experiments.run import run, run_key
from mmrec.files import atomic
from mmrec.progress import report


def run_groups(
    paths: config.Paths, settings: config.Config, dataset: str, groups: Sequence[str], device: torch.device
) -> None:
    """Run every experiment of these groups with every seed, then write the tables of each group.

    data/trained/<dataset>/<group>/ gets ranks.parquet (experiment, seed, split, user, a rank for each protocol) and
    curves.csv (experiment, seed, epoch, losses, validation NDCG@10). Archived runs are not trained again.
    """
    seeds = settings.seeds_of(dataset)
    grid = [(one, seed) for group in groups for one in settings.resolve(dataset, group) for seed in seeds]
    done = list(zip(grid, run_all(paths, settings, dataset, device, grid), strict=True))
    for group in groups:
        runs = [(group, one.name, seed, result) for (one, seed), result in done if one.group == group]
        folder = paths.group(dataset, group)
        with atomic(folder / "ranks.parquet") as path:
            store.stack(runs, "ranks").drop(columns="group").to_parquet(path, index=False)
        with atomic(folder / "curves.csv") as path:
            store.stack(runs, "curve").drop(columns="group").to_csv(path, index=False)


def run_all(
    paths: config.Paths,
    settings: config.Config,
    dataset: str,
    device: torch.device,
    grid: Sequence[tuple[config.Experiment, int]],
    weights: bool = False,
) -> list[store.Result]:
    """Result of each run: from the archive, else from the store, after the missing ones were trained in parallel.

    Args:
        weights: also train archived runs that the store lacks, for the archive holds no weights.
    """
    data = load_data(paths.processed(dataset), settings.datasets[dataset].modalities, device)
    keys = [run_key(experiment, seed, data, settings) for experiment, seed in grid]
    del data
    names, folders = [store.archive_name(key) for key in keys], [store.run_folder(key, paths.runs) for key in keys]
    archived = paths.archive(dataset) if settings.datasets[dataset].archived else None
    held = archive.load(archived, names) if archived else {}
    missing = [
        run
        for run, name, folder in zip(grid, names, folders, strict=True)
        if (archived and name not in held) or ((weights or not archived) and not store.finished(folder))
    ]
    tasks = [
        (experiment, seed, f"[{number}/{len(missing)}] {dataset} {experiment.name} seed {seed}")
        for number, (experiment, seed) in enumerate(missing, start=1)
    ]
    work = partial(_work, paths, settings, dataset, device, archived)
    run_parallel(work, tasks, settings.runtime_of(dataset), device)
    return [held.get(name) or store.read(folder) for name, folder in zip(names, folders, strict=True)]


def _work(
    paths: config.Paths,
    settings: config.Config,
    dataset: str,
    device: torch.device,
    archived: Path | None,
    task: tuple[config.Experiment, int, str],
) -> None:
    experiment, seed, label = task
    data = data_once(paths.processed(dataset), settings.datasets[dataset].modalities, device)
    run(experiment, seed, data, settings, paths.runs, label, archived)


def trained_models(
    paths: config.Paths, settings: config.Config, dataset: str, name: str, data: Data, seeds: Sequence[int] = ()
) -> list[Recommender]:
    """Neural models of an experiment with their best weights, in evaluation mode, one a seed.

    Weights that the store lacks are trained first, in parallel: the archive holds none.

    Args:
        data: as the models see them; may differ from the files that the weights were trained on.
        seeds: default: all of the data set.
    """
    groups = settings.datasets[dataset].groups
    experiment = next(one for group in groups for one in settings.resolve(dataset, group) if one.name == name)
    grid = [(experiment, seed) for seed in seeds or settings.seeds_of(dataset)]
    device = data.sequences.items.device
    trained_on = data_once(paths.processed(dataset), settings.datasets[dataset].modalities, device)
    keys = [run_key(experiment, seed, trained_on, settings) for _, seed in grid]
    folders = [store.run_folder(key, paths.runs) for key in keys]
    if missing := sum(not store.finished(folder) for folder in folders):
        took = archive.costs(paths.archive(dataset), [experiment])
        before = f"; {took['runs'].sum()} archived ones took {took['minutes'].sum():.0f} minutes" if len(took) else ""
        report(f"{dataset} {name}: training {missing} models whose weights are missing{before}")
        run_all(paths, settings, dataset, device, grid, weights=True)
    models = []
    for (_, seed), folder in zip(grid, folders, strict=True):
        model = build(experiment.model, shown_to(experiment, data, seed), settings.protocol.max_length)
        model.load_state_dict(load_file(folder / "model.safetensors"))
        models.append(model.eval())
    return models
