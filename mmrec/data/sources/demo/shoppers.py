"""How shoppers of the demo shop choose.

The first item is chosen by popularity. For every further one a reason is drawn by the strengths of params.yaml:

    image       looks like the item it goes with: weight exp(-squared distance of looks / SHARPNESS)
    text        is described like the item it goes with: the same over descriptions
    category    a type drawn from a fixed sparse table of which type follows which, then any item of it
    popularity  by popularity
    noise       any item

and then an item by that reason's weights among those not bought before (any of them where no weight is left).

A choice goes with the latest earlier item of the last item's department, or with the last item if there is none:
shoppers come back to what they began. So which earlier item matters is told by categories, and what follows from it
by looks and words.
"""

import numpy as np

from mmrec.config import DemoSource
from mmrec.data.sources.demo.catalogue import SHELVES, UNIT, Catalogue, squared_distance, stream, vectors

REASONS = ("image", "text", "category", "popularity", "noise")
SHARPNESS = 0.05
MIN_LENGTH = 5  # items of a shopper; a smaller mean_length than this gives all of them this length
OPENING = 1_704_067_200  # 2024-01-01 UTC
HOUR, DAY = 3600, 86_400
TIES = 0.01  # share of choices made in the same second as the one before


def interactions(source: DemoSource, shop: Catalogue) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All choices ordered by time, then shopper, then step: shopper, item, unix second; each (interactions,) int64."""
    lengths = _lengths(source)
    strengths = [getattr(source, name) for name in REASONS]
    items = _choose(stream(source, "choices"), lengths, _weights(shop), strengths, shop.type // len(SHELVES))
    times = _times(stream(source, "times"), *items.shape)
    shopper, step = np.nonzero(np.arange(items.shape[1]) < lengths[:, None])
    item, time = items[shopper, step], times[shopper, step]
    order = np.argsort(time, kind="stable")
    return shopper[order], item[order], time[order]


def _lengths(source: DemoSource) -> np.ndarray:
    more = max(source.mean_length - MIN_LENGTH, 0)
    lengths = MIN_LENGTH + stream(source, "lengths").geometric(1 / (1 + more), source.shoppers) - 1
    return np.minimum(lengths, source.items // 2)  # nobody empties the shop


def _weights(shop: Catalogue) -> list[np.ndarray]:
    """Of each reason, (n, n) or (1, n) int: the next item (column) given the last (row)."""
    size = np.bincount(shop.type, minlength=len(shop.follows))[shop.type]  # items of the type, (n,)
    return [
        closeness(shop.look, shop.look_jitter),
        closeness(shop.wording, shop.wording_jitter),
        UNIT * shop.follows[shop.type][:, shop.type] // size,
        shop.popularity[None],
        np.ones((1, len(shop.type)), dtype=np.int64),
    ]


def closeness(styles: np.ndarray, jitter: np.ndarray) -> np.ndarray:
    """Weight of choosing each item (column) because it resembles another (row), (n, n) int64."""
    return np.rint(UNIT * np.exp(-squared_distance(vectors(styles, jitter)) / SHARPNESS)).astype(np.int64)


def _choose(
    random: np.random.Generator, lengths: np.ndarray, weights: list, strengths: list[float], department: np.ndarray
) -> np.ndarray:
    """Items by shopper and step, (shoppers, longest); what lies beyond a shopper's length means nothing."""
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


def _times(random: np.random.Generator, shoppers: int, steps: int) -> np.ndarray:
    gaps = random.integers(HOUR, 10 * DAY, (shoppers, steps))
    gaps[random.random((shoppers, steps)) < TIES] = 0
    gaps[:, 0] = random.integers(0, 300 * DAY, shoppers)
    return OPENING + np.cumsum(gaps, axis=1)
