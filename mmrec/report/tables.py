"""Tables of reports/<dataset>/tables/, from per-user ranks. Numbers are rounded where shown, never where stored."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmrec.data.sequences import Sequences
from mmrec.evaluation import PROTOCOLS, gains, measures
from mmrec.statistics import compare_all, holm, intervals, smallest_told

RESULT_COLUMNS = ["group", "experiment", "seed", "split", "protocol", "metric", "k", "value"]
ROWS = 20  # of a table in a notebook
MEASURE = ["protocol", "metric", "k"]
INTERVAL = ["difference", "ci_low", "ci_high"]
COMPARISON_COLUMNS = ["group", "experiment", "baseline", *MEASURE, *INTERVAL]
COMPARISON_COLUMNS += ["effect", "smallest", "p_value", "p_holm", "users", "seeds"]


def first(table: pd.DataFrame, source: str) -> pd.DataFrame:
    """The first `ROWS` of a table, main experiments first; a line says that `source` has the others."""
    if len(table) > ROWS:
        print(f"the first {ROWS} of {len(table)} rows; all: {source}")
    return table.head(ROWS)


def save(table: pd.DataFrame, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    table.to_csv(path, index=False)


def protocols(ranks: pd.DataFrame) -> list[str]:
    """Columns of `ranks` that are protocols, the sampled one last, as `name_sampled` names it."""
    return [*PROTOCOLS[:-1], *(name for name in ranks if name.startswith("sampled_"))]


def name_sampled(ranks: pd.DataFrame, sequences: Path) -> pd.DataFrame:
    """`ranks` with the sampled protocol named by the number of negatives in `sequences` (sequences.json)."""
    return ranks.rename(columns={PROTOCOLS[-1]: f"sampled_{json.loads(sequences.read_text())['negatives']}"})


def results_table(ranks: pd.DataFrame, ks: tuple[int, ...]) -> pd.DataFrame:
    """results.csv: one number a row.

    Args:
        ranks: group, experiment, seed, split, user, and a rank for each protocol.
    """
    rows = [
        (*key, protocol, metric, k, gains(part[protocol].to_numpy(), metric, k).mean())
        for key, part in ranks.groupby(["group", "experiment", "seed", "split"], sort=False)
        for protocol in protocols(ranks)
        for metric, k in measures(ks)
    ]
    return pd.DataFrame(rows, columns=RESULT_COLUMNS).astype({"k": "Int64"})


def rank_matrices(ranks: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """experiment -> ranks of its test users, a row a seed, a column a (protocol, user), all in ascending order.

    Raises:
        ValueError: two seeds have ranks of different users.
    """
    matrices = {}
    for experiment, part in ranks[ranks["split"] == "test"].groupby("experiment", sort=False):
        wide = part.pivot(index="seed", columns="user", values=protocols(ranks)).sort_index().sort_index(axis=1)
        if wide.isna().any(axis=None):
            raise ValueError(f"the seeds of {experiment!r} have ranks of different users: run the group again")
        matrices[experiment] = wide
    return matrices


def comparisons_table(ranks: pd.DataFrame, controls: str | Mapping[str, str], ks: tuple[int, ...]) -> pd.DataFrame:
    """comparisons.csv: each experiment against its control, on test.

    `p_holm` is corrected within a family: the experiments of one group, on one (protocol, metric, k). `smallest` is the
    smallest difference that the comparison could have told, see `smallest_told`.

    Args:
        ranks: as for `results_table`.
        controls: experiment -> its control; a name: the control of all others.

    Raises:
        ValueError: no ranks of an experiment, or experiment and control have ranks of different users.
    """
    matrices = rank_matrices(ranks)
    if isinstance(controls, str):
        controls = {name: controls for name in matrices if name != controls}
    for name, control in controls.items():
        if unknown := {name, control} - set(matrices):
            raise ValueError(f"no ranks of {', '.join(sorted(unknown))}; there are those of {list(matrices)}")
        if not matrices[name].columns.equals(matrices[control].columns):
            raise ValueError(f"{name!r} and its control {control!r} have ranks of different users: run both again")
    measured = [(protocol, *measure) for protocol in protocols(ranks) for measure in measures(ks)]
    gained = {
        (name, protocol, metric, k): gains(matrix[protocol].to_numpy(), metric, k)
        for name, matrix in matrices.items()
        for protocol, metric, k in measured
    }
    asked_for = [(name, control, *measure) for name, control in controls.items() for measure in measured]
    table = pd.DataFrame(asked_for, columns=["experiment", "baseline", *MEASURE]).astype({"k": "Int64"})
    pairs = [((name, *measure), (control, *measure)) for name, control, *measure in asked_for]
    table = table.join(compare_all(gained, pairs))
    table["smallest"] = smallest_told(table["ci_low"], table["ci_high"])
    table["group"] = table["experiment"].map(ranks.groupby("experiment")["group"].first())
    table["p_holm"] = table.groupby(["group", *MEASURE], sort=False, dropna=False)["p_value"].transform(holm)
    return table[COMPARISON_COLUMNS]


def beside_validation(comparisons: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """`comparisons` with the same difference on validation, which chose the settings, after `difference`."""
    valid = results[results["split"] == "valid"].groupby(["experiment", *MEASURE], dropna=False)["value"].mean()
    ours, theirs = (
        valid.reindex(pd.MultiIndex.from_frame(comparisons[[name, *MEASURE]])).to_numpy()
        for name in ("experiment", "baseline")
    )
    table = comparisons.copy()
    table.insert(table.columns.get_loc("difference") + 1, "validation", ours - theirs)
    return table


def slices_table(ranks: pd.DataFrame, baseline: str, slices: dict[str, pd.Series]) -> pd.DataFrame:
    """slices.csv: NDCG@10 (full_unseen, test) by part of the users, and the difference to the baseline there.

    Args:
        ranks: as for `results_table`. slices: as returned by `user_slices`.
    """
    tables, primary = [], "protocol == 'full_unseen' and metric == 'ndcg'"
    asked = ranks[ranks["split"] == "test"]
    for name, labels in slices.items():
        for label in labels.cat.categories:
            part = asked[asked["user"].isin(labels.index[labels == label])]
            if part.empty:
                continue
            results = results_table(part, (10,)).query(primary)
            means = results.groupby("experiment", sort=False)["value"].mean()
            table = comparisons_table(part, baseline, (10,)).query(primary)
            own = table["experiment"].map(means)
            tables.append(table.assign(slice=name, label=label, ndcg_10=own, baseline=means[baseline]))
    columns = ["slice", "label", "users", "experiment", "ndcg_10", "baseline", *INTERVAL, "p_value"]
    return pd.concat(tables, ignore_index=True)[columns]


def cold_table(ranks: pd.DataFrame, baseline: str, users: pd.Index, items: int) -> pd.DataFrame:
    """cold.csv: AUC (full_unseen, test) of `users` whose item nobody chose in training, against the baseline.

    Their NDCG@10 is 0 for all models, so the share of the `items` ranked below the target is compared. `p_holm` is
    corrected over the experiments.
    """
    columns = ["experiment", "auc", "baseline", *INTERVAL, "p_value", "p_holm", "users", "seeds"]
    if users.empty:
        return pd.DataFrame(columns=columns)
    matrices = rank_matrices(ranks[ranks["user"].isin(users)])
    gained = {name: gains(matrix["full_unseen"].to_numpy(), "auc", items) for name, matrix in matrices.items()}
    names = [name for name in gained if name != baseline]
    table = compare_all(gained, [(name, baseline) for name in names]).assign(experiment=names)
    table["auc"], table["baseline"] = [gained[name].mean() for name in names], gained[baseline].mean()
    return table.assign(p_holm=holm(table["p_value"]))[columns]


def user_slices(sequences: Sequences) -> dict[str, pd.Series]:
    """Test users by how often their test item was chosen in training, and by length of history.

    Users whose item was never chosen in training are a part of their own: its id has learned nothing. The others are
    cut into three parts, as equal as ties allow.

    Returns:
        name of the slice -> label of each user, an ordered category indexed by user.
    """
    users = (sequences.test >= 0).nonzero().squeeze(1).cpu()
    target = sequences.test.cpu()[users]
    chosen = sequences.item_counts().cpu()[sequences.items.cpu()[target] - 1]
    values = {"popularity of the answer": chosen, "length of the history": target - sequences.offsets.cpu()[users]}
    return {name: _cut(of.numpy(), users.numpy(), 3) for name, of in values.items()}


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
    shown = {}
    for metric, k in columns:
        table = by_experiment(results, split, protocol, metric, k).set_index("experiment")
        half = (table["high"] - table["mean"]).map(lambda half: "" if np.isnan(half) else f" ± {half:.4f}")
        shown[metric if k is None else f"{metric}@{k}"] = table["mean"].map("{:.4f}".format) + half
    return pd.concat(shown, axis=1).rename_axis(None)


def gather_ranks(folders: dict[str, Path]) -> pd.DataFrame:
    """Per-user ranks of all groups (see `results_table`). FileNotFoundError names a group that was not run."""
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
    """group, experiment, `values` (one a seed), mean, low and high (95 % interval over seeds)."""
    part = results[(results["split"] == split) & (results["protocol"] == protocol) & (results["metric"] == metric)]
    part = part[part["k"].isna() if k is None else part["k"].eq(k)]
    table = part.groupby(["group", "experiment"], sort=False)["value"].agg(list).reset_index(name="values")
    return table.join(intervals(table["values"]))


def gradient_agreement_table(curves: pd.DataFrame) -> pd.DataFrame:
    """gradient_agreement.csv: mean cosine of two tasks' gradients, and the share of steps with a cosine below 0.

    Args:
        curves: of `TaskGradients`, one experiment: seed, epoch, `cos_<a>_<b>` and `conflict_<a>_<b>` of pairs.
    """
    means = curves.groupby("seed").mean(numeric_only=True)
    pairs = [name.removeprefix("cos_") for name in means if name.startswith("cos_")]
    rows = [
        (seed, pair.replace("_", ", "), row[f"cos_{pair}"], row[f"conflict_{pair}"])
        for seed, row in means.iterrows()
        for pair in pairs
    ]
    return pd.DataFrame(rows, columns=["seed", "tasks", "cosine", "conflicting"])


def published_table(published: pd.DataFrame, results: pd.DataFrame) -> pd.DataFrame:
    """published.csv: each published number beside our test result of the same experiment.

    `ratio` is ours / published; `ci_low` and `ci_high` are the 95 % interval over seeds, nan with one seed. An
    experiment without results has nan.

    Args:
        published: model, experiment, protocol, metric, k, published, source. results: see `results_table`.
    """
    keys = ["experiment", *MEASURE]
    values = results[results["split"] == "test"].groupby(keys)["value"].agg(list).reset_index()
    ours = values[keys].join(intervals(values["value"]).set_axis(["ours", "ci_low", "ci_high"], axis=1))
    table = published.merge(ours.assign(seeds=values["value"].str.len()), on=keys, how="left")
    table["ratio"] = table["ours"] / table["published"]
    columns = ["model", *MEASURE, "published", "source", "ours", "ci_low", "ci_high", "ratio", "seeds", "experiment"]
    return table[columns]


def verdict(row: Any) -> str:
    """A row of comparisons.csv as a sentence."""
    measure = row.metric if pd.isna(row.k) else f"{row.metric}@{row.k}"
    side = "above 0" if row.ci_low > 0 else "below 0" if row.ci_high < 0 else "holds 0"
    return (
        f"{row.experiment} - {row.baseline}, {row.protocol} {measure}: {row.difference:+.4f}, "
        f"95 % interval [{row.ci_low:+.4f}, {row.ci_high:+.4f}] {side}, p_holm = {row.p_holm:.4f} "
        f"({row.users} users, {row.seeds} seeds)"
    )
