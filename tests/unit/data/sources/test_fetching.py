import gzip
import io
import json
import os
import pickle
import zipfile
from pathlib import Path

import pandas as pd
import pytest
import servers
from PIL import Image
from shop_files import write

from mmrec import files as publishing
from mmrec.config import AmazonSource, MovieLensSource, Pictures
from mmrec.data.download import files as downloading
from mmrec.data.download import web
from mmrec.data.sources import SourceError, _is_placed, _remotes, fetch, obstacle, read


@pytest.fixture(autouse=True)
def impatient(monkeypatch):
    monkeypatch.setattr(web, "PAUSE", 0.001)
    downloading._listens.cache_clear()


@pytest.fixture
def places(tmp_path):
    return tmp_path / "raw" / "mine", tmp_path / "downloads" / "mine", tmp_path / "checksums.json"


def jpeg(shade):
    file = io.BytesIO()
    Image.new("RGB", (30, 20), (shade, 0, 0)).save(file, format="JPEG")
    return file.getvalue()


def lines(*rows):
    return gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), mtime=0)


@pytest.fixture
def shop():
    """A server with two reviewed products, one of whose pictures is there, and the source that it is."""
    content = {"a.jpg": jpeg(10), "unused.jpg": jpeg(20)}
    with servers.Server(content) as server:
        reviews = [{"reviewerID": "u", "asin": asin, "unixReviewTime": 1_400_000_000} for asin in "AB"]
        products = [
            {"asin": asin, "title": asin, "imageURLHighRes": [server.url(f"{asin.lower()}.jpg")]} for asin in "AB"
        ]
        content["categoryFilesSmall/Soap_5.json.gz"] = lines(*reviews)
        content["metaFiles2/meta_Soap.json.gz"] = lines(*products)
        yield server, amazon(server, pictures=Pictures(trusted=(server.address,)))


def amazon(server, **options):
    mirrors = ("http://127.0.0.1:1", f"http://{server.address}/")
    return AmazonSource(**({"kind": "amazon", "release": 2018, "category": "Soap", "mirrors": mirrors} | options))


