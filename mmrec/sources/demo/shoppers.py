"""How shoppers of the demo shop choose.

The first item is chosen by popularity. For every further one a reason is drawn by the strengths of params.yaml:

    image       looks like the last item: weight exp(-squared distance of looks / SHARPNESS)
    text        is described like the last item: the same over descriptions
    category    a type drawn from a fixed sparse table of which type follows which, then any item of it
    popularity  by popularity
    noise       any item

and then an item by that reason's weights among those not bought before (any of them where no weight is left).
"""

import numpy as np

from mmrec.config import DemoSource
from mmrec.sources.demo.catalogue import UNIT, Catalogue, squared_distance, stream, vectors

REASONS = ("image", "text", "category", "popularity", "noise")
SHARPNESS = 0.05
MIN_LENGTH = 5  # items of a shopper; a smaller mean_length than this gives all of them this length
OPENING = 1_704_067_200  # 2024-01-01 UTC
HOUR, DAY = 3600, 86_400
TIES = 0.01  # share of choices made in the same second as the one before


def interactions(source: DemoSource, shop: Catalogue) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """All choices ordered by time, then shopper, then step: shopper, item, unix second; each (interactions,) int64."""
    lengths = _lengths(source)
    items = _choose(stream(source, "choices"), lengths, _weights(shop), [getattr(source, name) for name in REASONS])
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


def _choose(random: np.random.Generator, lengths: np.ndarray, weights: list, strengths: list[float]) -> np.ndarray:
    """Items by shopper and step, (shoppers, longest); what lies beyond a shopper's length means nothing."""
    n = weights[0].shape[1]
    bought = np.zeros((len(lengths), n), dtype=bool)
    items = np.zeros((len(lengths), lengths.max()), dtype=np.int64)
    for step in range(items.shape[1]):
        shopper = np.flatnonzero(lengths > step)
        reason = np.searchsorted(np.cumsum(strengths), random.random(len(shopper)), side="right")
        reason = np.minimum(reason, len(REASONS) - 1) if step else np.full(len(shopper), REASONS.index("popularity"))
        given = np.empty((len(shopper), n), dtype=np.int64)
        for which, table in enumerate(weights):
            last = items[shopper[reason == which], step - 1]
            given[reason == which] = table[last if len(table) > 1 else np.zeros_like(last)]
        items[shopper, step] = _draw(random, given, ~bought[shopper])
        bought[shopper, items[shopper, step]] = True
    return items


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
