"""Raw files that are fetched: what a data set consists of, and how it comes from downloads into data/raw.

Downloads stay in data/downloads/<dataset>, where an interrupted fetch goes on and a person without internet places
files; data/raw/<dataset> is made of them.
"""

import os
import shutil
import socket
from dataclasses import asdict
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

from mmrec.config import AmazonSource, MovieLensSource
from mmrec.data.download.files import Remote, download
from mmrec.data.download.pictures import fetch_pictures
from mmrec.data.sources import amazon, movielens
from mmrec.files import replacing
from mmrec.progress import report

SECONDS = 3.0  # that a server is waited for when all that matters is whether there is one

AMAZON = {  # by release, below its folder on the web: folders of the files that `amazon.files` names
    2014: ("", ""),
    2018: ("categoryFilesSmall/", "metaFiles2/"),
    2023: ("benchmark/5core/rating_only/", "raw/meta_categories/"),
}

FetchedSource = AmazonSource | MovieLensSource


def remotes(source: FetchedSource, dataset: str) -> list[Remote]:
    """The files that are downloaded, below data/downloads."""
    if isinstance(source, MovieLensSource):
        addresses = {movielens.RATINGS: source.ratings, movielens.PLOTS: source.plots}
    else:
        addresses = {
            name: tuple(f"{mirror.rstrip('/')}/{folder}{name}" for mirror in source.mirrors)
            for folder, name in zip(AMAZON[source.release], _amazon_names(source), strict=True)
        }
    return [Remote(path=f"{dataset}/{name}", urls=urls) for name, urls in addresses.items()]


def fetch(source: FetchedSource, folder: Path, downloads: Path, checksums: Path) -> None:
    """Download what `downloads` lacks and make `folder` of it, in place of whatever is there.

    Files that a person has placed in `folder` itself, where nothing has been downloaded, stay as they are.

    Raises:
        SourceError: a file cannot be fetched or is not the right one; the message says what to do.
    """
    if is_placed(source, folder) and not downloads.exists():
        report(f"{folder.name}: used as it was placed in {folder}, unverified; nothing is fetched")
        return
    download(remotes(source, downloads.name), downloads.parent, checksums)
    with replacing(folder) as partial:
        if isinstance(source, MovieLensSource):
            _make_films(source, partial, downloads)
        else:
            _make_shop(source, partial, downloads)


def _make_films(source: MovieLensSource, folder: Path, downloads: Path) -> None:
    movielens.unpack(downloads, folder)
    posters = fetch_pictures(movielens.candidates(folder, source.posters), downloads, **asdict(source.pictures))
    for film, image in posters.loc[posters["image"] != "", ["item_id", "image"]].itertuples(index=False):
        _link(downloads / "images" / image, folder / "posters" / f"{film}.jpg")


def _make_shop(source: AmazonSource, folder: Path, downloads: Path) -> None:
    names = _amazon_names(source)
    if source.pictures is not None:
        candidates = amazon.candidates(downloads, source.release, source.category)
        pictures = fetch_pictures(candidates, downloads, **asdict(source.pictures))
        names += ["pictures.csv", *(f"images/{name}" for name in pictures["image"].unique() if name)]
    for name in names:
        _link(downloads / name, folder / name)


def is_placed(source: FetchedSource, folder: Path) -> bool:
    """Are the files there that a person places in data/raw?"""
    if isinstance(source, MovieLensSource):
        names = [*movielens.TABLES, "plots.csv", "posters"]
    else:
        names = _amazon_names(source)
    return all((folder / name).exists() for name in names)


def obstacle(source: FetchedSource, folder: Path, downloads: Path) -> str | None:
    """Why `fetch` cannot succeed here, as one line; None if the files are there or a server of each answers."""
    if is_placed(source, folder):
        return None
    for file in remotes(source, downloads.name):
        hosts = {urlsplit(url).netloc for url in file.urls}
        if not (downloads.parent / file.path).is_file() and not any(_answers(url) for url in file.urls):
            return f"{Path(file.path).name} is not in {downloads}, and {', '.join(sorted(hosts))} cannot be reached"
    return None


def _amazon_names(source: AmazonSource) -> list[str]:
    return [path.name for path in amazon.files(Path(), source.release, source.category)]


def _answers(url: str) -> bool:
    parts = urlsplit(url)
    return _listens(parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


@cache
def _listens(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=SECONDS).close()
    except OSError:
        return False
    return True


def _link(source: Path, target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(source, target)
    except OSError:  # another file system, or one without links
        shutil.copyfile(source, target)
