"""Reviews: who reviewed which product, and when."""

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa

from mmrec.data.cleaning.rows import Rows, SourceError
from mmrec.data.cleaning.tables import LAST_SECOND, seconds
from mmrec.data.sources.amazon.lines import json_record, numbered_lines
from mmrec.data.sources.amazon.words import text

HEADER = b"user_id,parent_asin,rating,timestamp"  # of the comma-separated reviews of release 2023
TABLE = pa.schema([("user_id", pa.string()), ("item_id", pa.string()), ("timestamp", pa.int64()), ("line", pa.int64())])
BLOCK = 100_000  # reviews held as Python objects

Review = tuple[str, str, Any]  # user, item, time as the file has it


def read(path: Path) -> Rows:
    """Reviews in the order of the file: user_id, item_id (str), timestamp (int64 seconds, 0 if none is valid)."""
    is_csv = path.name.endswith(".csv.gz")
    tables, block, dropped = [TABLE.empty_table()], [], defaultdict(list)
    for number, review in _csv_reviews(path) if is_csv else _json_reviews(path):
        if reason := _reason(review):
            dropped[reason].append(number)
            continue
        block.append((*review, number))
        if len(block) == BLOCK:
            tables.append(_table(block, is_csv))
            block = []
    tables.append(_table(block, is_csv))
    frame = pa.concat_tables(tables).to_pandas()
    return Rows(path.name, frame, {reason: np.array(lines) for reason, lines in dropped.items()}).require()


def _json_reviews(path: Path) -> Iterator[tuple[int, Review | None]]:
    for number, line in numbered_lines(path):
        if (record := json_record(line)) is None:
            yield number, None
        else:
            yield number, (text(record.get("reviewerID")), text(record.get("asin")), record.get("unixReviewTime"))


def _csv_reviews(path: Path) -> Iterator[tuple[int, Review | None]]:
    for number, line in numbered_lines(path):
        if number > 1:
            try:
                user, item, _, time = line.decode().split(",")
                yield number, (user.strip(), item.strip(), time)
            except ValueError:  # another number of fields, or not UTF-8
                yield number, None
        elif line.rstrip() != HEADER:
            raise SourceError(f"{path.name}:1: the header must be {HEADER.decode()} (it is {line[:80]!r})")


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


def _table(reviews: list[tuple], is_csv: bool) -> pa.Table:
    users, items, times, lines = zip(*reviews, strict=True) if reviews else ((), (), (), ())
    if is_csv:  # milliseconds
        time = pd.to_numeric(pd.Series(times, dtype=object), errors="coerce").to_numpy(np.float64) / 1000
    else:
        is_text = np.array([isinstance(each, str) for each in times], dtype=bool)
        time = np.array([each if isinstance(each, float) else 0 for each in times], dtype=np.float64)
        if is_text.any():
            time[is_text] = seconds(pd.Series([text(each) for each in times if isinstance(each, str)], dtype=str))
    time = np.where((time > 0) & (time <= LAST_SECOND), time, 0).astype(np.int64)
    return pa.table([users, items, time, lines], schema=TABLE)
