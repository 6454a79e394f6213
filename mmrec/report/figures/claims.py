"""The figure of notebook 8: verdicts by claim and data set."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mmrec.report.figures.style import INK, MUTED, PALETTE

VERDICTS = {"supported": (PALETTE[3], "s"), "inconclusive": (PALETTE[0], "o"), "not supported": (PALETTE[2], "X")}


def verdicts(judged: pd.DataFrame, panels: int = 2) -> Figure:
    """A row a claim, in its order over the panels; a column a data set; a mark for evidence.

    Args:
        judged: id, dataset, verdict, as in claims.csv.
    """
    wide = judged.pivot(index="id", columns="dataset", values="verdict")
    wide = wide.loc[judged["id"].unique(), judged["dataset"].unique()]
    rows, width = -(-len(wide) // panels), wide.shape[1]
    figure, grid = plt.subplots(1, panels, figsize=(8, 1.6 + 0.22 * rows), squeeze=False)
    generated = sum(name.startswith("demo") for name in wide.columns)
    for panel, axes in enumerate(grid[0]):
        part = wide.iloc[panel * rows : (panel + 1) * rows]
        for name, (colour, marker) in VERDICTS.items():
            row, column = np.nonzero(part.to_numpy() == name)
            axes.scatter(column, row, s=45, marker=marker, color=colour, label=name)
        axes.set(xlim=(-0.5, width - 0.5), ylim=(rows - 0.4, -0.6))
        axes.set_xticks(range(width), wide.columns, fontsize=7, rotation=90)
        axes.set_yticks(range(len(part)), part.index.str.replace("_", " "), fontsize=7)
        axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False)
        axes.spines[:].set_visible(False)
        axes.set_axisbelow(True)
        axes.grid(axis="y", color=MUTED, alpha=0.25)
        axes.axvline(generated - 0.5, color=INK, linewidth=1)
    grid[0, 0].set_xlabel("blank: no evidence; left of the line: generated data", fontsize=8, loc="left")
    handles = grid[0, 0].get_legend_handles_labels()
    figure.legend(*handles, loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    return figure
