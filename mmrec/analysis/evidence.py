"""What a claim can be judged by: each kind of evidence says of what table it is, its rule, and its verdict.

`rule` is a sentence; `judge(reports)` looks into the tables of a data set's folder and says what is there and the
verdict, or None where there is nothing to judge by. Unless a kind's rule says otherwise:

supported        the claimed effect is there: its 95 % interval lies on the claimed side of 0, and, where several things
                 are compared, so says the p-value after Holm's correction (below 0.05)
not supported    an effect worth having is excluded: the interval ends before 5 % of what it is compared with
inconclusive     neither
"""

from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from mmrec.config import STRICT, Name
from mmrec.statistics import holm, mean_interval, mean_p_value

LEVEL = 0.05
WORTH_HAVING = 0.05  # of what it is compared with
PRIMARY = "full_unseen"
Protocol = Literal["full_unseen", "full_all", "sampled_100"]
Verdict = Literal["supported", "not supported", "inconclusive"]
Judged = tuple[str, Verdict] | None  # evidence as a sentence, and the verdict; None where a data set has none


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Compared:
    """An experiment is better (or worse) than another: NDCG@10 on test.

    From comparisons.csv, where the other is its control, or from baselines.csv, where it is MAF.
    """

    table: Literal["comparisons", "baselines"]
    experiment: Name
    against: Name
    claimed: Literal["better", "worse"] = "better"
    protocol: Protocol = PRIMARY

    @property
    def rule(self) -> str:
        return (
            f"NDCG@10 ({self.protocol}) of {self.experiment} is {self.claimed} than that of {self.against}: "
            f"the paired 95 % interval of the difference lies beyond 0 and p (Holm) < {LEVEL}; "
            f"not supported: a difference of {WORTH_HAVING:.0%} is excluded"
        )

    def judge(self, reports: Path) -> Judged:
        measure = {"protocol": self.protocol, "metric": "ndcg", "k": 10}
        of = _rows(reports, self.table, experiment=self.experiment, baseline=self.against, **measure)
        base = _rows(reports, "results", experiment=self.against, split="test", **measure)
        if of.empty or base.empty:
            return None
        (row,) = of.itertuples()
        sign = 1 if self.claimed == "better" else -1
        low, high = sorted((sign * row.ci_low, sign * row.ci_high))
        worth = WORTH_HAVING * base["value"].mean()
        return (
            f"{row.difference:+.4f} [{row.ci_low:+.4f}, {row.ci_high:+.4f}], {row.effect:+.3f} deviations of users, "
            f"p (Holm) {row.p_holm:.4f}, {row.users} users, {row.seeds} seeds",
            _verdict(low, high, worth, row.p_holm < LEVEL),
        )


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Attended:
    """Attention prefers items that resemble the last one in a modality, beyond chance: from attention.csv."""

    table: Literal["attention"]
    modality: Name

    @property
    def rule(self) -> str:
        return (
            f"the attended items' resemblance to the last one ({self.modality}) is above 95 % of permutations that "
            f"keep positions, p (Holm) < {LEVEL}; not supported: it is at or below their mean"
        )

    def judge(self, reports: Path) -> Judged:
        of = _rows(reports, "attention", modality=self.modality)
        if of.empty:
            return None
        (row,) = of.itertuples()
        seen = row.p_holm < LEVEL and row.observed > row.chance_high
        evidence = (
            f"resemblance {row.observed:.3f}, by chance {row.chance:.3f} [{row.chance_low:.3f}, "
            f"{row.chance_high:.3f}], p (Holm) {row.p_holm:.4f}, {row.users} users"
        )
        return evidence, "supported" if seen else "not supported" if row.observed <= row.chance else "inconclusive"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Turned:
    """MAF's attention prefers items that resemble the last one more than SASRec's: from attention_beside.csv."""

    table: Literal["attention_beside"]
    modality: Name

    @property
    def rule(self) -> str:
        return (
            f"the attended items' resemblance to the last one ({self.modality}) is greater under the attention of maf "
            "than under that of sasrec, which sees no features: the paired 95 % interval of the difference lies above "
            f"0 and p (Holm, over the modalities) < {LEVEL}; not supported: it lies below 0"
        )

    def judge(self, reports: Path) -> Judged:
        of = _rows(reports, "attention_beside", modality=self.modality)
        if of.empty:
            return None
        (row,) = of.itertuples()
        evidence = (
            f"resemblance {row.ours:.3f}, under sasrec's attention {row.theirs:.3f}: {row.difference:+.4f} "
            f"[{row.ci_low:+.4f}, {row.ci_high:+.4f}], p (Holm) {row.p_holm:.4f}, {row.users} users, {row.seeds} seeds"
        )
        return evidence, _verdict(row.ci_low, row.ci_high, 0, row.p_holm < LEVEL)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Disturbed:
    """The trained model gets worse when a modality goes missing or noisy at test time: from robustness.csv."""

    table: Literal["robustness"]
    kind: Literal["missing", "noise"]
    modality: Name
    level: Annotated[float, Field(gt=0)]

    @property
    def rule(self) -> str:
        how = f"{self.level:.0%} missing" if self.kind == "missing" else f"noise of {self.level:g} deviations"
        return (
            f"NDCG@10 falls with {self.modality} at {how}: the paired 95 % interval of the loss lies above 0 and "
            f"p (Holm, over the modalities and all at once) < {LEVEL}; "
            f"not supported: a loss of {WORTH_HAVING:.0%} is excluded"
        )

    def judge(self, reports: Path) -> Judged:
        whole = _rows(reports, "robustness", kind=self.kind, modality=self.modality, level=0)
        after = _rows(reports, "robustness", kind=self.kind, modality=self.modality, level=self.level)
        if whole.empty or after.empty:
            return None
        (row,), base = after.itertuples(), whole["ndcg_10"].item()
        evidence = (
            f"loss {row.loss:+.4f} [{row.ci_low:+.4f}, {row.ci_high:+.4f}] of {base:.4f}, p (Holm) {row.p_holm:.4f}, "
            f"{row.users} users, {row.seeds} seeds"
        )
        return evidence, _verdict(row.ci_low, row.ci_high, WORTH_HAVING * base, row.p_holm < LEVEL)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Mended:
    """Training with modality dropout makes a model better when a modality goes missing: from mended.csv."""

    table: Literal["mended"]
    modality: Name
    level: Annotated[float, Field(gt=0)]

    @property
    def rule(self) -> str:
        return (
            f"NDCG@10 with {self.modality} at {self.level:.0%} missing is higher after training with modality dropout: "
            "the paired 95 % interval of the difference lies above 0 and "
            f"p (Holm, over the modalities and all at once) < {LEVEL}; "
            f"not supported: a gain of {WORTH_HAVING:.0%} is excluded"
        )

    def judge(self, reports: Path) -> Judged:
        of = _rows(reports, "mended", kind="missing", modality=self.modality, level=self.level)
        if of.empty:
            return None
        (row,) = of.itertuples()
        evidence = (
            f"{row.difference:+.4f} [{row.ci_low:+.4f}, {row.ci_high:+.4f}] above {row.without:.4f}, p (Holm) "
            f"{row.p_holm:.4f}, {row.users} users, {row.seeds} seeds"
        )
        return evidence, _verdict(row.ci_low, row.ci_high, WORTH_HAVING * row.without, row.p_holm < LEVEL)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Weighed:
    """The modality with the largest share of attention costs most when missing: from shares.csv and robustness.csv."""

    table: Literal["shares"]

    @property
    def rule(self) -> str:
        return (
            "of all modalities, that with the largest share of the variance of fused scores (mean over layers; all "
            "seeds agree which) costs most when it is missing from all items at test time: its loss of NDCG@10 is "
            f"certain (paired 95 % interval above 0, p (Holm, over the modalities and all at once) < {LEVEL}) and no "
            f"other modality's is larger; not supported: a loss of {WORTH_HAVING:.0%} is excluded, or another's "
            "interval lies above it"
        )

    def judge(self, reports: Path) -> Judged:
        shares = _rows(reports, "shares")
        missing = _rows(reports, "robustness", kind="missing", level=1)
        if shares.empty or missing.empty:
            return None
        losses = missing[missing["modality"] != "all"].set_index("modality")
        share = shares.groupby("stream")["share"].mean()[losses.index]  # ids and positions have shares, too
        if len(share) < 2:
            return None
        first = losses.loc[share.idxmax()]
        others = losses.drop(share.idxmax())
        evidence = "; ".join(
            f"{name} has {share[name]:.0%}, its absence costs {row.loss:+.4f} [{row.ci_low:+.4f}, {row.ci_high:+.4f}], "
            f"p (Holm) {row.p_holm:.4f}"
            for name, row in losses.loc[share.sort_values(ascending=False).index].iterrows()
        )
        leaders = shares[shares["stream"].isin(losses.index)].groupby(["seed", "stream"])["share"].mean().unstack()
        verdict = _verdict(
            first["ci_low"],
            first["ci_high"],
            WORTH_HAVING * (first["ndcg_10"] + first["loss"]),
            first["p_holm"] < LEVEL,
        )
        if leaders.idxmax(axis=1).nunique() > 1:
            verdict = "inconclusive"
        elif (others["ci_low"] > first["ci_high"]).any():
            verdict = "not supported"
        elif verdict == "supported" and (others["loss"] > first["loss"]).any():
            verdict = "inconclusive"
        return f"{evidence}; {first['users']} users, {first['seeds']} seeds", verdict


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Among:
    """MAF is better than SASRec among part of the users, in NDCG@10 on test: from slices.csv."""

    table: Literal["slices"]
    slice: str
    label: str  # or "lowest": of the parts above 0, which other data sets cut elsewhere

    @property
    def rule(self) -> str:
        part = f"{self.slice} {self.label}" + " (above 0)" * (self.label == "lowest")
        return (
            f"among users with {part}, NDCG@10 of maf is better than that of sasrec: "
            f"the paired 95 % interval lies above 0 and p (Holm, over the parts of {self.slice}) < {LEVEL}; "
            f"not supported: a gain of {WORTH_HAVING:.0%} is excluded"
        )

    def judge(self, reports: Path) -> Judged:
        parts = _rows(reports, "slices", slice=self.slice, experiment="maf")
        if parts.empty:
            return None
        label = next(iter(parts["label"][parts["label"] != "0"]), "") if self.label == "lowest" else self.label
        if label not in set(parts["label"]):
            return None
        (row,) = parts.assign(p_holm=holm(parts["p_value"])).query("label == @label").itertuples()
        evidence = (
            f"{label}: {row.difference:+.4f} [{row.ci_low:+.4f}, {row.ci_high:+.4f}] to {row.baseline:.4f}, p (Holm) "
            f"{row.p_holm:.4f}, {row.users} users"
        )
        return evidence, _verdict(row.ci_low, row.ci_high, WORTH_HAVING * row.baseline, row.p_holm < LEVEL)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Conflicting:
    """The gradient of an auxiliary task goes against that of the next item: from agreement.csv."""

    table: Literal["agreement"]
    modality: Name

    @property
    def rule(self) -> str:
        return (
            f"the mean cosine between the gradients of the next item and of its {self.modality}, over all steps of "
            f"training, is below 0: so is its 95 % interval over seeds, and p (Holm, over the tasks) < {LEVEL}; "
            "not supported: the interval lies above 0"
        )

    def judge(self, reports: Path) -> Judged:
        of = _rows(reports, "agreement")
        cosines = {tasks: part["cosine"].to_numpy() for tasks, part in of.groupby("tasks")} if len(of) else {}
        own = f"id, {self.modality}"
        if own not in cosines:
            return None
        with_id = [tasks for tasks in cosines if tasks.startswith("id, ")]
        p_holm = dict(zip(with_id, holm([mean_p_value(cosines[tasks]) for tasks in with_id]), strict=True))[own]
        mean, low, high = mean_interval(cosines[own])
        evidence = (
            f"cosine {mean:+.3f} [{low:+.3f}, {high:+.3f}], p (Holm) {p_holm:.4f}, below 0 in "
            f"{of.loc[of['tasks'] == own, 'conflicting'].mean():.1%} of the steps, {len(cosines[own])} seeds"
        )
        below = high < 0 and p_holm < LEVEL
        return evidence, "supported" if below else "not supported" if low > 0 else "inconclusive"


def _verdict(low: float, high: float, worth: float, certain: bool) -> Verdict:
    if low > 0 and certain:
        return "supported"
    # Where neither ever gains, the interval is 0 to 0 and excludes nothing: so few answers say nothing of the next.
    return "not supported" if high < worth else "inconclusive"


def _rows(reports: Path, name: str, **wanted: Any) -> pd.DataFrame:
    """Of a table, the rows that have all these values; none where there is no such table."""
    path = reports / f"{name}.csv"
    if not path.exists():
        return pd.DataFrame()
    table = pd.read_csv(path, dtype={"label": str})  # a label may be a number
    return table[(table[list(wanted)] == pd.Series(wanted)).all(axis=1)]


Evidence = Annotated[
    Compared | Attended | Turned | Disturbed | Mended | Weighed | Among | Conflicting, Field(discriminator="table")
]
