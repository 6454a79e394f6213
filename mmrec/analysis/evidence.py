"""The kinds of evidence that judge a claim. Each has a rule (a sentence) and a verdict on the tables of a data set.

`rule` is fixed beforehand. `judge(tables)` reads reports/<dataset>/tables/ and returns the evidence as a sentence with
its verdict, or None without evidence. Unless a rule says otherwise:

supported        the 95 % interval of the effect lies on the claimed side of 0, and p (Holm) is below 0.05
not supported    the interval excludes an effect of 5 % of the base
inconclusive     neither
"""

from collections.abc import Callable
from dataclasses import field
from pathlib import Path
from typing import Annotated, Any, Literal

import pandas as pd
from pydantic import Field
from pydantic.dataclasses import dataclass

from mmrec.config import STRICT, Name
from mmrec.statistics import holm, mean_interval, mean_p_value

LEVEL = 0.05
WORTH_HAVING = 0.05  # of the base
PRIMARY = "full_unseen"
Protocol = Literal["full_unseen", "full_all", "sampled_100"]
Verdict = Literal["supported", "not supported", "inconclusive"]
Judged = tuple[str, Verdict] | None  # evidence as a sentence, and the verdict; None: the data set has no evidence


def _comparison_base(row: Any, tables: Path) -> float:
    """Mean over seeds of the baseline's NDCG@10 on test; nan without results."""
    measure = {"protocol": row.protocol, "metric": row.metric, "k": row.k}
    found = _rows(tables, "results", experiment=row.baseline, split="test", **measure)
    return found["value"].mean() if len(found) else float("nan")


