import csv
import io

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shop_files import write

from mmrec.data.cleaning import rows as module
from mmrec.data.cleaning.rows import Rows, SourceError, read_csv, read_separated


def read(tmp_path, content, required=("a", "b"), optional=()):
    return read_csv(write(tmp_path / "x.csv", content), required, optional)


def columns(rows, *names):
    return rows.frame[list(names)].to_numpy().tolist()


def test_reads_strings_and_their_lines(tmp_path):
    rows = read(tmp_path, "b,other,a\n02,x,1.0\n,x,NA\n")
    assert columns(rows, "a", "b", "line") == [["1.0", "02", 2], ["NA", "", 3]]


@pytest.mark.parametrize("end", ["\n", "\r\n"])
def test_byte_order_mark_windows_line_ends_and_no_last_one(tmp_path, end):
    rows = read(tmp_path, b"\xef\xbb\xbf" + end.join(["a,b", "1,2", "3,é"]).encode())
    assert columns(rows, "a", "b", "line") == [["1", "2", 2], ["3", "é", 3]]


def test_quoted_commas_quotes_and_newlines(tmp_path):
    rows = read(tmp_path, 'a,b\n1,"x, ""y""\nz"\n2,3" tube\n')
    assert columns(rows, "a", "b", "line") == [["1", 'x, "y"\nz', 2], ["2", '3" tube', 4]]


def test_malformed_lines_are_counted_with_their_numbers(tmp_path):
    rows = read(tmp_path, 'a,b\n1,2\n3\n"4\n4",5\n6,7,8\n"9\n9",9,9\n1,1\n')
    assert columns(rows, "a", "line") == [["1", 2], ["4\n4", 4], ["1", 9]]
    assert rows.dropped["malformed line"].tolist() == [3, 6, 7, 8]
    assert rows.account() == {"read": 7, "kept": 3, "dropped": {"malformed line": 4}}
    assert rows.examples() == {"malformed line": ["x.csv:3", "x.csv:6", "x.csv:7", "x.csv:8"]}


def test_an_empty_line_is_a_row_of_nothing(tmp_path):
    assert columns(read(tmp_path, "a,b\n1,2\n\n3,4\n"), "a", "line") == [["1", 2], ["", 3], ["3", 4]]


def test_optional_columns(tmp_path):
    rows = read(tmp_path, "a,c\n1,2\n", required=["a"], optional=["b", "c"])
    assert columns(rows, "a", "b", "c") == [["1", "", "2"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", r"x\.csv is empty"),
        ("a,b\n", r"x\.csv holds no rows"),
        ("a,c\n1,2\n", r"x\.csv: no column 'b'.*a, b.*'a,c'"),
        ("a;b\n1;2\n", r"x\.csv: no column 'a'.*commas.*'a;b'"),
        ("a,b,b\n1,2,3\n", r"x\.csv: more than one column 'b'"),
        ("a,b\n1,2\n1,é\n".encode("latin-1"), r"x\.csv:3 is not UTF-8"),
        ("a,b\n1,2\n".encode("utf-16"), r"x\.csv:1 is not UTF-8"),
        ("a,b,c\n1,2,é\n".encode("latin-1"), r"x\.csv:2 is not UTF-8"),  # though nobody asked for c
        (b"a,b\n1,2\n1,caf\xc3", r"x\.csv:3 is not UTF-8"),
        ('a,b\n1,2\n1,"2\n3,4\n', r"x\.csv:3: a quote is opened"),
        ('a,b\n1,2\n"1,2\n3,4\n', r"x\.csv:3: a quote is opened"),
        ('a,b\n1,"2\n' + "3,4\n" * 50_000, r"x\.csv:2: a quote is opened"),
    ],
)
def test_an_unreadable_file_is_one_clear_line(tmp_path, content, message):
    with pytest.raises(SourceError, match=message) as error:
        read(tmp_path, content)
    assert "\n" not in str(error.value)


