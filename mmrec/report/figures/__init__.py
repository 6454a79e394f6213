"""Pictures for the notebooks. Each function draws one figure and returns it; `show` keeps it beside the notebook.

Letters: V items, T time, S streams.
"""

import textwrap
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullFormatter, NullLocator
from PIL import Image

THUMBNAIL = 96  # pixels; what may be shown of pictures that may not be redistributed
INK, ACCENT, MUTED = "#1f2933", "#c2410c", "#9aa5b1"
PALETTE = ["#9aa5b1", "#1d4ed8", "#c2410c", "#047857", "#7c3aed", "#b45309", "#0e7490", "#be185d"]
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


def show(figure: Figure, path: Path) -> None:
    """Keep a figure as PNG, with the name of what it is of (the folder above figures/), and show it in the notebook."""
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.supxlabel(path.parents[1].name, x=0.995, ha="right", fontsize=8, color=MUTED)
    figure.savefig(path, metadata={"Software": None})  # without the library's version in the bytes
    plt.show()


def shape_of_data(lengths: np.ndarray, counts: np.ndarray) -> Figure:
    """How long users' sequences are (U,), and how often items were chosen (V,)."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3))
    longest = np.quantile(lengths, 0.99)
    wide = max(1, int(longest - lengths.min()) // 60)  # else a comb
    left.hist(lengths, bins=np.arange(lengths.min(), longest + 1 + wide, wide) - 0.5, color=PALETTE[1])
    left.axvline(np.median(lengths), color=ACCENT, label=f"median {np.median(lengths):.0f}")
    left.set(
        xlabel="interactions of a user (99 % of users)",
        ylabel="users" if wide == 1 else f"users ({wide} lengths a bar)",
        title="Sequence length",
    )
    left.legend(frameon=False)
    right.loglog(np.arange(1, len(counts) + 1), np.sort(counts)[::-1], color=PALETTE[1])
    for axis in (right.xaxis, right.yaxis):
        axis.set_major_formatter("{x:g}")
    right.yaxis.set_minor_formatter(NullFormatter())
    right.set(xlabel="rank of the item (1: most chosen)", ylabel="interactions", title="Popularity")
    return figure


def presence(shares: dict[str, float]) -> Figure:
    """Share of items that have each modality."""
    figure, axes = plt.subplots(figsize=(8, 0.6 + 0.4 * len(shares)))
    bars = axes.barh(list(shares), [100 * share for share in shares.values()], color=PALETTE[1])
    axes.bar_label(bars, fmt="%.1f %%", padding=3)
    axes.set(xlim=(0, 112), xlabel="items that have the modality (%)", title="What is known of the items")
    axes.invert_yaxis()
    return figure


def _thumbnail(path: Path) -> Image.Image:
    with Image.open(path) as image:
        small = image.convert("RGB")
    small.thumbnail((THUMBNAIL, THUMBNAIL))
    return small


def picture_grid(rows: Sequence[Sequence[tuple[Path | None, str]]], titles: Sequence[str] = ()) -> Figure:
    """Rows of (picture file or None, caption), each picture at most 96 px.

    Args:
        titles: of the columns.
    """
    columns = max(map(len, rows))
    figure, grid = plt.subplots(len(rows), columns, figsize=(1.55 * columns, 1.75 * len(rows)), squeeze=False)
    for axes in grid.flat:
        axes.axis("off")
    for line, row in zip(grid, rows, strict=True):
        for axes, (path, caption) in zip(line, row, strict=False):
            if path is None:
                axes.text(0.5, 0.5, "no picture", ha="center", va="center", color=MUTED, transform=axes.transAxes)
            else:
                axes.imshow(_thumbnail(path), interpolation="none")
            axes.text(0.5, -0.04, caption, ha="center", va="top", fontsize=7, transform=axes.transAxes)
    for axes, title in zip(grid[0], titles, strict=False):
        axes.set_title(title, fontsize=8, loc="center")
    return figure


def consecutive_similarity(table: pd.DataFrame) -> Figure:
    """How alike consecutive choices are, beside chance.

    Args:
        table: modality, consecutive, chance, chance_low, chance_high.
    """
    figure, axes = plt.subplots(figsize=(8, 1.5 + 0.45 * len(table)))
    place = np.arange(len(table))
    spread = np.vstack([table["chance"] - table["chance_low"], table["chance_high"] - table["chance"]])
    axes.errorbar(
        table["chance"],
        place,
        xerr=spread,
        fmt="o",
        color=MUTED,
        capsize=3,
        label="paired at random (dot: mean, whisker: 95 % of pairings)",
    )
    axes.plot(table["consecutive"], place, "o", color=ACCENT, markersize=4, zorder=3, label="consecutive choices")
    axes.set_yticks(place, table["modality"])
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set(xlabel="mean cosine of standardised features", title="Do consecutive choices resemble each other?")
    figure.legend(frameon=False, loc="outside upper right", ncols=2)
    return figure


def learning_curves(curves: pd.DataFrame) -> Figure:
    """Training loss of the next item and validation NDCG@10 by epoch; a line a seed, a dot where training's best was.

    Args:
        curves: experiment, seed, epoch, total, perhaps id, valid_ndcg_10.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.2))
    loss = curves["id"].fillna(curves["total"]) if "id" in curves else curves["total"]
    for number, (name, part) in enumerate(curves.assign(loss=loss).groupby("experiment", sort=False)):
        color = PALETTE[(number + 1) % len(PALETTE)]
        for index, (_, run) in enumerate(part.groupby("seed")):
            label = name if index == 0 else None
            left.plot(run["epoch"], run["loss"], color=color, linewidth=1, alpha=0.7, label=label)
            right.plot(run["epoch"], run["valid_ndcg_10"], color=color, linewidth=1, alpha=0.7, label=label)
            best = run.loc[run["valid_ndcg_10"].idxmax()]
            right.plot(best["epoch"], best["valid_ndcg_10"], "o", color=color, markersize=4)
    left.set(xlabel="epoch", ylabel="loss of the next item (nats)", title="Training (a line: a seed)")
    right.set(xlabel="epoch", ylabel="NDCG@10 on validation", title="Validation (dot: best epoch)")
    left.legend(frameon=False)
    return figure


