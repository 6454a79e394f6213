"""From an experiment's name to its results: the grid of runs, and the store that keeps each run once.

A run is (data set, experiment, seed). It lives in .runs/<key>, where the key is a hash of everything that determines
its numbers: data, features, model, training, longest sequence, seed, code, torch, device. A run that exists is not run
again; one that was interrupted goes on from its last epoch. Two experiments with the same settings share their runs.
"""

import ast
import fcntl
import hashlib
import inspect
import json
import multiprocessing
import os
import platform
import resource
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any, Protocol

import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmrec import config, evaluation, losses, multitask, runtime, training
from mmrec.data import sequences
from mmrec.data.sequences import Sequences
from mmrec.experiments import archive
from mmrec.features import category, store
from mmrec.files import atomic, sha256
from mmrec.models import (
    bert4rec,
    bodies,
    caser,
    fdsa,
    gru4rec,
    item_knn,
    layers,
    maf,
    markov,
    modalities,
    next_item,
    nova,
    popularity,
    sasrec,
    sasrecf,
)
from mmrec.progress import report


class Recommender(Protocol):
    """What evaluation asks of a model."""

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """items (B, T), lengths (B,) -> (B, V), column j for item j + 1."""


@dataclass(frozen=True)
class Data:
    """A prepared data set on a device, and the digests that name it."""

    sequences: Sequences
    features: dict[str, tuple[Tensor, Tensor]]  # modality -> standardised (V + 1, F), presence (V + 1,)
    digests: dict[str, str]  # "sequences" and each modality -> SHA-256 of the file, or of what `shown_to` made of it


class StaleFeatures(ValueError):
    """Features and sequences on disk do not belong together."""


def load_data(folder: Path, modalities: tuple[str, ...], device: torch.device) -> Data:
    """Read data/processed/<dataset>.

    Raises:
        StaleFeatures: features of other items than those of the sequences.
    """
    files = {"sequences": folder / "sequences.safetensors"}
    files |= {modality: folder / "features" / f"{modality}.safetensors" for modality in modalities}
    sequences = Sequences.load(files["sequences"]).to(device)
    features = {}
    for modality in modalities:
        loaded = store.load(files[modality])
        if len(loaded.matrix) != sequences.n_items + 1:
            raise StaleFeatures(
                f"{files[modality]} has {len(loaded.matrix) - 1:,} items, {files['sequences']} {sequences.n_items:,}: "
                "extract the features anew"
            )
        matrix = loaded.matrix if modality == "category" else store.standardise(loaded)
        features[modality] = (matrix.to(device), loaded.mask.to(device))
    return Data(
        sequences=sequences,
        features=features,
        digests={name: sha256(path) for name, path in files.items()},
    )


def shown_to(experiment: config.Experiment, data: Data) -> Data:
    """The data as an experiment asks for them: with all of an item's categories, or its rarest alone."""
    if experiment.categories == "all":
        return data
    matrix, present = data.features["category"]
    reduced = category.rarest(matrix)
    content = hashlib.sha256(reduced.cpu().numpy().tobytes()).hexdigest()
    return replace(
        data,
        features=data.features | {"category": (reduced, present)},
        digests=data.digests | {"category": content},
    )


# --- models ------------------------------------------------------------------------------------------------------

MODELS = {
    config.Popularity: popularity.Popularity,
    config.ItemKNN: item_knn.ItemKNN,
    config.MarkovChain: markov.MarkovChain,
    config.GRU4Rec: gru4rec.GRU4Rec,
    config.Caser: caser.Caser,
    config.BERT4Rec: bert4rec.BERT4Rec,
    config.SASRec: sasrec.SASRec,
    config.SASRecF: sasrecf.SASRecF,
    config.FDSA: fdsa.FDSA,
    config.NOVA: nova.NOVA,
    config.MAF: maf.MAF,
}


