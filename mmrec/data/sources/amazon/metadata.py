"""What the products are: a record each, of which only those are looked at that somebody reviewed."""

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa

from mmrec.data.cleaning.rows import Rows
from mmrec.data.sources.amazon import words
from mmrec.data.sources.amazon.lines import by_reason, json_records, literal_records

LITERAL = re.compile(rb"\{'asin': '([0-9A-Za-z]+)', ")
SIZE = re.compile(r"\._[A-Za-z0-9,_-]+_(?=\.[a-z]+$)")  # that a picture is scaled to, in its address


@dataclass(frozen=True)
class Fields:
    """How a release names what is used of a product, beside `title` and `description`."""

    item_id: str
    brand: str
    categories: str  # a list of names, or of paths of names
    pictures: dict[str, pa.DataType]  # their addresses, best first
    thumbnails: dict[str, pa.DataType]  # likewise; of use without the size
    is_json: bool = True  # else a Python literal

    @property
    def of_words(self) -> pa.Schema:
        texts = dict.fromkeys((self.item_id, "title", self.brand), pa.string())
        return pa.schema(texts | dict.fromkeys(("description", self.categories), TEXTS))

    @property
    def of_pictures(self) -> pa.Schema:
        return pa.schema({self.item_id: pa.string()} | self.pictures | self.thumbnails)


TEXTS = pa.list_(pa.string())
SIZES = pa.list_(pa.struct({"hi_res": pa.string(), "large": pa.string()}))  # of one picture, the best first
FIELDS = {  # by release; the first files of 2018 have one `image` instead of the two lists
    2014: Fields("asin", "brand", "categories", {"imUrl": pa.string()}, {"imUrl": pa.string()}, is_json=False),
    2018: Fields("asin", "brand", "category", {"imageURLHighRes": TEXTS}, {"imageURL": TEXTS, "image": TEXTS}),
    2023: Fields("parent_asin", "store", "categories", {"images": SIZES}, {}),
}
ITEM = pa.schema({"item_id": pa.string(), "title": pa.string(), "text": pa.string(), "line": pa.int64()})


def read(path: Path, release: int, category: str, reviewed: set[str]) -> tuple[Rows, dict[str, np.ndarray]]:
    """item_id, title, text (str), categories (list of str) of the products in `reviewed`, in the order of the file.

    Returns:
        The items, and the lines of fields that are not as they should be, by what is wrong.

    Raises:
        SourceError: the file is missing, cut off or not compressed, or no line of it is usable.
    """
    fields, tables, categories = FIELDS[release], [ITEM.empty_table()], []
    dropped, wrong = defaultdict(list), defaultdict(list)
    for records, lines, left_out in _first_records(path, fields, fields.of_words, reviewed):
        for reason, where in left_out.items():
            dropped[reason].append(where)
        products = [_described(record, fields, category) for record in records]
        columns = [[getattr(each, name) for each in products] for name in ITEM.names[:-1]]
        tables.append(pa.table([*columns, lines], schema=ITEM))
        categories += [each.categories for each in products]
        for line, product in zip(lines, products, strict=True):
            for problem in product.problems:
                wrong[problem].append(line)
    frame = pa.concat_tables(tables).to_pandas().assign(categories=categories)
    rows = Rows(path.name, frame, {reason: np.concatenate(where) for reason, where in dropped.items()})
    return rows.require(), {problem: np.array(where) for problem, where in wrong.items()}


def addresses(path: Path, release: int, reviewed: set[str]) -> pd.DataFrame:
    """item_id, urls (list of str, best first; [] if none is known) of the products in `reviewed`.

    Raises:
        SourceError: the file is missing, cut off or not compressed.
    """
    fields, found = FIELDS[release], []
    for records, _, _ in _first_records(path, fields, fields.of_pictures, reviewed):
        found += [(words.text(record.get(fields.item_id)), _addresses(record, fields)) for record in records]
    return pd.DataFrame(found, columns=["item_id", "urls"])


