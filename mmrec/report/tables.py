"""Tables of reports/<dataset>/tables/, from per-user ranks. Rounded where shown, never where stored."""

from collections.abc import Iterable, Mapping
from dataclasses import astuple, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrec.data.sequences import Sequences
from mmrec.evaluation import PROTOCOLS, gains, measures
from mmrec.statistics import Comparison, compare, holm, mean_interval, resampled_means

RESULT_COLUMNS = ["group", "experiment", "seed", "split", "protocol", "metric", "k", "value"]
COMPARISON_COLUMNS = ["group", "experiment", "baseline", "protocol", "metric", "k"] + [
    "difference",
    "ci_low",
    "ci_high",
    "effect",
    "p_value",
    "p_holm",
    "users",
    "seeds",
]


def save(table: pd.DataFrame, path: Path) -> None:
    """Write a table of the reports."""
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)


def results_table(ranks: pd.DataFrame, ks: tuple[int, ...]) -> pd.DataFrame:
    """results.csv: one number a row.

    Args:
        ranks: group, experiment, seed, split, user, and a rank for each protocol.
    """
    rows = []
    for (group, experiment, seed, split), part in ranks.groupby(["group", "experiment", "seed", "split"], sort=False):
        for protocol in PROTOCOLS:
            rank = part[protocol].to_numpy()
            for metric, k in measures(ks):
                value = gains(rank, metric, k).mean()
                rows.append((group, experiment, seed, split, protocol, metric, k, value))
    return pd.DataFrame(rows, columns=RESULT_COLUMNS).astype({"k": "Int64"})


def rank_matrices(ranks: pd.DataFrame) -> dict[str, dict[str, np.ndarray]]:
    """experiment -> protocol -> (S, U) ranks of its test users, seeds and users in ascending order.

    Raises:
        ValueError: two seeds have ranks of different users.
    """
    matrices: dict[str, dict[str, np.ndarray]] = {}
    for experiment, part in ranks[ranks["split"] == "test"].groupby("experiment", sort=False):
        wide = part.pivot(index="seed", columns="user", values=list(PROTOCOLS)).sort_index().sort_index(axis=1)
        if wide.isna().any(axis=None):
            raise ValueError(f"the seeds of {experiment!r} were not asked about the same users")
        matrices[experiment] = {protocol: wide[protocol].to_numpy() for protocol in PROTOCOLS}
    return matrices


def comparisons_table(ranks: pd.DataFrame, controls: str | Mapping[str, str], ks: tuple[int, ...]) -> pd.DataFrame:
    """comparisons.csv: each experiment against its control, on test.

    `p_holm` is corrected within a family: the experiments of one group, on one (protocol, metric, k).

    Args:
        ranks: as for `results_table`.
        controls: experiment -> its control; a name: the control of all others.

    Raises:
        ValueError: no ranks of an experiment, or experiment and control have ranks of different users.
    """
    asked = ranks[ranks["split"] == "test"].groupby("experiment", sort=False)["user"].agg(frozenset)
    if isinstance(controls, str):
        controls = {name: controls for name in asked.index if name != controls}
    for name, control in controls.items():
        if unknown := {name, control} - set(asked.index):
            raise ValueError(f"no ranks of {', '.join(sorted(unknown))}; there are those of {list(asked.index)}")
        if asked[name] != asked[control]:
            raise ValueError(f"{name!r} and its control {control!r} were not asked about the same users")
    matrices = rank_matrices(ranks)
    gained = {
        (name, protocol, metric, k): gains(matrix[protocol], metric, k)
        for name, matrix in matrices.items()
        for protocol in PROTOCOLS
        for metric, k in measures(ks)
    }
    ends = np.cumsum([len(of_seeds) for of_seeds in gained.values()])
    means = resampled_means(np.vstack(list(gained.values())))
    drawn = dict(zip(gained, np.split(means, ends[:-1], axis=1), strict=True))
    rows = []
    for name, control in controls.items():
        for protocol in PROTOCOLS:
            for metric, k in measures(ks):
                ours, theirs = (name, protocol, metric, k), (control, protocol, metric, k)
                found = compare(gained[ours], gained[theirs], drawn[ours], drawn[theirs])
                rows.append((name, control, protocol, metric, k, *astuple(found)))
    names = ["experiment", "baseline", "protocol", "metric", "k", *(field.name for field in fields(Comparison))]
    table = pd.DataFrame(rows, columns=names).astype({"k": "Int64"})
    table["group"] = table["experiment"].map(ranks.groupby("experiment")["group"].first())
    family = table.groupby(["group", "protocol", "metric", "k"], sort=False, dropna=False)["p_value"]
    table["p_holm"] = family.transform(lambda p_values: holm(p_values.to_numpy()))
    return table[COMPARISON_COLUMNS]


