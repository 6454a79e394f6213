"""Amazon reviews (McAuley, Ni, Hou et al.): the 5-core of one shop of one release.

| release | reviews                              | products                                         |
|---------|--------------------------------------|--------------------------------------------------|
| 2014    | reviews_<Category>_5.json.gz         | meta_<Category>.json.gz, a Python literal a line |
| 2018    | <Category>_5.json.gz                 | meta_<Category>.json.gz                          |
| 2023    | <Category>.csv.gz (5core/rating_only)| meta_<Category>.jsonl.gz                         |

The other files hold a JSON object a line. The provider ships addresses of pictures only: pictures.csv (item_id, image,
reason) lists those that were fetched into images/. The text of an item is `title. brand. description`, with all pieces
of a description. (The precursor used the first piece alone.)
"""

from dataclasses import asdict, replace
from pathlib import Path

import pandas as pd

from mmrec.config import AmazonSource
from mmrec.data.cleaning.rows import EXAMPLES, Rows, read_csv
from mmrec.data.cleaning.tables import Tables, clean
from mmrec.data.download.pictures import fetch_pictures
from mmrec.data.sources.amazon import metadata, reviews
from mmrec.files import link

FILES = {  # by release: (folder on the provider's server, file name) of the reviews and of the products
    2014: (("", "reviews_{}_5.json.gz"), ("", "meta_{}.json.gz")),
    2018: (("categoryFilesSmall/", "{}_5.json.gz"), ("metaFiles2/", "meta_{}.json.gz")),
    2023: (("benchmark/5core/rating_only/", "{}.csv.gz"), ("raw/meta_categories/", "meta_{}.jsonl.gz")),
}


def read(folder: Path, release: int, category: str, repeats: str = "first") -> Tables:
    """Every review is an interaction. Items are the reviewed products; those with metadata come first.

    A product without metadata is kept without text and categories, so that sequences have no holes;
    `quality["metadata"]` counts these. Of several lines about a product the first is used. `quality["fields"]` counts
    the faulty fields of kept items. The shop's own name is no category. A picture that could not be fetched counts as
    unusable.

    Raises SourceError: a file is missing, cut off or not compressed, or no line of it is usable.
    """
    of_reviews, of_products = files(folder, release, category)
    bought = reviews.read(of_reviews)
    reviewed = bought.frame["item_id"].unique().tolist()
    described, wrong = metadata.read(of_products, release, category, set(reviewed))
    ids = pd.Index(reviewed).difference(described.frame["item_id"], sort=False)
    others = pd.DataFrame({"item_id": ids, "title": "", "text": "", "line": 0, "categories": [[] for _ in ids]})
    frames = [described.frame, others.astype(described.frame.dtypes)]
    items = replace(described, frame=pd.concat(frames, ignore_index=True))
    items, lost = _with_pictures(items, folder / "pictures.csv")
    tables = clean(bought, items, folder / "images", repeats)
    quality, examples = tables.quality, tables.quality["examples"]
    quality["metadata"] = {"empty": len(others)}
    quality["fields"] = {problem: len(lines) for problem, lines in wrong.items()}
    examples["fields"] = {problem: described.locate(lines[:EXAMPLES]) for problem, lines in wrong.items()}
    for reason, ids in lost.items():
        quality["images"]["listed"] += len(ids)
        quality["images"]["unusable"][reason] = quality["images"]["unusable"].get(reason, 0) + len(ids)
        examples["images"].setdefault(reason, ids[:EXAMPLES])
    return tables


def _with_pictures(items: Rows, path: Path) -> tuple[Rows, dict[str, list[str]]]:
    """Items with the `image` that `path` lists ("" for none), and the items without their picture, by reason."""
    if not path.exists():
        return items.assign(image=""), {}
    fetched = read_csv(path, ["item_id", "image", "reason"]).frame.drop_duplicates("item_id").set_index("item_id")
    ids = items.frame["item_id"]
    image, reason = (ids.map(fetched[name]).fillna("") for name in ("image", "reason"))
    return items.assign(image=image), {name: ids[reason == name].tolist() for name in reason.unique() if name}


def files(folder: Path, release: int, category: str) -> list[Path]:
    """The file of reviews and the file of products."""
    return [folder / name.format(category) for _, name in FILES[release]]


def remotes(source: AmazonSource) -> dict[str, tuple[str, ...]]:
    """Downloaded files by name, each with its addresses in order of preference. Pictures are not among them."""
    names = [(place, name.format(source.category)) for place, name in FILES[source.release]]
    return {name: tuple(f"{mirror.rstrip('/')}/{place}{name}" for mirror in source.mirrors) for place, name in names}


def placed(source: AmazonSource) -> list[str]:
    """The raw files that a person may place instead."""
    return list(remotes(source))


def assemble(source: AmazonSource, downloads: Path, folder: Path) -> None:
    """Link the raw files into `folder` from `downloads`, and fetch the pictures if the source asks for them.

    Raises SourceError: a downloaded file cannot be read, or no picture can be fetched.
    """
    names = placed(source)
    if source.pictures is not None:
        found = candidates(downloads, source.release, source.category)
        pictures = fetch_pictures(found, downloads, **asdict(source.pictures))
        names += ["pictures.csv", *(f"images/{name}" for name in pictures["image"].unique() if name)]
    for name in names:
        link(downloads / name, folder / name)


def candidates(folder: Path, release: int, category: str) -> pd.DataFrame:
    """item_id, urls (list of str, best first) of the reviewed items whose pictures have addresses. Raises as `read`."""
    of_reviews, of_products = files(folder, release, category)
    reviewed = set(reviews.read(of_reviews).frame["item_id"].unique().tolist())
    return metadata.addresses(of_products, release, reviewed)
