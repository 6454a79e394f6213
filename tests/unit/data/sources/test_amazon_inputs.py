"""Faults in the files of a shop.

A fault in the file raises one line that names the file and what to do. A fault in a line is counted with the line's
number, and the lines beside it are read.
"""

import ast
import gzip
import json

import pytest
from shop_files import write

from mmrec.data.sources import SourceError
from mmrec.data.sources.amazon import read

REVIEWS, PRODUCTS = "Soaps_5.json.gz", "meta_Soaps.json.gz"
CSV, PRODUCTS_2023 = "Soaps.csv.gz", "meta_Soaps.jsonl.gz"
HEADER = b"user_id,parent_asin,rating,timestamp"


def review(user="U9", asin="A1", time=1_400_000_000, **more):
    return json.dumps({"overall": 5.0, "reviewerID": user, "asin": asin, "unixReviewTime": time, **more}).encode()


def product(asin="A1", **fields):
    return json.dumps(
        {"asin": asin, "title": "Soap", "category": ["Bath"], "description": ["Cleans."], **fields}
    ).encode()


def packed(*lines, end=b"\n"):
    return gzip.compress(b"".join(line + end for line in lines))


@pytest.fixture
def shop(tmp_path):
    """Writes both files of release 2018; a line more in each, between two good ones."""

    def make(of_review=None, of_product=None):
        reviews = [review("U1", "A1"), of_review, review("U1", "A2")]
        products = [product("A1"), of_product, product("A2")]
        write(tmp_path / REVIEWS, packed(*(line for line in reviews if line is not None)))
        write(tmp_path / PRODUCTS, packed(*(line for line in products if line is not None)))
        return tmp_path

    return make


def without(line, name):
    return json.dumps({key: value for key, value in json.loads(line).items() if key != name}).encode()


# --- lines ---------------------------------------------------------------------------------------------------------

MALFORMED = {
    "blank": b"",
    "blanks": b" \t ",
    "byte order mark": b"\xef\xbb\xbf" + review(),
    "number": b"42",
    "text": b'"A1"',
    "null": b"null",
    "list": b"[" + review() + b"]",
    "empty list": b"[]",
    "cut off": review()[:-1],
    "begun in the middle": review()[9:],
    "two on a line": review() + review(),
    "two with a comma": review() + b"," + review(),
    "not UTF-8": b'{"reviewerID": "\xff", "asin": "A1", "unixReviewTime": 5}',
    "not UTF-8 where nobody looks": b'{"reviewerID": "U9", "asin": "A1", "unixReviewTime": 5, "summary": "\xe9"}',
    "UTF-16": review().decode().encode("utf-16").replace(b"\n", b""),
    "Latin-1": b'{"reviewerID": "Andr\xe9", "asin": "A1", "unixReviewTime": 5}',
    "Python literal": b"{'reviewerID': 'U9', 'asin': 'A1', 'unixReviewTime': 5, 'verified': True}",
    "CSV": b"U9,A1,5.0,1400000000",
    "HTML": b"<!DOCTYPE html><html><head><title>404 Not Found</title></head></html>",
    "lists in lists": b"[" * 100_000 + b"]" * 100_000,
    "lists never closed": b"[" * 100_000,
    "objects never closed": b'{"a":' * 100_000,
    "digits": b"1" * 100_000,
    "objects in objects": b'{"a":' * 100_000 + b"1" + b"}" * 100_000,
    "lists in lists in an unused field": review()[:-1] + b', "x": ' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "longer than a line may be": review(reviewText="x" * (1 << 20)),
    "comma at the end": review()[:-1] + b",}",
    "comment": b"{/* a review */ " + review()[1:],
    "key without quotes": b'{reviewerID: "U9", "asin": "A1"}',
    "no colon": b'{"reviewerID" "U9"}',
    "control character": b'{"reviewerID": "U9\x01", "asin": "A1", "unixReviewTime": 5}',
    "zero byte": b'{"reviewerID": "U9\x00", "asin": "A1", "unixReviewTime": 5}',
    "zero byte behind": review() + b"\x00",
    "escape that is none": b'{"reviewerID": "\\x41", "asin": "A1", "unixReviewTime": 5}',
    "leading zero": b'{"reviewerID": "U9", "asin": "A1", "unixReviewTime": 05}',
    "carriage return inside": b'{"reviewerID": "U9",\r"asin": "A1"}}',
}
NO_USER = {
    "missing": without(review(), "reviewerID"),
    "null": review(user=None),
    "empty": review(user=""),
    "blanks": review(user=" \t\n"),
    "number": review(user=7),
    "list": review(user=["U9"]),
    "object": review(user={"id": "U9"}),
    "of nothing": b"{}",
    "product": product(),
}
NO_ITEM = {
    "missing": without(review(), "asin"),
    "null": review(asin=None),
    "empty": review(asin=""),
    "no-break space": review(asin="\u00a0"),
    "true": review(asin=True),
    "number": review(asin=1_234_567_890),
}
MALFORMED_ID = {
    "zero byte": review("U9\x00"),
    "line break inside": review("U9\nU8"),
    "escape sequence": review("U9\x1b[2J"),
    "blank inside": review(asin="A1 A2"),
    "right to left": review("U9\u202e1"),
    "path": review(asin="../../etc/passwd"),
    "Windows path": review(asin="..\\..\\A1"),
    "address": review(asin="http://127.0.0.1/A1"),
}
NO_TIME = {
    "missing": without(review(), "unixReviewTime"),
    "null": review(time=None),
    "zero": review(time=0),
    "negative": review(time=-5),
    "milliseconds": review(time=1_400_000_000_000),
    "beyond 64 bits": review(time=10**30),
    "endless": review(time=float("inf")),
    "overflow": b'{"reviewerID": "U9", "asin": "A1", "unixReviewTime": 1e999}',
    "no number": review(time=float("nan")),
    "true": review(time=True),
    "words": review(time="yesterday"),
    "the wrong field": review(time="05 13, 2014"),
    "no such day": review(time="2014-02-30"),
    "list": review(time=[1_400_000_000]),
    "object": review(time={"$date": 1_400_000_000}),
}
KINDS = [
    ("malformed line", MALFORMED),
    ("no user", NO_USER),
    ("no item", NO_ITEM),
    ("malformed id", MALFORMED_ID),
    ("no timestamp", NO_TIME),
]


