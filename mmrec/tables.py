"""Per-user ranks -> the tables that people read. Rounded where shown, never where stored."""

from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrec.evaluation import PROTOCOLS, gains, measures
from mmrec.statistics import Comparison, compare, holm, mean_interval

RESULT_COLUMNS = ["group", "experiment", "seed", "split", "protocol", "metric", "k", "value"]


def results_table(ranks: pd.DataFrame, ks: tuple[int, ...]) -> pd.DataFrame:
    """results.csv: one number a line.

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


def gain_matrix(ranks: pd.DataFrame, experiment: str, protocol: str, metric: str, k: int | None) -> np.ndarray:
    """(S, U) gains of an experiment's test users, seeds and users in ascending order.

    Raises:
        ValueError: a seed was not asked about all users that another was.
    """
    part = ranks[(ranks["experiment"] == experiment) & (ranks["split"] == "test")]
    table = part.pivot(index="seed", columns="user", values=protocol).sort_index().sort_index(axis=1)
    if table.isna().any(axis=None):
        raise ValueError(f"the seeds of {experiment!r} were not asked about the same users")
    return gains(table.to_numpy(), metric, k)


def comparisons_table(ranks: pd.DataFrame, baseline: str, ks: tuple[int, ...]) -> pd.DataFrame:
    """comparisons.csv: every other experiment against the baseline, on test.

    `p_holm` is corrected within the family of all experiments compared on one (protocol, metric, k).

    Raises:
        ValueError: no such baseline, or an experiment was asked about other users.
    """
    asked = ranks[ranks["split"] == "test"].groupby("experiment")["user"].agg(frozenset)
    if baseline not in asked:
        raise ValueError(f"no ranks of the baseline {baseline!r}; one of {list(asked.index)}")
    if different := [name for name, users in asked.items() if users != asked[baseline]]:
        raise ValueError(f"{different} and the baseline {baseline!r} were not asked about the same users")
    others = [name for name in ranks["experiment"].unique() if name != baseline]
    families = []
    for protocol in PROTOCOLS:
        for metric, k in measures(ks):
            theirs = gain_matrix(ranks, baseline, protocol, metric, k)
            family = [vars(compare(gain_matrix(ranks, name, protocol, metric, k), theirs)) for name in others]
            table = pd.DataFrame(family, columns=[field.name for field in fields(Comparison)])
            for column, value in reversed(
                [("experiment", others), ("baseline", baseline), ("protocol", protocol), ("metric", metric), ("k", k)]
            ):
                table.insert(0, column, value)
            table.insert(table.columns.get_loc("p_value") + 1, "p_holm", holm(table["p_value"]))
            families.append(table.astype({"k": "Int64"}))
    return pd.concat(families, ignore_index=True)


def summary(
    results: pd.DataFrame, split: str, protocol: str, columns: Iterable[tuple[str, int | None]]
) -> pd.DataFrame:
    """For reading: experiments by measures, `mean ± half width of the 95 % interval over seeds`, to four digits."""
    shown: dict[str, dict[str, str]] = {}
    for metric, k in columns:
        for row in by_experiment(results, split, protocol, metric, k).itertuples():
            text = f"{row.mean:.4f}" if np.isnan(row.high) else f"{row.mean:.4f} ± {row.high - row.mean:.4f}"
            shown.setdefault(row.experiment, {})[metric if k is None else f"{metric}@{k}"] = text
    return pd.DataFrame.from_dict(shown, orient="index")


def gather_ranks(results: Path, groups: Iterable[str]) -> pd.DataFrame:
    """Per-user ranks of all groups: group, experiment, seed, split, user, a rank for each protocol."""
    tables = []
    for group in groups:
        table = pd.read_parquet(results / group / "ranks.parquet")
        table.insert(0, "group", group)
        tables.append(table)
    return pd.concat(tables, ignore_index=True)


def by_experiment(results: pd.DataFrame, split: str, protocol: str, metric: str, k: int | None) -> pd.DataFrame:
    """experiment, mean, low, high (95 % interval over seeds) and `values`, a list of the seeds' own."""
    part = results[(results["split"] == split) & (results["protocol"] == protocol) & (results["metric"] == metric)]
    part = part[part["k"].isna() if k is None else part["k"].eq(k)]
    rows = []
    for experiment, values in part.groupby("experiment", sort=False)["value"]:
        mean, low, high = mean_interval(values.to_numpy())
        rows.append((experiment, mean, low, high, values.tolist()))
    return pd.DataFrame(rows, columns=["experiment", "mean", "low", "high", "values"])


def verdict(row: Any) -> str:
    """A row of comparisons.csv as a sentence."""
    measure = row.metric if pd.isna(row.k) else f"{row.metric}@{row.k}"
    side = "above 0" if row.ci_low > 0 else "below 0" if row.ci_high < 0 else "holds 0"
    return (
        f"{row.experiment} - {row.baseline}, {row.protocol} {measure}: {row.difference:+.4f}, "
        f"95 % interval [{row.ci_low:+.4f}, {row.ci_high:+.4f}] {side}, p_holm = {row.p_holm:.4f} "
        f"({row.users} users, {row.seeds} seeds)"
    )
