"""Where data sets come from: one file a provider, each turned into the same tables."""

from pathlib import Path

from mmrec import config
from mmrec.sources import amazon, demo, hm, movielens
from mmrec.sources import folder as own
from mmrec.sources.interim import quality_table, read_items, write
from mmrec.sources.rows import SourceError
from mmrec.sources.tables import Tables

__all__ = ["SourceError", "Tables", "fetch", "images", "quality_table", "read", "read_items", "write"]

READERS = {"demo": own.read, "folder": own.read, "hm": hm.read, "movielens": movielens.read}
PLACED = {  # what a person places
    "amazon": "reviews_<category>_5.json.gz and meta_<category>.json.gz",
    "folder": "interactions.csv, items.csv and images/",
    "hm": "transactions_train.csv, articles.csv and images/",
    "movielens": "ml-1m/, plots.csv and posters/",
}


def fetch(source: config.Source, folder: Path) -> None:
    """Make the raw files of `source` in `folder`, in place of whatever is there.

    Raises:
        SourceError: nothing can make them; a person places them.
    """
    if not isinstance(source, config.DemoSource):
        raise SourceError(f"a data set of kind {source.kind} is not fetched: place {PLACED[source.kind]} in {folder}")
    demo.fetch(source, folder)


def read(source: config.Source, folder: Path) -> Tables:
    """The cleaned tables of `source`, whose raw files lie in `folder`.

    Raises:
        SourceError: a file is missing or cannot be used; the message names it, the line, and what to do.
    """
    if isinstance(source, config.AmazonSource):
        return amazon.read(folder, source.release, source.category)
    return READERS[source.kind](folder)


def images(source: config.Source, folder: Path) -> Path:
    """The folder that `image` of an item is relative to."""
    return folder / ("posters" if source.kind == "movielens" else "images")
