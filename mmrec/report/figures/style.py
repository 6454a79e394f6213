"""Style and shared parts of all figures; PNG files with a small palette."""

import io
from collections.abc import Iterable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import Image, display
from matplotlib import font_manager
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image as Picture

from mmrec.files import atomic

INK, ACCENT, MUTED = "#1f2933", "#c2410c", "#9aa5b1"
PALETTE = ["#9aa5b1", "#1d4ed8", "#c2410c", "#047857", "#7c3aed", "#b45309", "#0e7490", "#be185d"]
COLOURS = 128  # of a stored picture
PHOTO = 8_000  # distinct colours: plots have at most 4,000, pictures of items 15,000 and more
LACKING = "·"  # stands for a character that the font lacks
plt.rcdefaults()  # without the user's own matplotlibrc
plt.rcParams |= {
    "figure.dpi": 100,
    "savefig.dpi": 150,
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.edgecolor": INK,
    "axes.titlesize": 11,
    "axes.titlelocation": "left",
    "axes.prop_cycle": plt.cycler(color=PALETTE[1:]),
    "figure.constrained_layout.use": True,
    "legend.frameon": False,
    "errorbar.capsize": 3,
}
pd.options.display.html.use_mathjax = False  # two dollar signs in a title are no formula
# matplotlib ships this font. Others differ between machines, and so would the figures' bytes.
GLYPHS = font_manager.get_font(font_manager.findfont("DejaVu Sans")).get_charmap()


def whiskers(table: pd.DataFrame, value: str = "difference", low: str = "ci_low", high: str = "ci_high") -> np.ndarray:
    """Lengths of error bars (2, rows), below and above the value; 0 where the interval is nan."""
    return np.nan_to_num(np.vstack([table[value] - table[low], table[high] - table[value]]))


def label_rows(axes: Axes, labels: pd.Series, **text: float) -> np.ndarray:
    """Label the rows of a chart from the top; returns their positions."""
    place = np.arange(len(labels))
    axes.set_yticks(place, labels, **text)
    axes.set_ylim(max(len(labels), 1) - 0.5, -0.5)
    return place


def differences(axes: Axes, table: pd.DataFrame, place: np.ndarray) -> None:
    """Differences with their intervals (difference, ci_low, ci_high), and a line at 0."""
    axes.errorbar(table["difference"], place, xerr=whiskers(table), fmt="o", color=ACCENT, ecolor=INK)
    axes.axvline(0, color=MUTED, linewidth=1)


def beside_chance(axes: Axes, table: pd.DataFrame, value: str, labels: tuple[str, str], **dot: float) -> None:
    """Values of a row each, with chance and its interval (chance, chance_low, chance_high); labels of chance, value."""
    place, spread = np.arange(len(table)), whiskers(table, "chance", "chance_low", "chance_high")
    axes.errorbar(table["chance"], place, xerr=spread, fmt="o", color=MUTED, label=labels[0])
    axes.plot(table[value], place, "o", color=ACCENT, zorder=3, label=labels[1], **dot)


def seed_bars(axes: Axes, table: pd.DataFrame, place: np.ndarray, **dot: float) -> None:
    """A bar a row with its interval (mean, low, high), and a dot for each of `values`."""
    error = whiskers(table, "mean", "low", "high")
    axes.barh(place, table["mean"], xerr=error, color=PALETTE[1], alpha=0.35, ecolor=INK)
    for y, values in zip(place, table["values"], strict=True):
        axes.plot(values, np.full(len(values), y), "o", color=PALETTE[1], **dot)


def message(figure: Figure, text: str) -> None:
    """Say what the figure shows, above it; below its legend, if that is outside of the axes."""
    figure.suptitle("\n" * bool(figure.legends) + text, x=0.01, ha="left", fontsize=11, linespacing=1.6)


def fitted(figure: Figure, texts: Iterable[str], width: int) -> list[str]:
    """Texts of the data as labels of a figure: one line of at most `width` characters.

    `·` replaces each character that the font lacks, most of all of Chinese, Japanese, Korean and emoji. A line above
    the figure then says so. Draw the labels with `parse_math=False`.
    """
    lines = [" ".join(text.split()) for text in texts]
    lines = [line if len(line) <= width else line[: width - 1].rstrip() + "…" for line in lines]
    labels = ["".join(letter if ord(letter) in GLYPHS else LACKING for letter in line) for line in lines]
    if labels != lines:
        figure.suptitle(f"{LACKING} a character that the font of figures lacks", x=0.995, ha="right", fontsize=7)
    return labels


def quantised(png: bytes) -> bytes:
    """The same picture with an adaptive palette. A picture that has a palette already stays as it is.

    Equal pictures give equal bytes. Photographs get 256 colours, plots 128. There is no dithering: letters stay crisp.
    """
    with Picture.open(io.BytesIO(png)) as image:
        if image.mode == "P":
            return png
        image = image.convert("RGB")
    colours = COLOURS if image.getcolors(PHOTO) else 2 * COLOURS
    options, kept = {"method": Picture.Quantize.MEDIANCUT, "kmeans": 1, "dither": Picture.Dither.NONE}, io.BytesIO()
    small = image.quantize(colours, **options)
    small.save(kept, "PNG", optimize=True)
    return kept.getvalue()


def show(figure: Figure, path: Path) -> None:
    """Keep a figure as PNG, signed with its data set (the folder above figures/), and show it in the notebook.

    Its message is the alternative text there.
    """
    figure.supxlabel(path.parents[1].name, x=0.995, ha="right", fontsize=8, color=MUTED)
    drawn = io.BytesIO()
    figure.savefig(drawn, metadata={"Software": None})  # without the library's version in the bytes
    with atomic(path) as file:
        file.write_bytes(quantised(drawn.getvalue()))
    titles = [figure.get_suptitle(), *(axes.get_title(at) for axes in figure.axes for at in ("left", "right"))]
    small = io.BytesIO()
    figure.savefig(small, dpi=figure.dpi, bbox_inches="tight")
    plt.close(figure)
    display(Image(small.getvalue(), alt=next(filter(None, titles), "").strip()))
