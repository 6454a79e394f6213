"""Figures of notebooks 1 and 2: a data set and its features."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter
from PIL import Image

from mmrec.report.figures.style import ACCENT, MUTED, PALETTE, beside_chance, fitted, label_rows, message

THUMBNAIL = 96  # pixels; providers do not allow larger copies of their pictures
CAPTION = 24  # characters below a picture


def shape_of_data(lengths: np.ndarray, counts: np.ndarray) -> Figure:
    """Histogram of sequence lengths (users,), and popularity by rank of interactions an item (items,)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
    longest = np.quantile(lengths, 0.99)
    wide = max(1, int(longest - lengths.min()) // 60)  # else a comb
    left.hist(lengths, bins=np.arange(lengths.min(), longest + 1 + wide, wide) - 0.5, color=PALETTE[1])
    left.axvline(np.median(lengths), color=ACCENT, label=f"median {np.median(lengths):.0f}")
    counted = "users" if wide == 1 else f"users ({wide} lengths a bar)"
    left.set(xlabel="interactions of a user (99 % of users)", ylabel=counted, title="Sequence length")
    left.legend()
    right.loglog(np.arange(1, len(counts) + 1), np.sort(counts)[::-1], color=PALETTE[1])
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_formatter("{x:g}")
    right.yaxis.set_minor_formatter(NullFormatter())
    right.set(xlabel="rank of the item (1: most chosen)", ylabel="interactions", title="Popularity")
    top = np.sort(counts)[::-1][: -(-len(counts) // 10)].sum() / counts.sum()
    half = f"Half of the users chose at most {np.median(lengths):.0f} items"
    message(figure, f"{half}; a tenth of the items has {top:.0%} of the choices")
    return figure


def presence(shares: dict[str, float]) -> Figure:
    """Share of the items with each modality."""
    figure, axes = plt.subplots(figsize=(8, 0.6 + 0.4 * len(shares)))
    bars = axes.barh(list(shares), [100 * share for share in shares.values()], color=PALETTE[1])
    axes.bar_label(bars, fmt="%.1f %%", padding=3)
    axes.set(xlim=(0, 112), xlabel="items that have the modality (%)")
    if shares:
        least = min(shares, key=shares.get)
        axes.set_title(f"Least known is {least}: {shares[least]:.0%} of the items have it")
    axes.invert_yaxis()
    return figure


def thumbnail(path: Path | None) -> Image.Image | str:
    """The picture, at most 96 px, or why there is none. Notebook 2 counts the unreadable ones."""
    if path is None or path.is_dir():  # the folder of pictures and no name
        return "no picture"
    try:
        with Image.open(path) as image:
            small = image.convert("RGB")
    except Exception:  # a broken file makes PIL raise nearly anything
        return "unreadable"
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return small


def picture_grid(rows: Sequence[Sequence[tuple[Path | None, str]]], titles: Sequence[str] = ()) -> Figure:
    """Rows of pictures, each a file (or None) and its caption, under the titles of the columns."""
    rows = rows or [[(None, "")]]
    columns = max(map(len, rows))
    figure, grid = plt.subplots(len(rows), columns, figsize=(1.55 * columns, 1.75 * len(rows)), squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for line, row in zip(grid, rows, strict=True):
        captions = fitted(figure, [caption for _, caption in row], CAPTION)
        for axes, (path, _), caption in zip(line, row, captions, strict=False):
            picture = thumbnail(path)
            if isinstance(picture, str):
                axes.text(0.5, 0.5, picture, ha="center", va="center", color=MUTED, transform=axes.transAxes)
            else:
                axes.imshow(picture, interpolation="none")
            place = {"ha": "center", "va": "top", "fontsize": 7, "transform": axes.transAxes}
            axes.text(0.5, -0.04, caption, parse_math=False, **place)
    for axes, title in zip(grid[0], titles, strict=False):
        axes.set_title(title, fontsize=8, loc="center")
    return figure


def consecutive_similarity(table: pd.DataFrame) -> Figure:
    """Similarity of consecutive choices and of random pairs, from `similarity.consecutive_similarity`."""
    figure, axes = plt.subplots(figsize=(8, 1.5 + 0.45 * len(table)))
    labels = ("paired at random (dot: mean, whisker: 95 % of pairings)", "consecutive choices")
    beside_chance(axes, table, "consecutive", labels, markersize=4)
    label_rows(axes, table["modality"])
    axes.set(xlabel="mean cosine of standardised features")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    if len(table):
        most = table.loc[(table["consecutive"] - table["chance"]).idxmax()]
        near = f"{most['consecutive']:.2f}, at random {most['chance']:.2f}"
        message(figure, f"Consecutive choices resemble each other most by {most['modality']}: {near}")
    return figure
