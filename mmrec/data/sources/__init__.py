"""Where data sets come from: one file a provider, each turned into the same tables."""

from pathlib import Path

from mmrec import config
from mmrec.data.cleaning.interim import quality_table, read_items, write
from mmrec.data.cleaning.rows import SourceError
from mmrec.data.cleaning.tables import Tables
from mmrec.data.sources import amazon, demo, hm, movielens, remote
from mmrec.data.sources import folder as own

__all__ = ["SourceError", "Tables", "fetch", "images", "obstacle", "quality_table", "read", "read_items", "write"]

READERS = {"demo": own.read, "folder": own.read, "hm": hm.read}
PLACED = {  # what a person places
    "amazon": "its reviews and its metadata, as the provider names them,",
    "folder": "interactions.csv, items.csv and images/",
    "hm": "transactions_train.csv, articles.csv and images/",
    "movielens": "ml-1m/, plots.csv and posters/",
}


def fetch(source: config.Source, folder: Path, downloads: Path, checksums: Path) -> None:
    """Make the raw files of `source` in `folder`, in place of whatever is there.

    Args:
        downloads: where what comes from the web is kept, and an interrupted fetch goes on.
        checksums: the record of what came; see `download`.

    Raises:
        SourceError: nothing can make or fetch them: a person places them; or fetching failed.
    """
    if not config.is_fetched(source):
        raise SourceError(f"a data set of kind {source.kind} is not fetched: place {PLACED[source.kind]} in {folder}")
    if isinstance(source, config.DemoSource):
        demo.fetch(source, folder)
    else:
        remote.fetch(source, folder, downloads, checksums)


def obstacle(source: config.Source, folder: Path, downloads: Path) -> str | None:
    """Why the raw files of `source` cannot be had on this machine, as one line; None if they can."""
    if isinstance(source, config.DemoSource):
        return None
    if config.is_fetched(source):
        return remote.obstacle(source, folder, downloads)
    return None if folder.exists() else f"nobody has placed {PLACED[source.kind]} in {folder}"


def read(source: config.Source, folder: Path) -> Tables:
    """The cleaned tables of `source`, whose raw files lie in `folder`.

    Raises:
        SourceError: a file is missing or cannot be used; the message names it, the line, and what to do.
    """
    if isinstance(source, config.AmazonSource):
        return amazon.read(folder, source.release, source.category)
    if isinstance(source, config.MovieLensSource):
        return movielens.read(folder, source.users)
    return READERS[source.kind](folder)


def images(source: config.Source, folder: Path) -> Path:
    """The folder that `image` of an item is relative to."""
    return folder / ("posters" if source.kind == "movielens" else "images")
