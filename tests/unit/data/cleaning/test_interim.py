import json

import pandas as pd
import pytest

from mmrec import config
from mmrec.data import sources
from mmrec.data.sources import Tables

QUALITY = {
    "interactions": {"read": 4, "kept": 2, "dropped": {"repeat": 2}},
    "items": {"read": 2, "kept": 2, "dropped": {}},
    "images": {"listed": 2, "usable": 1, "unusable": {"missing": 1}},
    "text": {"empty": 1},
    "categories": {"empty": 0},
    "examples": {"interactions": {"repeat": ["interactions.csv:3", "interactions.csv:5"]}, "items": {}, "images": {}},
}


@pytest.fixture
def tables(tmp_path):
    return Tables(
        interactions=pd.DataFrame({"user_id": ["u", "u"], "item_id": ["b", "a"], "timestamp": [1, 2]}),
        items=pd.DataFrame(
            {
                "item_id": ["b", "a"],
                "title": ["B", "A"],
                "text": ["", "of a"],
                "categories": [[], ["x", "y"]],
                "image": [None, "a.png"],
            }
        ),
        quality=QUALITY,
        images=tmp_path,
    )


def test_items_come_back_joined_by_id_in_the_order_asked_for(tables, tmp_path):
    sources.write(tables, tmp_path / "out")
    for order in (["a", "b"], ["b", "a"], ["a"]):
        items = sources.read_items(tmp_path / "out", order)
        assert items["item_id"].tolist() == order
        assert items["title"].tolist() == [name.upper() for name in order]
    assert list(sources.read_items(tmp_path / "out", ["a"])["categories"][0]) == ["x", "y"]
    assert sources.read_items(tmp_path / "out", ["b"])["image"].eq("").all()


def test_an_unknown_item_is_an_error(tables, tmp_path):
    sources.write(tables, tmp_path / "out")
    with pytest.raises(KeyError):
        sources.read_items(tmp_path / "out", ["a", "c"])


def test_equal_tables_give_equal_bytes(tables, tmp_path):
    for name in ("one", "two"):
        sources.write(tables, tmp_path / name)
    for file in ("interactions.parquet", "items.parquet", "quality.json"):
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()
    assert json.loads((tmp_path / "one" / "quality.json").read_text()) == QUALITY


def test_quality_table_shows_every_count_and_its_places():
    table = sources.quality_table(QUALITY).set_index(["table", "what"])
    assert table.loc[("interactions", "left out: repeat"), "rows"] == 2
    assert table.loc[("interactions", "left out: repeat"), "for example"].startswith("interactions.csv:3")
    assert table.loc[("images", "left out: missing"), "rows"] == 1
    assert table.loc[("items", "without text"), "rows"] == 1


@pytest.mark.parametrize(
    ("source", "name"),
    [
        (config.MovieLensSource(kind="movielens"), "posters"),
        (config.PlacedSource(kind="hm"), "images"),
        (config.PlacedSource(kind="folder"), "images"),
    ],
)
def test_images_folder(source, name, tmp_path):
    assert sources.images(source, tmp_path) == tmp_path / name
