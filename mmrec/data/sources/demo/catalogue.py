"""The items of the demo shop, and how its shoppers choose among them.

A shopper's first item is chosen by popularity. For every further one a reason is drawn by the strengths of params.yaml:

    image       looks like the item it goes with: weight exp(-squared distance of looks / SHARPNESS)
    text        is described like the item it goes with: the same over descriptions
    category    a type drawn from a fixed sparse table of which type follows which, then any item of it
    popularity  by popularity
    noise       any item

and then an item by that reason's weights among those not bought before (any of them where no weight is left).

A choice goes with the latest earlier item of the last item's department, or with the last item if there is none:
shoppers come back to what they began. Categories tell which earlier item matters; looks and words tell what follows.
"""

from dataclasses import dataclass

import numpy as np

from mmrec.config import DemoSource

STYLES = 20  # a style is three attributes of 5, 4 and 10 values; looks have 20 styles, and so have descriptions
JITTERS = 4  # continuous differences inside a style, each in -1 .. 1
JITTER_SCALE = 0.25  # against 1 / sqrt(3) for an attribute: styles lie further apart than items of one
DEPARTMENTS = ("Bedroom", "Hall", "Office", "Workshop", "Bathroom", "Balcony")
SHELVES = ("Essentials", "Favourites", "Classics", "Extras")
TYPES = len(DEPARTMENTS) * len(SHELVES)  # a type is a shelf of a department
TAGS = ("Gift", "Outlet", "Local")
TAGGED = 0.3  # share of items with one of the tags
ZIPF = 0.8  # popularity of the k-th most popular item is k ** -ZIPF
FOLLOWERS = (6, 3, 1)  # odds of the types that follow a type

REASONS = ("image", "text", "category", "popularity", "noise")
SHARPNESS = 0.05
MIN_LENGTH = 5  # items of a shopper; a smaller mean_length than this gives all of them this length
OPENING = 1_704_067_200  # 2024-01-01 UTC
HOUR, DAY = 3600, 86_400
TIES = 0.01  # share of choices made in the same second as the one before

UNIT = 1 << 20  # weights are whole numbers: a draw must not depend on the last bit of a processor's exp


@dataclass(frozen=True)
class Catalogue:
    """Latent properties of n items, independent of each other."""

    look: np.ndarray  # (n,) int, style of the picture, 0 .. STYLES - 1
    look_jitter: np.ndarray  # (n, JITTERS) float in -1 .. 1, differences inside the style
    wording: np.ndarray  # (n,) int, style of the description
    wording_jitter: np.ndarray  # (n, JITTERS) float
    type: np.ndarray  # (n,) int, 0 .. TYPES - 1
    tag: np.ndarray  # (n,) int, an index of TAGS, or -1
    popularity: np.ndarray  # (n,) int, weight of an item
    follows: np.ndarray  # (TYPES, TYPES) int, weight of the next item's type (column) given this item's (row)

    def categories(self, item: int) -> list[str]:
        """Department, shelf in it and, for some, a tag."""
        department, shelf = divmod(int(self.type[item]), len(SHELVES))
        names = [DEPARTMENTS[department], f"{DEPARTMENTS[department]} > {SHELVES[shelf]}"]
        return names + ([TAGS[self.tag[item]]] if self.tag[item] >= 0 else [])


def stream(source: DemoSource, purpose: str) -> np.random.Generator:
    """Random numbers for one purpose, that no other purpose disturbs."""
    return np.random.default_rng([source.seed, *purpose.encode()])


def draw_catalogue(source: DemoSource) -> Catalogue:
    """The items of a shop; the same for any shoppers and strengths."""
    n = source.items
    tags, ranks = stream(source, "tags"), stream(source, "popularity").permutation(n) + 1
    follows, random = np.zeros((TYPES, TYPES), dtype=np.int64), stream(source, "follows")
    for row in follows:
        row[random.choice(TYPES, size=len(FOLLOWERS), replace=False)] = FOLLOWERS
    return Catalogue(
        look=stream(source, "looks").permutation(np.arange(n) % STYLES),
        look_jitter=stream(source, "look jitter").uniform(-1, 1, (n, JITTERS)),
        wording=stream(source, "wordings").permutation(np.arange(n) % STYLES),
        wording_jitter=stream(source, "wording jitter").uniform(-1, 1, (n, JITTERS)),
        type=stream(source, "types").permutation(np.arange(n) % TYPES),
        tag=np.where(tags.random(n) < TAGGED, tags.integers(len(TAGS), size=n), -1),
        popularity=np.rint(UNIT * ranks**-ZIPF).astype(np.int64),
        follows=follows,
    )


