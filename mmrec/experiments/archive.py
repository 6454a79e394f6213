"""A finished run as one small file, which can be committed: hours of training that nobody need repeat.

The file holds all that a run leaves but its weights: every user's ranks, the learning curve, run.json. Its name is a
hash of everything that determines the run but the machine's arithmetic (see `experiments.archive_file`), so that a
change of code, data or settings asks for a new one. To have all runs made anew, delete the files.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mmrec.config import Experiment
from mmrec.files import atomic

DETERMINING = ("model", "options", "training", "controls")  # in a run's key, what its experiment decides
TEXTS = ("curve.csv", "run.json")  # kept word for word; run.json is written last, for it says that a run is finished


def pack(run: Path, file: Path) -> None:
    """Write the file of a finished run's folder."""
    ranks = pd.read_parquet(run / "ranks.parquet")
    narrow = {name: np.min_scalar_type(column.max()) for name, column in ranks.items() if column.dtype == np.int64}
    table = pa.Table.from_pandas(ranks.astype(narrow | {"split": "category"}), preserve_index=False)
    texts = {name: (run / name).read_text() for name in TEXTS if (run / name).exists()}
    with atomic(file) as path:
        pq.write_table(table.replace_schema_metadata(texts), path, compression="zstd")


def unpack(file: Path, run: Path) -> None:
    """Make a run's folder of its file."""
    table = pq.read_table(file)
    texts = {name.decode(): text.decode() for name, text in table.schema.metadata.items()}
    with atomic(run / "ranks.parquet") as path:
        _wide(table.to_pandas()).to_parquet(path, index=False)
    for name in TEXTS:
        if name in texts:
            with atomic(run / name) as path:
                path.write_text(texts[name])


def _wide(ranks: pd.DataFrame) -> pd.DataFrame:
    """As they were before they were packed: NumPy computes with small integers in half precision."""
    numbers = ranks.select_dtypes("integer").columns
    return ranks.astype({"split": "str"} | dict.fromkeys(numbers, np.int64))


def about(file: Path) -> dict:
    """run.json of an archived run: its `key`, what determined it, and under what circumstances it was made."""
    return json.loads(pq.read_schema(file).metadata[b"run.json"])


def ranks(folder: Path, experiments: list[Experiment], seeds: tuple[int, ...]) -> pd.DataFrame:
    """Per-user ranks of the archived runs of experiments.

    Returns:
        group, experiment, seed, split, user, a rank for each protocol.

    Raises:
        FileNotFoundError: a run is not archived. ValueError: it is twice, as older code made it, too.
    """
    files = _files(folder, experiments)
    tables = []
    for experiment in experiments:
        for seed in seeds:
            of = files.get((_determined(experiment.determines), seed), [])
            if not of:
                raise FileNotFoundError(
                    f"no run of {experiment.name!r} with seed {seed} in {folder}: say `archived: true` of the data set "
                    "in params.yaml and run notebooks 3 and 4"
                )
            if len(of) > 1:
                raise ValueError(f"{', '.join(file.name for file in of)} in {folder} are one run: delete older code's")
            table = _wide(pd.read_parquet(of[0]))
            tables.append(table.assign(group=experiment.group, experiment=experiment.name, seed=seed))
    return pd.concat(tables, ignore_index=True)


def _determined(key: dict[str, Any]) -> str:
    """What of a run's key (or of `Experiment.determines`) is its experiment's."""
    return json.dumps({name: key[name] for name in DETERMINING if name in key}, sort_keys=True)


def _files(folder: Path, experiments: list[Experiment]) -> dict[tuple[str, int], list[Path]]:
    """The files of each experiment and seed, by `_determined` and seed, in the order of their names."""
    wanted = {_determined(experiment.determines) for experiment in experiments}
    found: dict[tuple[str, int], list[Path]] = {}
    for file in sorted(folder.glob("*.parquet")):
        key = about(file)["key"]
        if (determined := _determined(key)) in wanted:
            found.setdefault((determined, key["seed"]), []).append(file)
    return found


def costs(folder: Path, experiments: list[Experiment]) -> pd.DataFrame:
    """What the archived runs of experiments took, by group and device.

    Returns:
        group, device (a GPU's name, or the processor's kind), runs, minutes (of one process, summed; of an interrupted
        run its last session), gigabytes (the most that a process held; on a GPU, of its memory); a run that two
        experiments share counts with the first.
    """
    groups = {}
    for experiment in experiments:
        groups.setdefault(_determined(experiment.determines), experiment.group)
    # One of each experiment and seed: the folder may hold the same runs as older code made them.
    found = {key: about(files[-1]) for key, files in _files(folder, experiments).items()}
    rows = [
        (groups[determined], run["device"], run["seconds_of_last_session"] / 60, run["peak_memory_bytes"] / 1e9)
        for (determined, _), run in found.items()
    ]
    by_group = pd.DataFrame(rows, columns=["group", "device", "minutes", "gigabytes"]).groupby(["group", "device"])
    table = by_group.agg(runs=("minutes", "size"), minutes=("minutes", "sum"), gigabytes=("gigabytes", "max"))
    order = list(dict.fromkeys(groups.values()))
    return table.reset_index().sort_values(
        "group", key=lambda names: names.map(order.index), kind="stable", ignore_index=True
    )
