import pytest

from mmrec.sources import SourceError
from mmrec.sources.movielens import read

from .conftest import picture, write

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
