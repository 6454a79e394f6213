"""The archive of a data set's finished runs, one committed file: reports/<dataset>/runs.parquet.

A row is a run: its name, record, learning curve and every user's ranks, without weights. Equal runs give equal bytes
in any order of appending. Delete the file to train all runs anew.
"""

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from mmrec.config import Experiment
from mmrec.evaluation import PROTOCOLS
from mmrec.experiments.store import ARITHMETIC, Result, archive_name, lock, stack
from mmrec.experiments.versions import results_version
from mmrec.files import atomic, remove_leftovers

SPLITS = ("valid", "test")
LISTS = ("user", *PROTOCOLS, "split")  # columns with a list of integers in each row, see `_pack`
INTEGERS = pa.list_(pa.field("element", pa.int32()))
SCHEMA = pa.schema(dict.fromkeys(("run", "record", "curve"), pa.string()) | dict.fromkeys(LISTS, INTEGERS))
# Users repeat in each run and cost nothing. Ranks are split into bytes: high bytes compress well, low ones do not.
ENCODING = dict.fromkeys(("split", "user"), "DELTA_BINARY_PACKED") | dict.fromkeys(PROTOCOLS, "BYTE_STREAM_SPLIT")
FORMAT = {
    "compression": "zstd",
    "compression_level": 12,  # a second a file; level 19 takes ten times as long and saves 8 %
    "data_page_size": 2**24,  # a page holds many runs, which are alike
    "use_dictionary": False,
    "write_statistics": False,
    "store_schema": False,
    "column_encoding": {f"{name}.list.element": encoding for name, encoding in ENCODING.items()},
}
GIVEN = ("data", "max_length", "versions", *ARITHMETIC)  # entries of a key that no experiment decides


def append(file: Path, results: Iterable[Result]) -> None:
    """Add finished runs; an archived run stays as it is. Safe under SIGKILL and with several writers.

    A run of the same settings and seed, but of other data or of an earlier results version, is replaced.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    with lock(file.parent):
        remove_leftovers(file.parent, file.name)
        held = {question: archive_name(record["key"]) for question, record in records(file).items()}
        new = {_question(result.record["key"]): _pack(result) for result in results}
        new = {question: row for question, row in new.items() if held.get(question) != row["run"]}
        if new:
            table = _read(file).filter(pa.array([question not in new for question in held], pa.bool_()))
            table = pa.concat_tables([table, pa.Table.from_pylist(list(new.values()), SCHEMA)])
            with atomic(file) as path:
                pq.write_table(table.sort_by("run").combine_chunks(), path, **FORMAT)


def _read(file: Path, columns: Iterable[str] = SCHEMA.names) -> pa.Table:
    if not file.exists():
        return SCHEMA.empty_table().select(list(columns))
    with file.open("rb") as one:  # by name, a writer could replace the file between footer and data
        return pq.read_table(one, columns=list(columns))


def _question(key: dict[str, Any], *without: str) -> str:
    """Settings of the experiment, and the seed, in a key or in `Experiment.determines`."""
    return json.dumps({name: key[name] for name in key if name not in (*GIVEN, *without)}, sort_keys=True)


def _pack(result: Result) -> dict[str, Any]:
    """Row of a result. A rank that nearly follows from another is stored as their small difference."""
    columns = {name: result.ranks[name].to_numpy() for name in ("user", *PROTOCOLS)}
    columns["split"] = pd.Categorical(result.ranks["split"], SPLITS).codes
    columns["sampled_100"] = columns["sampled_100"] - _expected(columns)
    columns["full_all"] = columns["full_all"] - columns["full_unseen"]
    record = json.dumps(result.record, sort_keys=True)
    return {"run": archive_name(result.record["key"]), "record": record, "curve": result.curve_csv} | columns


def _unpack(row: dict[str, Any]) -> Result:
    columns = {name: row[name].values.to_numpy().astype(np.int64) for name in LISTS}
    columns["full_all"] += columns["full_unseen"]
    columns["sampled_100"] += _expected(columns)
    columns["split"] = np.array(SPLITS)[columns["split"]]
    return Result(json.loads(row["record"].as_py()), row["curve"].as_py(), pd.DataFrame(columns).astype({"split": str}))


def _expected(columns: dict[str, np.ndarray]) -> np.ndarray:
    """Expected rank among 100 items, minus 100, so that differences to it are positive."""
    return 100 * columns["full_unseen"] // columns["full_all"].max(initial=1) - 100


def load(file: Path, names: Iterable[str]) -> dict[str, Result]:
    """Archived runs by name (see `archive_name`); missing names are left out."""
    table = _read(file)
    table = table.filter(pc.is_in(table["run"], pa.array(names, pa.string())))
    rows = ({name: table[name][place] for name in SCHEMA.names} for place in range(len(table)))
    return {row["run"].as_py(): _unpack(row) for row in rows}


def ranks(file: Path, grid: list[tuple[Experiment, int]]) -> pd.DataFrame:
    """Ranks of archived runs: group, experiment, seed, split, user, a rank for each protocol.

    Raises:
        FileNotFoundError: a run is not archived, or is of an earlier results version.
    """
    about, names = records(file), {}
    for experiment, seed in grid:
        key = about.get(_question(experiment.determines | {"seed": seed}), {}).get("key", {})
        if key.get("versions") != results_version(type(experiment.model)):
            raise FileNotFoundError(
                f"{file} has no run of {experiment.name!r} with seed {seed} and today's results version: "
                "say `archived: true` of the data set in params.yaml and run notebooks 3 and 4"
            )
        names[experiment.group, experiment.name, seed] = archive_name(key)
    held = load(file, names.values())
    return stack([(*run, held[name]) for run, name in names.items()], "ranks")


def records(file: Path) -> dict[str, dict[str, Any]]:
    """Record of each archived run, by the settings of its experiment and its seed."""
    found = [json.loads(record) for record in _read(file, ["record"])["record"].to_pylist()]
    return {_question(record["key"]): record for record in found}


def costs(file: Path, experiments: list[Experiment]) -> pd.DataFrame:
    """Cost of the archived runs of experiments, by group and device. A shared run counts with its first experiment.

    Returns:
        group, device (name of the GPU, or kind of processor), runs, minutes (of one process, summed; an interrupted run
        counts its last session), gigabytes (largest memory of a process; on a GPU, of its own memory).
    """
    groups: dict[str, str] = {}
    for experiment in experiments:
        groups.setdefault(_question(experiment.determines), experiment.group)
    rows = [
        (group, record["device"], record["seconds_of_last_session"] / 60, record["peak_memory_bytes"] / 1e9)
        for record in records(file).values()
        if (group := groups.get(_question(record["key"], "seed")))
    ]
    costs = pd.DataFrame(rows, columns=["group", "device", "minutes", "gigabytes"])
    costs["group"] = pd.Categorical(costs["group"], dict.fromkeys(groups.values()))
    table = costs.groupby(["group", "device"], observed=True).agg(
        runs=("minutes", "size"), minutes=("minutes", "sum"), gigabytes=("gigabytes", "max")
    )
    return table.reset_index().astype({"group": "str"})
