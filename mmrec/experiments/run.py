"""One run: a data set, an experiment and a seed, trained and evaluated once.

A run lives in .runs/<key>. The key is a hash of everything that determines its numbers: digests of the data, settings,
seed, versions of results, arithmetic. A finished run is not made again; an interrupted one goes on from its last epoch.
Experiments with equal settings share their runs.
"""

import fcntl
import hashlib
import json
import os
import platform
import resource
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save_file

from mmrec import config, evaluation, training
from mmrec.experiments import archive
from mmrec.experiments.build import build
from mmrec.experiments.inputs import Data, shown_to
from mmrec.experiments.versions import results_version
from mmrec.features.controls import controlled_histories
from mmrec.files import atomic
from mmrec.progress import report

# --- models ------------------------------------------------------------------------------------------------------


# --- runs --------------------------------------------------------------------------------------------------------


def run_key(experiment: config.Experiment, seed: int, data: Data, settings: config.Config) -> dict[str, Any]:
    """Everything that determines a run's numbers."""
    arithmetic = settings.runtime_of(experiment.dataset)
    shown = () if experiment.data.features == "none" else data.features
    used = sorted(modality for modality in shown if config.sees(experiment.model, modality))
    return {
        **experiment.determines,
        "max_length": settings.protocol.max_length,
        "seed": seed,
        "data": {name: data.digests[name] for name in ["sequences", *used]},
        "versions": results_version(type(experiment.model)),
        "torch": torch.__version__,
        "device": data.sequences.items.device.type,
        "threads": arithmetic.threads,
        "instruction_set": arithmetic.instruction_set,
    }


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
    shown = shown_to(experiment, data, seed)
    model = build(experiment.model, shown, max_length)
    if isinstance(model, torch.nn.Module):
        curve = training.fit(
            model,
            shown.sequences,
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
        asked = controlled_histories(data.sequences, experiment.data, split, seed)
        tables.append(evaluation.evaluate(model.score, asked, split, max_length).assign(split=split))
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
