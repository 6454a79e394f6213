"""`Tables`, the form of every data set: their cleaning, which all sources share, and their files."""

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from mmrec.data.cleaning.images import normalise, problems
from mmrec.data.cleaning.rows import EXAMPLES, Rows, SourceError
from mmrec.files import atomic

ITEMS = {
    name: pa.list_(pa.string()) if name == "categories" else pa.string()
    for name in ("item_id", "title", "text", "categories", "image")
}
DAY = r"(199[0-9]|20[0-9]{2})(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01])"
LAST_SECOND = 253_402_300_799  # end of the year 9999; a larger number is in milliseconds


@dataclass(frozen=True)
class Tables:
    """A data set.

    interactions: user_id, item_id (str), timestamp (int64, seconds since 1970 UTC), in source order; every item is
        in `items`. A user has an item at most once unless `repeats` are kept.
    items: item_id, title, text (str, "" if none), categories (list of str, [] if none), image (str: path below
        `images` with forward slashes; None if there is no usable picture); one row an item, in source order.
    quality: counts of rows read, kept and left out by reason (plain dicts of int), and `examples` of their places.
    images: the folder that `image` is relative to.
    """

    interactions: pd.DataFrame
    items: pd.DataFrame
    quality: dict
    images: Path


def clean(interactions: Rows, items: Rows, images: Path, repeats: str = "first") -> Tables:
    """Raw rows to `Tables`. A row that is left out counts under the first reason that applies.

    Columns are those of `Tables`, but image is "" if there is none, and a timestamp is text, or int64 with 0 for none.
    `repeats`: "first" leaves out a user's later interactions with an item, "keep" keeps them.

    Raises SourceError: an item twice in `items`, or no row of a table is usable.
    """
    items = items.assign(**{name: _stripped(items.frame[name]) for name in ("item_id", "title", "text", "image")})
    items = items.drop(items.frame["item_id"] == "", "no item").require()
    unique_ids(items, "item_id")
    interactions = _clean_interactions(interactions, items.frame["item_id"], repeats)
    names = items.frame["image"]
    reasons = problems(images, names)
    usable = (names != "") & reasons.isna()
    unusable = {reason: int(count) for reason, count in reasons.value_counts().sort_index().items()}
    frame = items.frame.assign(image=names.map(normalise).astype(object).where(usable, None))
    quality = {
        "interactions": interactions.account(),
        "items": items.account(),
        "images": {"listed": int((names != "").sum()), "usable": int(usable.sum()), "unusable": unusable},
        "text": {"empty": int((frame["text"] == "").sum())},
        "categories": {"empty": int((frame["categories"].str.len() == 0).sum())},
        "examples": {
            "interactions": interactions.examples(),
            "items": items.examples(),
            "images": {reason: names[reasons == reason].head(EXAMPLES).tolist() for reason in unusable},
        },
    }
    return Tables(
        interactions=interactions.frame[["user_id", "item_id", "timestamp"]].reset_index(drop=True),
        items=frame[list(ITEMS)].reset_index(drop=True),
        quality=quality,
        images=images,
    )


def unique_ids(rows: Rows, column: str) -> None:
    """Raise SourceError if an id occurs twice; the message names both places."""
    again = rows.frame[column].duplicated(keep="first")
    if again.any():
        name = rows.frame.loc[again, column].iloc[0]
        first, second = rows.locate(rows.frame.loc[rows.frame[column] == name, "line"].iloc[:2])
        raise SourceError(f"{second}: {column} {name!r} is already at {first}: keep one of them")


def _clean_interactions(rows: Rows, known_items: pd.Series, repeats: str) -> Rows:
    """Usable rows. The first interaction of a user with an item is so by time, then by position in the file."""
    ids = {name: _stripped(rows.frame[name]) for name in ("user_id", "item_id")}
    time = rows.frame["timestamp"]
    rows = rows.assign(**ids, timestamp=time if time.dtype == np.int64 else seconds(time))
    rows = rows.drop(rows.frame["user_id"] == "", "no user")
    rows = rows.drop(rows.frame["item_id"] == "", "no item")
    rows = rows.drop(rows.frame["timestamp"] == 0, "no timestamp")
    known = rows.frame["item_id"].isin(known_items)
    if len(known) and not known.any():
        ids = f"it says {rows.frame['item_id'].iloc[0]!r}, the items say {known_items.iloc[0]!r}"
        raise SourceError(f"{rows.file}: no item_id is one of the items: {ids}; write ids as text in both files")
    rows = rows.drop(~known, "unknown item")
    if repeats == "keep":
        return rows.require()
    # A pair as one number takes a fraction of the memory of two strings.
    users, (items, item_ids) = pd.factorize(rows.frame["user_id"])[0], pd.factorize(rows.frame["item_id"])
    order = np.argsort(rows.frame["timestamp"].to_numpy(), kind="stable")
    is_repeat = np.empty(len(order), dtype=bool)
    is_repeat[order] = pd.Series((users * len(item_ids) + items)[order]).duplicated()
    return rows.drop(is_repeat, "repeat").require()


