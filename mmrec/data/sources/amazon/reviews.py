"""Reviews: who reviewed which product, and when."""

from collections import defaultdict
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from mmrec.data.cleaning.rows import Rows, SourceError
from mmrec.data.cleaning.tables import LAST_SECOND, seconds
from mmrec.data.sources.amazon.lines import numbered_lines, record
from mmrec.data.sources.amazon.words import text

HEADER = b"user_id,parent_asin,rating,timestamp"  # of the comma-separated reviews of release 2023
TABLE = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.int64()), ("line", pa.int64())])
BLOCK = 100_000  # reviews held as Python objects

Review = tuple[str, str, Any]  # user, item, time as the file has it


def read(path: Path) -> Rows:
    """Reviews in the order of the file: user_id, item_id (str), timestamp (int64 seconds, 0 if none is valid)."""
    is_csv, tables, dropped = path.name.endswith(".csv.gz"), [TABLE.empty_table()], defaultdict(list)
    kept = _kept(path, is_csv, dropped)
    while block := list(islice(kept, BLOCK)):
        users, items, times, lines = zip(*block, strict=True)
        tables.append(pa.table([users, items, _seconds(times, is_csv), lines], schema=TABLE))
    frame = pa.concat_tables(tables).to_pandas()
    return Rows(path.name, frame, dropped).require()


def _kept(path: Path, is_csv: bool, dropped: dict[str, list[int]]) -> Iterator[tuple[str, str, Any, int]]:
    """User, item, time and line of every usable review. Other lines are appended to `dropped`, by reason."""
    for number, line in numbered_lines(path):
        if is_csv and number == 1:
            if line.rstrip() != HEADER:
                raise SourceError(f"{path.name}:1: the header must be {HEADER.decode()} (it is {line[:80]!r})")
        elif reason := _reason(review := _review(line, is_csv)):
            dropped[reason].append(number)
        else:
            yield *review, number


def _review(line: bytes, is_csv: bool) -> Review | None:
    """The review in a line; None if the line is malformed."""
    if not is_csv:
        if (found := record(line)) is None:
            return None
        return text(found.get("reviewerID")), text(found.get("asin")), found.get("unixReviewTime")
    try:
        user, item, _, time = line.decode().split(",")
    except ValueError:  # another number of fields, or not UTF-8
        return None
    return user.strip(), item.strip(), time


def _reason(review: Review | None) -> str:
    """The reason to leave a review out; "" if there is none."""
    if review is None:
        return "malformed line"
    user, item, _ = review
    if not user or not item:
        return "no item" if user else "no user"
    # The provider's ids hold no control characters, no blanks, and no pieces of a path.
    ids = user + item
    return "malformed id" if not ids.isprintable() or " " in ids or "/" in ids or "\\" in ids else ""


def _seconds(times: tuple, is_csv: bool) -> np.ndarray:
    """Whole seconds, (len(times),) int64; 0 for none that is valid."""
    if is_csv:  # milliseconds
        time = pd.to_numeric(pd.Series(times, dtype=object), errors="coerce").to_numpy(np.float64) / 1000
    else:
        is_text = np.array([isinstance(each, str) for each in times], dtype=bool)
        time = np.array([each if isinstance(each, float) else 0 for each in times], dtype=np.float64)
        if is_text.any():
            time[is_text] = seconds(pd.Series([text(each) for each in times if isinstance(each, str)], dtype=str))
    return np.where((time > 0) & (time <= LAST_SECOND), time, 0).astype(np.int64)