def trials(table: pd.DataFrame) -> Figure:
    """Validation NDCG@10 of trials of a search, an experiment a line; a ring around the first.

    Args:
        table: experiment, trial, valid_ndcg_10, `state` unless all are complete, and `positions_from` of finalists.
    """
    names = table["experiment"].unique()
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.35 * len(names)))
    row = table["experiment"].map({name: number for number, name in enumerate(names)})
    pruned = table.get("state", pd.Series("complete", table.index)) == "pruned"
    latest = table.get("positions_from", pd.Series(None, table.index)) == "latest"
    for state, chosen, marker, color in (
        ("complete", ~pruned & ~latest, "o", PALETTE[1]),
        ("pruned", pruned, "o", MUTED),
        ("positions from the latest", latest, "<", PALETTE[2]),
    ):
        if not chosen.any():
            continue
        axes.plot(table["valid_ndcg_10"][chosen], row[chosen], marker, color=color, markersize=5, label=state)
    first = ~table["experiment"].duplicated()
    ring = {"marker": "o", "markersize": 10, "markerfacecolor": "none", "linestyle": "none", "color": ACCENT}
    axes.plot(table["valid_ndcg_10"][first], row[first], label="as it stood", **ring)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    axes.set(xlabel="NDCG@10 on validation, best epoch of a trial", title="Trials")
    axes.legend(frameon=False)
    return figure


def _grouped(axes: Axes, groups: pd.Series, names: pd.Series) -> np.ndarray:
    """Name the rows of a figure from above, with a line of its own for what each group is called if there are several.

    Returns:
        Where each row is.
    """
    starts = (groups != groups.shift()).cumsum()
    several = starts.max() > 1
    place = np.arange(len(groups)) + (starts.to_numpy() if several else 0)
    axes.set_yticks(place, names)
    if several:
        for start in starts.drop_duplicates().index:
            axes.text(
                0.005, place[start] - 1, groups[start], weight="bold", va="center", transform=axes.get_yaxis_transform()
            )
    axes.set_ylim(place[-1] + 0.7, place[0] - (1.7 if several else 0.7))
    return place


