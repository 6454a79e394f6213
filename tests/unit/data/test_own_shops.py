"""Shops of a person's own: each input and its answer, the closing line of notebook 1 or the line of an error."""

import csv
import io
import json
import re
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import pytest
from PIL import Image
from ruamel.yaml import YAML
from shop_files import png_header, write

from mmrec import config
from mmrec.data import preprocessing, sources

ITEMS = "abcdef"
DAY_1 = 1_577_923_200  # 2020-01-02
NEXT_YEAR = datetime.now(UTC).year + 1


@dataclass(frozen=True)
class Shop:
    answer: str  # pattern
    files: dict[str, str | bytes | None | Callable[[Path], None]] = field(default_factory=dict)  # None: not there
    keys: dict = field(default_factory=dict)  # of the data set in params.yaml
    times: list[int] | None = None  # of the kept rows of each user "a"
    name: str = "mine"


def table(header: str, *rows: tuple) -> str:
    text = io.StringIO()
    csv.writer(text).writerows([header.split(","), *rows])
    return text.getvalue()


def events(users: int = 4, each: int = 4, item=str, user="u{}".format) -> str:
    """`each` interactions a user, by circling through ITEMS."""
    rows = [(user(u), item(ITEMS[(u + step) % 6]), DAY_1 + step) for u in range(users) for step in range(each)]
    return table("user_id,item_id,timestamp", *rows)


def catalogue(item=str, title="Title", text="text", categories="x|y", image="{}.png", items=ITEMS) -> str:
    """A row an item; `{}` in a value stands for the item's letter."""
    values = [[item(i), *(each.replace("{}", i) for each in (title, text, categories, image))] for i in items]
    return table("item_id,title,text,categories,image", *values)


def picture(format: str = "PNG", size: tuple[int, int] = (4, 3)) -> bytes:
    out = io.BytesIO()
    Image.new("RGB", size, "orange").save(out, format)
    return out.getvalue()


def pictures(content: bytes | None, ending: str = "png", names: str = ITEMS) -> dict[str, bytes | None]:
    return {f"images/{name}.{ending}": content for name in names}


def named(**changes) -> dict[str, str]:
    return {"items.csv": catalogue(**changes)}


def bought(**changes) -> dict[str, str]:
    return {"interactions.csv": events(**changes)}


def linked(path: Path) -> None:
    path.symlink_to(write(path.parent.parent / "elsewhere" / "a.png", picture()).parent)


def linked_file(path: Path) -> None:
    path.symlink_to(write(path.parent.parent / "elsewhere.png", picture()))


IMAGE, TEXT, CATEGORY = {"image": "vgg"}, {"text": "bert"}, {"category": True}
WHOLE = "^16 interactions read, 16 kept; left out: none; 4 users, 6 items, "
FORMS = {form: unicodedata.normalize(form, "é") for form in ("NFC", "NFD")}

PICTURES = {
    "fewer than twelve": Shop(f"{WHOLE}6 usable pictures, ", keys=IMAGE),
    "one": Shop(f"{WHOLE}1 usable pictures, ", pictures(None, names="bcdef"), IMAGE),
    "link to a file": Shop(f"{WHOLE}6 usable", {"images/a.png": linked_file}, IMAGE),
    "link to a folder": Shop("^error: .*/images links to a folder or to nothing", {"images": linked}, IMAGE),
    "no folder": Shop(r"^error: no item of mine has image \(6 are listed: 6 missing \(a.png", {"images": None}, IMAGE),
    "none listed": Shop(
        r"^error: .* image \(0 are listed: none\): .*datasets.mine.image: null", named(image=""), IMAGE
    ),
    "addresses": Shop(r"^error: .*6 missing \(https://x/a.png\)", named(image="https://x/{}.png"), IMAGE),
    "addresses, image: null": Shop(f"{WHOLE}0 usable", named(image="https://x/{}.png") | {"images": None}),
    "images/ twice": Shop(r"^error: .*6 missing \(images/a.png\)", named(image="images/{}.png"), IMAGE),
    "outside": Shop(r"^error: .*6 outside folder \(\.\./a.png\)", named(image="../{}.png"), IMAGE),
    "Windows paths": Shop(f"{WHOLE}6 usable", named(image=".\\{}.png"), IMAGE),
    "decomposed Unicode": Shop(
        rf"^error: .*6 named in another Unicode form \({FORMS['NFC']}\.png\)",
        named(image=f"{FORMS['NFC']}.png") | {f"images/{FORMS['NFD']}.png": picture()},
        IMAGE,
    ),
    "composed Unicode": Shop(
        r"^error: .*6 named in another Unicode form",
        named(image=f"{FORMS['NFD']}.png") | {f"images/{FORMS['NFC']}.png": picture()},
        IMAGE,
    ),
    "text": Shop(r"^error: .*6 not an image \(a.png\)", pictures(b"words"), IMAGE),
    "too large": Shop(f"{WHOLE}5 usable", {"images/a.png": png_header(10_000, 5_001)}, IMAGE),
    "truncated, which decoding tells": Shop(f"{WHOLE}6 usable", pictures(picture()[:50]), IMAGE),
    "TIFF": Shop(r"^error: .*6 in the unread format TIFF \(a.png\)", pictures(picture("TIFF")), IMAGE),
    "AVIF": Shop(r"^error: .*6 in the unread format AVIF", pictures(b"\0\0\0\x20ftypavif\0\0\0\0"), IMAGE),
    "HEIC": Shop(r"^error: .*6 in the unread format HEIC", pictures(b"\0\0\0\x24ftypheic\0\0\0\0"), IMAGE),
    "given, without a file": Shop("^error: image.parquet is missing: place it in ", keys={"image": "given"}),
} | {format: Shop(f"{WHOLE}6 usable", pictures(picture(format)), IMAGE) for format in ("JPEG", "WEBP", "GIF", "BMP")}