def slices_table(ranks: pd.DataFrame, baseline: str, slices: dict[str, pd.Series]) -> pd.DataFrame:
    """slices.csv: NDCG@10 (full_unseen, test) in parts of the users, and differences to the baseline there.

    Args:
        ranks: as for `comparisons_table`. slices: name -> label of each user, an ordered category, indexed by user.

    Returns:
        slice, label, users, experiment, ndcg_10, baseline, difference, ci_low, ci_high, p_value.
    """
    rows = []
    asked = ranks[ranks["split"] == "test"]
    for name, labels in slices.items():
        for label in labels.cat.categories:
            part = asked[asked["user"].isin(labels.index[labels == label])]
            if part.empty:
                continue
            means = results_table(part, (10,)).query("protocol == 'full_unseen' and metric == 'ndcg'")
            means = means.groupby("experiment", sort=False)["value"].mean()
            compared = comparisons_table(part, baseline, (10,)).query("protocol == 'full_unseen' and metric == 'ndcg'")
            for row in compared.itertuples():
                rows.append(
                    (name, label, row.users, row.experiment, means[row.experiment], means[baseline], row.difference)
                    + (row.ci_low, row.ci_high, row.p_value)
                )
    columns = ["slice", "label", "users", "experiment", "ndcg_10", "baseline", "difference"]
    return pd.DataFrame(rows, columns=[*columns, "ci_low", "ci_high", "p_value"])


def user_slices(sequences: Sequences, parts: int = 3) -> dict[str, pd.Series]:
    """Test users by how often their test item was chosen in training, and by length of history.

    Items never chosen in training are a part of their own: their ids have learned nothing. The other users are cut
    into parts as equal as ties allow.

    Returns:
        `popularity of the answer` and `length of the history`: an ordered category for each test user.
    """
    users = (sequences.test >= 0).nonzero().squeeze(1).cpu()
    target = sequences.test.cpu()[users]
    chosen = sequences.item_counts().cpu()[sequences.items.cpu()[target] - 1].numpy()
    length = (target - sequences.offsets.cpu()[users]).numpy()
    return {
        "popularity of the answer": _cut(chosen, users.numpy(), parts),
        "length of the history": _cut(length, users.numpy(), parts),
    }