def cases(*kinds):
    return [
        pytest.param(line, reason, id=f"{reason}: {name}") for reason, lines in kinds for name, line in lines.items()
    ]


REPEAT = {"a year later": review("U1", "A1", 1_431_000_000), "the same again": review("U1", "A1")}


@pytest.mark.parametrize(("line", "reason"), cases(*KINDS, ("repeat", REPEAT)))
def test_a_review_is_left_out_and_counted(shop, line, reason):
    tables = read(shop(of_review=line), 2018, "Soaps")
    assert tables.interactions["user_id"].tolist() == ["U1", "U1"]
    assert tables.interactions["item_id"].tolist() == ["A1", "A2"]
    assert tables.quality["interactions"] == {"read": 3, "kept": 2, "dropped": {reason: 1}}
    assert tables.quality["examples"]["interactions"] == {reason: [f"{REVIEWS}:2"]}


USABLE = {
    "time in quotes": (review(time="1400000000"), 1_400_000_000),
    "time as a fraction": (review(time=1_400_000_000.9), 1_400_000_000),
    "time with an exponent": (review()[:-11] + b"1.4e9}", 1_400_000_000),
    "time as a day": (review(time="2014-05-13"), 1_399_939_200),
    "carriage return behind": (review() + b"\r", 1_400_000_000),
    "blanks around": (b"  " + review() + b" \t", 1_400_000_000),
    "blanks in ids": (review(" U9 ", "A1\n"), 1_400_000_000),
    "id named twice": (b'{"reviewerID": "U8", ' + review()[1:], 1_400_000_000),
    "digits without end in a field that nobody looks at": (
        b'{"x": ' + b"1" * 100_000 + b", " + review(time="1400000000")[1:],
        1_400_000_000,
    ),
    "half a character in a field that nobody looks at": (review(summary="\ud83d"), 1_400_000_000),
    "no number in a field that nobody looks at": (review(overall=float("nan")), 1_400_000_000),
}


