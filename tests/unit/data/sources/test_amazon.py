import gzip
import json
from pathlib import Path

import amazon_files
import pandas as pd
import pytest
from amazon_files import Dirt
from hypothesis import given
from hypothesis import strategies as st
from shop_files import picture, write

from mmrec import config
from mmrec.data import sources
from mmrec.data.sources import SourceError, amazon
from mmrec.data.sources.amazon import lines, metadata, read, reviews

PLACED = Path(__file__).parents[4] / "data" / "raw" / "beauty_2014"
REVIEWS, META = "reviews_Beauty_5.json.gz", "meta_Beauty.json.gz"
BOMBS = {
    "brackets": "[" * 100_000,
    "signs": "-" * 100_000 + "1",
    "sum": "1" + "+1" * 100_000,
    "dicts": "{1:" * 100_000 + "1" + "}" * 100_000,
    "digits": "1" * 100_000,
}


def review(user="u", asin="a", time=100):
    return json.dumps({"reviewerID": user, "asin": asin, "unixReviewTime": time, "overall": 5.0, "reviewText": "Nice."})


def item(asin="a", **fields):
    return repr({"asin": asin, **fields})


@pytest.fixture
def shop(tmp_path):
    """Writes both files; a line is text or bytes."""

    def packed(lines):
        return gzip.compress(b"".join((x if isinstance(x, bytes) else x.encode()) + b"\n" for x in lines))

    def make(reviews=None, items=None):
        write(tmp_path / REVIEWS, packed([review()] if reviews is None else reviews))
        write(tmp_path / META, packed([item()] if items is None else items))
        return tmp_path

    return make


def account(folder, table):
    quality = read(folder, 2014, "Beauty").quality
    assert quality[table]["read"] == quality[table]["kept"] + sum(quality[table]["dropped"].values())
    return quality[table]["dropped"], quality["examples"][table]


# --- what is read ------------------------------------------------------------------------------------------------


def test_reviews_are_interactions_in_the_order_of_the_file(shop):
    folder = shop([review("v", "b", 7), review("u", "a", 5)], [item("a"), item("b")])
    tables = read(folder, 2014, "Beauty")
    assert tables.interactions.to_dict("list") == {"user_id": ["v", "u"], "item_id": ["b", "a"], "timestamp": [7, 5]}
    assert tables.items["item_id"].tolist() == ["a", "b"]
    assert tables.items["image"].isna().all()
    assert tables.quality["images"] == {"listed": 0, "usable": 0, "unusable": {}}


def test_the_source_finds_the_files_of_its_category(shop):
    source = config.AmazonSource(kind="amazon", release=2014, category="Beauty")
    assert len(sources.read(source, shop()).interactions) == 1


@pytest.mark.parametrize(
    ("fields", "title", "text"),
    [
        ({"title": "Soap", "brand": "Acme", "description": "Cleans, gently."}, "Soap", "Soap. Acme. Cleans, gently."),
        ({"title": "Soap.", "description": "Cleans"}, "Soap.", "Soap. Cleans"),
        ({"brand": "Acme"}, "", "Acme."),
        ({"title": "O&#39;Keeffe&#39;s &amp; Co"}, "O'Keeffe's & Co", "O'Keeffe's & Co."),
        ({"title": "<b>Soap</b>", "description": "<p class='x'>Cleans</p><br/>All"}, "Soap", "Soap. Cleans All"),
        ({"title": "Soap", "description": "&lt;i&gt;Cleans&lt;/i&gt;"}, "Soap", "Soap. Cleans"),
        ({"title": "pH < 7 > 5"}, "pH < 7 > 5", "pH < 7 > 5."),
        ({"title": " Two\n lines\t"}, "Two lines", "Two lines."),
        ({"title": "...", "brand": " "}, "...", ""),
        ({"title": 3, "brand": None, "description": 5}, "", ""),
        ({"title": "Soap", "description": ["Cleans.", "", 3, " All. "]}, "Soap", "Soap. Cleans. All."),
        ({}, "", ""),
    ],
)
def test_words(shop, fields, title, text):
    items = read(shop(items=[item(**fields)]), 2014, "Beauty").items
    assert (items["title"][0], items["text"][0]) == (title, text)


