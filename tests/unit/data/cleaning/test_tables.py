from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shop_files import picture, write

from mmrec.data.cleaning.rows import Rows, SourceError
from mmrec.data.cleaning.tables import clean, seconds


def interactions(*table):
    frame = pd.DataFrame(table, columns=["user_id", "item_id", "timestamp"], dtype=str)
    return Rows("i.csv", frame.assign(line=np.arange(len(frame)) + 2))


def items(*names, image=""):
    frame = pd.DataFrame({"item_id": names, "title": " t ", "text": "", "image": image}, dtype=str)
    return Rows("items.csv", frame.assign(categories=[["c"] for _ in names], line=np.arange(len(frame)) + 2))


def kept(tables):
    return tables.interactions.to_numpy().tolist()


def test_the_contract(tmp_path):
    picture(tmp_path / "x" / "a.png")
    rows = items("b", "a", "never bought", image=["", " x\\a.png ", "none.png"])
    tables = clean(interactions((" u ", " a ", " 5 "), ("u", "b", "4")), rows, tmp_path)
    assert kept(tables) == [["u", "a", 5], ["u", "b", 4]]
    assert tables.interactions["timestamp"].dtype == np.int64
    assert list(tables.items.columns) == ["item_id", "title", "text", "categories", "image"]
    assert tables.items["item_id"].tolist() == ["b", "a", "never bought"]
    assert tables.items["image"].tolist() == [None, "x/a.png", None]
    assert tables.items["title"].tolist() == ["t", "t", "t"]
    assert tables.quality == {
        "interactions": {"read": 2, "kept": 2, "dropped": {}},
        "items": {"read": 3, "kept": 3, "dropped": {}},
        "images": {"listed": 2, "usable": 1, "unusable": {"missing": 1}},
        "text": {"empty": 3},
        "categories": {"empty": 0},
        "examples": {"interactions": {}, "items": {}, "images": {"missing": ["none.png"]}},
    }
    assert tables.images == tmp_path


def test_every_reason_to_drop_an_interaction_and_the_first_that_applies():
    rows = interactions(
        ("", "", "0"),
        ("u", " ", "0"),
        ("u", "z", ""),
        ("u", "z", "1"),
        ("u", "a", "0"),
        ("u", "a", "-1"),
        ("u", "a", "soon"),
        ("u", "a", "1"),
        ("u", "a", "2"),
    )
    quality = clean(rows, items("a"), Path("none")).quality
    dropped = {"no user": 1, "no item": 1, "no timestamp": 4, "unknown item": 1, "repeat": 1}
    assert quality["interactions"] == {"read": 9, "kept": 1, "dropped": dropped}
    assert quality["examples"]["interactions"]["no timestamp"] == ["i.csv:4", "i.csv:6", "i.csv:7", "i.csv:8"]
    assert quality["examples"]["interactions"]["unknown item"] == ["i.csv:5"]


def test_a_repeat_keeps_the_first_in_time_and_of_equal_times_the_first_in_the_file():
    rows = interactions(
        ("u", "a", "9"), ("u", "b", "3"), ("u", "a", "4"), ("v", "a", "9"), ("u", "a", "4"), ("u", "b", "3")
    )
    tables = clean(rows, items("a", "b"), Path("none"))
    assert kept(tables) == [["u", "b", 3], ["u", "a", 4], ["v", "a", 9]]
    assert tables.quality["examples"]["interactions"] == {"repeat": ["i.csv:2", "i.csv:6", "i.csv:7"]}


def test_repeats_are_kept_where_they_are_asked_for():
    rows = interactions(("u", "a", "9"), ("u", "b", "3"), ("u", "a", "4"), ("u", "z", "1"), ("u", "a", ""))
    tables = clean(rows, items("a", "b"), Path("none"), "keep")
    assert kept(tables) == [["u", "a", 9], ["u", "b", 3], ["u", "a", 4]]
    assert tables.quality["interactions"]["dropped"] == {"unknown item": 1, "no timestamp": 1}