def build(options: config.Model, data: Data, max_length: int) -> Recommender:
    """A model with fresh weights from torch's global generator, on the data's device.

    Its constructor is given the settings and, of what the data set has, what it asks for by name.
    """
    model = MODELS[type(options)]
    offered = {
        "n_items": data.sequences.n_items,
        "max_length": max_length,
        "features": data.features,
        "sequences": data.sequences,
    }
    asked = inspect.signature(model).parameters
    built = model(**{name: value for name, value in offered.items() if name in asked}, **asdict(options))
    return built.to(data.sequences.items.device) if isinstance(built, torch.nn.Module) else built


# --- runs --------------------------------------------------------------------------------------------------------


def run_key(experiment: config.Experiment, seed: int, data: Data, settings: config.Config) -> dict[str, Any]:
    """Everything that determines a run's numbers."""
    arithmetic = settings.runtime_of(experiment.dataset)
    used = sorted(modality for modality in data.features if config.sees(experiment.model, modality))
    return {
        **experiment.determines,
        "max_length": settings.protocol.max_length,
        "seed": seed,
        "data": {name: data.digests[name] for name in ["sequences", *used]},
        "code": code_digest(type(experiment.model)),
        "torch": torch.__version__,
        "device": data.sequences.items.device.type,
        "threads": arithmetic.threads,
        "instruction_set": arithmetic.instruction_set,
    }


# Read at once: a file that is edited while runs go on is not the code that runs.
SHARED = (
    *(bodies, layers, modalities, next_item, losses, multitask),
    *(sequences, training, evaluation, store, load_data, build),
)
OWN = {options: inspect.getmodule(model) for options, model in MODELS.items()}
SOURCES = {part: inspect.getsource(part) for part in (*OWN.values(), *SHARED)}


@lru_cache
def code_digest(options: type[config.Model]) -> str:
    """Of the code that determines a run of a model, without comments, docstrings and layout."""
    digest = hashlib.sha256()
    for part in (OWN[options], *SHARED):
        tree = ast.parse(SOURCES[part])
        for node in ast.walk(tree):
            body = getattr(node, "body", None)
            if isinstance(body, list) and body and isinstance(body[0], ast.Expr):
                if isinstance(body[0].value, ast.Constant) and isinstance(body[0].value.value, str):
                    node.body = body[1:] or [ast.Pass()]
        digest.update(json.dumps(_canonical(tree), sort_keys=True).encode())
    return digest.hexdigest()


def _canonical(node: Any) -> Any:
    """A syntax tree as lists and strings, the same whatever Python reads it.

    What `ast.unparse` and `ast.dump` write differs between 3.11, 3.12 and 3.13; fields that a version adds are empty.
    """
    if isinstance(node, ast.AST):
        return [type(node).__name__, {name: _canonical(x) for name, x in ast.iter_fields(node) if x not in (None, [])}]
    return [_canonical(x) for x in node] if isinstance(node, list) else repr(node)


def run(
    experiment: config.Experiment,
    seed: int,
    data: Data,
    settings: config.Config,
    runs: Path,
    label: str = "",
    archived: Path | None = None,
    weights: bool = True,
) -> Path:
    """Make sure that a run is in the store, and say where.

    Its folder holds curve.csv, ranks.parquet (split, user, rank under each protocol), model.safetensors (neural
    models), run.json (settings, commit, versions, device, seconds, peak memory), written last. Where another process
    works on the same run, this one waits for it.

    Args:
        archived: a folder of committed runs (see `archive`): one that is there is not made again, one that is not is
            put there.
        weights: whether model.safetensors is needed, which the archive does not have.
    """
    data = shown_to(experiment, data)
    key = run_key(experiment, seed, data, settings)
    folder = run_folder(key, runs)
    folder.mkdir(parents=True, exist_ok=True)
    file = archive_file(key, archived) if archived else None
    weights = weights and not isinstance(experiment.model, config.UNTRAINED)
    with alone(folder):
        if file and file.exists() and not weights and not finished(folder, weights):
            archive.unpack(file, folder)
        if not finished(folder, weights):
            report(f"{label}: {folder.name}")
            _carry_out(experiment, seed, data, settings, folder, key, label)
        if file and not file.exists():
            archive.pack(folder, file)
    return folder


