"""Pictures of notebook 5. Each function draws one figure and returns it; `figures.show` keeps it."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from mmrec.figures import ACCENT, INK, MUTED, PALETTE
from mmrec.statistics import mean_interval


def stream_shares(table: pd.DataFrame) -> Figure:
    """Each stream's share in the fused scores, a panel a layer; bar: mean, whisker: 95 % interval, dot: a seed.

    Args:
        table: seed, layer, stream, share.
    """
    layers, streams = table["layer"].unique(), table["stream"].unique()
    size = (8, 1 + 0.4 * len(streams))
    figure, grid = plt.subplots(1, len(layers), figsize=size, sharex=True, sharey=True, squeeze=False)
    for axes, (layer, part) in zip(grid[0], table.groupby("layer"), strict=True):
        for place, stream in enumerate(streams):
            values = part["share"][part["stream"] == stream].to_numpy()
            mean, low, high = mean_interval(values)
            error = np.nan_to_num([[mean - low], [high - mean]])
            axes.barh(place, mean, xerr=error, color=PALETTE[1], alpha=0.35, capsize=3, ecolor=INK)
            axes.plot(values, np.full(len(values), place), "o", color=PALETTE[1], markersize=4)
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.set_yticks(range(len(streams)), streams)
        axes.set(xlabel="share of the variance of fused scores", title=f"Layer {layer}")
    grid[0, 0].invert_yaxis()
    return figure


def relations(table: pd.DataFrame) -> Figure:
    """Resemblance of what is attended to, beside chance.

    Args:
        table: modality, observed, chance, chance_low, chance_high, users.
    """
    figure, axes = plt.subplots(figsize=(8, 1.3 + 0.45 * len(table)))
    place = np.arange(len(table))
    spread = np.vstack([table["chance"] - table["chance_low"], table["chance_high"] - table["chance"]])
    by_chance = "under another user's attention (95 % of permutations)"
    axes.errorbar(table["chance"], place, xerr=spread, fmt="o", color=MUTED, capsize=3, label=by_chance)
    axes.plot(table["observed"], place, "o", color=ACCENT, label="under the user's own")
    axes.set_yticks(place, table["modality"] + " (" + table["users"].astype(str) + " users)")
    axes.set_ylim(len(table) - 0.5, -0.5)
    axes.set(
        xlabel="mean resemblance of attended items to the last one\n(image, text: cosine; category: share in common)"
    )
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1), ncols=2)
    return figure


def robustness(table: pd.DataFrame, baseline: float) -> Figure:
    """NDCG@10 as features go missing or are disturbed; whiskers: 95 % intervals of what is lost.

    Args:
        table: as `robustness.losses_table` gives it. baseline: NDCG@10 of SASRec, which sees no features.
    """
    figure, grid = plt.subplots(1, 2, figsize=(9, 3.6), sharey=True)
    names = {"missing": "share of the items without it", "noise": "noise (standard deviations of each column)"}
    for axes, (kind, label) in zip(grid, names.items(), strict=True):
        part = table[table["kind"] == kind]
        modalities = part["modality"].unique()
        step = 0.008 * part["level"].max()  # apart, so that whiskers can be told apart
        for number, modality in enumerate(modalities):
            of = part[part["modality"] == modality]
            error = np.vstack([of["ci_high"] - of["loss"], of["loss"] - of["ci_low"]])
            place = of["level"] + step * (number - (len(modalities) - 1) / 2)
            color = PALETTE[(number + 1) % len(PALETTE)]
            axes.errorbar(
                place, of["ndcg_10"], yerr=error, fmt="o-", color=color, capsize=2, markersize=4, label=modality
            )
        axes.axhline(baseline, color=MUTED, linestyle="--", label="sasrec")
        axes.set(xlabel=label, ylim=(0, None))
    grid[0].set(ylabel="NDCG@10 on test (whisker: 95 %\ninterval of the loss, users and seeds)")
    grid[1].legend(frameon=False, loc="best")
    return figure


def slices(table: pd.DataFrame) -> Figure:
    """Differences to the baseline in parts of the users, a panel a way to cut them.

    Args:
        table: as `tables.slices_table` gives it, of one experiment.
    """
    parts = list(table.groupby("slice", sort=False))
    height = 1.3 + 0.4 * max(len(part) for _, part in parts)
    figure, grid = plt.subplots(1, len(parts), figsize=(9, height), sharex=True, squeeze=False)
    for axes, (name, part) in zip(grid[0], parts, strict=True):
        place = np.arange(len(part))
        errors = np.vstack([part["difference"] - part["ci_low"], part["ci_high"] - part["difference"]])
        axes.errorbar(part["difference"], place, xerr=errors, fmt="o", color=ACCENT, ecolor=INK, capsize=3)
        axes.axvline(0, color=MUTED, linewidth=1)
        axes.set_yticks(place, part["label"].astype(str) + " (" + part["users"].astype(str) + " users)")
        axes.set_ylim(len(part) - 0.5, -0.5)
        axes.set(xlabel="difference of NDCG@10\n(95 % interval, users and seeds)", title=name)
    return figure


def agreement(curves: pd.DataFrame) -> Figure:
    """How far each auxiliary task's gradient agrees with that of the next item as training goes on; a line a seed.

    Args:
        curves: as for `tables.agreement_table`.
    """
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.4))
    tasks = [name.removeprefix("cos_id_") for name in curves if name.startswith("cos_id_")]
    for number, task in enumerate(tasks, 1):
        for index, (_, run) in enumerate(curves.groupby("seed")):
            line = {"color": PALETTE[number], "linewidth": 1, "alpha": 0.7, "label": None if index else task}
            left.plot(run["epoch"], run[f"cos_id_{task}"], **line)
            right.plot(run["epoch"], 100 * run[f"conflict_id_{task}"], **line)
    left.axhline(0, color=MUTED, linewidth=1)
    left.set(xlabel="epoch", ylabel="cosine (mean over steps)", title="Gradient of the next item and of ...")
    right.set(xlabel="epoch", ylabel="steps (%)", ylim=(0, 100), title="Steps in which they conflict (cosine < 0)")
    left.legend(frameon=False)
    return figure


def mended(table: pd.DataFrame, baseline: float) -> Figure:
    """NDCG@10 as a modality goes missing, after training without and with modality dropout; a panel a modality.

    Args:
        table: as `robustness.mended_table` gives it. baseline: NDCG@10 of SASRec.
    """
    modalities = table["modality"].unique()
    figure, grid = plt.subplots(1, len(modalities), figsize=(2.3 * len(modalities), 3.4), sharey=True, squeeze=False)
    for axes, modality in zip(grid[0], modalities, strict=True):
        of = table[table["modality"] == modality]
        error = np.vstack([of["difference"] - of["ci_low"], of["ci_high"] - of["difference"]])
        place = 100 * of["level"]
        axes.plot(place, of["without"], "o-", color=PALETTE[1], markersize=4, label="maf")
        dropped = {"color": PALETTE[2], "markersize": 4, "label": "trained with modality dropout"}
        axes.errorbar(place, of["ndcg_10"], yerr=error, fmt="o-", capsize=2, **dropped)
        axes.axhline(baseline, color=MUTED, linestyle="--", label="sasrec")
        axes.set(xlabel="items without it (%)", title=modality, ylim=(0, None))
    grid[0, 0].set(ylabel="NDCG@10 on test (whisker: 95 %\ninterval of the difference)")
    figure.legend(*grid[0, 0].get_legend_handles_labels(), frameon=False, loc="outside upper center", ncols=3)
    return figure