def attributes(style: int | np.ndarray) -> tuple:
    """A style's three attributes, of 5, 4 and 10 values. Two styles with the third in common share neither other."""
    return style % 5, style // 5, (style - style // 10) % 10


def squared_distances(styles: np.ndarray, jitter: np.ndarray) -> np.ndarray:
    """Between items (n,), (n, JITTERS), whose vectors are attributes, one-hot at length 1, and jitter. (n, n)."""
    one_hot = [np.eye(size)[value] for size, value in zip((5, 4, 10), attributes(styles), strict=True)]
    vectors = np.concatenate([np.concatenate(one_hot, axis=1) / np.sqrt(3), JITTER_SCALE * jitter], axis=1)
    # One dimension after the other: no large array, and one order of summation everywhere.
    return sum((column[:, None] - column) ** 2 for column in vectors.T)


def interactions(source: DemoSource, shop: Catalogue) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All choices ordered by time, then shopper, then step: shopper, item, unix second; each (interactions,) int64."""
    more = max(source.mean_length - MIN_LENGTH, 0)
    lengths = MIN_LENGTH + stream(source, "lengths").geometric(1 / (1 + more), source.shoppers) - 1
    lengths = np.minimum(lengths, source.items // 2)  # nobody empties the shop
    strengths = [getattr(source, name) for name in REASONS]
    items = _choose(stream(source, "choices"), lengths, _weights(shop), strengths, shop.type // len(SHELVES))
    random = stream(source, "times")
    gaps = random.integers(HOUR, 10 * DAY, items.shape)
    gaps[random.random(items.shape) < TIES] = 0
    gaps[:, 0] = random.integers(0, 300 * DAY, len(items))
    times = OPENING + np.cumsum(gaps, axis=1)
    shopper, step = np.nonzero(np.arange(items.shape[1]) < lengths[:, None])
    item, time = items[shopper, step], times[shopper, step]
    order = np.argsort(time, kind="stable")
    return shopper[order], item[order], time[order]


def _weights(shop: Catalogue) -> list[np.ndarray]:
    """For each reason, the weight of the next item (column) given another (row), (n, n) or (1, n) int64."""
    size = np.bincount(shop.type, minlength=TYPES)[shop.type]  # items of the type, (n,)
    styles = (shop.look, shop.look_jitter), (shop.wording, shop.wording_jitter)
    return [
        *(np.rint(UNIT * np.exp(-squared_distances(*style) / SHARPNESS)).astype(np.int64) for style in styles),
        UNIT * shop.follows[shop.type][:, shop.type] // size,
        shop.popularity[None],
        np.ones((1, len(shop.type)), dtype=np.int64),
    ]


def _choose(
    random: np.random.Generator, lengths: np.ndarray, weights: list, strengths: list[float], department: np.ndarray
) -> np.ndarray:
    """Items by shopper and step, (shoppers, longest); entries beyond a shopper's length mean nothing."""
    n = weights[0].shape[1]
    bought = np.zeros((len(lengths), n), dtype=bool)
    items = np.zeros((len(lengths), lengths.max()), dtype=np.int64)
    for step in range(items.shape[1]):
        shopper = np.flatnonzero(lengths > step)
        reason = np.searchsorted(np.cumsum(strengths), random.random(len(shopper)), side="right")
        reason = np.minimum(reason, len(REASONS) - 1) if step else np.full(len(shopper), REASONS.index("popularity"))
        last = items[shopper, step - 1]
        company = _goes_with(items[shopper, :step], department)
        given = np.empty((len(shopper), n), dtype=np.int64)
        for which, table in enumerate(weights):
            before = (company if REASONS[which] in ("image", "text") else last)[reason == which]
            given[reason == which] = table[before if len(table) > 1 else np.zeros_like(before)]
        items[shopper, step] = _draw(random, given, ~bought[shopper])
        bought[shopper, items[shopper, step]] = True
    return items


def _goes_with(history: np.ndarray, department: np.ndarray) -> np.ndarray:
    """The item that the next one goes with, (shoppers,), given all before it, (shoppers, step)."""
    company = history[:, -1] if history.shape[1] else np.zeros(len(history), dtype=np.int64)
    for earlier in history[:, :-1].T:
        company = np.where(department[earlier] == department[history[:, -1]], earlier, company)
    return company


def _draw(random: np.random.Generator, weights: np.ndarray, allowed: np.ndarray) -> np.ndarray:
    """A column of each row in proportion to its weight among the allowed ones, (rows,)."""
    weights = weights * allowed
    weights = np.where(weights.any(axis=1, keepdims=True), weights, allowed)
    upto = np.cumsum(weights, axis=1)
    target = np.floor(random.random(len(weights)) * upto[:, -1])
    return (upto <= target[:, None]).sum(axis=1)
