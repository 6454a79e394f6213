"""All runs of groups of experiments, side by side, and the files that later stages read."""

import multiprocessing
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import load_file

from mmrec import config, runtime
from mmrec.experiments.build import Recommender, build
from mmrec.experiments.inputs import Data, load_data, shown_to
from mmrec.experiments.run import archive_file, finished, run, run_folder, run_key
from mmrec.files import atomic

PROBED = ("main", "probes")  # groups whose weights are kept


def run_groups(
    paths: config.Paths, settings: config.Config, dataset: str, groups: Sequence[str], device: torch.device
) -> None:
    """Run every experiment of these groups with every seed, then gather what later stages read.

    Each group's folder in data/trained/<dataset>/ gets ranks.parquet (experiment, seed, split, user, a rank for each
    protocol), curves.csv (experiment, seed, epoch, ...) and, of the groups that probes and pictures look into,
    models/<experiment>-<seed>.safetensors.
    """
    seeds = settings.seeds_of(dataset)
    grid = [(one, seed) for group in groups for one in settings.resolve(dataset, group) for seed in seeds]
    done = run_all(paths, settings, dataset, device, grid, weights=PROBED)
    for group in groups:
        folders = {
            (experiment.name, seed): folder
            for (experiment, seed), folder in zip(grid, done, strict=True)
            if experiment.group == group
        }
        results = paths.group(dataset, group)
        with atomic(results / "ranks.parquet") as path:
            _gather(folders, lambda folder: pd.read_parquet(folder / "ranks.parquet")).to_parquet(path, index=False)
        trained = {key: folder for key, folder in folders.items() if (folder / "curve.csv").exists()}
        with atomic(results / "curves.csv") as path:
            _gather(trained, lambda folder: pd.read_csv(folder / "curve.csv")).to_csv(path, index=False)
        for (name, seed), folder in trained.items() if group in PROBED else ():
            with atomic(results / "models" / f"{name}-{seed}.safetensors") as path:
                path.write_bytes((folder / "model.safetensors").read_bytes())


def run_all(
    paths: config.Paths,
    settings: config.Config,
    dataset: str,
    device: torch.device,
    grid: list[tuple[config.Experiment, int]],
    weights: Sequence[str] = (),
) -> list[Path]:
    """Where each run (an experiment and a seed) is kept, after those that were missing are done, side by side.

    Args:
        weights: groups of which those of neural models are needed, see `run`.
    """
    data = load_data(paths.processed(dataset), settings.datasets[dataset].modalities, device)
    keys = [run_key(experiment, seed, data, settings) for experiment, seed in grid]
    folders = [run_folder(key, paths.runs) for key in keys]
    del data
    archived = paths.archive(dataset) if settings.datasets[dataset].archived else None
    missing = [
        (experiment, seed)
        for (experiment, seed), key, folder in zip(grid, keys, folders, strict=True)
        if not finished(folder, experiment.group in weights and not isinstance(experiment.model, config.UNTRAINED))
        or (archived and not archive_file(key, archived).exists())
    ]
    tasks = [
        (experiment, seed, f"[{number}/{len(missing)}] {dataset} {experiment.name} seed {seed}")
        for number, (experiment, seed) in enumerate(missing, start=1)
    ]
    work = partial(_work, paths, settings, dataset, device, archived, weights)
    side_by_side(work, tasks, settings.runtime_of(dataset), device)
    return folders


def side_by_side(
    work: Callable[[Any], Any], tasks: list[Any], settings: config.Runtime, device: torch.device
) -> list[Any]:
    """`work` of each task, in order, in as many processes as the machine has cores for."""
    data_once.cache_clear()  # the files may have changed since
    processes = min(runtime.workers(settings, device), len(tasks))
    if processes <= 1:
        return [work(task) for task in tasks]
    context = multiprocessing.get_context("spawn")  # a fork would inherit torch's threads in an unknown state
    with ProcessPoolExecutor(processes, context, _begin_worker, (settings,)) as pool:
        return list(pool.map(work, tasks))


def _begin_worker(settings: config.Runtime) -> None:
    runtime.prepare(settings)
    # A worker whose parent was killed must not go on beside the one that is started next.
    parent = multiprocessing.parent_process()
    threading.Thread(target=lambda: (parent.join(), os._exit(1)), daemon=True).start()


def _work(
    paths: config.Paths,
    settings: config.Config,
    dataset: str,
    device: torch.device,
    archived: Path | None,
    weights: Sequence[str],
    task: tuple[config.Experiment, int, str],
) -> Path:
    experiment, seed, label = task
    data = data_once(paths.processed(dataset), settings.datasets[dataset].modalities, device)
    return run(experiment, seed, data, settings, paths.runs, label, archived, experiment.group in weights)


data_once = lru_cache(maxsize=1)(load_data)  # a worker reads the data set once, not once a run


def _gather(folders: dict[tuple[str, int], Path], read: Callable[[Path], pd.DataFrame]) -> pd.DataFrame:
    tables = []
    for (name, seed), folder in folders.items():
        table = read(folder)
        table.insert(0, "experiment", name)
        table.insert(1, "seed", seed)
        tables.append(table)
    return pd.concat(tables, ignore_index=True) if tables else pd.DataFrame(columns=["experiment", "seed"])


def trained_model(
    paths: config.Paths, settings: config.Config, dataset: str, group: str, name: str, seed: int, data: Data
) -> Recommender:
    """A finished neural model of one of the groups `PROBED` with its best weights, in evaluation mode."""
    experiment = next(e for e in settings.resolve(dataset, group) if e.name == name)
    model = build(experiment.model, shown_to(experiment, data, seed), settings.protocol.max_length)
    model.load_state_dict(load_file(paths.group(dataset, group) / "models" / f"{name}-{seed}.safetensors"))
    return model.eval()