def _with_lowest_part(slices: pd.DataFrame) -> pd.DataFrame:
    """Corrects over the parts of a slice; repeats the lowest part above 0, which data sets cut apart, as `lowest`."""
    by = slices.groupby(["slice", "experiment"], sort=False)["p_value"]
    slices = slices.assign(p_holm=by.transform(lambda p: holm(p.to_numpy())), part=slices["label"])
    lowest = slices[slices["label"] != "0"].drop_duplicates(["slice", "experiment"])
    return pd.concat([slices, lowest.assign(label="lowest")])


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One table of paired effects: the row of a claim, the columns, the wording."""

    rule: str
    keys: tuple[str, ...]  # columns that a claim names to choose its row
    fixed: dict[str, Any] = field(default_factory=dict)  # other columns that choose the row
    effect: str = "difference"  # column, beside ci_low, ci_high and p_holm
    base: Callable[[Any, Path], float]  # row, tables -> the effect worth having is 5 % of this
    prepare: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table
    before: str = ""  # evidence before the effect
    after: str = ""  # and after its interval
    seeds: bool = True  # the table counts them


COMPARISON = Layout(
    rule="NDCG@10 ({protocol}) of {experiment} is {claimed} than that of {baseline}: the paired 95 % interval of the "
    "difference lies beyond 0 and p (Holm) < {LEVEL}; not supported: a difference of {WORTH_HAVING:.0%} is excluded",
    keys=("experiment", "baseline"),
    fixed={"protocol": PRIMARY, "metric": "ndcg", "k": 10},
    base=_comparison_base,
    after=", {effect:+.3f} deviations of users",
)
LAYOUTS = {
    "comparisons": COMPARISON,
    "baselines": COMPARISON,
    "attention_compared": Layout(
        rule="the attended items' resemblance to the last one ({modality}) is greater under the attention of maf than "
        "under that of sasrec, which sees no features: the paired 95 % interval of the difference lies above 0 and "
        "p (Holm, over the modalities) < {LEVEL}; not supported: it lies below 0",
        keys=("modality",),
        base=lambda row, _: 0.0,
        before="resemblance {ours:.3f}, under sasrec's attention {theirs:.3f}: ",
    ),
    "robustness": Layout(
        rule="NDCG@10 falls with {modality} at {disturbance}: the paired 95 % interval of the loss lies above 0 and "
        "p (Holm, over the modalities and all at once) < {LEVEL}; not supported: a loss of {WORTH_HAVING:.0%} is "
        "excluded",
        keys=("kind", "modality", "level"),
        effect="loss",
        base=lambda row, _: row.ndcg_10 + row.loss,
        before="loss ",
        after=" of {base:.4f}",
    ),
    "modality_dropout": Layout(
        rule="NDCG@10 with {modality} at {level:.0%} missing is higher after training with modality dropout: the "
        "paired 95 % interval of the difference lies above 0 and p (Holm, over the modalities and all at once) < "
        "{LEVEL}; not supported: a gain of {WORTH_HAVING:.0%} is excluded",
        keys=("modality", "level"),
        fixed={"kind": "missing"},
        base=lambda row, _: row.without,
        after=" above {base:.4f}",
    ),
    "slices": Layout(
        rule="among users with {part}, NDCG@10 of maf is better than that of sasrec: the paired 95 % interval lies "
        "above 0 and p (Holm, over the parts of {slice}) < {LEVEL}; not supported: a gain of {WORTH_HAVING:.0%} is "
        "excluded",
        keys=("slice", "label"),
        fixed={"experiment": "maf"},
        base=lambda row, _: row.baseline,
        prepare=_with_lowest_part,
        before="{part}: ",
        after=" to {base:.4f}",
        seeds=False,
    ),
}


@dataclass(frozen=True, kw_only=True, config=STRICT)
class PairedEffect:
    """A paired effect of one row of a table in `LAYOUTS`, with its interval and its p-value.

    Raises:
        ValueError: the table's row needs other keys than these.
    """

    table: Literal["comparisons", "baselines", "attention_compared", "robustness", "modality_dropout", "slices"]
    experiment: Name | None = None
    baseline: Name | None = None
    protocol: Protocol = PRIMARY
    claimed: Literal["better", "worse"] = "better"
    kind: Literal["missing", "noise"] | None = None
    modality: Name | None = None
    level: Annotated[float, Field(gt=0)] | None = None
    slice: str | None = None
    label: str | None = None  # or "lowest": the lowest part above 0

    def __post_init__(self) -> None:
        names = ("experiment", "baseline", "kind", "modality", "level", "slice", "label")
        given = {name for name in names if getattr(self, name) is not None}
        if given != set(self.layout.keys):
            raise ValueError(f"{self.table} needs the keys {', '.join(self.layout.keys)}, got {sorted(given)}")
        if self.layout is not COMPARISON and (self.protocol, self.claimed) != (PRIMARY, "better"):
            raise ValueError(f"{self.table} takes neither protocol nor claimed")

    @property
    def layout(self) -> Layout:
        return LAYOUTS[self.table]

    @property
    def rule(self) -> str:
        noise = self.kind == "noise"
        return self.layout.rule.format(
            **vars(self),
            disturbance=f"noise of {self.level:g} deviations" if noise else f"{self.level or 0:.0%} missing",
            part=f"{self.slice} {self.label}" + " (above 0)" * (self.label == "lowest"),
            LEVEL=LEVEL,
            WORTH_HAVING=WORTH_HAVING,
        )

    def judge(self, tables: Path) -> Judged:
        layout = self.layout
        wanted = layout.fixed | {name: getattr(self, name) for name in layout.keys}
        if "protocol" in wanted:
            wanted["protocol"] = self.protocol
        found = _rows(tables, self.table, layout.prepare, **wanted)
        if found.empty:
            return None
        (row,) = found.itertuples()
        if pd.isna(base := layout.base(row, tables)):
            return None
        sign = 1 if self.claimed == "better" else -1
        low, high = sorted((sign * row.ci_low, sign * row.ci_high))
        interval = f"{getattr(row, layout.effect):+.4f} [{row.ci_low:+.4f}, {row.ci_high:+.4f}]"
        told = row._asdict() | {"base": base}
        evidence = (
            layout.before.format(**told) + interval + layout.after.format(**told) + f", p (Holm) {row.p_holm:.4f}, "
            f"{row.users} users" + (f", {row.seeds} seeds" if layout.seeds else "")
        )
        return evidence, _verdict(low, high, WORTH_HAVING * base, row.p_holm)


@dataclass(frozen=True, kw_only=True, config=STRICT)
class AboveChance:
    """Attention prefers items that resemble the last one in a modality, beyond chance: a permutation test."""

    table: Literal["attention"]
    modality: Name

    @property
    def rule(self) -> str:
        return (
            f"the attended items' resemblance to the last one ({self.modality}) is above 95 % of permutations that "
            f"keep positions, p (Holm) < {LEVEL}; not supported: it is at or below their mean"
        )

    def judge(self, tables: Path) -> Judged:
        found = _rows(tables, "attention", modality=self.modality)
        if found.empty:
            return None
        (row,) = found.itertuples()
        certain = row.p_holm < LEVEL and row.observed > row.chance_high
        evidence = (
            f"resemblance {row.observed:.3f}, by chance {row.chance:.3f} [{row.chance_low:.3f}, "
            f"{row.chance_high:.3f}], p (Holm) {row.p_holm:.4f}, {row.users} users"
        )
        return evidence, "supported" if certain else "not supported" if row.observed <= row.chance else "inconclusive"


@dataclass(frozen=True, kw_only=True, config=STRICT)
class LargestShare:
    """The modality with the largest share of attention costs most when missing: also from robustness.csv."""

    table: Literal["stream_shares"]

    @property
    def rule(self) -> str:
        return (
            "of all modalities, that with the largest share of the variance of fused scores (mean over layers; all "
            "seeds agree which) costs most when it is missing from all items at test time: its loss of NDCG@10 is "
            f"certain (paired 95 % interval above 0, p (Holm, over the modalities and all at once) < {LEVEL}) and no "
            f"other modality's is larger; not supported: a loss of {WORTH_HAVING:.0%} is excluded, or another's "
            "interval lies above it"
        )

    def judge(self, tables: Path) -> Judged:
        shares = _rows(tables, "stream_shares")
        missing = _rows(tables, "robustness", kind="missing", level=1)
        if shares.empty or missing.empty:
            return None
        losses = missing[missing["modality"] != "all"].set_index("modality")
        share = shares.groupby("stream")["share"].mean()[losses.index]  # without ids and positions
        if len(share) < 2:
            return None
        first, others = losses.loc[share.idxmax()], losses.drop(share.idxmax())
        evidence = "; ".join(
            f"{name} has {share[name]:.0%}, its absence costs {row.loss:+.4f} [{row.ci_low:+.4f}, {row.ci_high:+.4f}], "
            f"p (Holm) {row.p_holm:.4f}"
            for name, row in losses.loc[share.sort_values(ascending=False).index].iterrows()
        )
        by_seed = shares[shares["stream"].isin(losses.index)].groupby(["seed", "stream"])["share"].mean().unstack()
        base = first["ndcg_10"] + first["loss"]
        verdict = _verdict(first["ci_low"], first["ci_high"], WORTH_HAVING * base, first["p_holm"])
        if by_seed.idxmax(axis=1).nunique() > 1:
            verdict = "inconclusive"
        elif (others["ci_low"] > first["ci_high"]).any():
            verdict = "not supported"
        elif verdict == "supported" and (others["loss"] > first["loss"]).any():
            verdict = "inconclusive"
        return f"{evidence}; {first['users']} users, {first['seeds']} seeds", verdict


@dataclass(frozen=True, kw_only=True, config=STRICT)
class GradientConflict:
    """The gradient of an auxiliary task opposes that of the next item: a mean over seeds."""

    table: Literal["gradient_agreement"]
    modality: Name

    @property
    def rule(self) -> str:
        return (
            f"the mean cosine between the gradients of the next item and of its {self.modality}, over all steps of "
            f"training, is below 0: so is its 95 % interval over seeds, and p (Holm, over the tasks) < {LEVEL}; "
            "not supported: the interval lies above 0"
        )

    def judge(self, tables: Path) -> Judged:
        pairs = _rows(tables, "gradient_agreement")
        pairs = pairs[pairs["tasks"].str.startswith("id, ")] if len(pairs) else pairs
        cosines = {tasks: part["cosine"].to_numpy() for tasks, part in pairs.groupby("tasks")} if len(pairs) else {}
        own = f"id, {self.modality}"
        if own not in cosines:
            return None
        p_holm = dict(zip(cosines, holm([mean_p_value(values) for values in cosines.values()]), strict=True))[own]
        mean, low, high = mean_interval(cosines[own])
        evidence = (
            f"cosine {mean:+.3f} [{low:+.3f}, {high:+.3f}], p (Holm) {p_holm:.4f}, below 0 in "
            f"{pairs.loc[pairs['tasks'] == own, 'conflicting'].mean():.1%} of the steps, {len(cosines[own])} seeds"
        )
        certain = high < 0 and p_holm < LEVEL
        return evidence, "supported" if certain else "not supported" if low > 0 else "inconclusive"


def _verdict(low: float, high: float, worth: float, p_holm: float) -> Verdict:
    if low > 0 and p_holm < LEVEL:
        return "supported"
    # An interval from 0 to 0 (neither model finds any answer) excludes nothing: `high < worth` is false at base 0.
    return "not supported" if high < worth else "inconclusive"


def _rows(
    tables: Path, name: str, prepare: Callable[[pd.DataFrame], pd.DataFrame] = lambda table: table, **wanted: Any
) -> pd.DataFrame:
    """Rows of a prepared table that have all these values; empty without the table."""
    path = tables / f"{name}.csv"
    if not path.exists():
        return pd.DataFrame()
    table = prepare(pd.read_csv(path, dtype={"label": str}))  # a label may be a number
    return table[(table[list(wanted)] == pd.Series(wanted)).all(axis=1)]


Evidence = Annotated[PairedEffect | AboveChance | LargestShare | GradientConflict, Field(discriminator="table")]
