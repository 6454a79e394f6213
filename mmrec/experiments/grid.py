"""All runs of groups of experiments, in parallel, and the tables that later stages read."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from mmrec.config import Config, Experiment, Paths
from mmrec.experiments import archive, store
from mmrec.experiments.build import Recommender, build
from mmrec.experiments.engine import data_once, run_parallel
from mmrec.experiments.inputs import Data, load_data, shown_to
from mmrec.experiments.run import run, run_key
from mmrec.files import atomic
from mmrec.progress import Progress, report

Grid = Sequence[tuple[Experiment, int]]  # each experiment with each seed


def run_groups(paths: Paths, settings: Config, dataset: str, groups: Sequence[str], device: torch.device) -> None:
    """Run every experiment of these groups with every seed, then write the tables of each group.

    data/trained/<dataset>/<group>/ gets ranks.parquet (experiment, seed, split, user, a rank for each protocol) and
    curves.csv (experiment, seed, epoch, losses, validation NDCG@10). Archived runs are not trained again.
    """
    experiments = settings.resolve(dataset, *groups) if groups else []
    grid = settings.grid(experiments)
    done = list(zip(grid, run_all(paths, settings, dataset, device, grid), strict=True))
    for group in groups:
        runs = [(group, one.name, seed, result) for (one, seed), result in done if one.group == group]
        folder = paths.group(dataset, group)
        with atomic(folder / "ranks.parquet") as path:
            store.stack(runs, "ranks").drop(columns="group").to_parquet(path, index=False)
        with atomic(folder / "curves.csv") as path:
            store.stack(runs, "curve").drop(columns="group").to_csv(path, index=False)


def _places(
    paths: Paths, settings: Config, dataset: str, device: torch.device, grid: Grid
) -> tuple[list[Path], list[str]]:
    """Folder in the store and name in the archive of each run."""
    data = load_data(paths.processed(dataset), settings.datasets[dataset].modalities, device)
    keys = [run_key(experiment, seed, data, settings) for experiment, seed in grid]
    return [store.run_folder(key, paths.runs) for key in keys], [store.archive_name(key) for key in keys]


def run_all(
    paths: Paths, settings: Config, dataset: str, device: torch.device, grid: Grid, weights: bool = False
) -> list[store.Result]:
    """Result of each run: from the archive, else from the store, after the missing ones were trained in parallel.

    Args:
        weights: also train archived runs that the store lacks, for the archive holds no weights.
    """
    folders, names = _places(paths, settings, dataset, device, grid)
    archived = paths.archive(dataset) if settings.datasets[dataset].archived else None
    held = archive.load(archived, names) if archived else {}
    missing = [
        run
        for run, name, folder in zip(grid, names, folders, strict=True)
        if (archived and name not in held) or ((weights or not archived) and not store.finished(folder))
    ]
    tasks = [(*run, f"[{number}/{len(missing)}]") for number, run in enumerate(missing, start=1)]
    progress = Progress(f"{dataset}: runs", len(grid), len(grid) - len(missing))
    if settings.runtime.engine == "ray":
        from mmrec.experiments import cluster  # needs an optional extra

        cluster.run_all(paths, settings, device, archived, tasks, progress)
    else:
        work = partial(_work, paths, settings, device, archived)
        run_parallel(work, tasks, settings.runtime_of(dataset), device, progress)
    return [held.get(name) or store.read(folder) for name, folder in zip(names, folders, strict=True)]


def _work(
    paths: Paths, settings: Config, device: torch.device, archived: Path | None, task: tuple[Experiment, int, str]
) -> None:
    experiment, seed, place = task
    dataset = experiment.dataset
    data = data_once(paths.processed(dataset), settings.datasets[dataset].modalities, device)
    folder = run(experiment, seed, data, settings, paths.runs, f"{place} {dataset} {experiment.name} seed {seed}")
    if archived:
        archive.append(archived, [store.read(folder)])


def trained_models(
    paths: Paths, settings: Config, dataset: str, name: str, data: Data, seeds: Sequence[int] = ()
) -> list[Recommender]:
    """Neural models of an experiment with their best weights, in evaluation mode, one a seed.

    Weights that the store lacks are trained first, in parallel: the archive holds none.

    Args:
        data: the data that the models read; may differ from the files that the weights were trained on. It may hold
            further items for a model with `ItemVectors`: the ids' part of their vectors is 0.
        seeds: default: all of the experiment.
    """
    experiment = next(one for one in settings.resolve(dataset) if one.name == name)
    grid = [(experiment, seed) for seed in seeds] or settings.grid([experiment])
    device = data.sequences.items.device
    folders, _ = _places(paths, settings, dataset, device, grid)
    if missing := sum(not store.finished(folder) for folder in folders):
        took = archive.costs(paths.archive(dataset), [experiment])
        before = f"; {took['runs'].sum()} archived ones took {took['minutes'].sum():.0f} minutes" if len(took) else ""
        report(f"{dataset} {name}: training {missing} models whose weights are missing{before}")
        run_all(paths, settings, dataset, device, grid, weights=True)
    models = []
    for (_, seed), folder in zip(grid, folders, strict=True):
        model = build(experiment.model, shown_to(experiment, data, seed), settings.protocol_of(dataset).max_length)
        weights = load_file(folder / "model.safetensors")
        if unbought := len(model.state_dict()["item.weight"]) - len(weights["item.weight"]):
            weights["item.weight"] = F.pad(weights["item.weight"], (0, 0, 0, unbought))  # ids that training never saw
        model.load_state_dict(weights)
        models.append(model.eval())
    return models
