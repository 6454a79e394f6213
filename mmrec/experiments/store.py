"""The store of runs, .runs/<digest of the key>: finished runs with weights, and checkpoints of interrupted ones.

Git ignores the store, and it is safe to delete. See `run.run_key` for keys.
"""

import fcntl
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import StringIO
from pathlib import Path
from typing import Any

import pandas as pd

ARITHMETIC = ("torch", "device", "threads", "instruction_set")  # entries of a key that change last bits alone


@dataclass(frozen=True)
class Result:
    """A finished run without its weights."""

    record: dict[str, Any]  # run.json: key, commit, versions, device, seconds, peak memory
    curve_csv: str | None  # a line an epoch; None: the model is not trained
    ranks: pd.DataFrame  # user, rank under each protocol (int64), split

    @property
    def curve(self) -> pd.DataFrame | None:
        """epoch, losses, validation NDCG@10."""
        return None if self.curve_csv is None else pd.read_csv(StringIO(self.curve_csv))


def run_folder(key: dict[str, Any], runs: Path) -> Path:
    """Folder of a run in the store."""
    return runs / _digest(key)


def archive_name(key: dict[str, Any]) -> str:
    """Name of a run in the archive: a digest of the key without arithmetic, so that GPU and CPU share runs."""
    return _digest({name: value for name, value in key.items() if name not in ARITHMETIC})


def _digest(key: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:16]


def finished(folder: Path) -> bool:
    """Whether the folder holds a finished run."""
    return (folder / "run.json").exists()  # written last


def read(folder: Path) -> Result:
    """Result of a finished run."""
    curve = folder / "curve.csv"
    return Result(
        record=json.loads((folder / "run.json").read_text()),
        curve_csv=curve.read_text() if curve.exists() else None,
        ranks=pd.read_parquet(folder / "ranks.parquet"),
    )


Run = tuple[str, str, int, Result]  # group, experiment, seed


def stack(runs: Iterable[Run], part: str) -> pd.DataFrame:
    """The `ranks` or `curve` of all runs that have it in one table, after columns group, experiment, seed."""
    tables = [pd.DataFrame(columns=["group", "experiment", "seed"])]
    for group, experiment, seed, result in runs:
        if (table := getattr(result, part)) is not None:
            tables.append(table.assign(group=group, experiment=experiment, seed=seed)[[*tables[0], *table]])
    return pd.concat(tables[1:] or tables, ignore_index=True)


@contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold a lock on a folder. The kernel releases it when the process ends, SIGKILL included."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)