@pytest.mark.parametrize(
    ("paths", "categories"),
    [
        ([["Beauty", "Hair Care", "Combs"], ["Beauty", "Hair Care", "Brushes"]], ["Hair Care", "Combs", "Brushes"]),
        ([["Beauty", "Bath &amp; Body"], ["Toys & Games", "Dolls"]], ["Bath & Body", "Toys & Games", "Dolls"]),
        ([["Beauty"]], []),
        ([["", " "], []], []),
        (["Beauty", ["Combs", 3, None]], ["Combs"]),
        ("Combs", []),
        (None, []),
    ],
)
def test_categories_are_all_names_on_the_paths_but_the_shops_own(shop, paths, categories):
    assert read(shop(items=[item(categories=paths)]), 2014, "Beauty").items["categories"].tolist() == [categories]


@pytest.mark.parametrize(
    ("category", "root"),
    [
        ("Sports_and_Outdoors", "Sports & Outdoors"),
        ("Sports_and_Outdoors", "Sports &amp; Outdoors"),
        ("Clothing_Shoes_and_Jewelry", "Clothing, Shoes & Jewelry"),
        ("CDs_and_Vinyl", "CDs & Vinyl"),
    ],
)
def test_a_shop_is_known_by_the_name_of_its_files(tmp_path, category, root):
    write(tmp_path / f"reviews_{category}_5.json.gz", gzip.compress(review().encode()))
    write(tmp_path / f"meta_{category}.json.gz", gzip.compress(item(categories=[[root, "Sale"]]).encode()))
    assert read(tmp_path, 2014, category).items["categories"].tolist() == [["Sale"]]


def test_a_reviewed_item_without_metadata_is_kept(shop):
    tables = read(shop([review(asin=asin) for asin in "cab"], [item("a", title="A")]), 2014, "Beauty")
    assert tables.items["item_id"].tolist() == ["a", "c", "b"]
    assert tables.items["text"].tolist() == ["A.", "", ""]
    assert tables.items["categories"].tolist() == [[], [], []]
    assert len(tables.interactions) == 3
    assert tables.quality["metadata"] == {"empty": 2}
    assert tables.quality["items"] == {"read": 3, "kept": 3, "dropped": {}}
    shown = sources.quality_table(tables.quality).set_index(["table", "what"])["rows"]
    assert shown["items", "without metadata"] == 2


def test_half_a_character_can_be_written(shop, tmp_path):
    folder = shop([review("\ud800"), review("v", "\udc00")], [item(title="a\ud800b"), item("\udc00")])
    sources.write(read(folder, 2014, "Beauty"), tmp_path / "out")
    assert pd.read_parquet(tmp_path / "out" / "items.parquet")["title"].tolist() == ["a?b", ""]


@given(st.dictionaries(st.sampled_from(["asin", "title", "brand", "description", "categories"]), st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
)))  # fmt: skip
def test_fields_of_any_kind_give_text(fields):
    (*texts, categories), _ = metadata._described(fields, metadata.FIELDS[2014], "Beauty")
    assert all(isinstance(value, str) for value in texts)
    assert texts[1] == " ".join(texts[1].encode().decode().split())
    assert all(isinstance(name, str) and name for name in categories)