@pytest.mark.parametrize("neighbour", [b"", None], ids=["in a bad block", "in a good block"])
@pytest.mark.parametrize(("line", "time"), USABLE.values(), ids=USABLE)
def test_a_review_is_of_use_all_the_same(shop, line, time, neighbour):
    if neighbour is not None:
        line = line + b"\n" + neighbour
    found = read(shop(of_review=line), 2018, "Soaps").interactions
    assert found.to_dict("list") == {
        "user_id": ["U1", "U9", "U1"], "item_id": ["A1", "A1", "A2"], "timestamp": [1_400_000_000, time, 1_400_000_000]
    }  # fmt: skip


def test_an_object_over_several_lines_is_as_many_malformed_lines(shop):
    tables = read(shop(of_review=review().replace(b", ", b",\n")), 2018, "Soaps")
    assert tables.quality["interactions"] == {"read": 6, "kept": 2, "dropped": {"malformed line": 4}}


@pytest.mark.parametrize("parts", [(b"{", review()[1:]), (b'{"x": {}', b", " + review()[1:])])
def test_an_object_over_two_lines_is_malformed(shop, parts):
    tables = read(shop(of_review=b"\n".join([review() + review(), *parts])), 2018, "Soaps")
    assert tables.quality["interactions"] == {"read": 5, "kept": 2, "dropped": {"malformed line": 3}}


PRODUCT_LINES = [
    ("malformed line", MALFORMED),
    (
        "no item",
        {"missing": without(product(), "asin"), "null": product(None), "number": product(5), "empty": product(" ")},
    ),
    ("never reviewed", {"another": product("A3"), "lower case": product("a2"), "path": product("../A1")}),
    ("duplicate", {"the same": product("A1"), "another title": product("A1", title="Oil"), "blanks": product(" A1\n")}),
]


@pytest.mark.parametrize(("line", "reason"), cases(*PRODUCT_LINES))
def test_a_product_is_left_out_and_counted(shop, line, reason):
    tables = read(shop(of_product=line), 2018, "Soaps")
    assert tables.items["item_id"].tolist() == ["A1", "A2"]
    assert tables.items["title"].tolist() == ["Soap", "Soap"]
    assert tables.quality["items"] == {"read": 3, "kept": 2, "dropped": {reason: 1}}
    assert tables.quality["examples"]["items"] == {reason: [f"{PRODUCTS}:2"]}


UNTITLED, OIL = {"title": "", "text": "Cleans."}, {"title": "Oil", "text": "Oil. Cleans."}
UNDESCRIBED, NAMELESS = {"text": "Soap."}, {"categories": []}
WITH_CODE = "A<script type='x'>if (a<b) {}</script>B<style>p{}</STYLE >C<!-- <b> -->D"
FIELDS = {  # of a product: what it holds, what differs from the product next to it, what is counted
    "title is a number": ({"title": 5}, UNTITLED, None),
    "title is a list": ({"title": ["Soap"]}, UNTITLED, None),
    "title is null": ({"title": None}, UNTITLED, None),
    "title is script": ({"title": "var aPageStart = (new Date()).getTime();"}, UNTITLED, "script for a title"),
    "title is script in a tag": ({"title": "<script>(new Date()).getTime()"}, UNTITLED, "script for a title"),
    "title in a tag": ({"title": '<span id="productTitle">Oil</span>'}, OIL, "markup in title"),
    "title with a tag in entities": ({"title": "&lt;b&gt;Oil"}, OIL, "markup in title"),
    "title with entities": ({"title": "A &amp; B"}, {"title": "A & B", "text": "A & B. Cleans."}, None),
    "half a character": ({"title": "Oil \ud83d"}, {"title": "Oil ?", "text": "Oil ?. Cleans."}, None),
    "brand is an object": ({"brand": {"name": "Acme"}}, {}, None),
    "description is a text": ({"description": "Shines."}, {"text": "Soap. Shines."}, "description not in a list"),
    "description is empty": ({"description": []}, UNDESCRIBED, "no description"),
    "description of empty pieces": ({"description": ["", " "]}, UNDESCRIBED, "no description"),
    "description is null": ({"description": None}, UNDESCRIBED, "no description"),
    "description is an object": ({"description": {"text": "Cleans."}}, UNDESCRIBED, "no description"),
    "pieces of any kind": ({"description": [None, 5, ["x"], "Shines."]}, {"text": "Soap. Shines."}, None),
    "tags": ({"description": ["<p>It\nshines.</p>", "<br />"]}, {"text": "Soap. It shines."}, "markup in description"),
    "code": ({"description": [WITH_CODE]}, {"text": "Soap. A B C D"}, "markup in description"),
    "code never closed": ({"description": ["All.<script>P.when()"]}, {"text": "Soap. All."}, "markup in description"),
    "category is an object": ({"category": {"0": "Bath"}}, NAMELESS, None),
    "category is a text": ({"category": "Bath"}, NAMELESS, None),
    "category is null": ({"category": None}, NAMELESS, None),
    "categories of any kind": ({"category": ["Bath", None, 5, {"a": "b"}, " "]}, {}, None),
    "pieces of the page": ({"category": ["Bath", "</span></span>", "<div class='a'>Oils"]}, {}, "markup in categories"),
    "category longer than a name": ({"category": ["Bath", "x" * 101]}, {}, "markup in categories"),
    "category twice, and the shop's own": ({"category": ["Soaps", "Bath", "Bath"]}, {}, None),
    "category with entities": ({"category": ["Oils &amp; Salts"]}, {"categories": ["Oils & Salts"]}, None),
}