def test_an_unclosed_quote_longer_than_a_block(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 1000)
    with pytest.raises(SourceError, match="a quote is opened"):
        read(tmp_path, 'a,b\n1,"2\n' + "3,4\n" * 1000)


def test_a_missing_file(tmp_path):
    with pytest.raises(SourceError, match=r"x\.csv is missing: place it in"):
        read_csv(tmp_path / "x.csv", ["a"])


def test_non_ascii_text_across_blocks_is_utf8(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "BLOCK", 101)  # odd: a two-byte letter is cut
    rows = read(tmp_path, "a,b\n" + "éé,éé\n" * 100 + "1\n" + "éé,é\n")
    assert len(rows.frame) == 101 and rows.frame["line"].iloc[-1] == 103


@given(st.lists(st.lists(st.text('ab," \n', max_size=4), min_size=1, max_size=3), min_size=1, max_size=20))
def test_agrees_with_the_csv_module_and_loses_nothing(tmp_path_factory, table):
    path = tmp_path_factory.getbasetemp() / "law.csv"
    text, expected, line = io.StringIO(), [], 2
    for fields in table:
        start = text.tell()
        csv.writer(text, lineterminator="\n", quoting=csv.QUOTE_ALL).writerow(fields)
        if len(fields) == 2:
            expected.append([*fields, line])
        line += text.getvalue()[start:].count("\n")
    rows = read_csv(write(path, "a,b\n" + text.getvalue()), ["a", "b"])
    assert columns(rows, "a", "b", "line") == expected
    kept_lines = sum(1 + row[0].count("\n") + row[1].count("\n") for row in expected)
    assert line - 2 == kept_lines + len(rows.dropped.get("malformed line", []))


def test_read_separated_is_latin1_and_knows_no_quotes(tmp_path):
    path = write(tmp_path / "x.dat", '1::"Amélie: a film::x\n2::b\n3::c::y\n'.encode("latin-1"))
    rows = read_separated(path, ["id", "title", "genre"], "::")
    assert columns(rows, "id", "title", "line") == [["1", '"Amélie: a film', 1], ["3", "c", 3]]
    assert rows.examples() == {"malformed line": ["x.dat:2"]}


@pytest.mark.parametrize(("content", "message"), [(None, "x.dat is missing"), ("", "x.dat holds no rows")])
def test_read_separated_without_rows(tmp_path, content, message):
    if content is not None:
        write(tmp_path / "x.dat", content)
    with pytest.raises(SourceError, match=message):
        read_separated(tmp_path / "x.dat", ["a", "b"], "::")


@given(st.lists(st.lists(st.booleans(), min_size=30, max_size=30), max_size=4))
def test_read_is_kept_plus_dropped(masks):
    rows = Rows("x", pd.DataFrame({"line": np.arange(30)}))
    for reason, mask in enumerate(masks):
        rows = rows.drop(np.array(mask)[rows.frame["line"]], str(reason % 2))
    account = rows.account()
    assert account["read"] == 30 == account["kept"] + sum(account["dropped"].values())
    assert account["kept"] == len(rows.frame)
    assert sorted([*rows.frame["line"], *(line for lines in rows.dropped.values() for line in lines)]) == list(
        range(30)
    )


def test_examples_are_the_first_five():
    rows = Rows("x", pd.DataFrame({"line": [9, 8, 7, 6, 5, 4, 3]})).drop(np.ones(7), "why")
    assert rows.examples() == {"why": ["x:3", "x:4", "x:5", "x:6", "x:7"]}


def test_require_names_the_reasons_of_lost_rows():
    rows = Rows("x", pd.DataFrame({"line": [2, 3, 4]}))
    assert rows.require() is rows
    with pytest.raises(SourceError, match=r"x: no row is usable: 1 no user \(x:3\), 2 repeat \(x:2\)"):
        rows.drop([False, True, False], "no user").drop([True, True], "repeat").require()
