"""One run: an experiment with one seed on a data set, trained and evaluated once.

A finished run is not repeated; an interrupted one resumes from its last epoch. Experiments with equal settings share
their runs.
"""

import json
import os
import platform
import resource
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from safetensors.torch import save_file

from mmrec import config, evaluation, training
from mmrec.config import Config, Experiment
from mmrec.experiments import store
from mmrec.experiments.build import Recommender, build
from mmrec.experiments.inputs import Data, shown_to
from mmrec.experiments.versions import results_version
from mmrec.features.controls import controlled_histories
from mmrec.files import atomic
from mmrec.progress import report


def run_key(experiment: Experiment, seed: int, data: Data, settings: Config) -> dict[str, Any]:
    """Everything that determines a run's numbers."""
    arithmetic = settings.runtime_of(experiment.dataset)
    shown = () if experiment.data.features == "none" else data.features
    # Permuted and random features are drawn over all modalities: each depends on the others.
    drawn = experiment.data.features in ("permuted", "random")
    used = sorted(modality for modality in shown if drawn or config.sees(experiment.model, modality))
    return {
        **experiment.determines,
        "max_length": settings.protocol_of(experiment.dataset).max_length,
        "seed": seed,
        "data": {name: data.digests[name] for name in ["sequences", *used]},
        "versions": results_version(type(experiment.model)),
        "torch": torch.__version__,
        "device": data.sequences.items.device.type,
        "threads": arithmetic.threads,
        "instruction_set": arithmetic.instruction_set,
    }


def run(experiment: Experiment, seed: int, data: Data, settings: Config, runs: Path, label: str = "") -> Path:
    """Folder of a run in the store, after training and evaluation where they were missing.

    The folder holds curve.csv and model.safetensors (neural models), ranks.parquet (split, user, rank under each
    protocol), and run.json (key, commit, versions, device, seconds, peak memory), written last. A run in another
    process is waited for.
    """
    key = run_key(experiment, seed, data, settings)
    folder = store.run_folder(key, runs)
    folder.mkdir(parents=True, exist_ok=True)
    with store.lock(folder):
        if not store.finished(folder):
            report(f"{label}: {folder.name}")
            begun, device = time.monotonic(), data.sequences.items.device
            _reset_peak_memory(device)
            _train_and_evaluate(experiment, seed, data, key["max_length"], folder, label)
            about = {"key": key, "seconds_of_last_session": time.monotonic() - begun, **_circumstances(device)}
            with atomic(folder / "run.json") as path:
                path.write_text(json.dumps(about, indent=1, sort_keys=True) + "\n")
            # Last: an interruption before run.json resumes from the checkpoint.
            (folder / "checkpoint.pt").unlink(missing_ok=True)
    return folder


def _train_and_evaluate(
    experiment: Experiment, seed: int, data: Data, max_length: int, folder: Path, label: str
) -> None:
    """Write curve, weights and ranks; training continues from the last checkpoint."""
    shown, checkpoint = shown_to(experiment, data, seed), folder / "checkpoint.pt"
    model, curve = fit(experiment, shown, seed=seed, max_length=max_length, checkpoint=checkpoint, label=label)
    if curve:
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


def fit(
    experiment: Experiment, shown: Data, *, seed: int, max_length: int, **named: Any
) -> tuple[Recommender, list[dict[str, float]]]:
    """A model built and trained with `seed`, and its curve; empty for a model without training.

    Args:
        shown: the data after the experiment's controls.
        named: further arguments of `training.fit`.
    """
    torch.manual_seed(seed)
    model = build(experiment.model, shown, max_length)
    if isinstance(experiment.model, config.UNTRAINED):
        return model, []
    named |= {"seed": seed, "max_length": max_length}
    return model, training.fit(model, shown.sequences, experiment.training, **named)


def _reset_peak_memory(device: torch.device) -> None:
    """Count peak memory from here: a process works on many runs."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats()
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")  # Linux


def commit() -> str:
    """Commit of the code; empty without a repository. Nodes of a cluster have none: the driver tells them."""
    if (told := os.environ.get("MMREC_COMMIT")) is not None:
        return told
    return subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()


def _circumstances(device: torch.device) -> dict[str, Any]:
    if device.type == "cuda":
        name, peak = torch.cuda.get_device_name(device), torch.cuda.max_memory_allocated(device)
    else:
        name, peak = platform.machine(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"commit": commit(), "python": platform.python_version(), "device": name, "peak_memory_bytes": peak}