def _ruled(axes: Axes) -> None:
    """Lines and numbers at the top too, so that the rows of a tall figure can be read off."""
    axes.grid(axis="x", color=MUTED, alpha=0.25)
    axes.set_axisbelow(True)
    axes.tick_params(top=True, labeltop=True)


def _tall(groups: pd.Series) -> tuple[float, float]:
    """Inches of a figure with a line a row and one for each group."""
    return 8, 1.4 + 0.3 * (len(groups) + (groups != groups.shift()).sum())


def results_bars(table: pd.DataFrame, measure: str) -> Figure:
    """Results by experiment, a bar each with its 95 % interval over seeds and a dot a seed.

    Args:
        table: group, experiment, mean, low, high (nan: no interval) and `values`, the seeds' own.
        measure: what is measured, on whom.
    """
    table = table.reset_index(drop=True)
    figure, axes = plt.subplots(figsize=_tall(table["group"]))
    place = _grouped(axes, table["group"], table["experiment"])
    errors = np.nan_to_num(np.vstack([table["mean"] - table["low"], table["high"] - table["mean"]]))
    axes.barh(place, table["mean"], xerr=errors, color=PALETTE[1], alpha=0.35, capsize=3, ecolor=INK)
    for y, values in zip(place, table["values"], strict=True):
        axes.plot(values, np.full(len(values), y), "o", color=PALETTE[1], markersize=3, alpha=0.6)
    _ruled(axes)
    axes.set(xlabel=f"{measure}\n(bar: mean, dot: a seed, whisker: 95 % interval of the mean over seeds)")
    return figure


