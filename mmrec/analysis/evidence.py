"""The kinds of evidence that judge a claim, one for each table of a data set.

Each kind fixes its rule (a sentence) beforehand. Unless a rule says otherwise:

supported        the 95 % interval of the effect lies on the claimed side of 0, and p (Holm) is below 0.05
not supported    the interval excludes an effect of 5 % of the base
underpowered     neither, and the comparison could not have told 10 % of the base from nothing (`smallest_told`)
inconclusive     none of these
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pandas as pd
from pydantic import Field

from mmrec.config.types import Name, section
from mmrec.evaluation import PROTOCOLS
from mmrec.statistics import holm, intervals, mean_p_value, smallest_told

LEVEL = 0.05
WORTH_HAVING = 0.05  # of the base
TOLD = 0.10  # of the base; a comparison that cannot tell this is too small
OPPOSED = 0.05  # smallest cosine of interest between the gradients of two tasks
Verdict = Literal["supported", "not supported", "underpowered", "inconclusive"]
INTERVAL = "[{ci_low:+.4f}, {ci_high:+.4f}]"
CERTAINTY = "p (Holm) {p_holm:.4f}, {users} users"


@dataclass(frozen=True, kw_only=True)
class Kind:
    """The rule for the rows of one table, and its wording.

    `prepare` gives each row `base`, `ci_low`, `ci_high` and `p_holm`, or else its `verdict`.
    """

    rule: str
    evidence: str  # a template filled in with the row
    prepare: Callable[[pd.DataFrame, Path], pd.DataFrame]  # the table and its folder -> rows to choose from
    keys: tuple[str, ...] = ()  # keys that a claim names
    optional: tuple[str, ...] = ()
    fixed: dict[str, Any] = field(default_factory=dict)  # values of other columns
    claimed: str = "better"  # or "worse"; a claim may say otherwise


def _with_base(comparisons: pd.DataFrame, tables: Path) -> pd.DataFrame:
    """The base is the baseline's mean over seeds on test. Comparisons without results are dropped."""
    if (results := _read(tables, "results")).empty:
        return results
    measure = ["protocol", "metric", "k"]
    base = results[results["split"] == "test"].groupby(["experiment", *measure])["value"].mean().rename("base")
    return comparisons.merge(base, left_on=["baseline", *measure], right_index=True)


def _with_lowest_part(slices: pd.DataFrame, _: Path) -> pd.DataFrame:
    """Correct over the parts of a slice. The lowest part above 0 differs by data set: it comes again as `lowest`."""
    by = slices.groupby(["slice", "experiment"], sort=False)["p_value"]
    slices = slices.assign(p_holm=by.transform(holm), part=slices["label"], base=slices["baseline"])
    lowest = slices[slices["label"] != "0"].drop_duplicates(["slice", "experiment"])
    return pd.concat([slices, lowest.assign(label="lowest")])


def _of_experiments(table: pd.DataFrame, _: Path) -> pd.DataFrame:
    """Tables of the first edition are of MAF alone and do not say so."""
    table = table if "experiment" in table else table.assign(experiment="maf")
    return table.assign(base=table["ndcg_10"] + table["loss"])


def _extra(table: pd.DataFrame, _: Path) -> pd.DataFrame:
    """The extra gain as the difference; no rows of a table that lacks it."""
    if "extra" not in table:
        return table[:0]
    names = {"extra": "difference", "extra_low": "ci_low", "extra_high": "ci_high", "extra_p_holm": "p_holm"}
    return table.drop(columns=[*names.values()]).rename(columns=names).assign(base=table["without"])


def _largest_share(shares: pd.DataFrame, tables: Path) -> pd.DataFrame:
    """One row for the modality with the largest share; streams of ids and positions do not count."""
    if (losses := _read(tables, "robustness")).empty:
        return losses
    losses = _of_experiments(losses, tables).query("experiment == 'maf' and kind == 'missing' and level == 1")
    losses = losses[losses["modality"] != "all"].set_index("modality")
    if len(losses) < 2:
        return losses[:0]
    by_seed = shares[shares["stream"].isin(losses.index)].groupby(["seed", "stream"])["share"].mean().unstack()
    share = by_seed.mean().sort_values(ascending=False)
    losses = losses.loc[share.index].assign(base=losses["ndcg_10"] + losses["loss"])
    first, others = losses.iloc[0], losses[1:]
    verdict = verdict_of(first["ci_low"], first["ci_high"], first["base"], first["p_holm"])
    if by_seed.idxmax(axis=1).nunique() > 1:
        verdict = "inconclusive"
    elif (others["ci_low"] > first["ci_high"]).any():
        verdict = "not supported"
    elif verdict == "supported" and (others["loss"] > first["loss"]).any():
        verdict = "inconclusive"
    costs = "{name} has {share:.0%}, its absence costs {loss:+.4f} " + INTERVAL + ", p (Holm) {p_holm:.4f}"
    losses = losses.assign(name=losses.index, share=share)
    told = "; ".join(costs.format(**row) for row in losses.to_dict("records"))
    return pd.DataFrame([{"told": told, "users": first["users"], "seeds": first["seeds"], "verdict": verdict}])


