"""Figures of notebooks 2b to 4 and 6 to 8: learning curves, searches, results, comparisons, verdicts."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, NullLocator

from mmrec.report.figures.style import ACCENT, INK, MUTED, PALETTE, message, seed_bars, whiskers

VERDICTS = {
    "supported": (PALETTE[3], "s"),
    "not supported": (PALETTE[2], "X"),
    "underpowered": (MUTED, "|"),
    "inconclusive": (PALETTE[0], "o"),
}


def learning_curves(curves: pd.DataFrame) -> Figure:
    """Training loss of the next item and validation NDCG@10 by epoch, from curves.csv."""
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
    left.legend()
    best = curves.groupby(["experiment", "seed"])["valid_ndcg_10"].max().groupby("experiment").mean()
    message(figure, f"Best on validation: {best.idxmax()}, NDCG@10 {best.max():.4f} (mean over seeds)")
    return figure


def trials(table: pd.DataFrame) -> Figure:
    """Validation NDCG@10 of the trials in trials.csv or finalists.csv, a row an experiment, a ring around the first."""
    names = table["experiment"].unique()
    figure, axes = plt.subplots(figsize=(8, 0.9 + 0.35 * len(names)))
    row = table["experiment"].map({name: number for number, name in enumerate(names)})
    latest = table["positions_from"] == "latest"
    for start, chosen, marker, color in (("oldest", ~latest, "o", PALETTE[1]), ("latest", latest, "<", PALETTE[2])):
        if chosen.any():
            label = f"positions from the {start}"
            axes.plot(table["valid_ndcg_10"][chosen], row[chosen], marker, color=color, markersize=5, label=label)
    first = ~table["experiment"].duplicated()
    ring = {"marker": "o", "markersize": 10, "markerfacecolor": "none", "linestyle": "none", "color": ACCENT}
    axes.plot(table["valid_ndcg_10"][first], row[first], label="as it stood", **ring)
    axes.set_yticks(range(len(names)), names)
    axes.invert_yaxis()
    best, before = table.loc[table["valid_ndcg_10"].idxmax()], table[first].set_index("experiment")["valid_ndcg_10"]
    found = f"NDCG@10 {best['valid_ndcg_10']:.4f}, as it stood {before[best['experiment']]:.4f}"
    axes.set_xlabel("NDCG@10 on validation, best epoch of a trial")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=3)
    message(figure, f"Best on validation: {best['experiment']}, {found}")
    return figure


def _rows(groups: pd.Series, names: pd.Series) -> tuple[Figure, Axes, np.ndarray]:
    """A figure with labelled rows from the top, and their positions. Several groups get headers.

    Grid lines and a second row of numbers keep a tall figure readable.
    """
    groups = groups.reset_index(drop=True)
    starts = (groups != groups.shift()).cumsum()
    figure, axes = plt.subplots(figsize=(8, 1.4 + 0.3 * (len(groups) + starts.max())))
    several = starts.max() > 1
    place = np.arange(len(groups)) + (starts.to_numpy() if several else 0)
    axes.set_yticks(place, names)
    header = {"weight": "bold", "va": "center", "transform": axes.get_yaxis_transform()}
    for start in starts.drop_duplicates().index if several else ():
        axes.text(0.005, place[start] - 1, groups[start], **header)
    axes.set_ylim(place[-1] + 0.7, place[0] - (1.7 if several else 0.7))
    axes.grid(axis="x", color=MUTED, alpha=0.25)
    axes.set_axisbelow(True)
    axes.tick_params(top=True, labeltop=True)
    return figure, axes, place


def results_bars(table: pd.DataFrame, measure: str) -> Figure:
    """Results of `tables.by_experiment`; `measure` names metric and split."""
    figure, axes, place = _rows(table["group"], table["experiment"])
    seed_bars(axes, table, place, markersize=3, alpha=0.6)
    axes.set(xlabel=f"{measure}\n(bar: mean, dot: a seed, whisker: 95 % interval of the mean over seeds)")
    best = table.loc[table["mean"].idxmax()]
    base = table.loc[table["experiment"] == "sasrec", "mean"]
    beside = f", sasrec {base.iloc[0]:.4f}" if len(base) and best["experiment"] != "sasrec" else ""
    axes.set_title(f"{best['experiment']} leads: {measure} {best['mean']:.4f}{beside}")
    return figure


def ratios(table: pd.DataFrame) -> Figure:
    """Our results over published ones, from published.csv. A source is shown by its first words; blanks are omitted."""
    table = table[table["ours"].notna()]
    measure = table["metric"].str.upper() + "@" + table["k"].astype(str)
    source = table["source"].str.split(r" \(|:", regex=True).str[0]
    figure, axes, place = _rows(table["protocol"], table["model"] + ", " + measure + " (" + source + ")")
    ratio = table[["ours", "ci_low", "ci_high"]].div(table["published"], axis=0)
    message(figure, f"{(ratio['ours'] >= 0.95).sum()} of {len(ratio)} published numbers are reached (0.95 or more)")
    axes.axvspan(0.95, 1.05, color=MUTED, alpha=0.25, linewidth=0)
    axes.axvline(1, color=MUTED, linewidth=1)
    dot = {"fmt": "o", "color": ACCENT, "ecolor": INK, "capsize": 2, "markersize": 4}
    axes.errorbar(ratio["ours"], place, xerr=whiskers(ratio, "ours"), **dot)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xscale("log")
    axes.set(xlabel="ours / published, log scale\n(whisker: 95 % interval over our seeds;\nband: 0.95 to 1.05)")
    axes.xaxis.set_major_locator(FixedLocator([0.8, 0.9, 1, 1.2, 1.5, 2, 2.5, 3]))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter("{x:g}")
    return figure


def forest(table: pd.DataFrame, measure: str) -> Figure:
    """Differences between experiment and control, from comparisons.csv; `measure` names metric and split."""
    figure, axes, place = _rows(table["group"], table["experiment"] + " - " + table["baseline"])
    family = "within a group" if table["group"].nunique() > 1 else "over all rows"
    certain = table["p_holm"] < 0.05
    for chosen, color, level in ((certain, ACCENT, "< 0.05"), (~certain, MUTED, "at least 0.05")):
        dot = {"fmt": "o", "color": color, "ecolor": INK, "label": f"p (Holm, {family}) {level}"}
        axes.errorbar(table["difference"][chosen], place[chosen], xerr=whiskers(table[chosen]), **dot)
    axes.axvline(0, color=MUTED, linewidth=1)
    better = f"difference of {measure}; right of 0: the first named is better"
    axes.set(xlabel=f"{better}\n(whisker: 95 % interval, users and seeds, not corrected)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    up = (certain & (table["difference"] > 0)).sum()
    axes.set_title(f"Certain gains: {up} of {len(table)}; certain losses: {certain.sum() - up}")
    return figure


def gains(table: pd.DataFrame, channels: dict[str, str], told: float, title: str) -> Figure:
    """Gain over SASRec through each of `channels` (experiment -> its words), from `generated.gains`.

    Args:
        told: drawn pale is a comparison that found nothing and could not have told a gain of this share.
    """
    figure, axes, place = _rows(table["dataset"], table["experiment"].map(channels))
    percent = table[["gain", "low", "high"]] * 100
    able = (table["smallest"] <= told) | (table["low"] > 0) | (table["high"] < 0)
    for chosen, color, label in (
        (able, ACCENT, f"certain, or could have told {told:.0%}"),
        (~able, MUTED, "too few users"),
    ):
        length = whiskers(percent[chosen], "gain", "low", "high")
        dot = {"fmt": "o", "color": color, "ecolor": color, "capsize": 2, "markersize": 4, "label": label}
        axes.errorbar(percent["gain"][chosen], place[chosen], xerr=length, **dot)
    axes.axvline(0, color=INK, linewidth=1)
    axes.set_title(title, loc="right")
    axes.set(xlabel="gain over SASRec in NDCG@10, %\n(whisker: 95 % interval, users and seeds)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=2)
    return figure


def verdicts(judged: pd.DataFrame) -> Figure:
    """Verdicts in claims.csv, a row a claim, a column a data set, a mark for each row of evidence."""
    claims, datasets = judged["id"].unique().tolist(), judged["dataset"].unique().tolist()
    of_cell = judged.groupby(["id", "dataset"])["verdict"]
    step = 0.8 / of_cell.transform("size").max()
    column = judged["dataset"].map(datasets.index) + step * (of_cell.cumcount() - (of_cell.transform("size") - 1) / 2)
    row = judged["id"].map(claims.index)
    figure, axes = plt.subplots(figsize=(8, 1.8 + 0.23 * len(claims)))
    for name, (colour, marker) in VERDICTS.items():
        chosen = judged["verdict"] == name
        axes.scatter(column[chosen], row[chosen], s=26, marker=marker, color=colour, label=name)
    axes.set(xlim=(-0.5, len(datasets) - 0.5), ylim=(len(claims) - 0.4, -0.6))
    axes.set_xticks(range(len(datasets)), datasets, fontsize=7, rotation=90)
    axes.set_yticks(range(len(claims)), [name.replace("_", " ") for name in claims], fontsize=7)
    axes.tick_params(top=True, labeltop=True, bottom=False, labelbottom=False)
    axes.spines[:].set_visible(False)
    axes.set_axisbelow(True)
    axes.grid(axis="y", color=MUTED, alpha=0.25)
    axes.axvline(sum(name.startswith("demo") for name in datasets) - 0.5, color=INK, linewidth=1)
    counted = judged[~judged["dataset"].str.startswith("demo")]["verdict"].value_counts()
    told = ", ".join(f"{count} {name}" for name, count in counted.reindex(VERDICTS).dropna().astype(int).items())
    axes.set_title(f"Real data: {told}")
    axes.set_xlabel("a mark a row of evidence; blank: none; left of the line: generated data", fontsize=8, loc="left")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside upper right", ncols=4, fontsize=9)
    return figure