# --- what is left out is counted -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (review(user=""), "no user"),
        (review(user=3), "no user"),
        ('{"asin": "a", "unixReviewTime": 100}', "no user"),
        (review(asin=" "), "no item"),
        ('{"reviewerID": "v", "unixReviewTime": 100}', "no item"),
        (review("v", time=0), "no timestamp"),
        (review("v", time=None), "no timestamp"),
        (review("v", time=True), "no timestamp"),
        (review("v", time=float("inf")), "no timestamp"),
        (review("v", time={"t": [100]}), "no timestamp"),
        ('{"reviewerID": "v", "asin": "a"}', "no timestamp"),
        (review(time=101), "repeat"),
        ("", "malformed line"),
        ("[1, 2]", "malformed line"),
        (review("v")[:-1], "malformed line"),
        (item("a"), "malformed line"),
        (review("v") + review("w"), "malformed line"),
        (review("v").encode("utf-16"), "malformed line"),
        (b'{"reviewerID": "\xff"}', "malformed line"),
        *((bomb, "malformed line") for bomb in BOMBS.values()),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_unusable_reviews_are_counted_by_reason(shop, line, reason):
    dropped, examples = account(shop([review(), line, review("z")]), "interactions")
    assert dropped == {reason: 1}
    assert examples == {reason: [f"{REVIEWS}:2"]}


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        (item(""), "no item"),
        ("{'title': 'Soap'}", "no item"),
        ("{'asin': 0x" + "f" * 10_000 + "}", "no item"),
        (item("b"), "never reviewed"),
        (item("a", title="again"), "duplicate"),
        ("", "malformed line"),
        ("{'asin'}", "malformed line"),
        ("{[]: 'a'}", "malformed line"),
        ("{'asin': 'c', 'related': null}", "malformed line"),
        ("{'asin': 'b'", "malformed line"),
        ("{'asin': 'b\0'}", "malformed line"),
        (b"{'asin': '\xff'}", "malformed line"),
        ("dict(asin='b')", "malformed line"),
        ("{'asin': 9**9**9**9}", "malformed line"),
        *((bomb, "malformed line") for bomb in BOMBS.values()),
    ],
    ids=lambda value: repr(value)[:40],
)
def test_unusable_metadata_are_counted_by_reason(shop, line, reason):
    folder = shop([review(), review("z", "c")], [item("a", title="first"), line, item("c")])
    dropped, examples = account(folder, "items")
    assert dropped == {reason: 1}
    assert examples == {reason: [f"{META}:2"]}
    assert read(folder, 2014, "Beauty").items["title"].tolist() == ["first", ""]


@pytest.mark.parametrize("code", ["__import__('os').system('touch x')", "{'asin': open('x', 'w')}", "exec('x = 1')"])
def test_nothing_is_executed(shop, monkeypatch, code):
    folder = shop(items=[item(), code])
    monkeypatch.chdir(folder)
    assert account(folder, "items")[0] == {"malformed line": 1}
    assert sorted(path.name for path in folder.iterdir()) == [META, REVIEWS]


@pytest.mark.parametrize("extra", [0, 1, 2, 100, 101, 102, 1000])
def test_a_too_long_line_is_left_out_unparsed(shop, monkeypatch, extra):
    monkeypatch.setattr(lines, "LONGEST", 100)
    long = '{"reviewerID": "v", "asin": "a"' + " " * (69 + extra) + "}"
    folder = shop([review("u")[:60] + "}", long, '{"reviewerID": "u", "asin": "a", "unixReviewTime": 9}'])
    dropped, examples = account(folder, "interactions")
    assert dropped == {"malformed line": 2}
    assert examples == {"malformed line": [f"{REVIEWS}:1", f"{REVIEWS}:2"]}


def test_a_line_of_the_greatest_length_is_read(shop, monkeypatch):
    line = '{"reviewerID": "u", "asin": "a", "unixReviewTime": 9}'
    monkeypatch.setattr(lines, "LONGEST", len(line) + 1)
    assert account(shop([line]), "interactions")[0] == {}


# --- files that cannot be used -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [REVIEWS, META])
def test_a_missing_file(shop, name):
    folder = shop()
    (folder / name).unlink()
    with pytest.raises(SourceError, match=f"^{name} is missing: place it in {folder}$"):
        read(folder, 2014, "Beauty")


@pytest.mark.parametrize("name", [REVIEWS, META])
@pytest.mark.parametrize(
    "damage",
    [
        lambda content: content[:-1],
        lambda content: content[: len(content) // 2],
        lambda content: content[:20] + b"\xff\xff\xff\xff" + content[24:],
        lambda content: content + b"more",
        lambda content: gzip.decompress(content),
        lambda content: b"PK\x03\x04" + content,
    ],
    ids=["last byte", "half", "damaged", "more", "not compressed", "zip"],
)
def test_a_damaged_gzip_file_is_refused(shop, name, damage):
    folder = shop()
    write(folder / name, damage((folder / name).read_bytes()))
    with pytest.raises(SourceError, match=f"^{name} is no whole gzip file: place it in {folder} as it was provided$"):
        read(folder, 2014, "Beauty")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"reviews": []}, f"{REVIEWS}: no row is usable: it has none"),
        ({"items": []}, f"{META}: no row is usable: it has none"),
        ({"reviews": [item()]}, f"{REVIEWS}: no row is usable: 1 malformed line ({REVIEWS}:1)"),
        ({"reviews": [review(asin="")]}, f"{REVIEWS}: no row is usable: 1 no item ({REVIEWS}:1)"),
        ({"reviews": [review(time=0)]}, f"{REVIEWS}: no row is usable: 1 no timestamp ({REVIEWS}:1)"),
        ({"items": ["asin,title", "a,A"]}, f"{META}: no row is usable: 2 malformed line ({META}:1)"),
        ({"items": [item("b")]}, f"{META}: no row is usable: 1 never reviewed ({META}:1)"),
    ],
)
def test_a_file_without_a_usable_line(shop, files, message):
    with pytest.raises(SourceError) as refusal:
        read(shop(**files), 2014, "Beauty")
    assert str(refusal.value) == message


