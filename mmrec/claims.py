"""The paper's claims, each with a rule that was written before its evidence was, and what the evidence says.

notebooks/claims.yaml holds the claims; the evidence is in the tables of reports/<dataset>/. A claim is judged on every
data set that has the tables it asks for, and on no other: a row of claims.csv without evidence does not exist.

supported        the claimed effect is there: its 95 % interval lies on the claimed side of 0, and, where several things
                 are compared, so says the p-value after Holm's correction (below 0.05)
not supported    an effect worth having is excluded: the interval ends before 5 % of what it is compared with
inconclusive     neither
"""

import json
from pathlib import Path
from typing import Annotated, Literal

import pandas as pd
from pydantic import Field, TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from ruamel.yaml import YAML

from mmrec.config import STRICT, ConfigError, Name
from mmrec.statistics import mean_interval

COLUMNS = ["id", "statement", "source", "rule", "dataset", "evidence", "verdict"]
LEVEL = 0.05
WORTH_HAVING = 0.05  # of what it is compared with
Verdict = Literal["supported", "not supported", "inconclusive"]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Compared:
    """An experiment is better (or worse) than another: NDCG@10 on test, full_unseen, from comparisons.csv."""

    table: Literal["comparisons"]
    experiment: Name
    against: Name
    claimed: Literal["better", "worse"] = "better"

    @property
    def rule(self) -> str:
        return (
            f"NDCG@10 of {self.experiment} is {self.claimed} than that of {self.against}: the paired 95 % interval of "
            f"the difference lies beyond 0 and p (Holm) < {LEVEL}; not supported: a difference of "
            f"{WORTH_HAVING:.0%} is excluded"
        )

    def judge(self, reports: Path) -> tuple[str, Verdict] | None:
        """Evidence as a sentence and the verdict; None where the data set has none."""
        comparisons, results = _read(reports, "comparisons"), _read(reports, "results")
        if comparisons is None or results is None:
            return None
        of = comparisons[(comparisons["experiment"] == self.experiment) & (comparisons["baseline"] == self.against)]
        of = of[_primary(of)]
        if of.empty:
            return None
        (row,) = of.itertuples()
        base = results[(results["experiment"] == self.against) & (results["split"] == "test") & _primary(results)]
        sign = 1 if self.claimed == "better" else -1
        low, high = sorted((sign * row.ci_low, sign * row.ci_high))
        worth = WORTH_HAVING * base["value"].mean()
        return (
            f"{row.difference:+.4f} [{row.ci_low:+.4f}, {row.ci_high:+.4f}], p (Holm) {row.p_holm:.4f}, "
            f"{row.users} users, {row.seeds} seeds",
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

    def judge(self, reports: Path) -> tuple[str, Verdict] | None:
        """Evidence as a sentence and the verdict; None where the data set has none."""
        table = _read(reports, "attention")
        of = None if table is None else table[table["modality"] == self.modality]
        if of is None or of.empty:
            return None
        (row,) = of.itertuples()
        seen = row.p_holm < LEVEL and row.observed > row.chance_high
        evidence = (
            f"resemblance {row.observed:.3f}, by chance {row.chance:.3f} [{row.chance_low:.3f}, "
            f"{row.chance_high:.3f}], p (Holm) {row.p_holm:.4f}, {row.users} users"
        )
        return evidence, "supported" if seen else "not supported" if row.observed <= row.chance else "inconclusive"


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
            f"NDCG@10 falls with {self.modality} at {how}: the 95 % interval over seeds of the loss lies above 0; "
            f"not supported: a loss of {WORTH_HAVING:.0%} is excluded"
        )

    def judge(self, reports: Path) -> tuple[str, Verdict] | None:
        """Evidence as a sentence and the verdict; None where the data set has none."""
        table = _read(reports, "robustness")
        of = None if table is None else table[table["modality"] == self.modality]
        if of is None or of.empty:
            return None
        whole = of[(of["kind"] == "missing") & (of["level"] == 0)].set_index("model")["ndcg_10"]
        after = of[(of["kind"] == self.kind) & (of["level"] == self.level)].set_index("model")["ndcg_10"]
        mean, low, high = mean_interval((whole - after).to_numpy())
        evidence = f"loss {mean:+.4f} [{low:+.4f}, {high:+.4f}] of {whole.mean():.4f}, {len(whole)} seeds"
        return evidence, _verdict(low, high, WORTH_HAVING * whole.mean(), True)


def _verdict(low: float, high: float, worth: float, certain: bool) -> Verdict:
    if low > 0 and certain:
        return "supported"
    return "not supported" if high < worth else "inconclusive"


def _primary(table: pd.DataFrame) -> pd.Series:
    return (table["protocol"] == "full_unseen") & (table["metric"] == "ndcg") & (table["k"] == 10)


def _read(reports: Path, name: str) -> pd.DataFrame | None:
    path = reports / f"{name}.csv"
    return pd.read_csv(path) if path.exists() else None


Evidence = Annotated[Compared | Attended | Disturbed, Field(discriminator="table")]


@dataclass(frozen=True, kw_only=True, config=STRICT)
class Claim:
    """What is claimed, by whom, and what is asked of the tables."""

    statement: str
    source: str
    evidence: Evidence


def load(path: Path) -> dict[str, Claim]:
    """Read claims.yaml: id -> claim.

    Raises:
        ConfigError: naming the claim and the key that is wrong.
    """
    raw = YAML(typ="safe").load(path)
    try:
        return TypeAdapter(dict[Name, Claim]).validate_json(json.dumps(raw))
    except ValidationError as error:
        problems = [f"{'.'.join(map(str, problem['loc']))}: {problem['msg']}" for problem in error.errors()]
        raise ConfigError(f"{path.name}: {'; '.join(problems)}") from None


def judge(claims: dict[str, Claim], reports: dict[str, Path]) -> pd.DataFrame:
    """claims.csv: a row for each claim and data set that has evidence.

    Args:
        reports: data set -> the folder of its tables.
    """
    rows = []
    for name, claim in claims.items():
        for dataset, folder in reports.items():
            if found := claim.evidence.judge(folder):
                rows.append((name, claim.statement, claim.source, claim.evidence.rule, dataset, *found))
    return pd.DataFrame(rows, columns=COLUMNS)


def overview(judged: pd.DataFrame) -> pd.DataFrame:
    """For reading: a row a claim, a column a data set, verdicts inside; blank: no evidence."""
    wide = judged.pivot(index="id", columns="dataset", values="verdict")
    return wide.loc[judged["id"].unique(), judged["dataset"].unique()].fillna("")


def story(judged: pd.DataFrame) -> str:
    """Every claim with its rule, and below it the evidence and the verdict of each data set."""
    lines = []
    for (name, statement, rule), rows in judged.groupby(["id", "statement", "rule"], sort=False):
        lines += [f"{name}: {statement}", f"    rule: {rule}"]
        lines += [f"    {row.dataset}: {row.verdict}; {row.evidence}" for row in rows.itertuples()]
    return "\n".join(lines)


def as_markdown(judged: pd.DataFrame) -> str:
    """The table of README: a row a claim, a column a data set."""
    table = overview(judged)
    statements = judged.drop_duplicates("id").set_index("id")["statement"]
    rows = [["claim", *table.columns], ["---"] * (1 + len(table.columns))]
    rows += [[statements[name], *verdicts] for name, verdicts in zip(table.index, table.to_numpy(), strict=True)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
