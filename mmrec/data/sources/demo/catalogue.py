"""What is known about every item of the demo shop: how it looks and reads, where it stands, how popular it is."""

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

UNIT = 1 << 20  # weights are whole numbers: a draw must not hang on the last bit of a processor's exp


@dataclass(frozen=True)
class Catalogue:
    """Latent properties of n items, independent of each other.

    look, wording: (n,) int, the style of pictures and of descriptions, 0 .. STYLES - 1.
    look_jitter, wording_jitter: (n, JITTERS) float in -1 .. 1, differences inside a style.
    type: (n,) int, 0 .. TYPES - 1. tag: (n,) int, an index of TAGS, or -1.
    popularity: (n,) int, weight of an item.
    follows: (TYPES, TYPES) int, weight of the next item's type (column) given this item's (row).
    """

    look: np.ndarray
    look_jitter: np.ndarray
    wording: np.ndarray
    wording_jitter: np.ndarray
    type: np.ndarray
    tag: np.ndarray
    popularity: np.ndarray
    follows: np.ndarray

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
    return Catalogue(
        look=_even(stream(source, "looks"), n, STYLES),
        look_jitter=stream(source, "look jitter").uniform(-1, 1, (n, JITTERS)),
        wording=_even(stream(source, "wordings"), n, STYLES),
        wording_jitter=stream(source, "wording jitter").uniform(-1, 1, (n, JITTERS)),
        type=_even(stream(source, "types"), n, TYPES),
        tag=np.where(tags.random(n) < TAGGED, tags.integers(len(TAGS), size=n), -1),
        popularity=np.rint(UNIT * ranks**-ZIPF).astype(np.int64),
        follows=_follows(stream(source, "follows")),
    )


def _even(random: np.random.Generator, n: int, values: int) -> np.ndarray:
    return random.permutation(np.arange(n) % values)


def _follows(random: np.random.Generator) -> np.ndarray:
    weights = np.zeros((TYPES, TYPES), dtype=np.int64)
    for row in weights:
        row[random.choice(TYPES, size=len(FOLLOWERS), replace=False)] = FOLLOWERS
    return weights


def attributes(style: int) -> tuple[int, int, int]:
    """A style's three attributes, of 5, 4 and 10 values. Two styles with the third in common share neither other."""
    return style % 5, style // 5, (style - style // 10) % 10


def vectors(styles: np.ndarray, jitter: np.ndarray) -> np.ndarray:
    """Where items lie: attributes one-hot, scaled to length 1, then the jitter. (n,), (n, JITTERS) -> (n, 23)."""
    of_item = np.array([attributes(int(style)) for style in styles])
    one_hot = [np.eye(size)[of_item[:, k]] for k, size in enumerate((5, 4, 10))]
    return np.concatenate([np.concatenate(one_hot, axis=1) / np.sqrt(3), JITTER_SCALE * jitter], axis=1)


def squared_distance(vectors: np.ndarray) -> np.ndarray:
    """(n, d) -> (n, n). One dimension after the other: no large array, and one order of summation everywhere."""
    total = np.zeros((len(vectors), len(vectors)))
    for column in vectors.T:
        total += (column[:, None] - column[None, :]) ** 2
    return total
