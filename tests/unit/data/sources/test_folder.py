import contextlib

import pytest
from shop_files import INTERACTIONS, ITEMS

from mmrec import config
from mmrec.data import sources
from mmrec.data.sources import SourceError, require_modalities
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


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"interactions": None}, r"interactions\.csv is missing"),
        ({"items": None}, r"items\.csv is missing"),
        ({"interactions": "user_id,item_id,time\nu,a,1\n"}, r"interactions\.csv: no column 'timestamp'"),
        ({"interactions": "Date,user_id,item_id\n1,u,a\n"}, r"interactions\.csv: no column 'timestamp'"),
        (
            {"interactions": "user_id,item_id,timestamp,timestamp\nu,a,1,1\n"},
            r"interactions\.csv: more than one column 'timestamp'",
        ),
        (
            {"interactions": "user_id,item_id,timestamp\nu,a,31/12/2019\n"},
            r"interactions\.csv:2: .*timestamp_format: \"%d/%m/%Y\"",
        ),
        ({"items": "title\nA\n"}, r"items\.csv: no column 'item_id'"),
        ({"interactions": "user_id,item_id,timestamp\n"}, r"interactions\.csv holds no rows"),
        ({"items": ""}, r"items\.csv is empty"),
        ({"items": ITEMS + "a,again,,,\n"}, r"items\.csv:4: item_id 'a' is already at items\.csv:2"),
        ({"items": "item_id,title\na,caf\xe9\n".encode("latin-1")}, r"items\.csv:2 is not UTF-8"),
        (
            {"interactions": "user_id,item_id,timestamp\nu,1.0,1\n"},
            r"interactions\.csv: no item_id is one of the items: it says '1\.0', the items say 'a'; write ids as text",
        ),
    ],
)
def test_bad_files_are_one_clear_line(shop, files, message):
    with pytest.raises(SourceError, match=message) as error:
        read(shop(**files))
    assert "\n" not in str(error.value)


def test_without_their_folder_pictures_are_counted_as_missing(shop):
    folder = shop()
    (folder / "images").rename(folder / "pictures")
    assert read(folder).quality["images"] == {"listed": 2, "usable": 0, "unusable": {"missing": 2}}


@pytest.mark.parametrize(
    ("files", "on", "message"),
    [
        ({}, {"image": "e", "text": "t", "category": True}, None),
        ({"items": "item_id\na\nb\n"}, {}, None),
        ({"items": "item_id\na\nb\n"}, {"text": "t"}, "has text: mend that, or set datasets.mine.text: null"),
        ({"items": "item_id\na\nb\n"}, {"category": True}, "has category: mend that, .* datasets.mine.category: false"),
        (
            {"items": "item_id\na\nb\n"},
            {"image": "e"},
            r"has image \(0 are listed: none\): .*datasets.mine.image: null",
        ),
        (
            {"items": "item_id,image\na,images/a.png\nb,https://x/b.png\n"},
            {"image": "e"},
            r"no item of mine has image \(2 are listed: 2 missing \(images/a.png\)\)",
        ),
    ],
)
def test_a_modality_without_any_item_is_refused(shop, files, on, message):
    about = config.Dataset(title="mine", source=config.PlacedSource(kind="folder"), **on)
    with pytest.raises(SourceError, match=message) if message else contextlib.nullcontext():
        require_modalities(read(shop(**files)), "mine", about)