def finished(folder: Path, weights: bool) -> bool:
    """Whether a run's folder holds all that is needed of it."""
    return (folder / "run.json").exists() and (not weights or (folder / "model.safetensors").exists())


def run_folder(key: dict[str, Any], runs: Path) -> Path:
    """Where a run is kept; it is finished if run.json is there."""
    return runs / _name(key)


ARITHMETIC = ("torch", "device", "threads", "instruction_set")


def archive_file(key: dict[str, Any], archived: Path) -> Path:
    """Where a run is archived: named by what was asked, whatever arithmetic answered; run.json inside says which.

    Else a machine with a GPU would train again for hours what was trained on one without, or the reverse.
    """
    return archived / f"{_name({name: value for name, value in key.items() if name not in ARITHMETIC})}.parquet"


def _name(determined: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(determined, sort_keys=True).encode()).hexdigest()[:16]


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Hold a lock on the folder; it goes with the process, however that ends."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _carry_out(
    experiment: config.Experiment,
    seed: int,
    data: Data,
    settings: config.Config,
    folder: Path,
    key: dict[str, Any],
    label: str,
) -> None:
    begun = time.monotonic()
    # A process works on many runs: what it held before is none of this one's, so peak memory is counted anew.
    if data.sequences.items.is_cuda:
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux
    max_length = settings.protocol.max_length
    torch.manual_seed(seed)
    model = build(experiment.model, data, max_length)
    if isinstance(model, torch.nn.Module):
        curve = training.fit(
            model,
            data.sequences,
            experiment.training,
            max_length=max_length,
            seed=seed,
            checkpoint=folder / "checkpoint.pt",
            label=label,
        )
        with atomic(folder / "curve.csv") as path:
            pd.DataFrame(curve).astype({"epoch": int}).to_csv(path, index=False)
        with atomic(folder / "model.safetensors") as path:
            save_file(model.state_dict(), path)
    tables = []
    for split in ("valid", "test"):
        shown = training.shown(data.sequences, experiment.training, split, seed)
        tables.append(evaluation.evaluate(model.score, shown, split, max_length).assign(split=split))
    with atomic(folder / "ranks.parquet") as path:
        pd.concat(tables, ignore_index=True).to_parquet(path, index=False)
    about = {"key": key, "seconds_of_last_session": time.monotonic() - begun, **_circumstances(data)}
    with atomic(folder / "run.json") as path:
        path.write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")
    # Last: until run.json is there, a new start must find where to go on.
    (folder / "checkpoint.pt").unlink(missing_ok=True)


def _circumstances(data: Data) -> dict[str, Any]:
    device = data.sequences.items.device
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    on_gpu = device.type == "cuda"
    return {
        "commit": commit,
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name(device) if on_gpu else platform.machine(),
        "peak_memory_bytes": torch.cuda.max_memory_allocated(device)
        if on_gpu
        else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


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
    keys = [run_key(experiment, seed, shown_to(experiment, data), settings) for experiment, seed in grid]
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
    model = build(experiment.model, shown_to(experiment, data), settings.protocol.max_length)
    model.load_state_dict(load_file(paths.group(dataset, group) / "models" / f"{name}-{seed}.safetensors"))
    return model.eval()


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
    categories = {"categories": experiment.categories} if config.sees(experiment.model, "category") else {}
    return {"model": type(experiment.model).__name__} | asdict(experiment.model) | trained | categories


def _shown(value: Any) -> str:
    return ", ".join(value) if isinstance(value, tuple) else str(value)