class Product(NamedTuple):
    item_id: str
    title: str
    text: str
    categories: list[str]
    problems: list[str]


def _first_records(
    path: Path, fields: Fields, types: pa.Schema, reviewed: set[str]
) -> Iterator[tuple[list[dict[str, Any]], np.ndarray, dict[str, np.ndarray]]]:
    """Block after block: the first record of each reviewed product, their lines, and by reason the lines left out."""
    seen = set()

    def reason(item_id: str) -> str:
        if item_id not in reviewed:
            return "never reviewed" if item_id else "no item"
        if item_id in seen:
            return "duplicate"
        seen.add(item_id)
        return ""

    for records, lines, malformed in _records(path, fields, types, reviewed):
        is_table = isinstance(records, pa.Table)
        ids = records[fields.item_id].to_pylist() if is_table else [each.get(fields.item_id) for each in records]
        reasons = np.array([reason(words.text(each)) for each in ids], dtype=str)
        kept = np.flatnonzero(reasons == "")
        wanted = records.take(kept).to_pylist() if is_table else [records[row] for row in kept]
        yield wanted, lines[kept], by_reason(reasons, lines, malformed)


def _records(path: Path, fields: Fields, types: pa.Schema, reviewed: set[str]) -> Iterator[tuple]:
    if fields.is_json:
        return json_records(path, types)

    def unreviewed(line: bytes) -> dict[str, str] | None:
        # Parsing takes forty times as long as this, and most products of a shop have no reviewer with five reviews.
        begin = LITERAL.match(line)
        is_whole = begin and line.rstrip().endswith(b"}")
        return {"asin": item_id} if is_whole and (item_id := begin[1].decode()) not in reviewed else None

    return literal_records(path, unreviewed)


def _described(record: dict[str, Any], fields: Fields, category: str) -> Product:
    title, brand = words.text(record.get("title")), words.text(record.get(fields.brand))
    pieces = words.texts(record.get("description"))
    description = " ".join(filter(None, map(words.plain, pieces)))
    categories = [_category(name, category) for name in _names(record.get(fields.categories))]
    is_code = words.is_code(title)
    problems = {
        "script for a title": is_code,
        "markup in title": words.has_markup(title) and not is_code,
        "markup in description": any(map(words.has_markup, pieces)),
        "description not in a list": isinstance(record.get("description"), str) and fields.is_json,
        "no description": not description,
        "markup in categories": None in categories,
    }
    title, brand = "" if is_code else words.plain(title), words.plain(brand)
    return Product(
        words.text(record.get(fields.item_id)),
        title,
        " ".join(filter(None, (words.sentence(title), words.sentence(brand), description))),
        list(dict.fromkeys(filter(None, categories))),
        [problem for problem, holds in problems.items() if holds],
    )


@lru_cache(maxsize=1 << 16)  # the same few thousand names, and each of them once in memory
def _category(name: str, shop: str) -> str | None:
    """Plain; "" for the shop's own; None for what is no name."""
    if not words.is_name(name):
        return None
    found = words.plain(name)
    return "" if words.is_shop(found, shop) else found


def _names(paths: Any) -> list[str]:
    """Of a list of names, or of paths of names."""
    names = []
    for each in paths if isinstance(paths, list) else []:
        names += words.texts(each)
    return names


def _addresses(record: dict[str, Any], fields: Fields) -> list[str]:
    pictures = [url for name in fields.pictures for url in _urls(record.get(name))]
    full = [SIZE.sub("", url) for name in fields.thumbnails for url in _urls(record.get(name))]
    return list(dict.fromkeys(pictures + full))


def _urls(value: Any) -> list[str]:
    """Of an address, a list of addresses, or a list of pictures with an address for each size."""
    each = value if isinstance(value, list) else [value]
    return words.texts(list(chain(*([p.get("hi_res"), p.get("large")] if isinstance(p, dict) else [p] for p in each))))
