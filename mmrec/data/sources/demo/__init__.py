"""A generated shop in which the reason behind every choice is known.

The catalogue (catalogue.py) gives each item a look, a manner of description, a place in a tree of categories and a
popularity, all independent of each other. Looks are drawn and descriptions written (content.py). Shoppers choose
each next item for one of five reasons whose shares params.yaml sets (catalogue.py). One seed determines every
byte; each part draws from a stream of its own, so that other shoppers leave the pictures as they are.

So that a report of data quality has something to report, the files hold a few flaws, none of which touches a good row:
see the constants below, and the items that lack a picture (half of them name a file that is not there), words or
categories.
"""

import csv
from pathlib import Path

import numpy as np

from mmrec.config import DemoSource
from mmrec.data.sources.demo import content
from mmrec.data.sources.demo.catalogue import Catalogue, draw_catalogue, interactions, stream
from mmrec.files import replacing

REPEATED_ROWS = 3  # rows written twice
ROWS_WITHOUT_TIME = 2  # rows written once more, without their timestamp
MALFORMED_LINES = 1  # rows written once more, without their last field
NOT_AN_IMAGE = 1  # pictures whose file holds words
TRUNCATED_IMAGES = 1  # pictures whose file ends half-way: the header is fine, only decoding tells


def fetch(source: DemoSource, folder: Path) -> None:
    """Write interactions.csv, items.csv and images/ to `folder`, replacing it as a whole once all is written."""
    shop = draw_catalogue(source)
    pictured = ~_missing(source, "picture")
    with replacing(folder) as partial:
        _write_interactions(source, shop, partial / "interactions.csv")
        _write_items(source, shop, pictured, partial / "items.csv")
        _write_pictures(source, shop, pictured, partial / "images")


def shown(source: DemoSource) -> np.ndarray:
    """The item of the catalogue whose picture, words and categories each item carries, (items,).

    Its own; or, in the negative control, always another's (one cycle through all items in random order).
    """
    item = np.arange(source.items)
    if source.permute_items:
        order = stream(source, "permutation").permutation(source.items)
        item[order] = np.roll(order, 1)
    return item


def _missing(source: DemoSource, modality: str) -> np.ndarray:
    """Items that lack `modality`, (items,) bool."""
    lacking = stream(source, f"missing {modality}").permutation(source.items)[: round(source.missing * source.items)]
    return np.isin(np.arange(source.items), lacking)


def _write_interactions(source: DemoSource, shop: Catalogue, path: Path) -> None:
    rows = [[f"shopper-{u:05d}", f"item-{i:04d}", str(t)] for u, i, t in zip(*interactions(source, shop), strict=True)]
    random = stream(source, "flawed rows")
    flaws = [("repeat", REPEATED_ROWS), ("no time", ROWS_WITHOUT_TIME), ("malformed", MALFORMED_LINES)]
    kinds = [kind for kind, count in flaws for _ in range(count)]
    places = random.integers(len(rows), size=len(kinds))
    for place, kind in sorted(zip(places.tolist(), kinds, strict=True), reverse=True):
        user, item, time = rows[place]
        flawed = {"repeat": [user, item, time], "no time": [user, item, ""], "malformed": [user, item]}
        rows.insert(place + 1, flawed[kind])
    _write_csv(path, [["user_id", "item_id", "timestamp"], *rows])


def _write_items(source: DemoSource, shop: Catalogue, pictured: np.ndarray, path: Path) -> None:
    unpictured = np.flatnonzero(~pictured)
    unlisted = unpictured[len(unpictured) // 2 :]  # the others name a file that is not there
    wordless, uncategorised = _missing(source, "words"), _missing(source, "categories")
    descriptions = content.describe(shop.wording, shop.wording_jitter, stream(source, "phrases"))
    rows = []
    for item, other in enumerate(shown(source)):
        title, text = ("", "") if wordless[other] else descriptions[other]
        categories = "" if uncategorised[other] else "|".join(shop.categories(other))
        image = "" if other in unlisted else _file_name(other)
        rows.append([f"item-{item:04d}", title, text, categories, image])
    _write_csv(path, [["item_id", "title", "text", "categories", "image"], *rows])


def _write_pictures(source: DemoSource, shop: Catalogue, pictured: np.ndarray, folder: Path) -> None:
    folder.mkdir()
    for item in np.flatnonzero(pictured):
        picture = content.draw(shop.look[item], shop.look_jitter[item])
        picture.save(folder / _file_name(item), format="PNG", compress_level=6)
    candidates = stream(source, "flawed pictures").permutation(np.flatnonzero(pictured))
    for item in candidates[:NOT_AN_IMAGE]:
        (folder / _file_name(item)).write_text("The photographer was ill that day.\n", encoding="utf-8")
    for item in candidates[NOT_AN_IMAGE : NOT_AN_IMAGE + TRUNCATED_IMAGES]:
        whole = (folder / _file_name(item)).read_bytes()
        (folder / _file_name(item)).write_bytes(whole[: len(whole) // 2])


def _file_name(item: int) -> str:
    return f"{item:04d}.png"


def _write_csv(path: Path, rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
