import csv
import json
import pickle
import zipfile
from pathlib import Path

import pandas as pd
import pytest
from shop_files import picture, write

from mmrec.config import MovieLensSource
from mmrec.data.sources import SourceError, movielens
from mmrec.data.sources.movielens import read
from mmrec.files import sha256

MOVIES = "1::Toy Story (1995)::Animation|Comedy\n2::Misérables, Les: 1995::Drama\n3::Nobody saw this::Drama\n"
PLOTS = 'movie_id,imdb_id,plot\n2,0113497,"Two, at sea – alone."\n1,x,\n9,x,Unknown film\n'


@pytest.fixture
def films(tmp_path):
    write(tmp_path / "ml-1m" / "ratings.dat", "1::2::0::1\n1::1::5::2\n2::1::1::978300760\n2::7::1::978300761\n2::1\n")
    write(tmp_path / "ml-1m" / "movies.dat", MOVIES.encode("latin-1"))
    write(tmp_path / "plots.csv", PLOTS)
    picture(tmp_path / "posters" / "2.jpg")
    return tmp_path


def test_every_rating_is_an_interaction(films):
    tables = read(films)
    assert tables.interactions.to_numpy().tolist() == [["1", "2", 1], ["1", "1", 2], ["2", "1", 978_300_760]]
    dropped = {"malformed line": 1, "unknown item": 1}
    assert tables.quality["interactions"] == {"read": 5, "kept": 3, "dropped": dropped}
    assert tables.quality["examples"]["interactions"]["malformed line"] == ["ratings.dat:5"]


def test_films(films):
    items = read(films).items
    assert items.to_numpy().tolist() == [
        ["1", "Toy Story (1995)", "Toy Story (1995)", ["Animation", "Comedy"], None],
        ["2", "Misérables, Les: 1995", "Misérables, Les: 1995. Two, at sea – alone.", ["Drama"], "2.jpg"],
        ["3", "Nobody saw this", "Nobody saw this", ["Drama"], None],
    ]


def test_users_are_drawn_by_lot_and_always_the_same(films):
    rows = [f"{user}::{item}::3::{user}" for user in range(1, 101) for item in (1, 2)]
    write(films / "ml-1m" / "ratings.dat", "\n".join(rows) + "\n")
    some = read(films, users=30)
    drawn = some.interactions["user_id"].unique()
    assert len(drawn) == 30 and sorted(map(int, drawn)) != list(range(1, 31))
    assert some.quality["interactions"] == {"read": 200, "kept": 60, "dropped": {"user not drawn": 140}}
    write(films / "ml-1m" / "ratings.dat", "\n".join(reversed(rows)) + "\n")
    assert set(read(films, users=30).interactions["user_id"]) == set(drawn)
    assert len(read(films, users=100).interactions) == 200
    with pytest.raises(SourceError, match=r"ratings\.dat has 100 users, 101 are asked for: lower source\.users"):
        read(films, users=101)


def test_plots_and_posters_are_accounted_for(films):
    quality = read(films).quality
    assert quality["plots"] == {"read": 3, "kept": 1, "dropped": {"no plot": 1, "unknown item": 1}}
    assert quality["examples"]["plots"] == {"no plot": ["plots.csv:3"], "unknown item": ["plots.csv:4"]}
    assert quality["images"] == {"listed": 3, "usable": 1, "unusable": {"missing": 2}}


@pytest.mark.parametrize("name", ["ml-1m/ratings.dat", "ml-1m/movies.dat", "plots.csv"])
def test_a_missing_file(films, name):
    (films / name).unlink()
    with pytest.raises(SourceError, match="is missing: place it in"):
        read(films)


def test_films_and_plots_are_listed_once(films):
    write(films / "plots.csv", PLOTS + "2,x,Again\n")
    with pytest.raises(SourceError, match=r"plots\.csv:5: movie_id '2' is already at plots\.csv:2"):
        read(films)
    write(films / "ml-1m" / "movies.dat", MOVIES.encode("latin-1") + b"2::Again::Drama\n")
    write(films / "plots.csv", PLOTS)
    with pytest.raises(SourceError, match=r"movies\.dat:4: item_id '2' is already at movies\.dat:2"):
        read(films)


# --- downloads ---------------------------------------------------------------------------------------------------

REAL = Path(__file__).parents[4] / "data" / "downloads" / "movielens_1m"
METADATA = [
    ((1, "Toy Story (1995)", "0114709"), {"Plot": 'A doll, "threatened" – and jealous.', "Year": "1995"}),
    ((2, "Lost (1996)", "0116485"), {"Plot": "N/A", "Ratings": [{"Value": "8.3/10"}]}),
]