LABELS = {"items.csv": catalogue(categories="|".join(f"label {number}" for number in range(5_000)))}
MODALITIES = {
    "all": Shop(f"{WHOLE}6 usable pictures, 6 texts, 2 negatives", keys=IMAGE | TEXT | CATEGORY),
    "ids alone": Shop(f"{WHOLE}0 usable pictures, 0 texts", {"items.csv": table("item_id", *ITEMS)}),
    "text alone": Shop(f"{WHOLE}0 usable pictures, 6 texts", named(image="", categories=""), TEXT),
    "titles alone": Shop(f"{WHOLE}0 usable pictures, 6 texts", named(image="", categories="", text=""), TEXT),
    "categories alone": Shop(f"{WHOLE}0 usable pictures, 0 texts", named(image="", title="", text=""), CATEGORY),
    "no item with all": Shop(
        f"{WHOLE}3 usable pictures, 3 texts",
        {"items.csv": catalogue(title="", text="", items="abc") + "".join(f"{i},T,t,x,\n" for i in "def")},
        IMAGE | TEXT,
    ),
    "one label on every item": Shop(WHOLE, named(categories="x"), CATEGORY),
    "5,000 labels": Shop(WHOLE, LABELS, CATEGORY),
    "no text": Shop("^error: .*has text: .*datasets.mine.text: null", named(title=" ", text=""), TEXT),
    "no category": Shop("^error: .*has category: .*mine.category: false", named(categories=" | "), IMAGE | CATEGORY),
}

TITLES = {
    title[:12]: Shop(f"{WHOLE}6 usable pictures, 6 texts", named(title=title, text=""), TEXT)
    for title in ("Ca$$h 10 %", "a_1^{2} \\", "靴 ナイキ", "👟🏽 shoe", 'one, "two"\nthree', "x" * 6_000)
}

IDS = {
    "text": Shop(WHOLE, bought(item="00{}".format) | named(item="00{}".format)),
    "blanks around": Shop(WHOLE, bought(item=" {} ".format)),
    "floats on both sides": Shop(WHOLE, bought(item=lambda i: f"{ord(i)}.0") | named(item=lambda i: f"{ord(i)}.0")),
    "floats of users": Shop(WHOLE, bought(user="{}.0".format)),
    "became floats": Shop(
        "^error: interactions.csv: no item_id is one of the items: it says '97.0', the items say '97'; write ",
        bought(item=lambda i: f"{ord(i)}.0") | named(item=lambda i: str(ord(i))),
    ),
    "lost zeros": Shop(
        "^error: .*it says '7', the items say '007'",
        bought(item=lambda _: "7") | named(item="007{}".format, items=["", *"bc"]),
    ),
    "other letters": Shop("^error: .*it says 'A', the items say 'a'", bought(item=str.upper)),
    "some unknown": Shop(
        "16 interactions read, 14 kept; left out: 2 unknown item", bought(item=lambda i: i.replace("a", "z"))
    ),
    "some empty": Shop(
        "16 interactions read, 14 kept; left out: 2 no item", bought(item=lambda i: i.replace("a", " "))
    ),
    "twice": Shop("^error: items.csv:8: item_id 'a' is already at items.csv:2: keep one", named(items=[*ITEMS, " a"])),
}

