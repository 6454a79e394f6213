"""A finished run as one small file, which can be committed: hours of training that nobody need repeat.

The file holds all that a run leaves but its weights: every user's ranks, the learning curve, run.json. Its name is a
hash of everything that determines the run but the machine's arithmetic (see `experiments.archive_file`), so that a
change of code, data or settings asks for a new one. To have all runs made anew, delete the files.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from mmrec.config import Experiment
from mmrec.files import atomic

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
    ranks = table.to_pandas().astype({"split": "str"})
    numbers = ranks.select_dtypes("integer").columns
    with atomic(run / "ranks.parquet") as path:
        ranks.astype(dict.fromkeys(numbers, np.int64)).to_parquet(path, index=False)
    for name in TEXTS:
        if name in texts:
            with atomic(run / name) as path:
                path.write_text(texts[name])


def about(file: Path) -> dict:
    """run.json of an archived run: its `key`, what determined it, and under what circumstances it was made."""
    return json.loads(pq.read_schema(file).metadata[b"run.json"])


def costs(folder: Path, experiments: list[Experiment]) -> pd.DataFrame:
    """What the archived runs of experiments took, by group and device.

    Returns:
        group, device (a GPU's name, or the processor's kind), runs, minutes (of one process, summed; of an interrupted
        run its last session), gigabytes (the most that a process held; on a GPU, of its memory); a run that two
        experiments share counts with the first.
    """
    groups = {}
    for experiment in experiments:
        groups.setdefault(json.dumps(experiment.determines, sort_keys=True), experiment.group)
    found = {}  # one of each experiment and seed: the folder may hold the same runs as older code made them
    for file in sorted(folder.glob("*.parquet")):
        run = about(file)
        determined = json.dumps({name: run["key"][name] for name in ("model", "options", "training")}, sort_keys=True)
        if determined in groups:
            found[determined, run["key"]["seed"]] = run
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