def _cut(values: np.ndarray, users: np.ndarray, parts: int) -> pd.Series:
    known = np.sort(values[values > 0])
    ends = sorted({int(known[-(-len(known) * part // parts) - 1]) for part in range(1, parts + 1)})
    begins = [int(known[0]), *(end + 1 for end in ends[:-1])]
    names = [f"{begin}" if begin == end else f"{begin} to {end}" for begin, end in zip(begins, ends, strict=True)]
    place = np.where(values > 0, 1 + np.searchsorted(ends, values), 0)
    return pd.Series(pd.Categorical.from_codes(place, ["0", *names], ordered=True), index=users)


def summary(
    results: pd.DataFrame, split: str, protocol: str, columns: Iterable[tuple[str, int | None]]
) -> pd.DataFrame:
    """Experiments by measures: `mean ± half width of the 95 % interval over seeds`, to four digits."""
    shown: dict[str, dict[str, str]] = {}
    for metric, k in columns:
        for row in by_experiment(results, split, protocol, metric, k).itertuples():
            text = f"{row.mean:.4f}" if np.isnan(row.high) else f"{row.mean:.4f} ± {row.high - row.mean:.4f}"
            shown.setdefault(row.experiment, {})[metric if k is None else f"{metric}@{k}"] = text
    return pd.DataFrame.from_dict(shown, orient="index")


def gather_ranks(folders: dict[str, Path]) -> pd.DataFrame:
    """Per-user ranks of all groups: group, experiment, seed, split, user, a rank a protocol.

    Raises:
        FileNotFoundError: a group has not been run.
    """
    tables = []
    for group, folder in folders.items():
        if not (folder / "ranks.parquet").exists():
            raise FileNotFoundError(
                f"no runs of group {group!r} in {folder}: run notebook {'3' if group == 'main' else '4'} first"
            )
        table = pd.read_parquet(folder / "ranks.parquet")
        table.insert(0, "group", group)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def by_experiment(results: pd.DataFrame, split: str, protocol: str, metric: str, k: int | None) -> pd.DataFrame:
    """group, experiment, mean, low, high (95 % interval over seeds) and `values`, one a seed."""
    part = results[(results["split"] == split) & (results["protocol"] == protocol) & (results["metric"] == metric)]
    part = part[part["k"].isna() if k is None else part["k"].eq(k)]
    rows = []
    for (group, experiment), values in part.groupby(["group", "experiment"], sort=False)["value"]:
        mean, low, high = mean_interval(values.to_numpy())
        rows.append((group, experiment, mean, low, high, values.tolist()))
    return pd.DataFrame(rows, columns=["group", "experiment", "mean", "low", "high", "values"])


def gradient_agreement_table(curves: pd.DataFrame) -> pd.DataFrame:
    """gradient_agreement.csv: cosine of the gradients of each pair of tasks, over all steps of a training.

    Args:
        curves: of one experiment with watched gradients: seed, epoch, and for each pair of tasks `cos_<a>_<b>` and
            `conflict_<a>_<b>`; see `TaskGradients`.

    Returns:
        seed, tasks (`<a>, <b>`), cosine (mean), conflicting (share of the steps with a cosine below 0).
    """
    pairs = [name.removeprefix("cos_") for name in curves if name.startswith("cos_")]
    means = curves.groupby("seed")[[f"{kind}_{pair}" for pair in pairs for kind in ("cos", "conflict")]].mean()
    rows = [
        (seed, pair.replace("_", ", "), row[f"cos_{pair}"], row[f"conflict_{pair}"])
        for seed, row in means.iterrows()
        for pair in pairs
    ]
    return pd.DataFrame(rows, columns=["seed", "tasks", "cosine", "conflicting"])


def published_table(published: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """published.csv: each published number with our test result of the same experiment.

    Args:
        published: model, experiment, protocol, metric, k, published, source.
        results: as returned by `results_table`.

    Returns:
        The rows with `ours`, `ci_low` and `ci_high` (95 % over seeds; nan with one seed), `ratio` (ours / published)
        and `seeds`; nan where the experiment has no results.
    """
    keys = ["experiment", "protocol", "metric", "k"]
    rows = []
    for key, part in results[results["split"] == "test"].groupby(keys, sort=False):
        mean, low, high = mean_interval(part["value"].to_numpy())
        rows.append((*key, mean, low, high, len(part)))
    ours = pd.DataFrame(rows, columns=[*keys, "ours", "ci_low", "ci_high", "seeds"])
    table = published.merge(ours, on=keys, how="left")
    table["ratio"] = table["ours"] / table["published"]
    first = ["model", "protocol", "metric", "k", "published", "source", "ours", "ci_low", "ci_high", "ratio", "seeds"]
    return table[[*first, "experiment"]]


def verdict(row: Any) -> str:
    """A row of comparisons.csv as a sentence."""
    measure = row.metric if pd.isna(row.k) else f"{row.metric}@{row.k}"
    side = "above 0" if row.ci_low > 0 else "below 0" if row.ci_high < 0 else "holds 0"
    return (
        f"{row.experiment} - {row.baseline}, {row.protocol} {measure}: {row.difference:+.4f}, "
        f"95 % interval [{row.ci_low:+.4f}, {row.ci_high:+.4f}] {side}, p_holm = {row.p_holm:.4f} "
        f"({row.users} users, {row.seeds} seeds)"
    )
