"""Style of all figures; PNG files with a small palette."""

import io
from pathlib import Path

import matplotlib.pyplot as plt
from matplotlib.figure import Figure
from PIL import Image

from mmrec.files import atomic

INK, ACCENT, MUTED = "#1f2933", "#c2410c", "#9aa5b1"
PALETTE = ["#9aa5b1", "#1d4ed8", "#c2410c", "#047857", "#7c3aed", "#b45309", "#0e7490", "#be185d"]
COLOURS = 128  # of a stored picture
PHOTO = 8_000  # distinct colours: plots have at most 4,000, pictures of items 15,000 and more
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
}


def quantised(png: bytes) -> bytes:
    """The same picture with an adaptive palette. A picture that has a palette already stays as it is.

    Equal pictures give equal bytes. Photographs get 256 colours, plots 128. There is no dithering: letters stay crisp.
    """
    with Image.open(io.BytesIO(png)) as image:
        if image.mode == "P":
            return png
        image = image.convert("RGB")
    colours = COLOURS if image.getcolors(PHOTO) else 2 * COLOURS
    small, kept = image.quantize(colours, Image.Quantize.MEDIANCUT, kmeans=1, dither=Image.Dither.NONE), io.BytesIO()
    small.save(kept, "PNG", optimize=True)
    return kept.getvalue()


def show(figure: Figure, path: Path) -> None:
    """Keep a figure as PNG, signed with its data set (the folder above figures/), and show it in the notebook."""
    figure.supxlabel(path.parents[1].name, x=0.995, ha="right", fontsize=8, color=MUTED)
    drawn = io.BytesIO()
    figure.savefig(drawn, metadata={"Software": None})  # without the library's version in the bytes
    with atomic(path) as file:
        file.write_bytes(quantised(drawn.getvalue()))
    plt.show()
