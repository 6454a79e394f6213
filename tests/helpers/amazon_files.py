"""Reviews and metadata in the format in which release 2018 of the Amazon data ships them: any size, seeded, with dirt.

A review's line is about 650 bytes long and a product's 1,900, as in the real files. Reviews lie by product, so that a
shopper's are all over the file. Shoppers walk through the catalogue a few products at a step, so that what comes next
can be learned; neighbours in the catalogue share their kind, brand and words.
"""

import gzip
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

ROWS = 50_000  # built at a time
FIRST, DAY = 1_388_534_400, 86_400  # 2014-01-01, seconds
TEXTS = 256  # different descriptions of a kind; sixteen times as many of reviews
SERVER = "https://images-na.ssl-images-amazon.com/images/I/"
SCRIPT = "var aPageStart = (new Date()).getTime();\nvar ue_t0=ue_t0||+new Date();\n<!-- sp:feature:cs-optimization -->"
KINDS = "Tent Ball Rope Boots Lamp Bottle Gloves Helmet Net Racket Saddle Paddle Compass Jacket Scale Mat".split()
LOOKS = "Classic Light Heavy Blue Red Black Small Large Junior Women's Men's Compact Folding Steel Soft Pro".split()
WORDS = (
    "the a this it is was for and with very great good love bought use little well made quality price works perfect "
    "size color light water easy strong old new gift bag bike camp knife run swim hike grip pad strap returned broke "
    'after months would recommend anyone looking because really comfortable fits nice sturdy product don\'t "so-so"'
).split()


@dataclass(frozen=True)
class Dirt:
    """How many lines of each kind to write; a product is dirty in one way at most."""

    repeat: int = 0  # a shopper's second review of a product, a year later
    no_time: int = 0
    no_user: int = 0
    no_item: int = 0
    malformed: int = 0  # in turn: cut off, not UTF-8, a list, empty, a Python literal
    padded: int = 0  # usable: ids with blanks around them, and the time in quotes; each by one more shopper
    same_product: int = 0
    malformed_product: int = 0
    no_metadata: int = 0  # reviewed products without a line
    script: int = 0  # a piece of the page's code for a title
    markup: int = 0  # in title and description
    text_description: int = 0  # not in a list
    no_description: int = 0
    category_markup: int = 0


CLEAN = Dirt()


@dataclass(frozen=True)
class Written:
    """Usable reviews, the shoppers and products that they are of, and products that nobody reviewed."""

    reviews: int
    users: int
    reviewed: int
    never_reviewed: int


