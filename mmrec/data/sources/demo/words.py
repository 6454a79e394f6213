"""Descriptions of the demo shop: a pastime, a material and an occasion, told in varied sentences.

They never say what is seen (no colour, no shape): words and pictures are separate reasons to choose an item.
"""

import numpy as np

from mmrec.data.sources.demo.catalogue import attributes

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
    return [_describe(int(style), row, random) for style, row in zip(styles, jitter, strict=True)]


def _describe(style: int, jitter: np.ndarray, random: np.random.Generator) -> tuple[str, str]:
    def one_of(options: tuple) -> str:
        return options[random.integers(len(options))]

    kind, stuff, event = attributes(style)
    pastime, things = PASTIMES[kind]
    material, ways = MATERIALS[stuff]
    occasion, at_occasion = OCCASIONS[event]
    weight, trait, users, price = (_along(scale, value) for scale, value in zip(SCALES, jitter.tolist(), strict=True))
    thing, made = things[stuff], one_of(ways)
    title = f"{material} {thing} for {occasion}".capitalize()
    text = " ".join([one_of(FIRST), one_of(SECOND), one_of(THIRD)]).format(
        thing=thing, trait=trait, pastime=pastime, users=users, made=made, Made=made.capitalize(), weight=weight,
        price=price, occasion=at_occasion,
    )  # fmt: skip
    return title, text


def _along(scale: tuple[str, ...], value: float) -> str:
    return scale[min(int((value + 1) / 2 * len(scale)), len(scale) - 1)]