def ratios(table: pd.DataFrame) -> Figure:
    """Ours over published, a dot a number with its 95 % interval over seeds; the band is the usual +- 5 %.

    Args:
        table: model, protocol, metric, k, published, source (up to the first colon), ours, ci_low, ci_high.
    """
    table = table.reset_index(drop=True)
    figure, axes = plt.subplots(figsize=_tall(table["protocol"]))
    measure = table["metric"].str.upper() + "@" + table["k"].astype(str)
    source = table["source"].str.split(":").str[0]
    place = _grouped(axes, table["protocol"], table["model"] + ", " + measure + " (" + source + ")")
    ratio, low, high = (table[name] / table["published"] for name in ("ours", "ci_low", "ci_high"))
    errors = np.nan_to_num(np.vstack([ratio - low, high - ratio]))
    axes.axvspan(0.95, 1.05, color=MUTED, alpha=0.25, linewidth=0)
    axes.axvline(1, color=MUTED, linewidth=1)
    axes.errorbar(ratio, place, xerr=errors, fmt="o", color=ACCENT, ecolor=INK, capsize=2, markersize=4)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xscale("log")
    axes.set(xlabel="ours / published, log scale\n(whisker: 95 % interval over our seeds;\nband: 0.95 to 1.05)")
    axes.xaxis.set_major_locator(FixedLocator([0.8, 0.9, 1, 1.2, 1.5, 2, 2.5, 3]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    _ruled(axes)
    return figure


def forest(comparisons: pd.DataFrame, measure: str) -> Figure:
    """Differences to each experiment's control with their 95 % intervals; right of the line is better.

    Args:
        comparisons: group, experiment, baseline, difference, ci_low, ci_high, p_holm.
        measure: what differs, on whom.
    """
    table = comparisons.reset_index(drop=True)
    figure, axes = plt.subplots(figsize=_tall(table["group"]))
    place = _grouped(axes, table["group"], table["experiment"] + " - " + table["baseline"])
    errors = np.vstack([table["difference"] - table["ci_low"], table["ci_high"] - table["difference"]])
    family = "within a group" if table["group"].nunique() > 1 else "over all rows"
    for chosen, color, label in (
        (table["p_holm"] < 0.05, ACCENT, f"p (Holm, {family}) < 0.05"),
        (table["p_holm"] >= 0.05, MUTED, f"p (Holm, {family}) at least 0.05"),
    ):
        x, xerr = table["difference"][chosen], errors[:, chosen]
        axes.errorbar(x, place[chosen], xerr=xerr, fmt="o", color=color, ecolor=INK, capsize=3, label=label)
    axes.axvline(0, color=MUTED, linewidth=1)
    _ruled(axes)
    axes.set(
        xlabel=f"difference of {measure}; right of 0: the first named is better\n"
        "(whisker: 95 % interval, users and seeds, not corrected)"
    )
    figure.legend(frameon=False, loc="outside upper right", ncols=2)  # of the axes it would be cut beside long names
    return figure


def attention(users: Sequence[tuple[np.ndarray, np.ndarray, Sequence[str]]], streams: Sequence[str]) -> Figure:
    """A row a user: where the last layer looks, and what each stream asks for.

    Args:
        users: (weights (T, T) after fusion, rows sum to 1; scores (S, T) of each stream at the last position, before
            fusion; T item labels, oldest first).
        streams: S names.
    """
    figure, grid = plt.subplots(len(users), 2, figsize=(8, 3.2 * len(users)), squeeze=False)
    for number, ((left, right), (weights, scores, labels)) in enumerate(zip(grid, users, strict=True), 1):
        shown = np.where(np.tri(len(weights), dtype=bool), weights, np.nan)
        image = left.imshow(shown, cmap="Blues", vmin=0, vmax=1)
        left.set_facecolor("#e5e7eb")  # what is later is masked, which is not a weight of 0
        left.set_yticks(
            range(len(labels)), [textwrap.shorten(label, 24, placeholder="…") for label in labels], fontsize=7
        )
        left.set_title("last layer, mean of heads", fontsize=9)
        left.set_ylabel(f"user {number}: item that attends", fontsize=8)
        figure.colorbar(image, ax=left, label="weight (a row adds up to 1)", shrink=0.8, ticks=[0, 0.5, 1])
        bound = np.abs(scores).max() or 1
        image = right.imshow(scores, cmap="RdBu_r", vmin=-bound, vmax=bound, aspect="auto")
        right.set_yticks(range(len(streams)), streams)
        right.set_ylabel("stream", fontsize=8)
        right.set_title("scores at the last item before fusion", fontsize=9)
        figure.colorbar(image, ax=right, label="score (scale of this user)", shrink=0.8)
        step = -(-len(labels) // 10)  # numbers side by side, not one over the other
        for axes in (left, right):
            axes.set_xticks(range(0, len(labels), step), range(1, len(labels) + 1, step), fontsize=7)
            axes.set_xlabel("item attended to (number as on the left)", fontsize=8)
    return figure


VERDICTS = {"supported": (PALETTE[3], "s"), "inconclusive": (PALETTE[0], "o"), "not supported": (PALETTE[2], "X")}


def verdicts(judged: pd.DataFrame) -> Figure:
    """A row a claim, a column a data set, a mark where there is evidence.

    Args:
        judged: statement, dataset, verdict, as of claims.csv.
    """
    wide = judged.pivot(index="statement", columns="dataset", values="verdict")
    wide = wide.loc[judged["statement"].unique(), judged["dataset"].unique()]
    height, width = wide.shape
    figure, axes = plt.subplots(figsize=(8, 1.2 + 0.38 * height))
    for name, (colour, marker) in VERDICTS.items():
        row, column = np.nonzero(wide.to_numpy() == name)
        axes.scatter(column, row, s=80, marker=marker, color=colour, label=name)
    axes.set(
        xlim=(-0.5, width - 0.5),
        ylim=(height - 0.4, -0.6),
        xlabel="data set (blank: not asked there;\nleft of the line: generated, no evidence)",
    )
    axes.set_xticks(range(width), [name.replace("_", "\n") for name in wide.columns], fontsize=8)
    axes.set_yticks(range(height), [textwrap.fill(text, 66) for text in wide.index], fontsize=8)
    axes.tick_params(top=True, labeltop=True)
    axes.spines[:].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=MUTED, alpha=0.25)
    generated = sum(name.startswith("demo") for name in wide.columns)
    axes.axvline(generated - 0.5, color=INK, linewidth=1)
    figure.legend(loc="outside upper right", ncols=3, frameon=False, fontsize=9)
    return figure
