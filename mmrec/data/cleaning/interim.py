"""data/interim/<dataset>: the tables of a data set on disk, in one form for all sources."""

import json
from pathlib import Path

import pandas as pd
import pyarrow as pa

from mmrec.data.cleaning.tables import Tables
from mmrec.files import atomic

ITEMS = pa.schema(
    [
        ("item_id", pa.string()),
        ("title", pa.string()),
        ("text", pa.string()),
        ("categories", pa.list_(pa.string())),
        ("image", pa.string()),
    ]
)


def write(tables: Tables, folder: Path) -> None:
    """Write interactions.parquet, items.parquet and quality.json."""
    with atomic(folder / "interactions.parquet") as path:
        tables.interactions.to_parquet(path, index=False)
    with atomic(folder / "items.parquet") as path:
        tables.items.to_parquet(path, index=False, schema=ITEMS)
    with atomic(folder / "quality.json") as path:
        path.write_text(json.dumps(tables.quality, indent=1, sort_keys=True) + "\n")


def read_items(folder: Path, item_ids: list[str]) -> pd.DataFrame:
    """Items in the order of `item_ids`, joined by id: row i is item number i + 1.

    Raises:
        KeyError: the table lacks an id.
    """
    items = pd.read_parquet(folder / "items.parquet").set_index("item_id")
    return items.loc[item_ids].reset_index()


def quality_table(quality: dict) -> pd.DataFrame:
    """Counts of rows read, kept and left out by reason, with the first two places of each."""
    rows = []
    for table in ("interactions", "items"):
        counts = quality[table]
        rows += [(table, "read", counts["read"], ""), (table, "kept", counts["kept"], "")]
        rows += _reasons(table, counts["dropped"], quality["examples"][table])
    images = quality["images"]
    rows += [("images", "listed", images["listed"], ""), ("images", "usable", images["usable"], "")]
    rows += _reasons("images", images["unusable"], quality["examples"]["images"])
    without = [name for name in ("metadata", "text", "categories") if name in quality]
    rows += [("items", f"without {name}", quality[name]["empty"], "") for name in without]
    examples = quality["examples"].get("fields", {})
    rows += [("items", what, count, _few(examples[what])) for what, count in quality.get("fields", {}).items()]
    return pd.DataFrame(rows, columns=["table", "what", "rows", "for example"])


def _reasons(table: str, counts: dict[str, int], examples: dict[str, list[str]]) -> list[tuple]:
    return [(table, f"left out: {reason}", count, _few(examples.get(reason, []))) for reason, count in counts.items()]


def _few(places: list[str]) -> str:
    return ", ".join(places[:2])