@pytest.fixture
def downloads(tmp_path):
    folder = tmp_path / "downloads"
    folder.mkdir()
    with zipfile.ZipFile(folder / "ml-1m.zip", "w") as file:
        file.writestr("ml-1m/ratings.dat", "1::2::0::1\n")
        file.writestr("ml-1m/movies.dat", MOVIES.encode("latin-1"))
        file.writestr("ml-1m/users.dat", "1::F\n")
    write(folder / "metadata.pkl", pickle.dumps(METADATA))
    return folder


MIRRORS = ("https://a.example/x/", "https://b.example")


@pytest.fixture
def unpack(monkeypatch):
    """Assembles the raw files without fetching posters; returns the candidates for posters."""

    def run(downloads, folder):
        asked = []
        nothing = pd.DataFrame(columns=["item_id", "image"])
        monkeypatch.setattr(movielens, "fetch_pictures", lambda table, *_, **__: asked.append(table) or nothing)
        source = MovieLensSource(kind="movielens", ratings=MIRRORS, plots=MIRRORS, posters=MIRRORS)
        movielens.assemble(source, downloads, folder)
        return asked[0]

    return run


def test_tables_are_assembled_from_downloads(unpack, downloads, tmp_path):
    unpack(downloads, tmp_path / "raw")
    assert read_plots(tmp_path / "raw") == [
        ["1", "0114709", 'A doll, "threatened" – and jealous.'],
        ["2", "0116485", ""],
    ]
    picture(tmp_path / "raw" / "posters" / "1.jpg")
    tables = read(tmp_path / "raw")
    assert len(tables.items) == 3 and tables.quality["plots"]["kept"] == 1
    assert not (tmp_path / "raw" / "ml-1m" / "users.dat").exists()


def read_plots(folder):
    with (folder / "plots.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


class Harmful:
    def __reduce__(self):
        return print, ("executed",)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pickle.dumps([Harmful()]), "it names builtins.print"),
        (pickle.dumps(Path("x")), "it names pathlib"),
        (pickle.dumps(METADATA)[:-20], "UnpicklingError|EOFError"),
        (b"<html>not found</html>", "UnpicklingError"),
        (b"", "EOFError"),
        (pickle.dumps([1, 2]), "TypeError"),
        (pickle.dumps([((1, "no year", "tt"), {})]), "KeyError: 'Plot'"),
    ],
)
def test_a_wrong_pickle_is_refused_and_executes_nothing(unpack, downloads, tmp_path, content, reason, capfd):
    write(downloads / "metadata.pkl", content)
    with pytest.raises(SourceError, match=rf"metadata\.pkl does not hold the plots \(.*({reason})"):
        unpack(downloads, tmp_path / "raw")
    assert capfd.readouterr() == ("", "")
    assert not (tmp_path / "raw" / "plots.csv").exists()


def test_half_a_character_does_not_stop_the_plots(unpack, downloads, tmp_path):
    write(downloads / "metadata.pkl", pickle.dumps([((1, "", "x"), {"Plot": "a\ud800b"})]))
    unpack(downloads, tmp_path / "raw")
    assert read_plots(tmp_path / "raw") == [["1", "x", "a?b"]]


def test_every_film_may_have_a_poster_at_each_mirror(unpack, downloads, tmp_path):
    candidates = unpack(downloads, tmp_path / "raw")
    assert candidates["item_id"].tolist() == ["1", "2", "3"]
    assert candidates["urls"][1] == ["https://a.example/x/images/2.jpg", "https://b.example/images/2.jpg"]


@pytest.mark.skipif(not (REAL / "metadata.pkl").is_file(), reason="the plots are not in data/downloads/movielens_1m")
def test_the_real_plots(tmp_path):
    known = json.loads((REAL.parents[2] / "references" / "checksums.json").read_text())["movielens_1m/metadata.pkl"]
    assert sha256(REAL / "metadata.pkl") == known["sha256"]
    movielens._write_plots(REAL / "metadata.pkl", tmp_path / "plots.csv")
    plots = read_plots(tmp_path)
    assert len(plots) == 3883 and sum(plot == "" for _, _, plot in plots) == 27
    assert sha256(tmp_path / "plots.csv") == "d23131807063170fb1c82374eff254b6364f181ee09e0f0763ca65c42b3f5b6f"
