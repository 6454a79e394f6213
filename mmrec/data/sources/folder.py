"""Bring your own data: interactions.csv, items.csv and images/ in one folder."""

import re
from pathlib import Path

from mmrec.data.cleaning.rows import Rows, read_csv
from mmrec.data.cleaning.tables import Tables, clean
from mmrec.data.cleaning.times import timed


def read(folder: Path, repeats: str = "first", timestamp_format: str | None = None, any_year: bool = False) -> Tables:
    """A data set in three parts; both files are comma-separated UTF-8 with a header, and other columns are ignored.

    interactions.csv: user_id, item_id and, if there are any, timestamp (see `timed`; UTC unless it says otherwise).
    items.csv: item_id and, where there are any, title, text, categories (separated by `|`), image (path below images/).
    Without this file the items are those of interactions.csv, with ids alone.

    `quality["times"]` says how timestamps were read, and whether items.csv is missing.

    Raises SourceError: a file or column is missing, empty or unreadable, times are unclear, or an item is listed twice.
    """
    file, ids = folder / "interactions.csv", ["user_id", "item_id"]
    interactions = read_csv(file, [*ids, "timestamp"]) if _names_a_time(file) else read_csv(file, ids, ["timestamp"])
    interactions, times = timed(interactions.require(), timestamp_format, any_year)
    content = ["title", "text", "categories", "image"]
    if (folder / "items.csv").exists():
        items = read_csv(folder / "items.csv", ["item_id"], content)
    else:
        bought = interactions.frame[["item_id", "line"]].assign(item_id=interactions.frame["item_id"].str.strip())
        items = Rows(file.name, bought.drop_duplicates("item_id").assign(**dict.fromkeys(content, "")))
        times = "; ".join(filter(None, [times, "no items.csv: items have ids alone"]))
    names = (dict.fromkeys(map(str.strip, text.split("|"))) for text in items.frame["categories"])
    items = items.assign(categories=[list(filter(None, each)) for each in names])
    tables = clean(interactions, items, folder / "images", repeats)
    tables.quality["times"] = times
    return tables


def _names_a_time(file: Path) -> bool:
    """Whether a column is named like a time: another name than `timestamp` must not pass for a file without times."""
    if not file.is_file():
        return True
    with file.open(encoding="utf-8-sig", errors="replace", newline="") as lines:
        return bool(re.search(r"time|(^|[,_ \"])date", lines.readline(), re.IGNORECASE))