def test_an_item_without_id_is_counted():
    quality = clean(interactions(("u", "a", "1")), items("a", "", " "), Path("none")).quality
    assert quality["items"] == {"read": 3, "kept": 1, "dropped": {"no item": 2}}


def test_nothing_left():
    with pytest.raises(SourceError, match=r"i\.csv: no item_id is one of the items: it says 'x'"):
        clean(interactions(("u", "x", "1"), ("u", "y", "1")), items("a"), Path("none"))
    with pytest.raises(SourceError, match=r"items\.csv: no row is usable: 1 no item"):
        clean(interactions(("u", "x", "1")), items(""), Path("none"))


def test_unusable_pictures_by_reason(tmp_path):
    picture(tmp_path / "images" / "a.png")
    write(tmp_path / "images" / "b.png", "words")
    rows = items(*"abcde", image=["a.png", "b.png", "../a.png", "c.png", ""])
    tables = clean(interactions(("u", "a", "1")), rows, tmp_path / "images")
    unusable = {"missing": 1, "not an image": 1, "outside folder": 1}
    assert tables.quality["images"] == {"listed": 4, "usable": 1, "unusable": unusable}
    assert tables.quality["examples"]["images"]["outside folder"] == ["../a.png"]
    assert tables.items["image"].tolist() == ["a.png", None, None, None, None]


TIMES = {
    "1": 1,
    "1700000000": 1_700_000_000,
    "1700000000.9": 1_700_000_000,
    " 7 ": 7,
    "2020-01-02": 1_577_923_200,
    "2020-01-02T00:00:01": 1_577_923_201,
    "2020-01-02 00:00:01.75": 1_577_923_201,
    "2020-01-02T00:00:01Z": 1_577_923_201,
    "2020-01-02T02:00:00+02:00": 1_577_923_200,
    "253402300799": 253_402_300_799,
    "1700000000000": 1_700_000_000,  # milliseconds
    "1700000000000000": 1_700_000_000,  # microseconds
    "2020-01-02 00:00:01 UTC": 1_577_923_201,
    "9" * 400: 0,
    "0": 0,
    "-5": 0,
    "1969-12-31": 0,
    "": 0,
    "nan": 0,
    "1e9": 0,
    "2020-13-01": 0,
    "yesterday": 0,
    "٣": 0,
}


@pytest.mark.parametrize(("text", "expected"), TIMES.items())
def test_seconds(text, expected):
    assert seconds(pd.Series([text])).tolist() == [expected]


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        (["20200102", "20180920"], [1_577_923_200, 1_537_401_600]),  # days
        (["20200102", "20209999"], [20_200_102, 20_209_999]),  # seconds of 1970, for no calendar has the second
    ],
)
def test_digits_are_days_if_all_of_them_can_be(texts, expected):
    assert seconds(pd.Series(texts)).tolist() == expected


def test_seconds_of_a_mixed_column():
    found = seconds(pd.Series(list(TIMES), index=range(100, 100 + len(TIMES))))
    assert found.dtype == np.int64
    assert found.tolist() == list(TIMES.values()) and found.index[0] == 100


ROW = st.tuples(
    st.sampled_from(["", "u", "v"]), st.sampled_from(["", "a", "b", "z"]), st.sampled_from(["", "1", "2", "x"])
)


@given(st.lists(ROW, max_size=30))
def test_no_row_vanishes_and_kept_rows_are_clean(table):
    rows = interactions(*table, ("w", "a", "1"))
    tables = clean(rows, items("a", "b"), Path("none"))
    account = tables.quality["interactions"]
    assert account["read"] == len(table) + 1 == account["kept"] + sum(account["dropped"].values())
    first = {}  # the same, said slowly
    for user, item, time in [*table, ("w", "a", "1")]:
        if user and item in ("a", "b") and time in ("1", "2"):
            first[user, item] = min(first.get((user, item), 9), int(time))
    found = tables.interactions
    assert dict(zip(zip(found["user_id"], found["item_id"], strict=True), found["timestamp"], strict=True)) == first
    assert len(found) == len(first)
