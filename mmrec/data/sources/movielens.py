"""MovieLens-1M (Harper and Konstan 2015) with plots and posters: films.

ml-1m/ratings.dat, ml-1m/movies.dat   as GroupLens ships them: fields between `::`, Latin-1
plots.csv                             movie_id, plot (UTF-8)
posters/<movie_id>.jpg

The tables can be made from two downloads, ml-1m.zip and metadata.pkl; posters are downloaded one by one.
"""

import pickle
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrec.config import MovieLensSource
from mmrec.data.cleaning.rows import Rows, SourceError, must_exist, read_csv, read_separated
from mmrec.data.cleaning.tables import Tables, clean, unique_ids
from mmrec.data.download.pictures import fetch_pictures
from mmrec.files import link

RATINGS, PLOTS = "ml-1m.zip", "metadata.pkl"  # as they are fetched
TABLES = ("ml-1m/ratings.dat", "ml-1m/movies.dat")
LARGEST = 1 << 28  # bytes of an unpacked file
SEED = 20240527  # of the lot that draws users


def read(folder: Path, users: int | None = None, repeats: str = "first") -> Tables:
    """Every rating, high or low, is an interaction. A film's text is its title and, where there is one, its plot.

    Every film is expected to have a poster: one without counts as a missing picture. `quality` also has `plots`.
    `users` are drawn by lot, always the same; None: all.

    Raises SourceError: a file is missing, empty or unreadable, a film is listed twice, or there are fewer users.
    """
    ratings = read_separated(folder / TABLES[0], ["user_id", "item_id", "rating", "timestamp"], "::")
    if users is not None:
        there = np.sort(ratings.frame["user_id"].unique())
        if len(there) < users:
            raise SourceError(f"{TABLES[0]} has {len(there):,} users, {users:,} are asked for: lower source.users")
        drawn = np.random.default_rng(SEED).choice(there, users, replace=False)
        ratings = ratings.drop(~ratings.frame["user_id"].isin(drawn), "user not drawn")
    movies = _movies(folder)
    frame = movies.frame
    plots = read_csv(folder / "plots.csv", ["movie_id", "plot"])
    plots = plots.drop(plots.frame["plot"].str.strip() == "", "no plot")
    plots = plots.drop(~plots.frame["movie_id"].isin(frame["item_id"]), "unknown item")
    unique_ids(plots, "movie_id")
    plot = frame["item_id"].map(plots.frame.set_index("movie_id")["plot"])
    text = (frame["title"] + ". " + plot).fillna(frame["title"])
    movies = movies.assign(text=text, categories=frame["genres"].str.split("|"), image=frame["item_id"] + ".jpg")
    tables = clean(ratings, movies, folder / "posters", repeats)
    tables.quality["plots"] = plots.account()
    tables.quality["examples"]["plots"] = plots.examples()
    return tables


def _movies(folder: Path) -> Rows:
    return read_separated(folder / TABLES[1], ["item_id", "title", "genres"], "::")


def remotes(source: MovieLensSource) -> dict[str, tuple[str, ...]]:
    """Downloaded files by name, each with its addresses in order of preference. Posters are not among them."""
    return {RATINGS: source.ratings, PLOTS: source.plots}


def placed(_: MovieLensSource) -> list[str]:
    """The raw files and folders that a person may place instead."""
    return [*TABLES, "plots.csv", "posters"]


def assemble(source: MovieLensSource, downloads: Path, folder: Path) -> None:
    """Make the raw files in `folder` from `downloads`, and fetch the posters.

    Raises SourceError: a downloaded file is damaged or has other content.
    """
    extract(downloads / RATINGS, TABLES, folder)
    _write_plots(downloads / PLOTS, folder / "plots.csv")
    films = _movies(folder).frame["item_id"]
    urls = [[f"{mirror.rstrip('/')}/images/{film}.jpg" for mirror in source.posters] for film in films]
    candidates = pd.DataFrame({"item_id": films, "urls": urls})
    posters = fetch_pictures(candidates, downloads, **asdict(source.pictures))
    for film, image in zip(posters["item_id"], posters["image"], strict=True):
        if image:
            link(downloads / "images" / image, folder / "posters" / f"{film}.jpg")


def extract(archive: Path, names: Sequence[str], folder: Path) -> None:
    """Write the named members of a zip file below `folder`; other members are ignored.

    Own code: `ZipFile.extract` has no limit of size.

    Raises SourceError: the file is missing, damaged or no zip file; or a member is missing or larger than `LARGEST`.
    """
    must_exist(archive)
    try:
        with zipfile.ZipFile(archive) as file:
            for name in names:
                if (size := file.getinfo(name).file_size) > LARGEST:
                    raise ValueError(f"{name} has {size} bytes, at most {LARGEST} are expected")
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                # A symbolic link becomes a file with its target's name. At most `size` bytes are read.
                with file.open(name) as packed, (folder / name).open("wb") as unpacked:
                    shutil.copyfileobj(packed, unpacked)
    except Exception as error:  # zipfile raises nearly anything on a damaged archive
        reason = " ".join(str(error).split()).strip("\"'") or type(error).__name__
        text = f"{archive.name} is not the archive that it should be ({reason})"
        raise SourceError(f"{text}: delete it in {archive.parent} and fetch it again") from None


class _PlainUnpickler(pickle.Unpickler):
    """Loads numbers, strings, lists and dicts; refuses everything that a pickle imports by name."""

    def find_class(self, module: str, name: str) -> Any:
        raise pickle.UnpicklingError(f"it names {module}.{name}")


def _write_plots(pickled: Path, path: Path) -> None:
    """A list of ((movie_id, title, imdb_id), fields), among them `Plot`, to CSV. "N/A" is no plot."""
    try:
        with pickled.open("rb") as file:
            films = _PlainUnpickler(file).load()
        rows = [(int(movie_id), imdb_id, fields["Plot"]) for (movie_id, _, imdb_id), fields in films]
    except Exception as error:  # of arbitrary bytes pickle raises nearly anything
        reason = f"{type(error).__name__}: {' '.join(str(error).split())}"
        raise SourceError(f"{pickled.name} does not hold the plots ({reason}): fetch the file again") from None
    # Text of any other dtype cannot hold half a surrogate pair.
    table = pd.DataFrame(rows, columns=["movie_id", "imdb_id", "plot"], dtype=object).replace({"plot": {"N/A": ""}})
    table.to_csv(path, index=False, errors="replace", lineterminator="\r\n")
