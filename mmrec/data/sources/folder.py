"""Bring your own data: interactions.csv, items.csv and images/ in one folder."""

from dataclasses import replace
from pathlib import Path

from mmrec.data.cleaning.rows import read_csv
from mmrec.data.cleaning.tables import Tables, clean


def read(folder: Path, repeats: str = "first") -> Tables:
    """A data set in three parts; both files are comma-separated UTF-8 with a header, and other columns are ignored.

    interactions.csv: user_id, item_id, timestamp (unix time or ISO 8601; UTC unless it says otherwise).
    items.csv: item_id and, where there are any, title, text, categories (separated by `|`), image (path below images/).

    Raises SourceError: a file or column is missing, empty or unreadable, or an item is listed twice.
    """
    interactions = read_csv(folder / "interactions.csv", ["user_id", "item_id", "timestamp"])
    items = read_csv(folder / "items.csv", ["item_id"], ["title", "text", "categories", "image"])
    names = (dict.fromkeys(map(str.strip, text.split("|"))) for text in items.frame["categories"])
    items = replace(items, frame=items.frame.assign(categories=[list(filter(None, each)) for each in names]))
    return clean(interactions, items, folder / "images", repeats)
