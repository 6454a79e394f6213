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

from mmrec.sources.amazon import words
from mmrec.sources.amazon.lines import by_reason, json_records, literal_records
from mmrec.sources.rows import Rows

LITERAL = re.compile(rb"\{'asin': '([0-9A-Za-z]+)', ")
SIZE = re.compile(r"\._[A-Za-z0-9,_-]+_(?=\.[a-z]+$)")  # that a picture is scaled to, in its address


@dataclass(frozen=True)
class Fields:
    """How a release names what is used of a product, beside `title` and `description`."""

    item_id: str
    brand: str
    categories: str  # a list of names, or of paths of names
    pictures: tuple[str, ...]  # their addresses, best first
    thumbnails: tuple[str, ...]  # likewise; of use without the size
    types: pa.Schema | None  # of JSON; a Python literal has none


def _json(item_id: str, brand: str, categories: str, pictures: dict, thumbnails: dict) -> Fields:
    texts = dict.fromkeys((item_id, brand, "title"), pa.string())
    types = pa.schema(texts | dict.fromkeys((categories, "description"), TEXTS) | pictures | thumbnails)
    return Fields(item_id, brand, categories, tuple(pictures), tuple(thumbnails), types)


TEXTS = pa.list_(pa.string())
SIZES = pa.list_(pa.struct({"hi_res": pa.string(), "large": pa.string()}))  # of one picture, the best first
FIELDS = {  # by release; the first files of 2018 have one `image` instead of the two lists
    2014: Fields("asin", "brand", "categories", ("imUrl",), ("imUrl",), None),
    2018: _json("asin", "brand", "category", {"imageURLHighRes": TEXTS}, {"imageURL": TEXTS, "image": TEXTS}),
    2023: _json("parent_asin", "store", "categories", {"images": SIZES}, {}),
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
    for records, lines, left_out in _first_records(path, fields, reviewed):
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
    for records, _, _ in _first_records(path, fields, reviewed):
        found += [(words.text(record.get(fields.item_id)), _addresses(record, fields)) for record in records]
    return pd.DataFrame(found, columns=["item_id", "urls"])


class Product(NamedTuple):
    item_id: str
    title: str
    text: str
    categories: list[str]
    problems: list[str]


def _first_records(
    path: Path, fields: Fields, reviewed: set[str]
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

    for records, lines, malformed in _records(path, fields, reviewed):
        is_table = isinstance(records, pa.Table)
        ids = records[fields.item_id].to_pylist() if is_table else [each.get(fields.item_id) for each in records]
        reasons = np.array([reason(words.text(each)) for each in ids], dtype=str)
        kept = np.flatnonzero(reasons == "")
        wanted = records.take(kept).to_pylist() if is_table else [records[row] for row in kept]
        yield wanted, lines[kept], by_reason(reasons, lines, malformed)


def _records(path: Path, fields: Fields, reviewed: set[str]) -> Iterator[tuple]:
    if fields.types:
        return json_records(path, fields.types)

    def unreviewed(line: bytes) -> dict[str, str] | None:
        # Parsing takes forty times as long as this, and most products of a shop have no reviewer with five reviews.
        begin = LITERAL.match(line)
        is_whole = begin and line.rstrip().endswith(b"}")
        return {"asin": item_id} if is_whole and (item_id := begin[1].decode()) not in reviewed else None

    return literal_records(path, unreviewed)


def _described(record: dict[str, Any], fields: Fields, category: str) -> Product:
    title, brand = words.text(record.get("title")), words.text(record.get(fields.brand))
    pieces, names = words.texts(record.get("description")), _names(record.get(fields.categories))
    description = " ".join(filter(None, map(words.plain, pieces)))
    problems = {
        "script for a title": words.is_code(title),
        "markup in title": words.has_markup(title) and not words.is_code(title),
        "markup in description": any(map(words.has_markup, pieces)),
        "description not in a list": fields.types is not None and isinstance(record.get("description"), str),
        "no description": not description,
        "markup in categories": not all(map(words.is_name, names)),
    }
    title, brand = "" if words.is_code(title) else words.plain(title), words.plain(brand)
    return Product(
        words.text(record.get(fields.item_id)),
        title,
        " ".join(part for part in (words.sentence(title), words.sentence(brand), description) if part),
        list(dict.fromkeys(found for name in names if (found := _category(name, category)))),
        [problem for problem, holds in problems.items() if holds],
    )


@lru_cache(maxsize=1 << 16)  # the same few thousand names, and each of them once in memory
def _category(name: str, shop: str) -> str:
    """Plain; "" for the shop's own, and for what is none."""
    found = words.plain(name)
    return found if words.is_name(name) and not words.is_shop(found, shop) else ""


def _names(paths: Any) -> list[str]:
    """Of a list of names, or of paths of names."""
    names = chain(*(each if isinstance(each, list) else [each] for each in paths)) if isinstance(paths, list) else []
    return words.texts(list(names))


def _addresses(record: dict[str, Any], fields: Fields) -> list[str]:
    pictures = [url for name in fields.pictures for url in _urls(record.get(name))]
    full = [SIZE.sub("", url) for name in fields.thumbnails for url in _urls(record.get(name))]
    return list(dict.fromkeys(pictures + full))


def _urls(value: Any) -> list[str]:
    """Of an address, a list of addresses, or a list of pictures with an address for each size."""
    each = value if isinstance(value, list) else [value]
    return words.texts(list(chain(*([p.get("hi_res"), p.get("large")] if isinstance(p, dict) else [p] for p in each))))