MANY = [
    (f"u{user}", f"i{item}", DAY_1 + item)
    for user, items in ((0, range(10_000)), (1, range(9_000, 10_050)))
    for item in items
]
LISTED = table("item_id", *((f"i{item}",) for item in range(10_050)))
SIZES = {
    "ten users": Shop("; 10 users, 6 items, .* 2 negatives a user", bought(users=10)),
    "one user": Shop(
        "^error: a user has all 4 items: no other is left to rank; leave the user out, or list", bought(users=1)
    ),
    "one item": Shop("^error: a user has all 1 items", bought(each=1, item=lambda _: "a")),
    "32 items": Shop(
        "; 32 users, 32 items, .* 10 negatives a user",
        {
            "interactions.csv": table(
                "user_id,item_id,timestamp",
                *((f"u{u}", f"i{(u + step) % 32}", DAY_1 + step) for u in range(32) for step in range(5)),
            ),
            "items.csv": table("item_id", *((f"i{number}",) for number in range(32))),
        },
    ),
    "one user with 10,000": Shop(
        "; 2 users, 10,050 items, .* 10 negatives a user",
        {"interactions.csv": table("user_id,item_id,timestamp", *MANY), "items.csv": LISTED},
    ),
    "short histories": Shop("^error: the split leaves 0 users to validate, 0 to test", bought(each=2)),
    "cores that nobody reaches": Shop(
        "^error: no interaction is left of 16: no users with 5 and items with 5 interactions; lower ",
        keys={"user_core": 5, "item_core": 5},
    ),
    "no row": Shop("^error: interactions.csv holds no rows", {"interactions.csv": "user_id,item_id\n"}),
}

TWICE = events() + events().split("\n", 1)[1]
REPEATS = {
    "first": Shop("^32 interactions read, 16 kept; left out: 16 repeat \\(50.0%\\); ", {"interactions.csv": TWICE}),
    "keep": Shop("^32 interactions read, 32 kept; left out: none; ", {"interactions.csv": TWICE}, {"repeats": "keep"}),
    "last": Shop("^error: .*mine.repeats: .*'first' or 'keep'", keys={"repeats": "last"}),
}

RULE = "lower-case letters, digits and _, begins with a letter, and is not a folder of"
NAMES = {
    name or "nothing": Shop(f"^error: params.yaml.datasets.*{RULE}.*such as {such}$", name=name)
    for name, such in {
        "my shop": "my_shop",
        "MyShop": "my_shop",
        "my-shop": "my_shop",
        "my.shop": "my_shop",
        "2024": "my_2024",
        "figures": "my_figures",
        "weights": "my_weights",
        "": "my_shop",
    }.items()
}

FILES = {
    "byte order mark, Windows line ends": Shop(WHOLE, {"items.csv": "\ufeff" + catalogue()}),
    "further columns": Shop(WHOLE, {"items.csv": catalogue().replace("text", "price", 1)}),
    "broken lines": Shop(
        "17 interactions read, 16 kept; left out: 1 malformed line", {"interactions.csv": events() + "u2,b\n"}
    ),
    "no interactions": Shop(r"^error: interactions\.csv is missing", {"interactions.csv": None}),
    "no items": Shop(f"{WHOLE}0 usable pictures, 0 texts, .*no items.csv: items have ids alone", {"items.csv": None}),
    "no items, and texts wanted": Shop(r"^error: no item of mine has text: mend that, or", {"items.csv": None}, TEXT),
    "empty": Shop(r"^error: items\.csv is empty", {"items.csv": ""}),
    "no column": Shop(r"^error: items\.csv: no column 'item_id'", {"items.csv": "title\nA\n"}),
    "semicolons": Shop(
        "^error: .*no column 'user_id': .*separated by commas", {"interactions.csv": events().replace(",", ";")}
    ),
    "Latin-1": Shop(r"^error: items\.csv:2 is not UTF-8", {"items.csv": "item_id,title\na,é\n".encode("latin-1")}),
    "an Excel file": Shop(r"^error: items\.csv:\d+ is not UTF-8", {"items.csv": b"PK\x03\x04\x14\x00\xff\xfe\n"}),
    "time under another name": Shop(
        r"^error: interactions\.csv: no column 'timestamp'", {"interactions.csv": events().replace("timestamp", "Date")}
    ),
    "timestamp twice": Shop(
        r"^error: interactions\.csv: more than one column 'timestamp'",
        {"interactions.csv": "user_id,item_id,timestamp,timestamp\nu,a,1,1\n"},
    ),
    "nothing placed": Shop(
        "^error: .* is not fetched: place interactions.csv, items.csv and images/ in",
        dict.fromkeys(("interactions.csv", "items.csv", "images")),
    ),
}


