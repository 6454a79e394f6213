"""Pictures and descriptions of the demo shop.

A picture shows a shape, filled with a pattern, in a palette. A description tells of a pastime, a material and an
occasion in varied sentences, and never of what is seen: words and pictures are separate reasons to choose an item.
"""

import cmath
import colorsys
import math

import numpy as np
from PIL import Image, ImageDraw

from mmrec.data.sources.demo.catalogue import attributes

SIZE = 128  # pixels, width and height
FINE = 2 * SIZE  # drawn twice as large and averaged down, for smooth edges
ARM = (1.1 + 0.4j, 0.4 + 0.4j, 0.4 + 1.1j)  # corners of the right arm of a cross
POLYGONS = {  # corners as (radius, angle in turns) from the middle; the circle has 60
    "disc": [(1.0, k / 60) for k in range(60)],
    "square": [(1.1, (k + 0.5) / 4) for k in range(4)],
    "triangle": [(1.2, 0.75 + k / 3) for k in range(3)],
    "star": [((1.25, 0.55)[k % 2], (k - 2.5) / 10) for k in range(10)],
    "cross": [(radius, phase / math.tau + k / 4) for k in range(4) for radius, phase in map(cmath.polar, ARM)],
}
PATTERNS = ("plain", "stripes", "dots", "checks")
PALETTES = 10  # hues around the circle


def draw(style: int, jitter: np.ndarray) -> Image.Image:
    """The picture of an item, (SIZE, SIZE) RGB. Jitter: hue, size, rotation, fineness of the pattern; each -1 .. 1."""
    shape, pattern, palette = attributes(int(style))
    hue_shift, size, rotation, fineness = jitter.tolist()
    hue = (palette + 0.25 * hue_shift) / PALETTES
    ground = _colour(hue + 0.5, 0.12, 0.97)
    polygon, radius = list(POLYGONS.values())[shape], 84 + 18 * size
    points = [cmath.rect(radius * length, math.tau * (angle + 0.06 * rotation)) for length, angle in polygon]
    # Whole numbers: the last bit of a sine must not move a pixel.
    corners = [(round(FINE / 2 + point.real), round(FINE / 2 + point.imag)) for point in points]
    picture = Image.new("RGB", (FINE, FINE), ground)
    ImageDraw.Draw(picture).polygon([(x + 10, y + 12) for x, y in corners], fill=_colour(hue + 0.5, 0.16, 0.80))
    mask = Image.new("L", (FINE, FINE))
    ImageDraw.Draw(mask).polygon(corners, fill=255)
    filling = _filling(PATTERNS[pattern], round(30 + 8 * fineness), _colour(hue, 0.8, 0.85), _colour(hue, 0.25, 1.0))
    picture.paste(filling, mask=mask)
    return picture.reduce(FINE // SIZE)


def _filling(pattern: str, period: int, colour: tuple, accent: tuple) -> Image.Image:
    filling = Image.new("RGB", (FINE, FINE), colour)
    pen = ImageDraw.Draw(filling)
    for row, y in enumerate(range(0, FINE, period)):
        if pattern == "stripes":
            pen.rectangle([0, y, FINE, y + period // 2], fill=accent)
        for column, x in enumerate(range(0, FINE, period)):
            if pattern == "dots":
                pen.ellipse([x + period // 4, y + period // 4, x + 3 * period // 4, y + 3 * period // 4], fill=accent)
            if pattern == "checks" and (row + column) % 2:
                pen.rectangle([x, y, x + period - 1, y + period - 1], fill=accent)
    return filling


def _colour(hue: float, saturation: float, value: float) -> tuple[int, int, int]:
    return tuple(round(255 * part) for part in colorsys.hsv_to_rgb(hue % 1, saturation, value))


PASTIMES = (  # and what is sold for it, one thing of each material
    ("stargazing", ("star chart cover", "telescope case", "tripod", "observing stool")),
    ("baking", ("bread cloth", "oven glove", "cake tin", "rolling pin")),
    ("sailing", ("sail bag", "deck glove", "shackle", "chart box")),
    ("making music", ("violin cloth", "guitar strap", "tuning fork", "metronome")),
    ("gardening", ("seed pouch", "pruning belt", "watering can", "potting bench")),
)
MATERIALS = (
    ("linen", ("woven from washed linen", "sewn from pure linen cloth", "finished in natural linen fabric")),
    ("leather", ("cut from supple leather", "stitched in full-grain leather", "lined with soft leather hide")),
    ("steel", ("forged from stainless steel", "built around a steel frame", "welded from brushed steel")),
    ("oak", ("carved from solid oak", "joined in oiled oak wood", "turned from seasoned oak timber")),
)
OCCASIONS = (  # in a title, in a sentence
    ("a birthday", "a birthday party"),
    ("a wedding", "a wedding day"),
    ("a new home", "the move to a new home"),
    ("the train", "a long railway journey"),
    ("rainy days", "a rainy afternoon indoors"),
    ("a farewell", "a farewell among colleagues"),
    ("school", "the first day at school"),
    ("winter", "a snowy winter evening"),
    ("a picnic", "a summer picnic by the river"),
    ("sunrise", "the quiet hour before sunrise"),
)
SCALES = (  # of the four jitters: each word a step further along
    ("featherlight", "light", "sturdy", "heavy"),
    ("playful", "simple", "graceful", "stately"),
    ("beginners", "hobbyists", "enthusiasts", "professionals"),
    ("modest", "sensible", "valuable", "precious"),
)
FIRST = (
    "This {trait} {thing} is meant for everyone who loves {pastime}.",
    "If {pastime} is what you live for, this {trait} {thing} belongs with you.",
    "A {trait} {thing} for {users} who spend their free time {pastime}.",
    "Days of {pastime} go better with this {trait} {thing}.",
)
SECOND = (
    "It is {made} and feels {weight} in the hand.",
    "{Made}, it stays {weight} and lasts for years.",
    "Every piece is {made}: {weight}, and easy to repair.",
)
THIRD = (
    "A {price} present for {occasion}.",
    "It is just right for {occasion}, and {price} too.",
    "Many {users} bring it along to {occasion}.",
)


def describe(styles: np.ndarray, jitter: np.ndarray, random: np.random.Generator) -> list[tuple[str, str]]:
    """Title and text of every item; (n,) int, (n, 4) float in -1 .. 1."""

    def one_of(options: tuple) -> str:
        return options[random.integers(len(options))]

    described = []
    for style, row in zip(styles, jitter, strict=True):
        kind, stuff, event = attributes(int(style))
        (pastime, things), (material, ways) = PASTIMES[kind], MATERIALS[stuff]
        occasion, at_occasion = OCCASIONS[event]
        steps = np.minimum((row + 1) / 2 * 4, 3).astype(int)
        weight, trait, users, price = (scale[step] for scale, step in zip(SCALES, steps, strict=True))
        thing, made = things[stuff], one_of(ways)
        title = f"{material} {thing} for {occasion}".capitalize()
        text = " ".join([one_of(FIRST), one_of(SECOND), one_of(THIRD)]).format(
            thing=thing, trait=trait, pastime=pastime, users=users, made=made, Made=made.capitalize(), weight=weight,
            price=price, occasion=at_occasion,
        )  # fmt: skip
        described.append((title, text))
    return described