def write(
    folder: Path,
    category: str,
    reviews: int,
    items: int,
    seed: int = 0,
    dirt: Dirt = CLEAN,
    address: Callable[[int], str] | None = None,
) -> Written:
    """`<category>_5.json.gz` and `meta_<category>.json.gz` in `folder`.

    Args:
        reviews: clean ones, of as many shoppers that each has eight (up to fifteen where there is one).
        items: products in the metadata, at least 50.
        address: of the picture of product number i; by default one at the provider's server.
    """
    assert items >= 50, "fewer, and a shopper would come back to a product"
    shoppers, texts, products, spoiling = np.random.default_rng(seed).spawn(4)  # dirt changes nothing beside it
    users = max(1, reviews // 8)
    table = _interactions(shoppers, reviews, users, items, dirt.repeat)
    reviewed = np.unique(table["item"])
    folder.mkdir(parents=True, exist_ok=True)
    _compress(folder / f"{category}_5.json.gz", _reviews(texts, spoiling, table, users, dirt))
    lines = _products(products, spoiling, category, items, reviewed, dirt, address or _address)
    _compress(folder / f"meta_{category}.json.gz", lines)
    return Written(reviews + dirt.padded, users + dirt.padded, len(reviewed), items - len(reviewed))


def item_ids(numbers: np.ndarray) -> pa.Array:
    """An asin: `B` and nine digits to the base 36."""
    return _codes(numbers, "B", 9)


def user_ids(numbers: np.ndarray) -> pa.Array:
    """`A` and thirteen."""
    return _codes(numbers, "A", 13)


def _codes(numbers: np.ndarray, letter: str, length: int) -> pa.Array:
    digits = np.frombuffer(b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ", np.uint8)
    scattered = np.asarray(numbers, np.int64) * 2_654_435_761 % 36**7  # one to one: the factor is prime to 6
    text = np.empty((len(scattered), length + 1), np.uint8)
    text[:, 0] = ord(letter)
    text[:, 1:] = digits[scattered[:, None] // 36 ** np.minimum(np.arange(length), 7) % 36]
    text[:, 8:] = digits[0]
    offsets = np.arange(len(text) + 1, dtype=np.int32) * (length + 1)
    return pa.StringArray.from_buffers(len(text), pa.py_buffer(offsets), pa.py_buffer(text))


def _interactions(generator: np.random.Generator, reviews: int, users: int, items: int, repeat: int) -> dict:
    user, turn = np.arange(reviews) % users, np.arange(reviews) // users
    start = (items * generator.random(users) ** 1.5).astype(np.int64)
    item = (start[user] + turn * generator.integers(1, 4, users)[user]) % items
    time = FIRST + DAY * (generator.integers(0, 1200, users)[user] + 30 * turn)
    again = generator.choice(reviews, repeat, replace=False)
    table = {"user": (user, user[again]), "item": (item, item[again]), "time": (time, time[again] + 365 * DAY)}
    table = {name: np.concatenate(parts) for name, parts in table.items()}
    order = np.argsort(table["item"], kind="stable")
    return {name: column[order] for name, column in table.items()}


def _reviews(
    generator: np.random.Generator, spoiling: np.random.Generator, table: dict, users: int, dirt: Dirt
) -> Iterator[pa.Array]:
    texts = pa.array(_texts(generator, 16 * TEXTS, mean=60, about="It"))
    summaries = pa.array(_texts(generator, 16 * TEXTS, mean=4, about="Five stars"))
    days = np.arange(np.datetime64("2014-01-01"), np.datetime64("2022-01-01"))
    days = pa.array([f"{day.month:02} {day.day}, {day.year}" for day in days.tolist()])
    overall, style = pa.array(["1.0", "2.0", "3.0", "4.0", "5.0"]), pa.array(_styles())

    def lines(rows: slice) -> pa.Array:
        user, item, time = (table[name][rows] for name in ("user", "item", "time"))
        count = len(user)
        return pc.binary_join_element_wise(
            '{"overall": ', overall.take(generator.integers(0, 5, count)),
            ', "verified": true, "reviewTime": "', days.take((time - FIRST) // DAY),
            '", "reviewerID": "', user_ids(user), '", "asin": "', item_ids(item),
            '", "style": {', style.take(generator.integers(0, len(style), count)),
            '}, "reviewerName": "Shopper ', pa.array(user).cast(pa.string()),
            '", "reviewText": ', texts.take(generator.integers(0, len(texts), count)),
            ', "summary": ', summaries.take(generator.integers(0, len(summaries), count)),
            ', "unixReviewTime": ', pa.array(time).cast(pa.string()), "}\n", "",
        )  # fmt: skip

    strangers = user_ids(users + np.arange(dirt.no_time + dirt.no_user + dirt.no_item + dirt.padded)).to_pylist()
    extra = _bad_reviews(strangers, item_ids(table["item"][:1])[0].as_py(), dirt)
    yield from _with_extra(spoiling, len(table["user"]), lines, extra)


def _bad_reviews(users: list[str], item: str, dirt: Dirt) -> list[bytes]:
    """Of people who appear nowhere else."""
    person = iter(users)

    def review(**fields: object) -> bytes:
        whole = {"overall": 5.0, "reviewerID": next(person), "asin": item, "unixReviewTime": FIRST + DAY} | fields
        return json.dumps({key: value for key, value in whole.items() if value is not None}).encode()

    good = b'{"reviewerID": "AX", "asin": "BX", "unixReviewTime": 1400000000}'
    turns = [good[:-1], b'{"reviewerID": "\xff"}', b"[1, 2]", b"", b"{'reviewerID': 'AX', 'asin': 'BX'}"]
    return [
        *(review(unixReviewTime=0 if number % 2 else None) for number in range(dirt.no_time)),
        *(review(reviewerID="" if number % 2 else None) for number in range(dirt.no_user)),
        *(review(asin="" if number % 2 else None) for number in range(dirt.no_item)),
        *(turns[number % len(turns)] for number in range(dirt.malformed)),
        *(
            review(reviewerID=f" {users[-1 - number]} ", asin=f"{item}\n", unixReviewTime=str(FIRST + DAY))
            for number in range(dirt.padded)
        ),
    ]


def _products(
    generator: np.random.Generator,
    spoiling: np.random.Generator,
    category: str,
    items: int,
    reviewed: np.ndarray,
    dirt: Dirt,
    address: Callable[[int], str],
) -> Iterator[pa.Array]:
    root = category.replace("_and_", " & ").replace("_", " ")
    kinds = pa.array(KINDS)
    texts = pa.array([text for kind in KINDS for text in _texts(generator, TEXTS, mean=60, about=f"This {kind}")])
    brands, looks = pa.array([f"{a[:3]}{b[1:4].lower()}o" for a in LOOKS for b in KINDS]), pa.array(LOOKS)
    lists, pages = pa.array(_neighbours(generator)), pa.array(_pages(generator))
    spoiled = _spoiled(spoiling, reviewed, dirt)

    def lines(rows: slice) -> pa.Array:
        number = np.arange(items)[rows]
        count, kind = len(number), number * len(KINDS) // items
        text = texts.take(kind * TEXTS + generator.integers(0, TEXTS, count))
        title = pc.binary_join_element_wise(
            '"', brands.take(number // 5 % len(brands)), looks.take(generator.integers(0, len(looks), count)),
            kinds.take(kind), pa.array(number).cast(pa.string()), " ",
        )  # fmt: skip
        title = pc.replace_substring(pc.binary_join_element_wise(title, '"', ""), '" ', '"')
        columns = {
            "title": title,
            "description": pc.binary_join_element_wise("[", text, ', ""]', ""),
            "category": pc.binary_join_element_wise(json.dumps([root, "Gear"])[:-1], ', "', kinds.take(kind), '"]', ""),
        }
        columns = _spoil(columns, number, text, spoiled)
        urls = pa.array([address(each) for each in number.tolist()])
        written = pc.binary_join_element_wise(
            '{"category": ', columns["category"], ', "tech1": "", "description": ', columns["description"],
            ', "fit": "", "title": ', columns["title"],
            ', "also_buy": ', lists.take(generator.integers(0, len(lists), count)),
            ', "tech2": "", "brand": "', brands.take(number // 5 % len(brands)),
            '", "feature": ["Sturdy", "Imported"], "rank": "1,234 in ', root,
            ' (", "also_view": ', lists.take(generator.integers(0, len(lists), count)),
            ', "details": {"Shipping Weight:": "4 ounces", "ASIN: ": "', item_ids(number), '"}, "main_cat": "', root,
            '", "similar_item": ', pages.take(generator.integers(0, len(pages), count)),
            ', "date": "", "price": "$7.86", "asin": "', item_ids(number),
            '", "imageURL": ["', pc.replace_substring(urls, ".jpg", "._SS40_.jpg"),
            '"], "imageURLHighRes": ["', urls, '"]}\n', "",
        )  # fmt: skip
        return written.filter(pa.array(~np.isin(number, spoiled["no_metadata"])))

    same = [json.dumps({"asin": name, "title": "once more"}).encode() for name in item_ids(reviewed).to_pylist()]
    turns = [b'{"asin": "BX"', b'{"title": "\xff"}', b"[]", b"", b"{'asin': 'BX', 'title': 'Soap'}"]
    extra = [turns[number % len(turns)] for number in range(dirt.malformed_product)]
    yield from _with_extra(spoiling, items, lines, extra)
    if dirt.same_product:  # at the end, so that the line that counts comes first
        yield pa.array([line + b"\n" for line in same[: dirt.same_product]], pa.binary())


def _spoiled(generator: np.random.Generator, reviewed: np.ndarray, dirt: Dirt) -> dict[str, np.ndarray]:
    """Which products are dirty in which way."""
    kinds = ["no_metadata", "script", "markup", "text_description", "no_description", "category_markup"]
    counts = [getattr(dirt, kind) for kind in kinds]
    # Not the first ones: they are written a second time.
    chosen = generator.choice(reviewed[dirt.same_product :], sum(counts), replace=False)
    return dict(zip(kinds, np.split(chosen, np.cumsum(counts)[:-1]), strict=True))


def _spoil(columns: dict, number: np.ndarray, text: pa.Array, spoiled: dict[str, np.ndarray]) -> dict:
    markup = json.dumps('<span id="productTitle" class="a-size-large">Soap &amp; more</span>')
    pieces = json.dumps(["Soap", "</span></span></span>", "<div class='a'>" + "x" * 2000])
    changes = {
        "title": [("script", json.dumps(SCRIPT)), ("markup", markup)],
        "description": [
            ("markup", json.dumps(["<p>Cleans</p>", "", "<br/>&lt;i&gt;All"])),
            ("text_description", text),
            ("no_description", "[]"),
        ],
        "category": [("category_markup", pieces)],
    }
    for name, kinds in changes.items():
        for kind, value in kinds:
            columns[name] = pc.if_else(pa.array(np.isin(number, spoiled[kind])), value, columns[name])
    return columns


def _with_extra(
    generator: np.random.Generator, count: int, lines: Callable[[slice], pa.Array], extra: list[bytes]
) -> Iterator[pa.Array]:
    """Blocks of `lines`, and each line of `extra` before a row drawn by lot."""
    place = generator.integers(0, count, len(extra))
    for begin in range(0, count, ROWS):
        block = lines(slice(begin, min(begin + ROWS, count))).cast(pa.binary())
        here = np.flatnonzero((place >= begin) & (place < begin + ROWS))
        if len(here):
            more = pa.array([extra[index] + b"\n" for index in here], pa.binary())
            rows = np.concatenate([np.arange(len(block)), place[here] - begin - 0.5])
            block = pa.concat_arrays([block, more]).take(np.argsort(rows, kind="stable"))
        yield block


def _compress(path: Path, blocks: Iterable[pa.Array]) -> None:
    with gzip.open(path, "wb", compresslevel=1) as file:
        for block in blocks:
            _, offsets, content = block.buffers()
            begin, end = np.frombuffer(offsets, np.int32)[[block.offset, block.offset + len(block)]]
            file.write(memoryview(content)[begin:end])


def _texts(generator: np.random.Generator, count: int, mean: int, about: str) -> list[str]:
    """JSON strings of as many words as people write: most few, some hundreds."""
    lengths = (generator.lognormal(np.log(mean), 0.6, count)).astype(int).clip(1, 2000)
    return [json.dumps(f"{about} " + " ".join(generator.choice(WORDS, length)) + ".") for length in lengths]


def _styles() -> list[str]:
    return ["", *(f'"Size:": " {size}", "Color:": " {color}"' for size in LOOKS[6:8] for color in LOOKS[3:6])]


def _neighbours(generator: np.random.Generator) -> list[str]:
    return [json.dumps(item_ids(generator.integers(0, 10**6, count)).to_pylist()) for count in range(48)]


def _pages(generator: np.random.Generator) -> list[str]:
    row = '<tr class="a-align-center">\n <td><img alt="" src="{}"></td>\n <td>${}</td>\n</tr>\n'
    prices = generator.integers(1, 100, (TEXTS, 6))
    return ['""', *(json.dumps("".join(row.format(SERVER, price) for price in row_) or "") for row_ in prices)]


def _address(number: int) -> str:
    return f"{SERVER}{number:07}.jpg"