def at(texts: list[str], answer: str, times: list[int] | None = None, **source) -> Shop:
    """Two users who buy three items each at each of these times."""
    rows = [
        (f"u{n}{user}", item, text)
        for n, text in enumerate(texts)
        for user, items in (("a", "abc"), ("b", "def"))
        for item in items
    ]
    keys = {"source": {"kind": "folder", **source}}
    return Shop(answer, {"interactions.csv": table("user_id,item_id,timestamp", *rows)}, keys, times)


def read(texts: list[str], times: list[int], answer: str, **source) -> Shop:
    return at(texts, f"^{6 * len(texts)} interactions read, .*{answer}", times, **source)


NEXT = int(datetime(NEXT_YEAR, 12, 31, tzinfo=UTC).timestamp())
TIMES_READ = {
    "order numbers from 0": read(["0", "2", "1", "2"], [1, 3, 2, 3], "order numbers, 0 to 2, no dates$"),
    "order numbers from 1": read(["1", " 2", "3"], [1, 2, 3], "order numbers, 1 to 3"),
    "order numbers that became floats": read(["1.0", "2.0"], [1, 2], "order numbers"),
    "order numbers with a gap": read(["0", "", "5"], [1, 6], "left out: 6 no timestamp.*order numbers"),
    "no timestamps": read(
        ["", " ", ""], [1, 7, 13], "18 kept.* the order of its rows is taken as the order of events$"
    ),
    "seconds": read(["1577923200", "0", ""], [DAY_1], "left out: 12 no timestamp.*unix time"),
    "milliseconds": read(["1577923200000"], [DAY_1], "unix time"),
    "microseconds": read(["1577923200000000"], [DAY_1], "unix time"),
    "days": read(["20200102", "20200103"], [DAY_1, DAY_1 + 86_400], "ISO 8601"),
    "ISO basic": read(["20200102T000001"], [DAY_1 + 1], "ISO 8601"),
    "ISO extended": read(["2020-01-02T00:00:01", "soon"], [DAY_1 + 1], "left out: 6 no timestamp.*ISO 8601"),
    "UTC": read(["2020-01-02 00:00:01 UTC"], [DAY_1 + 1], "ISO 8601"),
    "offset": read(["2020-01-02T02:00:00+02:00"], [DAY_1], "ISO 8601"),
    "first year": read(["1990-01-01"], [631_152_000], "ISO 8601"),
    "last year": read([f"{NEXT_YEAR}-12-31"], [NEXT], "ISO 8601"),
    "any year": read(
        ["1985-03-01", "1577923200", "2999-01-01"], [478_483_200, DAY_1, 32_472_144_000], "", any_year=True
    ),
} | {
    said: read([*texts, "", "soon"], [DAY_1, DAY_1], f"left out: 12 no timestamp.*'{said}'$", timestamp_format=said)
    for said, texts in {
        "%d/%m/%Y": ["02/01/2020", "02/01/2020"],
        "%m/%d/%Y %H:%M": ["01/02/2020 00:00", "01/02/2020 00:00"],
        "%d.%m.%y": ["02.01.20", "2.1.20"],
        "%d %b %Y": ["02 Jan 2020", "2 Jan 2020"],
        "%Y%m%d%H%M%S": ["20200102000000", "20200102000000"],
    }.items()
}