@pytest.mark.parametrize(("fields", "changes", "problem"), FIELDS.values(), ids=FIELDS)
def test_a_field_becomes_plain_text(shop, fields, changes, problem):
    folder = shop()
    write(folder / PRODUCTS, packed(product("never reviewed"), product("A1", **fields), product("A2")))
    tables = read(folder, 2018, "Soaps")
    clean = {"title": "Soap", "text": "Soap. Cleans.", "categories": ["Bath"], "image": None}
    assert [item.to_dict() for _, item in tables.items.iterrows()] == [
        {"item_id": "A1", **clean, **changes},
        {"item_id": "A2", **clean},
    ]
    assert tables.quality["fields"] == ({problem: 1} if problem else {})
    assert tables.quality["examples"]["fields"] == ({problem: [f"{PRODUCTS}:2"]} if problem else {})


@pytest.mark.parametrize("opened", ["<script", "<!--", "<a", "<", "&lt;", "&"])
def test_a_million_unclosed_tags_take_no_time(shop, opened):
    folder = shop()
    write(folder / PRODUCTS, packed(product("A1", description=[opened * (1_000_000 // len(opened))])))
    assert len(read(folder, 2018, "Soaps").items) == 2


# --- files ---------------------------------------------------------------------------------------------------------

AS_PROVIDED = "{name} is no whole gzip file: place it in {folder} as it was provided"
DAMAGES = {
    "not compressed": gzip.decompress,
    "zip": lambda content: b"PK\x03\x04" + content,
    "a page that says no": lambda content: b"<html><body>403 Forbidden</body></html>",
    "a pointer to the file": lambda content: b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 5\n",
    "cut off in its header": lambda content: content[:5],
    "cut off in the middle": lambda content: content[: len(content) // 2],
    "last byte missing": lambda content: content[:-1],
    "checksum missing": lambda content: content[:-8],
    "another checksum": lambda content: content[:-8] + bytes(4) + content[-4:],
    "damaged": lambda content: content[:15] + b"\xff" * 8 + content[23:],
    "garbage behind": lambda content: content + b"garbage",
    "zeros behind": lambda content: content + bytes(512),
    "half of it a second time": lambda content: content + content[: len(content) // 2],
}


@pytest.mark.parametrize("name", [REVIEWS, PRODUCTS])
@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_file_is_refused(shop, name, damage):
    folder = shop()
    write(folder / name, damage((folder / name).read_bytes()))
    with pytest.raises(SourceError) as refusal:
        read(folder, 2018, "Soaps")
    assert str(refusal.value) == AS_PROVIDED.format(name=name, folder=folder)


@pytest.mark.parametrize("name", [REVIEWS, PRODUCTS])
@pytest.mark.parametrize("instead", ["nothing", "folder", "dangling link"])
def test_a_missing_file_is_named(shop, name, instead):
    folder = shop()
    (folder / name).unlink()
    if instead == "folder":
        (folder / name).mkdir()
    if instead == "dangling link":
        (folder / name).symlink_to("nowhere")
    with pytest.raises(SourceError) as refusal:
        read(folder, 2018, "Soaps")
    assert str(refusal.value) == f"{name} is missing: place it in {folder}"


NO_USE = {
    "empty": (b"", "it has none"),
    "empty inside": (packed(), "it has none"),
    "one blank line": (packed(b""), "1 malformed line ({name}:1)"),
    "compressed twice": (packed(packed(b"{}").replace(b"\n", b"")), "1 malformed line ({name}:1)"),
    "one list of all": (packed(b"[" + review() + b",", review() + b"]"), "2 malformed line ({name}:1)"),
    "Python literals": (packed(b"{'asin': 'A1', 'verified': True}"), "1 malformed line ({name}:1)"),
    "another format": (packed(HEADER, b"U1,A1,5.0,1400000000000"), "2 malformed line ({name}:1)"),
}


@pytest.mark.parametrize("name", [REVIEWS, PRODUCTS])
@pytest.mark.parametrize(("content", "problem"), NO_USE.values(), ids=NO_USE)
def test_a_file_without_a_line_of_use(shop, name, content, problem):
    folder = shop()
    write(folder / name, content)
    with pytest.raises(SourceError) as refusal:
        read(folder, 2018, "Soaps")
    assert str(refusal.value) == f"{name}: no row is usable: {problem.format(name=name)}"


def test_the_two_files_swapped(shop):
    folder = shop()
    reviews, products = (folder / REVIEWS).read_bytes(), (folder / PRODUCTS).read_bytes()
    write(folder / REVIEWS, products)
    write(folder / PRODUCTS, reviews)
    with pytest.raises(SourceError, match=rf"^{REVIEWS}: no row is usable: 2 no user \({REVIEWS}:1\)$"):
        read(folder, 2018, "Soaps")


def test_a_gzip_file_of_several_members_is_read(shop):
    folder = shop()
    write(folder / REVIEWS, packed(review("U1", "A1")) + packed(review("U2", "A1")))
    assert read(folder, 2018, "Soaps").interactions["user_id"].tolist() == ["U1", "U2"]


def test_windows_line_ends_and_a_missing_last_one(shop):
    folder = shop()
    write(folder / REVIEWS, packed(review("U1", "A1"), review("U2", "A1"), end=b"\r\n"))
    write(folder / PRODUCTS, gzip.compress(product("A1")))
    tables = read(folder, 2018, "Soaps")
    assert tables.interactions["user_id"].tolist() == ["U1", "U2"] and tables.items["title"].tolist() == ["Soap"]


# --- release 2014: its products are Python literals ----------------------------------------------------------------

LITERALS = {
    "JSON": (b'{"asin": "A1", "brand": null}', "malformed line"),
    "call": (b"{'asin': 'A1', 'title': open('/etc/passwd')}", "malformed line"),
    "power": (b"{'asin': 'A1', 'price': 9**9**9}", "malformed line"),
    "signs": (b"{'asin': 'A1', 'price': " + b"-" * 100_000 + b"1}", "malformed line"),
    "cut off": (b"{'asin': 'A3', 'title': 'So", "malformed line"),
    "set": (b"{'asin'}", "malformed line"),
    "bytes": (b"{'asin': b'A1'}", "no item"),
    "another": (b"{'asin': 'A3', 'title': 'Soap'}", "never reviewed"),
    "again": (b"{'asin': 'A1', 'title': 'Oil'}", "duplicate"),
}


@pytest.mark.parametrize(("line", "reason"), LITERALS.values(), ids=LITERALS)
def test_a_literal_is_left_out_and_counted(tmp_path, line, reason):
    write(tmp_path / "reviews_Soaps_5.json.gz", packed(review("U1", "A1"), review("U1", "A2")))
    write(tmp_path / PRODUCTS, packed(b"{'asin': 'A1', 'title': 'Soap'}", line, b"{'asin': 'A2', 'title': 'Soap'}"))
    tables = read(tmp_path, 2014, "Soaps")
    assert tables.items["title"].tolist() == ["Soap", "Soap"]
    assert tables.quality["items"]["dropped"] == {reason: 1}
    assert tables.quality["examples"]["items"] == {reason: [f"{PRODUCTS}:2"]}


def test_an_unreviewed_product_is_not_parsed(tmp_path, monkeypatch):
    write(tmp_path / "reviews_Soaps_5.json.gz", packed(review("U1", "A1")))
    write(tmp_path / PRODUCTS, packed(b"{'asin': 'A1', 'title': 'Soap'}", b"{'asin': 'A3', 'title': 'Soap'}"))
    parsed, parse = [], ast.literal_eval
    monkeypatch.setattr(ast, "literal_eval", lambda text: parsed.append(text) or parse(text))
    assert read(tmp_path, 2014, "Soaps").quality["items"]["dropped"] == {"never reviewed": 1}
    assert parsed == ["{'asin': 'A1', 'title': 'Soap'}"]


# --- release 2023: its reviews are comma-separated -----------------------------------------------------------------

ROWS = {
    "blank": (b"", "malformed line"),
    "a field too few": (b"U9,A1,1400000000000", "malformed line"),
    "a field too many": (b"U9,A1,5.0,1400000000000,x", "malformed line"),
    "a comma in quotes": (b'"U,9",A1,5.0,1400000000000', "malformed line"),
    "not UTF-8": (b"U\xff,A1,5.0,1400000000000", "malformed line"),
    "header again": (HEADER, "no timestamp"),
    "quotes": (b'"U 9",A1,5.0,1400000000000', "malformed id"),
    "no user": (b",A1,5.0,1400000000000", "no user"),
    "no item": (b"U9, ,5.0,1400000000000", "no item"),
    "no time": (b"U9,A1,5.0,", "no timestamp"),
    "seconds and less": (b"U9,A1,5.0,999", "no timestamp"),
    "negative": (b"U9,A1,5.0,-5000", "no timestamp"),
    "words": (b"U9,A1,5.0,soon", "no timestamp"),
    "endless": (b"U9,A1,5.0,inf", "no timestamp"),
    "beyond 64 bits": (b"U9,A1,5.0," + b"9" * 30, "no timestamp"),
    "again": (b"U1,A1,5.0,1500000000000", "repeat"),
}


@pytest.fixture
def shop_2023(tmp_path):
    def make(*rows, header=HEADER):
        write(tmp_path / CSV, packed(header, b"U1,A1,5.0,1400000000999", *rows, b"U1,A2,1.0,1400000001000"))
        products = [
            {"parent_asin": name, "title": name, "store": "Acme", "categories": ["Bath"]} for name in ("A1", "A2")
        ]
        write(tmp_path / PRODUCTS_2023, packed(*(json.dumps(each).encode() for each in products)))
        return tmp_path

    return make


@pytest.mark.parametrize(("row", "reason"), ROWS.values(), ids=ROWS)
def test_a_row_is_left_out_and_counted(shop_2023, row, reason):
    tables = read(shop_2023(row), 2023, "Soaps")
    assert tables.interactions.to_dict("list") == {
        "user_id": ["U1", "U1"], "item_id": ["A1", "A2"], "timestamp": [1_400_000_000, 1_400_000_001]
    }  # fmt: skip
    assert tables.items["text"].tolist()[:2] == ["A1. Acme.", "A2. Acme."]
    assert tables.quality["interactions"] == {"read": 3, "kept": 2, "dropped": {reason: 1}}
    assert tables.quality["examples"]["interactions"] == {reason: [f"{CSV}:3"]}


@pytest.mark.parametrize("header", [b"U1,A1,5.0,1400000000000", b"user_id,parent_asin", b"\xef\xbb\xbf" + HEADER, b""])
def test_another_header(shop_2023, header):
    with pytest.raises(SourceError) as refusal:
        read(shop_2023(header=header), 2023, "Soaps")
    assert str(refusal.value) == f"{CSV}:1: the header must be {HEADER.decode()} (it is {header!r})"