def _over_seeds(pairs: pd.DataFrame, _: Path) -> pd.DataFrame:
    """Mean cosine of each auxiliary task with the next item, its interval over seeds, corrected over the tasks."""
    tasks = pairs[pairs["tasks"].str.startswith("id, ")].groupby("tasks")
    columns = {"cosines": ("cosine", list), "conflicting": ("conflicting", "mean"), "seeds": ("seed", "size")}
    table = tasks.agg(**columns).reset_index()
    table = table.join(intervals(table["cosines"]).set_axis(["cosine", "ci_low", "ci_high"], axis=1))
    p_holm = holm([mean_p_value(np.add(cosines, OPPOSED)) for cosines in table["cosines"]])
    certain = (table["ci_high"] < -OPPOSED) & (p_holm < LEVEL)
    verdict = np.select([certain, table["ci_low"] > -OPPOSED], ["supported", "not supported"], "inconclusive")
    return table.assign(modality=table["tasks"].str.removeprefix("id, "), p_holm=p_holm, verdict=verdict)


COMPARISON = Kind(
    rule="NDCG@10 ({protocol}) of {experiment} is {claimed} than that of {baseline}: the paired 95 % interval of the "
    "difference lies beyond 0 and p (Holm) < {LEVEL}; not supported: a difference of {WORTH_HAVING:.0%} is excluded",
    evidence="{difference:+.4f} " + INTERVAL + ", {effect:+.3f} deviations of users, " + CERTAINTY + ", {seeds} seeds",
    keys=("experiment", "baseline"),
    optional=("protocol", "claimed"),
    fixed={"protocol": "full_unseen", "metric": "ndcg", "k": 10},
    prepare=_with_base,
)
KINDS = {
    "comparisons": COMPARISON,
    "baselines": COMPARISON,
    "attention_compared": Kind(
        rule="the attended items' resemblance to the last one ({modality}) is greater under the attention of maf than "
        "under that of sasrec, which sees no features: the paired 95 % interval of the difference lies above 0 and "
        "p (Holm, over the modalities) < {LEVEL}; not supported: it lies below 0",
        evidence="resemblance {ours:.3f}, under sasrec's attention {theirs:.3f}: {difference:+.4f} "
        + f"{INTERVAL}, {CERTAINTY}, {{seeds}} seeds",
        keys=("modality",),
        prepare=lambda table, _: table.assign(base=0),
    ),
    "stream_shares": Kind(
        rule="of all modalities, that with the largest share of the variance of fused scores (mean over layers; all "
        "seeds agree which) costs most when it is missing from all items at test time: its loss of NDCG@10 is "
        "certain (paired 95 % interval above 0, p (Holm, over the modalities and all at once) < {LEVEL}) and no "
        "other modality's is larger; not supported: a loss of {WORTH_HAVING:.0%} is excluded, or another's "
        "interval lies above it",
        evidence="{told}; {users} users, {seeds} seeds",
        prepare=_largest_share,
    ),
    "robustness": Kind(
        rule="NDCG@10 of {experiment} falls with {modality} at {disturbance}: the paired 95 % interval of the loss "
        "lies above 0 and p (Holm, over the modalities and all at once) < {LEVEL}; not supported: a loss of "
        "{WORTH_HAVING:.0%} is excluded",
        evidence="loss {loss:+.4f} " + INTERVAL + " of {base:.4f}, " + CERTAINTY + ", {seeds} seeds",
        keys=("kind", "modality", "level", "experiment"),
        prepare=_of_experiments,
    ),
    "modality_dropout": Kind(
        rule="modality dropout in training adds more to NDCG@10 with {modality} at {level:.0%} missing than with all "
        "features: the paired 95 % interval of the difference of differences lies above 0 and p (Holm, over the "
        "modalities and all at once) < {LEVEL}; not supported: {WORTH_HAVING:.0%} more are excluded",
        evidence="{difference:+.4f} " + INTERVAL + " above {base:.4f}, " + CERTAINTY + ", {seeds} seeds",
        keys=("modality", "level"),
        fixed={"kind": "missing"},
        prepare=_extra,
    ),
    "slices": Kind(
        rule="among users with {part}, NDCG@10 of {experiment} is better than that of sasrec: the paired 95 % "
        "interval lies above 0 and p (Holm, over the parts of {slice}) < {LEVEL}; not supported: a gain of "
        "{WORTH_HAVING:.0%} is excluded",
        evidence="{part}: {difference:+.4f} " + INTERVAL + " to {base:.4f}, " + CERTAINTY,
        keys=("slice", "label", "experiment"),
        prepare=_with_lowest_part,
    ),
    "cold": Kind(
        rule="among users whose next item nobody chose in training, {experiment} ranks more of the other items below "
        "it than sasrec (AUC): the paired 95 % interval lies above 0 and p (Holm, over the experiments) < {LEVEL}; not "
        "supported: a gain of {WORTH_HAVING:.0%} is excluded",
        evidence="AUC {difference:+.4f} " + INTERVAL + " to {base:.4f}, " + CERTAINTY + ", {seeds} seeds",
        keys=("experiment",),
        prepare=lambda table, _: table.assign(base=table["baseline"]),
    ),
    "gradient_agreement": Kind(
        rule="the mean cosine between the gradients of the next item and of its {modality}, over all steps of "
        "training, is below -{OPPOSED}: so is its 95 % interval over seeds, and p (Holm, over the tasks) < {LEVEL}; "
        "not supported: the interval lies above -{OPPOSED}",
        evidence="cosine {cosine:+.3f} [{ci_low:+.3f}, {ci_high:+.3f}], p (Holm) {p_holm:.4f}, below 0 in "
        "{conflicting:.1%} of the steps, {seeds} seeds",
        keys=("modality",),
        prepare=_over_seeds,
    ),
}


