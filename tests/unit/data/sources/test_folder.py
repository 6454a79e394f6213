import pytest
from shop_files import INTERACTIONS, ITEMS

from mmrec import config
from mmrec.data import sources
from mmrec.data.sources.folder import read


def test_reads_the_three_parts(shop):
    folder = shop()
    tables = read(folder)
    assert tables.interactions.to_numpy().tolist() == [["u1", "a", 100], ["u1", "b", 200], ["u2", "a", 300]]
    assert tables.items.to_numpy().tolist() == [
        ["a", "A", "text of a", ["x", "y"], "a.png"],
        ["b", "B", "", ["x"], "b.png"],
    ]
    assert tables.images == folder / "images"
    assert tables.quality["text"] == {"empty": 1}


def test_only_item_ids_are_needed(shop):
    tables = read(shop(items="item_id\nb\na\n"))
    assert tables.items.to_numpy().tolist() == [["b", "", "", [], None], ["a", "", "", [], None]]
    assert tables.quality["categories"] == {"empty": 2}
    assert tables.quality["images"] == {"listed": 0, "usable": 0, "unusable": {}}


def test_categories_are_trimmed_and_named_once(shop):
    tables = read(shop(items="item_id,categories\na, x | y ||x\nb,\n"))
    assert tables.items["categories"].tolist() == [["x", "y"], []]


def test_iso_dates_a_quoted_newline_and_a_byte_order_mark(shop):
    interactions = "\ufeffuser_id,extra,timestamp,item_id\nu,,2020-01-02,a\n"
    items = '\ufeffitem_id,title\na,"one, ""two""\nthree"\n'
    tables = read(shop(interactions, items))
    assert tables.interactions.to_numpy().tolist() == [["u", "a", 1_577_923_200]]
    assert tables.items["title"].tolist() == ['one, "two"\nthree']


@pytest.mark.parametrize("interactions", ["user_id,item_id\nu,b\nu,a\n", "user_id,item_id,timestamp\nu,b,\nu,a,\n"])
def test_without_timestamps_the_file_has_the_order(shop, interactions):
    tables = read(shop(interactions))
    assert tables.interactions.to_numpy().tolist() == [["u", "b", 1], ["u", "a", 2]]
    assert "the order of its rows" in tables.quality["times"]


def test_keys_of_the_source_and_the_data_set_reach_the_reader(shop):
    folder = shop("user_id,item_id,timestamp\nu,a,02/01/1970\nu,a,03/01/1970\n")
    source = config.PlacedSource(kind="folder", timestamp_format="%d/%m/%Y", any_year=True)
    first, both = (sources.read(source, folder, repeats) for repeats in ("first", "keep"))
    assert first.interactions["timestamp"].tolist() == [86_400]
    assert both.interactions["timestamp"].tolist() == [86_400, 172_800]


def test_broken_lines_are_counted_and_located(shop):
    tables = read(shop(INTERACTIONS + "u2,b\nu2,b,400\n", ITEMS + "c\n"))
    assert tables.quality["interactions"] == {"read": 5, "kept": 4, "dropped": {"malformed line": 1}}
    assert tables.quality["items"] == {"read": 3, "kept": 2, "dropped": {"malformed line": 1}}
    assert tables.quality["examples"]["interactions"] == {"malformed line": ["interactions.csv:5"]}
    assert tables.quality["examples"]["items"] == {"malformed line": ["items.csv:4"]}
