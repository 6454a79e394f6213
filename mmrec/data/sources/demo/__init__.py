"""A generated shop in which the reason behind every choice is known.

The catalogue (catalogue.py) gives each item a look, a manner of description, a place in a tree of categories and a
popularity, all independent of each other. Looks are drawn and descriptions written (content.py). Shoppers choose
each next item for one of five reasons, whose shares params.yaml sets. One seed determines every byte. Each part draws
from a stream of its own, so that other shoppers leave the pictures as they are.

The files hold a few flaws, for a report of data quality to find; no flaw touches a good row. The constants below count
them. Some items lack a picture (half of them name a file that is not there), words or categories.
"""

import csv
from pathlib import Path

import numpy as np

from mmrec.config import DemoSource
from mmrec.data.sources import given
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
        _write_csv(partial / "interactions.csv", ["user_id", "item_id", "timestamp"], _interactions(source, shop))
        rows = _items(source, shop, np.flatnonzero(~pictured))
        _write_csv(partial / "items.csv", ["item_id", "title", "text", "categories", "image"], rows)
        _write_pictures(source, shop, np.flatnonzero(pictured), partial / "images")
        given.keep(folder, partial)


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


def _interactions(source: DemoSource, shop: Catalogue) -> list[list[str]]:
    rows = [[f"shopper-{u:05d}", f"item-{i:04d}", str(t)] for u, i, t in zip(*interactions(source, shop), strict=True)]
    kinds = ["repeat"] * REPEATED_ROWS + ["no time"] * ROWS_WITHOUT_TIME + ["malformed"] * MALFORMED_LINES
    places = stream(source, "flawed rows").integers(len(rows), size=len(kinds)).tolist()
    for place, kind in sorted(zip(places, kinds, strict=True), reverse=True):
        user, item, time = rows[place]
        flawed = {"repeat": [user, item, time], "no time": [user, item, ""], "malformed": [user, item]}
        rows.insert(place + 1, flawed[kind])
    return rows


def _items(source: DemoSource, shop: Catalogue, unpictured: np.ndarray) -> list[list[str]]:
    unlisted = unpictured[len(unpictured) // 2 :]  # the others name a file that is not there
    wordless, uncategorised = _missing(source, "words"), _missing(source, "categories")
    descriptions = content.describe(shop.wording, shop.wording_jitter, stream(source, "phrases"))
    rows = []
    for item, other in enumerate(shown(source)):
        title, text = ("", "") if wordless[other] else descriptions[other]
        categories = "" if uncategorised[other] else "|".join(shop.categories(other))
        image = "" if other in unlisted else f"{other:04d}.png"
        rows.append([f"item-{item:04d}", title, text, categories, image])
    return rows


def _write_pictures(source: DemoSource, shop: Catalogue, items: np.ndarray, folder: Path) -> None:
    folder.mkdir()
    for item in items:
        picture = content.draw(shop.look[item], shop.look_jitter[item])
        picture.save(folder / f"{item:04d}.png", format="PNG", compress_level=6)
    candidates = [folder / f"{item:04d}.png" for item in stream(source, "flawed pictures").permutation(items)]
    for path in candidates[:NOT_AN_IMAGE]:
        path.write_text("The photographer was ill that day.\n", encoding="utf-8")
    for path in candidates[NOT_AN_IMAGE : NOT_AN_IMAGE + TRUNCATED_IMAGES]:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def _write_csv(path: Path, header: list[str], rows: list[list[str]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
