"""MovieLens-1M (Harper and Konstan 2015) with plots and posters: films.

ml-1m/ratings.dat, ml-1m/movies.dat   as GroupLens ships them: fields between `::`, Latin-1
plots.csv                             movie_id, plot (UTF-8)
posters/<movie_id>.jpg
"""

from dataclasses import replace
from pathlib import Path

import pandas as pd

from mmrec.sources.rows import Rows, read_csv, read_separated
from mmrec.sources.tables import Tables, clean, unique_ids


def read(folder: Path) -> Tables:
    """Every rating, high or low, is an interaction. A film's text is its title and, where there is one, its plot.

    Every film is expected to have a poster: one without counts as a missing picture. `quality` also has `plots`.

    Raises:
        SourceError: a file is missing, empty or unreadable, or a film is listed twice.
    """
    ratings = read_separated(folder / "ml-1m" / "ratings.dat", ["user_id", "item_id", "rating", "timestamp"], "::")
    movies = read_separated(folder / "ml-1m" / "movies.dat", ["item_id", "title", "genres"], "::")
    plots = _plots(folder / "plots.csv", movies.frame["item_id"])
    tables = clean(ratings, _films(movies, plots), folder / "posters")
    tables.quality["plots"] = plots.account()
    tables.quality["examples"]["plots"] = plots.examples()
    return tables


def _plots(path: Path, known: pd.Series) -> Rows:
    rows = read_csv(path, ["movie_id", "plot"])
    rows = rows.drop(rows.frame["plot"].str.strip() == "", "no plot")
    rows = rows.drop(~rows.frame["movie_id"].isin(known), "unknown item")
    unique_ids(rows, "movie_id")
    return rows


def _films(movies: Rows, plots: Rows) -> Rows:
    frame = movies.frame
    plot = frame["item_id"].map(plots.frame.set_index("movie_id")["plot"])
    return replace(
        movies,
        frame=frame.assign(
            text=(frame["title"] + ". " + plot).fillna(frame["title"]),
            categories=frame["genres"].str.split("|"),
            image=frame["item_id"] + ".jpg",
        ),
    )
