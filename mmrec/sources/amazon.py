"""Amazon reviews (McAuley et al. 2015), release 2014: one shop and those who reviewed at least five of its items.

reviews_<Category>_5.json.gz   a JSON object a line: reviewerID, asin, unixReviewTime
meta_<Category>.json.gz        a Python literal a line: asin, title, brand, description, categories

There are no pictures: the provider ships their addresses only.
"""

import ast
import gzip
import html
import json
import re
import zlib
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrec.sources.rows import Rows, SourceError, must_exist
from mmrec.sources.tables import Tables, clean

LONGEST = 1 << 20  # bytes of a line; parsing a Python literal can take 500 times as much memory
TAG = re.compile(r"</?[a-zA-Z][^<>]*>")


def read(folder: Path, release: int, category: str) -> Tables:
    """Every review is an interaction; items are those that are reviewed, the described ones first.

    An item that the metadata lack is kept without words or categories, so that nobody's sequence has a hole;
    `quality["metadata"]` counts them, and in `quality["items"]` they count as read. The shop's own name is no category.

    Raises:
        SourceError: a file is missing, cut off or not compressed, or no line of it is usable.
    """
    reviews = _reviews(folder / f"reviews_{category}_5.json.gz")
    described = _described(folder / f"meta_{category}.json.gz", set(reviews.frame["item_id"]), category)
    items = _with_the_others(described, reviews.frame["item_id"])
    tables = clean(reviews, items, folder / "images")
    tables.quality["metadata"] = {"empty": len(items.frame) - len(described.frame)}
    return tables


def candidates(folder: Path, release: int, category: str) -> pd.DataFrame:
    """Addresses of the pictures of reviewed items: item_id, urls (list of str, best first; one item a row).

    Raises:
        SourceError: as `read`.
    """
    reviewed = set(_reviews(folder / f"reviews_{category}_5.json.gz").frame["item_id"])

    def take(item: dict[str, Any]) -> tuple | str:
        item_id, url = _text(item.get("asin")), _text(item.get("imUrl"))
        return (item_id, [url]) if item_id in reviewed and url else "no picture"

    rows = _read(folder / f"meta_{category}.json.gz", ast.literal_eval, ["item_id", "urls"], take)
    return rows.frame[["item_id", "urls"]].drop_duplicates("item_id", ignore_index=True)


def _reviews(path: Path) -> Rows:
    def take(review: dict[str, Any]) -> tuple | str:
        user_id, item_id = _text(review.get("reviewerID")), _text(review.get("asin"))
        if not user_id or not item_id:
            return "no item" if user_id else "no user"
        time = review.get("unixReviewTime")
        return user_id, item_id, str(time) if isinstance(time, int | float) else _text(time)

    return _read(path, json.loads, ["user_id", "item_id", "timestamp"], take)


def _described(path: Path, reviewed: set[str], category: str) -> Rows:
    seen = set()

    def take(item: dict[str, Any]) -> tuple | str:
        item_id = _text(item.get("asin"))
        if item_id not in reviewed:
            return "never reviewed" if item_id else "no item"
        if item_id in seen:
            return "duplicate"
        seen.add(item_id)
        title, brand, description = (_plain(item.get(name)) for name in ("title", "brand", "description"))
        text = " ".join(part for part in (_sentence(title), _sentence(brand), description) if part)
        return item_id, title, text, _categories(item.get("categories"), category), ""

    return _read(path, ast.literal_eval, ["item_id", "title", "text", "categories", "image"], take)


def _with_the_others(described: Rows, reviewed: pd.Series) -> Rows:
    ids = pd.Index(reviewed.unique()).difference(described.frame["item_id"], sort=False)
    others = pd.DataFrame([(name, "", "", [], "", 0) for name in ids], columns=described.frame.columns)
    frames = [described.frame, others.astype(described.frame.dtypes)]
    return replace(described, frame=pd.concat(frames, ignore_index=True))


def _read(path: Path, parse: Callable[[str], Any], columns: list[str], take: Callable[[dict], tuple | str]) -> Rows:
    """The rows that `take` makes of a file's objects; of one that is of no use it gives the reason instead."""
    kept, dropped = [], defaultdict(list)
    for number, line in enumerate(_lines(path), start=1):
        found = _parsed(line, parse)
        row = "malformed line" if found is None else take(found)
        if isinstance(row, str):
            dropped[row].append(number)
        else:
            kept.append((*row, number))
    frame = pd.DataFrame(kept, columns=[*columns, "line"])
    return Rows(path.name, frame, {reason: np.array(lines) for reason, lines in dropped.items()}).require()


def _lines(path: Path) -> Iterator[bytes]:
    """Every line; of one that is too long, the first LONGEST + 1 bytes."""
    must_exist(path)
    try:
        with gzip.open(path) as file:
            while line := file.readline(LONGEST + 1):
                rest = line
                while len(rest) > LONGEST and not rest.endswith(b"\n"):
                    rest = file.readline(LONGEST + 1)
                yield line
    except (gzip.BadGzipFile, EOFError, zlib.error):
        raise SourceError(f"{path.name} is no whole gzip file: place it in {path.parent} as it was provided") from None


def _parsed(line: bytes, parse: Callable[[str], Any]) -> dict[str, Any] | None:
    if len(line) > LONGEST:
        return None
    try:
        found = parse(line.decode())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _text(value: Any) -> str:
    # An escaped half of a character is legal in both formats and cannot be written as UTF-8.
    return value.strip().encode(errors="replace").decode() if isinstance(value, str) else ""


def _plain(value: Any) -> str:
    return " ".join(TAG.sub(" ", html.unescape(_text(value))).split())


def _sentence(text: str) -> str:
    return text.rstrip(".") + "." if text.rstrip(".") else ""


def _categories(paths: Any, category: str) -> list[str]:
    """The distinct names on all paths, but for the shop's own: `Sports & Outdoors` in Sports_and_Outdoors."""
    names = [_plain(name) for path in _list(paths) for name in _list(path)]
    return [name for name in dict.fromkeys(names) if name and _words(name) != _words(category)]


def _list(value: Any) -> list:
    return value if isinstance(value, list) else []


def _words(name: str) -> list[str]:
    return re.findall("[a-z]+", name.lower().replace("&", "and"))