# --- generated files of release 2018 -------------------------------------------------------------------------------

DIRT = Dirt(
    repeat=7, no_time=3, no_user=4, no_item=5, malformed=11, padded=2, same_product=6, malformed_product=10,
    no_metadata=8, script=1, markup=2, text_description=3, no_description=4, category_markup=5,
)  # fmt: skip


@pytest.fixture(scope="module")
def dirty(tmp_path_factory):
    folder = tmp_path_factory.mktemp("dirty")
    return folder, amazon_files.write(folder, "Sports_and_Outdoors", 4000, 300, seed=3, dirt=DIRT)


def test_all_the_dirt_is_found_again(dirty):
    folder, written = dirty
    tables = read(folder, 2018, "Sports_and_Outdoors")
    left_out = {"repeat": 7, "no timestamp": 3, "no user": 4, "no item": 5, "malformed line": 11}
    quality = tables.quality
    assert quality["interactions"]["dropped"] == left_out
    assert quality["interactions"]["kept"] == len(tables.interactions) == written.reviews == 4002
    assert tables.interactions["user_id"].nunique() == written.users
    assert len(tables.items) == written.reviewed
    never = {"never reviewed": written.never_reviewed} if written.never_reviewed else {}
    assert quality["items"]["dropped"] == {"malformed line": 10, "duplicate": 6} | never
    assert quality["metadata"] == {"empty": 8}
    assert quality["categories"] == {"empty": 8}
    assert quality["fields"] == {
        "script for a title": 1, "markup in title": 2, "markup in description": 2, "description not in a list": 3,
        "no description": 4, "markup in categories": 5,
    }  # fmt: skip
    shown = sources.quality_table(quality).set_index(["table", "what"])
    assert shown.loc[("items", "markup in categories"), "rows"] == 5
    assert shown.loc[("items", "markup in categories"), "for example"].startswith("meta_Sports_and_Outdoors.json.gz:")
    assert shown.loc[("interactions", "left out: repeat"), "rows"] == 7


def test_dirt_does_not_change_clean_rows(dirty, tmp_path):
    amazon_files.write(tmp_path, "Sports_and_Outdoors", 4000, 300, seed=3)
    found, clean = (read(folder, 2018, "Sports_and_Outdoors") for folder in (dirty[0], tmp_path))
    padded = ~found.interactions["user_id"].isin(clean.interactions["user_id"])
    assert padded.sum() == 2
    pd.testing.assert_frame_equal(found.interactions[~padded].reset_index(drop=True), clean.interactions)
    same = found.items.merge(clean.items, on=["item_id", "title", "text"])
    assert len(same) == len(clean.items) - 8 - 1 - 2 - 4  # all but those whose words are dirty or missing


@pytest.mark.parametrize("block", [1, 999, 4002])
def test_it_does_not_matter_how_many_reviews_are_held_at_a_time(dirty, monkeypatch, block):
    whole = read(dirty[0], 2018, "Sports_and_Outdoors")
    monkeypatch.setattr(reviews, "BLOCK", block)
    pieces = read(dirty[0], 2018, "Sports_and_Outdoors")
    pd.testing.assert_frame_equal(whole.interactions, pieces.interactions)
    pd.testing.assert_frame_equal(whole.items, pieces.items)
    assert whole.quality == pieces.quality


# --- pictures ------------------------------------------------------------------------------------------------------