def sentence(text: str) -> str:
    """The text with one full stop; "" if there is none."""
    text = text.strip().rstrip(".")
    return text and text + "."


def _stripped(text: pd.Series) -> pd.Series:
    """The column without blanks around its values. A clean column is returned as it is: copying costs gigabytes."""
    pieces = pa.table({"text": text})["text"].chunks
    return text if all(pc.utf8_trim_whitespace(piece).equals(piece) for piece in pieces) else text.str.strip()


def seconds(text: pd.Series) -> pd.Series:
    """Unix time or ISO 8601 (UTC unless it says otherwise) to int64 seconds since 1970 UTC; 0 if neither or before.

    Digits are unix time: seconds, milliseconds or microseconds by their size; a fraction is cut off. If all of them are
    days of 1990 to 2100 (20180920), they are dates.
    """
    text = text.str.strip().str.removesuffix(" UTC")
    is_number = text.str.fullmatch(r"[0-9]{1,18}(\.[0-9]*)?").astype(bool)
    if is_number.any() and text[is_number].str.fullmatch(DAY).all():
        is_number[:] = False
    value = np.zeros(len(text), dtype=np.int64)
    number = pd.to_numeric(text[is_number]).to_numpy(dtype=np.float64)
    number = np.where(number > 1000 * LAST_SECOND, number // 1e6, np.where(number > LAST_SECOND, number // 1e3, number))
    value[is_number] = np.where(number <= LAST_SECOND, number, 0)
    moment = pd.to_datetime(text[~is_number], format="ISO8601", utc=True, errors="coerce").dt.as_unit("s")
    value[~is_number] = np.where(moment.isna(), 0, moment.astype(np.int64))
    return pd.Series(np.maximum(value, 0), index=text.index)


def write(tables: Tables, folder: Path) -> None:
    """data/interim/<dataset>: interactions.parquet, items.parquet and quality.json."""
    for name, schema in (("interactions", None), ("items", pa.schema(ITEMS))):
        with atomic(folder / f"{name}.parquet") as path:
            getattr(tables, name).to_parquet(path, index=False, schema=schema)
    with atomic(folder / "quality.json") as path:
        path.write_text(json.dumps(tables.quality, indent=1, sort_keys=True) + "\n")


def read_items(folder: Path, item_ids: list[str]) -> pd.DataFrame:
    """Items in the order of `item_ids`: row i is item number i + 1; image "": none. KeyError: the table lacks an id."""
    items = pd.read_parquet(folder / "items.parquet").set_index("item_id").loc[item_ids].reset_index()
    return items.fillna({"image": ""})


def quality_table(quality: dict) -> pd.DataFrame:
    """Counts of rows read, kept and left out by reason, with the first two places of each."""
    examples, rows = quality["examples"], []
    for table, totals, reasons in (
        ("interactions", ("read", "kept"), "dropped"),
        ("items", ("read", "kept"), "dropped"),
        ("images", ("listed", "usable"), "unusable"),
    ):
        counts, places = quality[table], examples[table]
        rows += [(table, name, counts[name], []) for name in totals]
        rows += [(table, f"left out: {name}", count, places.get(name, [])) for name, count in counts[reasons].items()]
    without = [name for name in ("metadata", "text", "categories") if name in quality]
    rows += [("items", f"without {name}", quality[name]["empty"], []) for name in without]
    rows += [("items", name, count, examples["fields"][name]) for name, count in quality.get("fields", {}).items()]
    table = pd.DataFrame(rows, columns=["table", "what", "rows", "for example"])
    return table.assign(**{"for example": table["for example"].str[:2].str.join(", ")})