@section
class Evidence:
    """One row of a table in `KINDS`, chosen by the table's keys. Other keys raise ValueError."""

    table: Literal[tuple(KINDS)]
    experiment: Name | None = None
    baseline: Name | None = None
    protocol: Literal[PROTOCOLS] | None = None
    claimed: Literal["better", "worse"] | None = None
    kind: Literal["missing", "noise"] | None = None
    modality: Name | None = None
    level: Annotated[float, Field(gt=0)] | None = None
    slice: str | None = None
    label: str | None = None  # or "lowest": the lowest part above 0

    def __post_init__(self) -> None:
        kind = KINDS[self.table]
        if not set(kind.keys) <= (given := set(self.keys)) <= {*kind.keys, *kind.optional}:
            needed, optional = (", ".join(names) or "none" for names in (kind.keys, kind.optional))
            raise ValueError(f"{self.table} needs the keys {needed} (optional: {optional}), got {sorted(given)}")

    @property
    def keys(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "table" and value is not None}

    @property
    def rule(self) -> str:
        kind, level = KINDS[self.table], self.level or 0
        part = f"{self.slice} {self.label}" + " (above 0)" * (self.label == "lowest")
        disturbance = f"noise of {level:g} deviations" if self.kind == "noise" else f"{level:.0%} missing"
        told = {"claimed": kind.claimed, "part": part, "disturbance": disturbance} | kind.fixed | self.keys
        return kind.rule.format(**told, LEVEL=LEVEL, WORTH_HAVING=WORTH_HAVING, OPPOSED=OPPOSED)

    def judge(self, tables: Path) -> tuple[str, Verdict] | None:
        """Evidence as a sentence, and the verdict, from reports/<dataset>/tables/; None without evidence."""
        kind, found = KINDS[self.table], _read(tables, self.table)
        if found.empty or (found := kind.prepare(found, tables)).empty:
            return None
        wanted = kind.fixed | self.keys
        claimed = wanted.pop("claimed", kind.claimed)
        for column, value in wanted.items():
            found = found[found[column] == value]
        if found.empty:
            return None
        (row,) = found.to_dict("records")
        if "verdict" not in row:
            sign = 1 if claimed == "better" else -1
            low, high = sorted((sign * row["ci_low"], sign * row["ci_high"]))
            row["verdict"] = verdict_of(low, high, row["base"], row["p_holm"])
        return kind.evidence.format(**row), row["verdict"]


def verdict_of(low: float, high: float, base: float, p_holm: float) -> Verdict:
    if low > 0 and p_holm < LEVEL:
        return "supported"
    # An interval from 0 to 0 (neither model finds any answer) excludes nothing: base is 0, and 0 < 0 is false.
    if high < WORTH_HAVING * base:
        return "not supported"
    return "underpowered" if base and smallest_told(low, high) > TOLD * base else "inconclusive"


def _read(tables: Path, name: str) -> pd.DataFrame:
    """A table of a data set; empty if it has none."""
    path = tables / f"{name}.csv"
    return pd.read_csv(path, dtype={"label": str}) if path.exists() else pd.DataFrame()  # a label may be a number