SHOP = "https://images-na.ssl-images-amazon.com/images/I/"
URLS = {
    2014: [
        ({"imUrl": "http://ecx.images-amazon.com/images/I/1._SY300_.jpg"},
         ["http://ecx.images-amazon.com/images/I/1._SY300_.jpg", "http://ecx.images-amazon.com/images/I/1.jpg"]),
    ],
    2018: [
        ({"imageURLHighRes": [SHOP + "1.jpg", SHOP + "2.jpg"], 
          "imageURL": [SHOP + "1._SS40_.jpg", SHOP + "3._US40_.jpg"]},
         [SHOP + "1.jpg", SHOP + "2.jpg", SHOP + "3.jpg"]),
        ({"image": [SHOP + "1._SR38,50_.jpg"]}, [SHOP + "1.jpg"]),
        ({"imageURLHighRes": [None, "", 5, SHOP + "2.jpg"]}, [SHOP + "2.jpg"]),
        ({"imageURLHighRes": SHOP + "1.jpg"}, [SHOP + "1.jpg"]),
    ],
    2023: [
        ({"images": [{"hi_res": None, "large": SHOP + "1.jpg", "thumb": "x", "variant": "MAIN"},
                     {"hi_res": SHOP + "2._SL1500_.jpg", "large": SHOP + "2.jpg", "variant": "PT01"}]},
         [SHOP + "1.jpg", SHOP + "2._SL1500_.jpg", SHOP + "2.jpg"]),
    ],
}  # fmt: skip


def placed(folder, release, items):
    """Both files of a release, with a review of every item."""
    of_reviews, of_products = amazon.files(folder, release, "Beauty")
    asins = [fields["asin"] for fields in items]
    rows = ["user_id,parent_asin,rating,timestamp", *(f"u,{asin},5.0,100000" for asin in asins)]
    reviews = rows if release == 2023 else [review(asin=asin) for asin in asins]
    products = [
        repr(fields) if release == 2014 else json.dumps({"parent_asin": fields["asin"], **fields}) for fields in items
    ]
    write(of_reviews, gzip.compress("\n".join(reviews).encode()))
    write(of_products, gzip.compress("\n".join(products).encode()))
    return folder


@pytest.mark.parametrize(
    ("release", "fields", "urls"), [(release, *case) for release in URLS for case in URLS[release]]
)
def test_addresses_of_pictures_by_release(tmp_path, release, fields, urls):
    found = amazon.candidates(placed(tmp_path, release, [{"asin": "b"}, {"asin": "a", **fields}]), release, "Beauty")
    assert found.to_dict("list") == {"item_id": ["a"], "urls": [urls]}


def test_no_picture_anywhere(tmp_path):
    found = amazon.candidates(placed(tmp_path, 2018, [{"asin": "a"}]), 2018, "Beauty")
    assert list(found.columns) == ["item_id", "urls"] and len(found) == 0


def test_fetched_pictures_are_joined_to_items(tmp_path):
    folder = placed(tmp_path, 2018, [{"asin": name} for name in "abcde"])
    picture(folder / "images" / "00" / "1.jpg")
    write(
        folder / "pictures.csv", "item_id,image,reason\nb,,not found\na,00/1.jpg,\nc,00/2.jpg,\nd,,not found\nz,,slow\n"
    )
    tables = read(folder, 2018, "Beauty")
    assert tables.items["image"].tolist() == ["00/1.jpg", None, None, None, None]
    assert tables.quality["images"] == {"listed": 4, "usable": 1, "unusable": {"missing": 1, "not found": 2}}
    assert tables.quality["examples"]["images"] == {"missing": ["00/2.jpg"], "not found": ["b", "d"]}


# --- the real files ----------------------------------------------------------------------------------------------


@pytest.mark.skipif(not (PLACED / REVIEWS).is_file(), reason="Amazon Beauty is not placed in data/raw/beauty_2014")
def test_beauty_has_the_published_size():
    tables = read(PLACED, 2014, "Beauty")
    assert tables.interactions["user_id"].nunique() == 22_363
    assert tables.interactions["item_id"].nunique() == len(tables.items) == 12_101
    assert len(tables.interactions) == 198_502
    assert tables.quality["interactions"]["dropped"] == {}
