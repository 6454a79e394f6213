"""Data sets by kind of source. Each source turns its raw files into the same `Tables`."""

from pathlib import Path

import pandas as pd

from mmrec import config
from mmrec.data.cleaning.rows import SourceError
from mmrec.data.cleaning.tables import Tables, quality_table, read_items, write
from mmrec.data.download.files import download, unreachable
from mmrec.data.sources import amazon, demo, given, hm, movielens
from mmrec.data.sources import folder as own
from mmrec.files import replacing
from mmrec.progress import report

__all__ = ["SourceError", "Tables", "quality_table", "read_items", "write"]  # beside the functions below

READERS = {"demo": own.read, "folder": own.read, "hm": hm.read}
FETCHED = {"amazon": amazon, "movielens": movielens}  # each has `remotes`, `placed` and `assemble`
PLACED = {  # the files that a person places
    "amazon": "its reviews and its metadata, as the provider names them,",
    "folder": "interactions.csv, items.csv and images/",
    "hm": "transactions_train.csv, articles.csv and images/",
    "movielens": "ml-1m/, plots.csv and posters/",
}


def fetch(source: config.Source, folder: Path, downloads: Path, checksums: Path) -> None:
    """Replace `folder` by the raw files of `source`. Of a source without addresses, check that a person placed them.

    Files that a person placed in `folder` stay as they are, unless something has been downloaded before. `downloads`
    keeps the downloaded files: an interrupted fetch continues there, and a person may place files there. `checksums`
    records them; see `download`.

    Raises SourceError: files to be placed are missing or links that DVC does not follow; or a file cannot be fetched or
    is the wrong one.
    """
    if not config.is_fetched(source):
        _look_for_placed(source, folder)
    elif isinstance(source, config.DemoSource):
        demo.fetch(source, folder)
    elif _is_placed(source, folder) and not downloads.exists():
        report(f"{folder.name}: used as it was placed in {folder}, unverified; nothing is fetched")
    else:
        download(_remotes(source, downloads), downloads.parent, checksums)
        with replacing(folder) as partial:
            FETCHED[source.kind].assemble(source, downloads, partial)
            given.keep(folder, partial)


def _look_for_placed(source: config.Source, folder: Path) -> None:
    if not folder.is_dir() or not any(folder.iterdir()):
        raise SourceError(f"a data set of kind {source.kind} is not fetched: place {PLACED[source.kind]} in {folder}")
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink() and not path.is_file():
            problem = "links to a folder or to nothing: DVC does not see what changes behind it"
            raise SourceError(f"{path} {problem}; copy the folder (cp -rL) or hard-link its files (cp -alL)")
    print(f"{folder} holds the placed files of a data set of kind {source.kind}")


def obstacle(source: config.Source, folder: Path, downloads: Path) -> str | None:
    """One line that says why this machine cannot have the raw files of `source`; None if it can."""
    if not config.is_fetched(source):
        return None if folder.exists() else f"nobody has placed {PLACED[source.kind]} in {folder}"
    if isinstance(source, config.DemoSource) or _is_placed(source, folder):
        return None
    return unreachable(_remotes(source, downloads), downloads.parent)


def _remotes(source: config.Source, downloads: Path) -> dict[str, tuple[str, ...]]:
    return {f"{downloads.name}/{name}": urls for name, urls in FETCHED[source.kind].remotes(source).items()}


def _is_placed(source: config.Source, folder: Path) -> bool:
    return all((folder / name).exists() for name in FETCHED[source.kind].placed(source))


def read(source: config.Source, folder: Path, repeats: str = "first") -> Tables:
    """The cleaned tables of `source`, read from the raw files in `folder`; of `repeats` see `clean`.

    Raises SourceError: a file is missing or cannot be used; the message names the file, the line, and what to do.
    """
    if isinstance(source, config.AmazonSource):
        return amazon.read(folder, source.release, source.category, repeats)
    if isinstance(source, config.MovieLensSource):
        return movielens.read(folder, source.users, repeats)
    return READERS[source.kind](folder, repeats, *times_of(source))


def times_of(source: config.Source) -> tuple:
    """The arguments of `timed` that a source of a person's own files gives; none of other sources."""
    return (source.timestamp_format, source.any_year) if source.kind == "folder" else ()


def require_modalities(tables: Tables, dataset: str, about: config.Dataset) -> None:
    """Raise SourceError if no item has a modality that is on: with the reasons and the key that turns it off.

    `given_ids` looks at given features.
    """
    items, pictures, examples = tables.items, tables.quality["images"], tables.quality["examples"]["images"]
    reasons = [f"{count} {reason} ({examples[reason][0]})" for reason, count in pictures["unusable"].items()]
    why = f" ({pictures['listed']} are listed: {', '.join(reasons) or 'none'})"
    modalities = {  # items that have it, what is known of those that do not, its value in params.yaml if off
        "image": (items["image"].notna(), why, "null"),
        "text": ((items["text"] != "") | (items["title"] != ""), "", "null"),
        "category": (items["categories"].str.len() > 0, "", "false"),
    }
    for modality in (one for one in about.modalities if one not in about.given):
        held, why, off = modalities[modality]
        if not held.any():
            text = f"no item of {dataset} has {modality}{why}"
            raise SourceError(f"{text}: mend that, or set datasets.{dataset}.{modality}: {off}")


def given_ids(about: config.Dataset, folder: Path, item_ids: pd.Series) -> dict[str, pd.Index]:
    """The ids in the file of each given modality, which is checked whole. Prints how many are of which items.

    Raises SourceError: see `given.read`.
    """
    found = {}
    for modality in about.given:
        ids, matrix = given.read(given.path_of(folder, modality), pd.Index(item_ids))
        known = int(ids.isin(item_ids).sum())
        rows, width = matrix.shape
        print(f"{modality}.parquet: {rows:,} vectors of {width:,} numbers, {rows - known:,} of no item")
        print(f"{len(item_ids) - known:,} of {len(item_ids):,} items have no {modality} vector")
        found[modality] = ids
    return found


def images(source: config.Source, folder: Path) -> Path:
    """The folder that the column `image` of items is relative to."""
    return folder / ("posters" if source.kind == "movielens" else "images")