TIMES_ASKED = {
    "day first": (["01/02/2020", "31/12/2019"], "interactions.csv:2: timestamp '01/02/2020' .* \"%d/%m/%Y\"$"),
    "month first": (["", "01/02/2020", "12/31/2019"], 'interactions.csv:8: .* timestamp_format: "%m/%d/%Y"$'),
    "either first": (["2020-01-02", "1/2/2020"], '.*csv:8: .*"%d/%m/%Y" or timestamp_format: "%m/%d/%Y"$'),
    "dots": (["31.12.2019"], '.*"%d.%m.%Y"$'),
    "dashes, two digits of the year": (["31-12-19"], '.*"%d-%m-%y"$'),
    "minutes": (["31/12/2019 10:20"], '.*"%d/%m/%Y %H:%M"$'),
    "clock": (["31/12/2019 10:20:30"], '.*"%d/%m/%Y %H:%M:%S"$'),
    "no separators": (["31122019", "01022020"], '.*looks like day, month and year .*"%d%m%Y"'),
    "words": (["3 Jan 2020", "soon"], "interactions.csv:2: timestamp '3 Jan 2020' is neither .* timestamp_format"),
    "nanoseconds": (["1577923200000000000"], ".*is neither unix time nor ISO 8601.*timestamp_format"),
    "1970": (["1577923200", "5"], "interactions.csv:8: timestamp '5' is of the year 1970, outside 1990 to .*any_year"),
    "1985": (["1985-03-01"], ".*is of the year 1985"),
    "1989": (["1989-12-31"], ".*is of the year 1989"),
    "before 1970": (["1969-12-31", "2020-01-02"], "interactions.csv:2: .*is before 1990"),
    "digits of a moment": (["20200102000000"], ".*outside 1990 to .*any_year: true .* else timestamp_format"),
    "after next year": ([f"{NEXT_YEAR + 1}-01-01"], f".*is of the year {NEXT_YEAR + 1}, outside 1990 to {NEXT_YEAR}:"),
}
FORMATS_ASKED = {
    "fits nothing": (["02/01/2020"], "%Y-%m", ".*is not of the timestamp_format '%Y-%m'"),
    "unknown directive": (["02/01/2020"], "%Q", "timestamp_format '%Q' of the data set's source: "),
    "unlikely years": (
        ["02/01/1920", "02/01/1820"],
        "%d/%m/%Y",
        "interactions.csv:2: timestamp '02/01/1920' is before",
    ),
    "no directive": (["02/01/2020"], "d/m/Y", ".*a pattern such as"),
}
TIMES = (
    TIMES_READ
    | {name: at(texts, f"^error: {said}") for name, (texts, said) in TIMES_ASKED.items()}
    | {name: at(texts, f"^error: {said}", timestamp_format=form) for name, (texts, form, said) in FORMATS_ASKED.items()}
)

KINDS = {
    "pictures": PICTURES,
    "modalities": MODALITIES,
    "titles": TITLES,
    "ids": IDS,
    "sizes": SIZES,
    "repeats": REPEATS,
    "names": NAMES,
    "files": FILES,
    "times": TIMES,
}
SHOPS = {f"{kind}: {name}": shop for kind, shops in KINDS.items() for name, shop in shops.items()}


@pytest.fixture(scope="module")
def params(shop_params) -> dict:
    return YAML(typ="safe").load(shop_params)


@pytest.mark.parametrize("shop", SHOPS.values(), ids=SHOPS)
def test_a_shop_is_prepared_or_told_in_one_line_what_to_do(shop, params, tmp_path):
    line, times = answer(shop, params, tmp_path)
    assert re.search(shop.answer, line), line
    assert "\n" not in line
    assert shop.times is None or times == shop.times


def answer(shop: Shop, params: dict, root: Path) -> tuple[str, list[int]]:
    """What notebook 1 says at its end, or the error; and the times of the users "a"."""
    raw = root / "raw"
    usual = {"interactions.csv": events(), "items.csv": catalogue(), **pictures(picture())}
    left_out = tuple(name for name, content in shop.files.items() if content is None or callable(content))
    raw.mkdir()
    for name, content in (usual | shop.files).items():
        if callable(content):
            (raw / name).parent.mkdir(exist_ok=True)
            content(raw / name)
        elif not name.startswith(left_out):
            write(raw / name, content)
    entry = {"title": "mine", "source": {"kind": "folder"}, "user_core": 1, "item_core": 1} | shop.keys
    (root / "params.yaml").write_text(json.dumps(params | {"datasets": {shop.name: entry}}))
    try:
        settings = config.load(root / "params.yaml")
        about = settings.datasets[shop.name]
        sources.fetch(about.source, raw, root, root)
        tables = sources.read(about.source, raw, about.repeats)
        sources.require_modalities(tables, shop.name, about)
        sources.given_ids(about, raw, tables.items["item_id"])
        built = preprocessing.build(tables.interactions, about, settings.protocol)
    except (config.ConfigError, sources.SourceError, preprocessing.SequenceError) as error:
        return f"error: {error}", []
    first = tables.interactions.drop_duplicates("user_id")
    return preprocessing.closing_line(tables, built), first["timestamp"][first["user_id"].str.endswith("a")].tolist()
