import csv
import hashlib
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from mmrec.config import DemoSource
from mmrec.data.sources import demo
from mmrec.data.sources.demo import catalogue, content
from mmrec.data.sources.demo.catalogue import STYLES, attributes, draw_catalogue
from mmrec.data.sources.folder import read

SOURCE = DemoSource(
    kind="demo", seed=7, shoppers=60, items=40, mean_length=8.0, image=0.3, text=0.3, category=0.2, popularity=0.1,
    noise=0.1, missing=0.2, permute_items=False,
)  # fmt: skip


def strengths(**given):
    return replace(SOURCE, **(dict.fromkeys(catalogue.REASONS, 0.0) | given), shoppers=400, items=100)


def digest(folder):
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def rows(path):
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.reader(file))[1:]


@pytest.fixture(scope="module")
def shop(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "shop"
    demo.fetch(SOURCE, folder)
    return folder


# --- files -------------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_bytes_in_a_new_folder(shop, tmp_path):
    for leftover in ("again", "again.partial", "again.old"):  # of runs that were killed
        (tmp_path / leftover / "images").mkdir(parents=True)
        (tmp_path / leftover / "images" / "leftover.png").touch()
    demo.fetch(SOURCE, tmp_path / "again")
    assert digest(tmp_path / "again") == digest(shop)
    assert [path.name for path in tmp_path.iterdir()] == ["again"]


def test_nothing_is_replaced_before_all_is_written(shop, tmp_path, monkeypatch):
    (tmp_path / "shop").mkdir()
    monkeypatch.setattr(demo, "_write_pictures", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        demo.fetch(SOURCE, tmp_path / "shop")
    assert list((tmp_path / "shop").iterdir()) == []


def test_another_seed_gives_another_shop(shop, tmp_path):
    demo.fetch(replace(SOURCE, seed=8), tmp_path / "other")
    ours, other = digest(shop), digest(tmp_path / "other")
    assert not set(ours.values()) & set(other.values()) - {flawed_digest(shop)}


def flawed_digest(folder):
    (name,) = read(folder).quality["examples"]["images"]["not an image"]
    return digest(folder)[f"images/{name}"]


def test_other_shoppers_leave_the_catalogue_as_it_is(shop, tmp_path):
    demo.fetch(replace(SOURCE, shoppers=9, mean_length=5.0, noise=0.4, image=0.0), tmp_path / "other")
    ours, other = digest(shop), digest(tmp_path / "other")
    assert ours.pop("interactions.csv") != other.pop("interactions.csv")
    assert ours == other


def test_the_negative_control_moves_content_and_nothing_else(shop, tmp_path):
    demo.fetch(replace(SOURCE, permute_items=True), tmp_path / "null")
    ours, null = digest(shop), digest(tmp_path / "null")
    assert ours.pop("items.csv") != null.pop("items.csv")
    assert ours == null  # interactions and pictures
    before, after = rows(shop / "items.csv"), rows(tmp_path / "null" / "items.csv")
    assert [row[0] for row in before] == [row[0] for row in after]
    assert Counter(tuple(row[1:]) for row in before) == Counter(tuple(row[1:]) for row in after)
    moved = demo.shown(replace(SOURCE, permute_items=True))
    assert [before[item][1:] for item in moved] == [row[1:] for row in after]
    assert (moved != np.arange(SOURCE.items)).all()


def test_planted_flaws_are_counted_exactly(shop):
    quality = read(shop).quality
    flaws = {
        "repeat": demo.REPEATED_ROWS,
        "no timestamp": demo.ROWS_WITHOUT_TIME,
        "malformed line": demo.MALFORMED_LINES,
    }
    assert quality["interactions"]["dropped"] == flaws
    assert quality["interactions"]["kept"] == len(catalogue.interactions(SOURCE, draw_catalogue(SOURCE))[0])
    assert quality["items"] == {"read": 40, "kept": 40, "dropped": {}}
    assert quality["images"] == {"listed": 36, "usable": 31, "unusable": {"missing": 4, "not an image": 1}}
    assert quality["text"] == quality["categories"] == {"empty": 8}


def test_items_look_and_read_as_the_catalogue_says(shop):
    latent, tables = draw_catalogue(SOURCE), read(shop)
    assert tables.items["item_id"].tolist() == [f"item-{item:04d}" for item in range(SOURCE.items)]
    for row in tables.items.itertuples():
        if row.image and row.image not in truncated(tables):
            expected = content.draw(latent.look[row.Index], latent.look_jitter[row.Index])
            assert Image.open(tables.images / row.image).tobytes() == expected.tobytes()
        if row.categories:
            assert row.categories == latent.categories(row.Index)
    titles = tables.items["title"].where(tables.items["title"] != "").groupby(latent.wording).nunique()
    assert (titles <= 1).all() and titles.sum() > 10


def test_items_lack_one_modality_independently_of_another(shop):
    items = read(shop).items
    lacking = [
        items.index[items["image"].isna()],
        items.index[items["text"] == ""],
        items.index[items["categories"].str.len() == 0],
    ]
    assert len({tuple(index) for index in lacking}) == 3
    assert len(set().union(*lacking)) > 12  # of 8 or 9 each


def truncated(tables):
    found = set()
    for name in tables.items["image"].dropna():
        try:
            Image.open(tables.images / name).load()
        except OSError:
            found.add(name)
    return found


def test_pictures_open_but_the_truncated_one(shop):
    tables = read(shop)
    for name in tables.items["image"].dropna():
        with Image.open(tables.images / name) as image:
            assert (image.format, image.mode, image.size) == ("PNG", "RGB", (content.SIZE, content.SIZE))
    assert len(truncated(tables)) == demo.TRUNCATED_IMAGES


@pytest.mark.parametrize(("size", "missing"), [(20, 0.0), (20, 0.97)])
def test_the_smallest_shops(tmp_path, size, missing):
    source = replace(SOURCE, shoppers=1, items=size, mean_length=300.0, missing=missing)
    demo.fetch(source, tmp_path / "shop")
    assert len(read(tmp_path / "shop").interactions) <= size // 2


# --- behaviour ---------------------------------------------------------------------------------------------------


def sequences(source):
    user, item, time = catalogue.interactions(source, draw_catalogue(source))
    return [(item[user == one], time[user == one]) for one in range(source.shoppers)]


def pairs(source, shop):
    """(choices, 2): an item, after the one that it goes with, worked out shopper by shopper."""
    department = shop.type // len(catalogue.SHELVES)
    found = []
    for items, _ in sequences(source):
        for step in range(1, len(items)):
            last = items[step - 1]
            mates = [item for item in items[: step - 1] if department[item] == department[last]]
            found.append((mates[-1] if mates else last, items[step]))
    return np.array(found)


def share_of_pairs(source, property):
    """The share of choices in which both items of a pair have the same property."""
    shop = draw_catalogue(source)
    one, other = getattr(shop, property)[pairs(source, shop)].T
    return (one == other).mean()


def test_an_item_goes_with_the_latest_of_the_last_ones_department():
    department = np.array([0, 0, 1, 1, 2])
    history = np.array([[0, 1, 2, 3], [0, 2, 4, 1], [0, 1, 2, 4], [2, 0, 4, 3]])
    assert catalogue._goes_with(history, department).tolist() == [2, 0, 4, 2]
    assert catalogue._goes_with(history[:, :1], department).tolist() == [0, 0, 0, 2]


def test_shoppers():
    source = replace(SOURCE, shoppers=2000, items=100)
    user, item, time = catalogue.interactions(source, draw_catalogue(source))
    assert (np.diff(time) >= 0).all()
    assert len(np.unique(user * 100 + item)) == len(item)  # nobody buys an item twice
    lengths = np.bincount(user)
    assert lengths.min() == catalogue.MIN_LENGTH and abs(lengths.mean() - source.mean_length) < 0.3
    steps = np.concatenate([np.diff(times) for _, times in sequences(source)])
    assert 0.005 < (steps == 0).mean() < 0.015
    assert (item >= 0).all() and (item < 100).all()


def test_equal_times_keep_the_order_of_choice(monkeypatch):
    ordered = sequences(SOURCE)
    monkeypatch.setattr(catalogue, "TIES", 1.0)
    tied = sequences(SOURCE)
    assert all((a == b).all() for (a, _), (b, _) in zip(ordered, tied, strict=True))
    assert all((times == times[0]).all() for _, times in tied)


@pytest.mark.parametrize(("reason", "property"), [("image", "look"), ("text", "wording")])
def test_resemblance_shows_as_strongly_as_planted(reason, property):
    def excess(strength):
        source = strengths(**{reason: strength, "popularity": 0.1, "noise": 0.9 - strength})
        return share_of_pairs(source, property) - 1 / STYLES

    none, some, much = excess(0.0), excess(0.1), excess(0.6)
    assert abs(none) < 0.02
    assert some > 0.05  # 0.1 by design, less what was bought before
    assert 0.4 < much < 0.65


def test_a_reason_leaves_the_others_at_chance():
    source = strengths(image=0.7, noise=0.3)
    assert abs(share_of_pairs(source, "wording") - 1 / STYLES) < 0.02


def test_inside_a_style_closer_items_follow_more_often():
    source = strengths(image=0.9, noise=0.1)
    shop = draw_catalogue(source)
    distance = catalogue.squared_distances(shop.look, shop.look_jitter)
    same = shop.look[:, None] == shop.look[None, :]
    chosen = pairs(source, shop)
    chosen = distance[tuple(chosen[same[tuple(chosen.T)]].T)].mean()
    assert chosen < 0.9 * distance[same & ~np.eye(len(same), dtype=bool)].mean()


def test_types_follow_the_table():
    source = strengths(category=0.8, noise=0.2)
    shop = draw_catalogue(source)
    steps = np.concatenate([np.stack([items[:-1], items[1:]], 1) for items, _ in sequences(source)])
    allowed = shop.follows[shop.type[steps[:, 0]], shop.type[steps[:, 1]]] > 0
    assert 0.7 < allowed.mean() < 0.9  # by design 0.8 + 0.2 * 3 / 24, less types that are bought out
    table = catalogue._weights(shop)[catalogue.REASONS.index("category")]
    of_types = np.stack([table[:, shop.type == kind].sum(axis=1) for kind in range(catalogue.TYPES)], axis=1)
    assert np.allclose(of_types / catalogue.UNIT, shop.follows[shop.type], atol=1e-4)  # whatever the size of a type
    assert (shop.follows > 0).sum(axis=1).tolist() == [len(catalogue.FOLLOWERS)] * catalogue.TYPES


def test_popular_items_are_bought_more():
    source = strengths(popularity=0.9, noise=0.1)
    item = catalogue.interactions(source, draw_catalogue(source))[1]
    counts = np.bincount(item, minlength=source.items)[np.argsort(-draw_catalogue(source).popularity)]
    assert counts[:10].mean() > 2 * counts[-50:].mean()


def test_the_first_choice_is_by_popularity():
    source = replace(strengths(noise=0.9, image=0.1), shoppers=3000)
    popularity = draw_catalogue(source).popularity
    first = np.array([items[0] for items, _ in sequences(source)])
    assert abs((first == popularity.argmax()).mean() - popularity.max() / popularity.sum()) < 0.03


def test_draws_follow_the_weights_of_allowed_items():
    weights = np.tile([0, 1, 3, 5], (20_000, 1))
    allowed = np.tile([True, True, True, False], (20_000, 1))
    drawn = np.bincount(catalogue._draw(np.random.default_rng(0), weights, allowed), minlength=4) / 20_000
    assert np.allclose(drawn, [0, 0.25, 0.75, 0], atol=0.01) and drawn[0] == drawn[3] == 0


def test_a_draw_without_any_weight_is_even():
    drawn = catalogue._draw(
        np.random.default_rng(0), np.zeros((9_000, 4), int), np.tile([True, False, True, True], (9_000, 1))
    )
    assert np.allclose(np.bincount(drawn, minlength=4) / 9_000, [1 / 3, 0, 1 / 3, 1 / 3], atol=0.02)


# --- content -----------------------------------------------------------------------------------------------------


def test_styles_are_distinct_and_share_little():
    table = [attributes(style) for style in range(STYLES)]
    assert len(set(table)) == STYLES
    for one in table:
        for other in table:
            if one != other and one[2] == other[2]:
                assert one[0] != other[0] and one[1] != other[1]
    assert np.max(table, axis=0).tolist() == [4, 3, 9]
    assert len(content.POLYGONS) == len(content.PASTIMES) == 5
    assert len(content.PATTERNS) == len(content.MATERIALS) == 4
    assert content.PALETTES == len(content.OCCASIONS) == 10


def test_items_of_a_style_lie_closer_than_those_of_two():
    shop = draw_catalogue(SOURCE)
    distance = catalogue.squared_distances(shop.look, shop.look_jitter)
    same = shop.look[:, None] == shop.look[None, :]
    assert distance[same].mean() < 0.2 * distance[~same].mean()


def test_pictures_differ_by_style_and_by_jitter():
    drawn = [
        content.draw(style, np.array(jitter)).tobytes() for style in range(STYLES) for jitter in ([0.0] * 4, [0.9] * 4)
    ]
    assert len(set(drawn)) == 2 * STYLES


@pytest.mark.parametrize("dimension", range(catalogue.JITTERS))
def test_every_jitter_shows(dimension):
    plain, moved = np.zeros(catalogue.JITTERS), 0.9 * np.eye(catalogue.JITTERS)[dimension]
    assert content.draw(5, plain).tobytes() != content.draw(5, moved).tobytes()

    def texts(jitter):  # not every sentence speaks of every jitter
        return [content.describe(np.array([5]), jitter[None], np.random.default_rng(seed)) for seed in range(10)]

    assert texts(plain) != texts(moved)


def test_a_picture_stays_in_its_frame():
    for style in range(STYLES):
        image = np.asarray(content.draw(style, np.array([0, 1, 1, 1])), dtype=int)
        edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        assert (edge == edge[0]).mean() > 0.9


def test_descriptions_tell_style_and_jitter_but_no_looks():
    styles = np.arange(STYLES)
    low, high = (content.describe(styles, np.full((STYLES, 4), v), np.random.default_rng(0)) for v in (-1.0, 1.0))
    assert len({title for title, _ in low}) == STYLES
    assert [title for title, _ in low] == [title for title, _ in high]
    assert all(one[1] != other[1] for one, other in zip(low, high, strict=True))
    seen = {"red", "green", "blue", "black", "white", "round", "square", "star", "striped", "dotted"}
    for title, text in low + high:
        assert not seen & set((title + " " + text).lower().replace(".", "").split()) - {"star"}
        assert "{" not in text and len(text.split(". ")) >= 2


def test_categories_are_a_tree_with_tags():
    shop = draw_catalogue(SOURCE)
    names = [shop.categories(item) for item in range(SOURCE.items)]
    assert all(name[1].startswith(name[0] + " > ") for name in names)
    assert {len(name) for name in names} == {2, 3}
    assert {name[2] for name in names if len(name) == 3} <= set(catalogue.TAGS)


def test_properties_of_items_are_independent():
    shop = draw_catalogue(replace(SOURCE, items=4800))
    properties = [shop.look, shop.wording, shop.type, shop.popularity]
    correlation = np.corrcoef(properties) - np.eye(4)
    assert np.abs(correlation).max() < 0.06
    for one, other in ((shop.look, shop.wording), (shop.look, shop.type), (shop.wording, shop.type)):
        assert len(np.unique(one * 100 + other)) > 0.95 * len(np.unique(one)) * len(np.unique(other))
