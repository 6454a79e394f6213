"""Figures of notebooks 5 and 5b: attention, disturbed features, slices of users, gradients.

Letters: T time, S streams.
"""

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mmrec.report.figures.style import (
    INK,
    MUTED,
    PALETTE,
    differences,
    fitted,
    label_rows,
    message,
    seed_bars,
    whiskers,
)
from mmrec.statistics import intervals

SLICES = {  # of `tables.user_slices`, with units
    "popularity of the answer": "times the next item was chosen in training",
    "length of the history": "items in the history",
}


def stream_shares(table: pd.DataFrame) -> Figure:
    """Each stream's share of the variance of fused scores, a panel a layer, from stream_shares.csv."""
    layers, streams = table["layer"].unique(), table["stream"].unique()
    size = (8, 1.2 + 0.4 * len(streams))
    figure, grid = plt.subplots(1, len(layers), figsize=size, sharex=True, sharey=True, squeeze=False)
    for axes, (layer, part) in zip(grid[0], table.groupby("layer"), strict=True):
        values = part.groupby("stream")["share"].agg(list)[streams]
        seed_bars(axes, intervals(values).assign(values=[*values]), np.arange(len(streams)), markersize=4)
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.set_yticks(range(len(streams)), streams)
        axes.set_title(f"Layer {layer}")
    grid[0, 0].invert_yaxis()
    grid[0, 0].set_ylabel("stream (bar: mean, dot: a\nseed, whisker: 95 % interval)", fontsize=8)
    grid[0, len(layers) // 2].set_xlabel("share of the variance of MAF's fused scores")
    last = table[table["layer"] == layers[-1]].groupby("stream", sort=False)["share"].mean()
    message(figure, f"In the last layer {last.idxmax()} has the largest share: {last.max():.0%}")
    return figure


def attention(users: Sequence[tuple[np.ndarray, np.ndarray, Sequence[str]]], streams: Sequence[str]) -> Figure:
    """A row a user: attention of the last layer, and scores of each stream before fusion, from `attention.examples`.

    Args:
        users: (weights (T, T), scores (S, T) at the last position, T item labels, oldest first). streams: S names.
    """
    figure, grid = plt.subplots(len(users), 2, figsize=(8, 3.2 * len(users)), squeeze=False)
    for number, ((left, right), (weights, scores, labels)) in enumerate(zip(grid, users, strict=True), 1):
        shown = np.where(np.tri(len(weights), dtype=bool), weights, np.nan)
        image = left.imshow(shown, cmap="Blues", vmin=0, vmax=1)
        left.set_facecolor("#e5e7eb")  # later items are masked: they have no weight, not even 0
        left.set_yticks(range(len(labels)), fitted(figure, labels, 24), fontsize=7, parse_math=False)
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


def attended(compared: pd.DataFrame) -> Figure:
    """Resemblance of attended items to the last one under MAF's attention less that under SASRec's, from `compared`."""
    figure, axes = plt.subplots(figsize=(8, 1.4 + 0.45 * len(compared)))
    place = label_rows(axes, compared["modality"] + " (" + compared["users"].astype(str) + " users)")
    differences(axes, compared, place)
    axes.set_xlabel(
        "mean resemblance of attended items to the last one (image, text: cosine; category: share),\n"
        "maf - sasrec (whisker: 95 % interval, not corrected)"
    )
    more = compared["modality"][compared["ci_low"] > 0]
    axes.set_title(f"Features turn attention to items like the last one, by: {', '.join(more) or 'no modality'}")
    return figure


def robustness(table: pd.DataFrame, baseline: float) -> Figure:
    """NDCG@10 with missing or noisy features, a row of panels an experiment, from robustness.csv.

    `baseline` is NDCG@10 of SASRec.
    """
    names = table["experiment"].unique()
    size = (8, 0.6 + 3.2 * len(names))
    figure, grid = plt.subplots(len(names), 2, figsize=size, sharex="col", sharey=True, squeeze=False)
    removed, noise = "share of items whose features are removed", "noise (standard deviations of each column)"
    panels = [(name, *kind) for name in names for kind in (("missing", removed), ("noise", noise))]
    for axes, (experiment, kind, label) in zip(grid.flat, panels, strict=True):
        part = table[(table["experiment"] == experiment) & (table["kind"] == kind)]
        modalities = part["modality"].unique()
        step = 0.012 * part["level"].max()  # keeps the whiskers of modalities apart
        for number, modality in enumerate(modalities):
            of = part[part["modality"] == modality]
            error = whiskers(of, "loss")[::-1]  # the greatest loss is the lowest point
            place = of["level"] + step * (number - (len(modalities) - 1) / 2)
            color = PALETTE[(number + 1) % len(PALETTE)]
            name = "all at once" if modality == "all" else modality
            line = {"fmt": f"{'os^D'[number]}-", "color": color, "capsize": 2, "markersize": 4, "label": name}
            axes.errorbar(place, of["ndcg_10"], yerr=error, **line)
        axes.axhline(part["ndcg_10"][part["level"] == 0].iloc[0], color=INK, linewidth=0.7, label="undisturbed")
        axes.axhline(baseline, color=MUTED, linestyle="--", label="sasrec")
        if experiment == names[-1]:
            axes.set(xlabel=label)
        if kind == "missing":
            axes.set(ylabel=f"NDCG@10 of {experiment} on test\n(whisker: 95 % interval of the drop)")
    figure.legend(*grid[0, 1].get_legend_handles_labels(), loc="outside upper right", ncols=6, fontsize=9)
    whole = table[table["level"] == 0].groupby("experiment")["ndcg_10"].first()
    none = table[(table["kind"] == "missing") & (table["modality"] == "all")].sort_values("level", kind="stable")
    left = none.groupby("experiment", sort=False)["ndcg_10"].last()
    costs = ", ".join(f"{name} {1 - ndcg / whole[name]:.0%}" for name, ndcg in left.items())
    message(figure, f"Share of NDCG@10 that is lost without any feature: {costs}")
    return figure


def slices(table: pd.DataFrame) -> Figure:
    """Differences to SASRec by part of the users, a row of panels an experiment, a panel a slice, from slices.csv."""
    names, columns = table["experiment"].unique(), table["slice"].nunique()
    of = {name: table[table["experiment"] == name].groupby("slice", sort=False) for name in names}
    parts = [((name, key), part) for name in names for key, part in of[name]]
    rows = len(names)
    height = rows * (1.3 + 0.4 * max(len(part) for _, part in parts))
    figure, grid = plt.subplots(rows, columns, figsize=(8, height), sharex=True, squeeze=False)
    for axes, ((experiment, name), part) in zip(grid.flat, parts, strict=True):
        blank = np.where((part["ndcg_10"] == 0) & (part["baseline"] == 0), ",\nno answer found by either)", ")")
        labels = part["label"].astype(str) + " (" + part["users"].astype(str) + " users" + blank
        differences(axes, part, label_rows(axes, labels, fontsize=9))
        axes.locator_params(axis="x", nbins=3)  # -0.0050 is wide
        axes.set_title(SLICES.get(name, name), fontsize=10)
        axes.set_xlabel(f"NDCG@10 on test, {experiment} - sasrec\n(95 % interval, not corrected)", fontsize=9)
    sure, told = table[table["ci_low"] > 0], "No part of the users gains for certain"
    if len(sure):
        most = sure.loc[sure["difference"].idxmax()]
        part = f"{SLICES.get(most['slice'], most['slice'])}: {most['label']}"
        told = f"Largest certain gain: {most['experiment']}, {part}"
    message(figure, told)
    return figure


def gradient_agreement(curves: pd.DataFrame) -> Figure:
    """Cosine of each auxiliary task's gradient with that of the next item by epoch, from curves.csv."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(8, 3.4))
    tasks = [name.removeprefix("cos_id_") for name in curves if name.startswith("cos_id_")]
    for number, task in enumerate(tasks, 1):
        for index, (_, run) in enumerate(curves.groupby("seed")):
            label = None if index else f"{task} (a line: a seed)"
            line = {"color": PALETTE[number], "linewidth": 1, "alpha": 0.7, "label": label}
            left.plot(run["epoch"], run[f"cos_id_{task}"], **line)
            right.plot(run["epoch"], 100 * run[f"conflict_id_{task}"], **line)
    left.axhline(0, color=MUTED, linewidth=1)
    left.set(xlabel="epoch", ylabel="cosine (mean over steps)", title="Gradients of a task and of the next item")
    right.set(xlabel="epoch", ylabel="steps (%)", ylim=(-3, 103), title="Steps in conflict (cosine < 0)")
    figure.legend(*left.get_legend_handles_labels(), loc="outside upper right", ncols=3, fontsize=9)
    told = ", ".join(f"{task} {curves[f'cos_id_{task}'].mean():+.2f}" for task in tasks)
    message(figure, f"Mean cosine with the gradient of the next item: {told}")
    return figure


def modality_dropout(table: pd.DataFrame, baseline: float) -> Figure:
    """NDCG@10 with missing features, trained without and with modality dropout, from modality_dropout.csv.

    There is a panel for each modality. `baseline` is NDCG@10 of SASRec.
    """
    modalities = table["modality"].unique()
    figure, grid = plt.subplots(1, len(modalities), figsize=(8, 3.6), sharey=True, squeeze=False)
    for axes, modality in zip(grid[0], modalities, strict=True):
        of = table[table["modality"] == modality]
        place = 100 * of["level"]
        axes.plot(place, of["without"], "o-", color=PALETTE[1], markersize=4, label="maf, trained without it")
        dropped = {"color": PALETTE[2], "markersize": 4, "label": "maf, trained with modality dropout"}
        axes.errorbar(place, of["ndcg_10"], yerr=whiskers(of), fmt="s:", capsize=2, **dropped)
        axes.axhline(baseline, color=MUTED, linestyle="--", label="sasrec")
        axes.set(xlabel="items without it (%)", title="all at once" if modality == "all" else modality)
    grid[0, 0].set(ylabel="NDCG@10 on test (whisker: 95 %\ninterval of their difference)")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    end = table[table["modality"] == modalities[-1]].sort_values("level", kind="stable").iloc[-1]
    what = "all modalities" if end["modality"] == "all" else end["modality"]
    told = f"modality dropout changes NDCG@10 by {end['ndcg_10'] - end['without']:+.4f}"
    message(figure, f"{end['level']:.0%} without {what}: {told}")
    return figure
