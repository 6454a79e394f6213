"""Who reviewed what, and when."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mmrec.data.cleaning.rows import Rows
from mmrec.data.cleaning.tables import LAST_SECOND, seconds
from mmrec.data.sources.amazon.lines import by_reason, csv_records, json_records
from mmrec.data.sources.amazon.words import text

JSON = pa.schema([("reviewerID", pa.string()), ("asin", pa.string()), ("unixReviewTime", pa.int64())])
CSV = pa.schema(
    [("user_id", pa.string()), ("parent_asin", pa.string()), ("rating", pa.string()), ("timestamp", pa.int64())]
)  # of release 2023, whose time is in milliseconds
INTERACTION = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.int64())])
STRANGE = r"[\pC\pZ/\\]"  # in none of the provider's ids: control characters, blanks, pieces of a path


def read(path: Path) -> Rows:
    """Reviews in the order of the file: user_id, item_id (str), timestamp (int64 seconds; 0: none that can be).

    Raises:
        SourceError: the file is missing, cut off or not compressed, or no line of it is usable.
    """
    tables, lines, dropped = [INTERACTION.empty_table()], [np.empty(0, np.int64)], defaultdict(list)
    for table, line, malformed in _interactions(path):
        reason = _reasons(table)
        kept = reason == ""
        tables.append(table.filter(pa.array(kept)))
        lines.append(line[kept])
        for name, where in by_reason(reason, line, malformed).items():
            dropped[name].append(where)
    frame = pa.concat_tables(tables).to_pandas().assign(line=np.concatenate(lines))
    return Rows(path.name, frame, {name: np.concatenate(parts) for name, parts in dropped.items()}).require()


def _interactions(path: Path) -> Iterator[tuple[pa.Table, np.ndarray, np.ndarray]]:
    is_csv = path.name.endswith(".csv.gz")
    repaired = _repaired_csv if is_csv else _repaired_json
    for table, line, malformed in csv_records(path, CSV) if is_csv else json_records(path, JSON):
        table = table if isinstance(table, pa.Table) else repaired(table)
        user_id, item_id = (pc.utf8_trim_whitespace(table[column].fill_null("")) for column in (0, 1))
        time = table[-1].fill_null(0).to_numpy() // (1000 if is_csv else 1)
        time = np.where((time > 0) & (time <= LAST_SECOND), time, 0)
        yield pa.table([user_id, item_id, time], schema=INTERACTION), line, malformed


def _repaired_json(reviews: list[dict[str, Any]]) -> pa.Table:
    time = [review.get("unixReviewTime") for review in reviews]
    time = pd.Series([str(each) if isinstance(each, int | float) else text(each) for each in time], dtype=str)
    columns = [[text(review.get(name)) for review in reviews] for name in ("reviewerID", "asin")]
    return pa.table([*columns, seconds(time).to_numpy()], schema=JSON)


def _repaired_csv(reviews: list[dict[str, str]]) -> pa.Table:
    columns = [[review[name] for review in reviews] for name in CSV.names]
    time = pd.to_numeric(pd.Series(columns.pop(), dtype=object), errors="coerce").to_numpy(np.float64)
    time = np.where(np.abs(time) <= 1000 * LAST_SECOND, time, 0).astype(np.int64)  # also of what is no number
    return pa.table([*columns, time], schema=CSV)


def _reasons(table: pa.Table) -> np.ndarray:
    """Of each row why it is left out, "" where it is not."""
    ids = table["user_id"], table["item_id"]
    cases = {
        "no user": pc.equal(ids[0], ""),
        "no item": pc.equal(ids[1], ""),
        "malformed id": pc.or_(*(pc.match_substring_regex(each, STRANGE) for each in ids)),
    }
    if not any(pc.any(where).as_py() for where in cases.values()):  # nearly always
        return np.full(len(table), "")
    return np.select([where.to_numpy() for where in cases.values()], list(cases), "")