def files(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# --- a shop ------------------------------------------------------------------------------------------------------


def test_a_shop_is_downloaded_and_published_without_copies(shop, places):
    server, source = shop
    folder, downloads, checksums = places
    fetch(source, folder, downloads, checksums)
    image = pd.read_csv(folder / "pictures.csv")["image"][0]
    assert files(folder) == sorted(["Soap_5.json.gz", "meta_Soap.json.gz", "pictures.csv", f"images/{image}"])
    assert all(os.path.samefile(folder / name, downloads / name) for name in files(folder))
    assert sorted(json.loads(checksums.read_text())) == ["mine/Soap_5.json.gz", "mine/meta_Soap.json.gz"]
    tables = read(source, folder)
    assert tables.items.set_index("item_id")["image"].to_dict() == {"A": image, "B": None}


def test_a_second_fetch_makes_the_folder_anew_and_asks_for_nothing(shop, places):
    server, source = shop
    fetch(source, *places)
    before, asked = files(places[0]), len(server.requests)
    write(places[0] / "leftover", "")
    fetch(source, *places)
    assert files(places[0]) == before and len(server.requests) == asked


def test_pictures_are_fetched_only_on_request(shop, places):
    server, _ = shop
    fetch(amazon(server), *places)
    assert files(places[0]) == ["Soap_5.json.gz", "meta_Soap.json.gz"]
    assert server.asked("a.jpg") == 0


def test_files_are_copied_if_linking_fails(shop, places, monkeypatch):
    monkeypatch.setattr(publishing.os, "link", lambda *_: (_ for _ in ()).throw(OSError("no links here")))
    fetch(shop[1], *places)
    name = "Soap_5.json.gz"
    assert (places[0] / name).read_bytes() == (places[1] / name).read_bytes()
    assert not os.path.samefile(places[0] / name, places[1] / name)


def test_a_failed_fetch_leaves_the_folder_unchanged(shop, places):
    server, source = shop
    fetch(source, *places)
    before = files(places[0])
    (places[1] / "Soap_5.json.gz").write_bytes(b"of another release")
    with pytest.raises(SourceError, match="another file than expected"):
        fetch(source, *places)
    assert files(places[0]) == before


def test_without_a_server_the_error_names_file_and_folder(places):
    source = amazon(type("Gone", (), {"address": "127.0.0.1:1"}))
    with pytest.raises(SourceError) as refusal:
        fetch(source, *places)
    assert "\n" not in str(refusal.value)
    assert f"place it as {places[1] / 'Soap_5.json.gz'}" in str(refusal.value)


def test_placed_raw_files_stay(shop, places):
    server, source = shop
    for name in ("Soap_5.json.gz", "meta_Soap.json.gz"):
        assert not _is_placed(source, places[0])
        write(places[0] / name, "placed")
    assert _is_placed(source, places[0])
    fetch(source, *places)
    assert (places[0] / "Soap_5.json.gz").read_text() == "placed" and not server.requests


@pytest.mark.parametrize(
    ("release", "paths"),
    [
        (2014, ["reviews_Soap_5.json.gz", "meta_Soap.json.gz"]),
        (2018, ["categoryFilesSmall/Soap_5.json.gz", "metaFiles2/meta_Soap.json.gz"]),
        (2023, ["benchmark/5core/rating_only/Soap.csv.gz", "raw/meta_categories/meta_Soap.jsonl.gz"]),
    ],
)
def test_each_release_has_its_own_paths_at_every_mirror(release, paths):
    source = AmazonSource(
        kind="amazon", release=release, category="Soap", mirrors=("https://a.example/x/", "https://b.example")
    )
    found = _remotes(source, Path("downloads/mine"))
    assert list(found.items()) == [
        (f"mine/{path.rpartition('/')[2]}", (f"https://a.example/x/{path}", f"https://b.example/{path}"))
        for path in paths
    ]


# --- films -------------------------------------------------------------------------------------------------------


def test_films_are_downloaded_and_unpacked(places):
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("ml-1m/ratings.dat", "1::7::5::978300760\n1::8::5::978300761\n")
        file.writestr("ml-1m/movies.dat", "7::One::Drama\n8::Two::Drama\n")
    content = {
        "ml-1m.zip": archive.getvalue(),
        "metadata.pkl": pickle.dumps([((7, "One", "tt7"), {"Plot": "It begins."})]),
        "images/8.jpg": jpeg(8),
    }
    with servers.Server(content) as server:
        source = MovieLensSource(
            kind="movielens",
            ratings=(server.url("ml-1m.zip"),),
            plots=(server.url("metadata.pkl"),),
            posters=(server.url(""),),
            pictures=Pictures(trusted=(server.address,)),
        )
        fetch(source, *places)
    assert files(places[0]) == ["ml-1m/movies.dat", "ml-1m/ratings.dat", "plots.csv", "posters/8.jpg"]
    tables = read(source, places[0])
    assert tables.items["text"].tolist() == ["One. It begins.", "Two"]
    assert tables.items["image"].tolist() == [None, "8.jpg"]
    assert tables.quality["images"] == {"listed": 2, "usable": 1, "unusable": {"missing": 1}}
    assert _is_placed(source, places[0])


# --- can it be had? ----------------------------------------------------------------------------------------------


def test_a_source_needs_a_listening_server_or_all_files(shop, places):
    server, source = shop
    folder, downloads, _ = places
    assert obstacle(source, folder, downloads) is None
    gone = amazon(type("Gone", (), {"address": "127.0.0.1:1"}))
    write(downloads / "Soap_5.json.gz", "")
    assert obstacle(gone, folder, downloads).startswith(f"meta_Soap.json.gz is not in {downloads}, and 127.0.0.1:")
    write(downloads / "meta_Soap.json.gz", "")
    assert obstacle(gone, folder, downloads) is None
