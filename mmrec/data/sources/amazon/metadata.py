"""Metadata: a record for each product. Only products that somebody reviewed are used."""

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any

import pandas as pd

from mmrec.data.cleaning.rows import Rows
from mmrec.data.cleaning.tables import sentence
from mmrec.data.sources.amazon import words
from mmrec.data.sources.amazon.lines import numbered_lines, record

LITERAL = re.compile(rb"\{'asin': '([0-9A-Za-z]+)', ")
LONGEST_NAME = 100  # characters of a category's name
COLUMNS = ["item_id", "title", "text", "categories", "line"]
SIZE = re.compile(r"\._[A-Za-z0-9,_-]+_(?=\.[a-z]+$)")  # the part of a picture's address that scales it


@dataclass(frozen=True)
class Fields:
    """Names of the fields in one release, beside `title` and `description`."""

    item_id: str
    brand: str
    categories: str  # a list of names, or of paths of names
    pictures: tuple[str, ...]  # addresses, best first
    thumbnails: tuple[str, ...] = ()  # addresses that lead to the full picture without their `SIZE`
    is_json: bool = True  # else a Python literal


FIELDS = {  # by release; the first files of 2018 have one `image` instead of the two lists
    2014: Fields("asin", "brand", "categories", ("imUrl",), ("imUrl",), is_json=False),
    2018: Fields("asin", "brand", "category", ("imageURLHighRes",), ("imageURL", "image")),
    2023: Fields("parent_asin", "store", "categories", ("images",)),
}


def read(path: Path, release: int, category: str, reviewed: set[str]) -> tuple[Rows, dict[str, list[int]]]:
    """The products in `reviewed`, in the order of the file, and the lines of each problem of a field.

    Columns: item_id, title, text (str), categories (list of str).
    """
    products, dropped, wrong = [], defaultdict(list), defaultdict(list)
    for line, found in _first_records(path, FIELDS[release], reviewed, dropped):
        product, problems = _described(found, FIELDS[release], category)
        products.append((*product, line))
        for problem in problems:
            wrong[problem].append(line)
    return Rows(path.name, pd.DataFrame(products, columns=COLUMNS), dropped).require(), wrong


def addresses(path: Path, release: int, reviewed: set[str]) -> pd.DataFrame:
    """item_id, urls (list of str, best first) of the products in `reviewed` that have any."""
    fields, found = FIELDS[release], []
    for _, product in _first_records(path, fields, reviewed, defaultdict(list)):
        pictures = [url for name in fields.pictures for url in _urls(product.get(name))]
        full = [SIZE.sub("", url) for name in fields.thumbnails for url in _urls(product.get(name))]
        if urls := list(dict.fromkeys(pictures + full)):
            found.append((words.text(product[fields.item_id]), urls))
    return pd.DataFrame(found, columns=["item_id", "urls"])


def _first_records(
    path: Path, fields: Fields, reviewed: set[str], dropped: dict[str, list[int]]
) -> Iterator[tuple[int, dict[str, Any]]]:
    """The first record of each reviewed product, with its line. Other lines are appended to `dropped`, by reason."""
    seen = set()
    for number, line in numbered_lines(path):
        if (product := record(line) if fields.is_json else _literal(line, reviewed)) is None:
            dropped["malformed line"].append(number)
        elif (item_id := words.text(product.get(fields.item_id))) not in reviewed:
            dropped["never reviewed" if item_id else "no item"].append(number)
        elif item_id in seen:
            dropped["duplicate"].append(number)
        else:
            seen.add(item_id)
            yield number, product


def _literal(line: bytes, reviewed: set[str]) -> dict[str, Any] | None:
    # Parsing takes forty times as long as this match, and most products of a shop are not in `reviewed`.
    begin = LITERAL.match(line)
    if begin and line.rstrip().endswith(b"}") and (item_id := begin[1].decode()) not in reviewed:
        return {"asin": item_id}
    return record(line, ast.literal_eval)


def _described(found: dict[str, Any], fields: Fields, category: str) -> tuple[tuple, list[str]]:
    """The `COLUMNS` of a product but its line, and the names of the problems of its fields."""
    title, brand = words.text(found.get("title")), words.text(found.get(fields.brand))
    pieces, paths = words.texts(found.get("description")), found.get(fields.categories)
    description = " ".join(filter(None, map(words.plain, pieces)))
    names = chain.from_iterable(map(words.texts, paths if isinstance(paths, list) else []))
    categories = [_category(name, category) for name in names]
    is_code = "getTime" in title  # a piece of the page's script, by the provider's own test
    problems = {
        "script for a title": is_code,
        "markup in title": words.has_markup(title) and not is_code,
        "markup in description": any(map(words.has_markup, pieces)),
        "description not in a list": isinstance(found.get("description"), str) and fields.is_json,
        "no description": not description,
        "markup in categories": None in categories,
    }
    title, brand = "" if is_code else words.plain(title), words.plain(brand)
    text = " ".join(filter(None, (sentence(title), sentence(brand), description)))
    product = words.text(found.get(fields.item_id)), title, text, list(dict.fromkeys(filter(None, categories)))
    return product, [problem for problem, holds in problems.items() if holds]


@lru_cache(maxsize=1 << 16)  # the same few thousand names, and each of them once in memory
def _category(name: str, shop: str) -> str | None:
    """The name as plain text; "" for the shop's own, as `Sports & Outdoors`; None for a piece of the page."""
    if words.has_markup(name) or len(name) > LONGEST_NAME:
        return None
    found = words.plain(name)
    own, shop = (re.findall("[a-z]+", each.lower().replace("&", "and")) for each in (found, shop))
    return "" if own == shop else found


def _urls(value: Any) -> list[str]:
    """All addresses in an address, a list of addresses, or a list of pictures with an address for each size."""
    each = value if isinstance(value, list) else [value]
    return words.texts(list(chain(*([p.get("hi_res"), p.get("large")] if isinstance(p, dict) else [p] for p in each))))
