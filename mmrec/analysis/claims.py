"""Claims of the paper and questions of the replication, each with its rules, judged by the tables of every data set.

references/claims.yaml holds the claims and says which results had been read when they were written. `evidence` holds
the rules. A claim is judged on the data sets with its tables: claims.csv has no row without evidence. Variants of one
question are rows of its evidence, each with a verdict of its own.
"""

from pathlib import Path
from typing import Annotated, get_args

import pandas as pd
from pydantic import Field
from ruamel.yaml import YAML

from mmrec.analysis.evidence import Evidence, Verdict
from mmrec.config.types import Different, Name, section, validate

COLUMNS = ["id", "statement", "source", "rule", "dataset", "evidence", "verdict"]


@section
class Claim:
    """A statement, its source in the paper card, and the evidence that judges it."""

    statement: str
    source: str
    evidence: Annotated[tuple[Evidence, ...], Field(min_length=1), Different]


def load(path: Path) -> dict[str, Claim]:
    """Read claims.yaml: id -> claim. A ConfigError names the claim and the wrong key."""
    return validate(dict[Name, Claim], YAML(typ="safe").load(path), path.name)


def judge(claims: dict[str, Claim], tables: dict[str, Path]) -> pd.DataFrame:
    """claims.csv: a row for each row of evidence and data set with it; `tables` holds the folder of each data set."""
    rows = [
        (name, claim.statement, claim.source, evidence.rule, dataset, *found)
        for name, claim in claims.items()
        for evidence in claim.evidence
        for dataset, folder in tables.items()
        if (found := evidence.judge(folder))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def overview(judged: pd.DataFrame) -> pd.DataFrame:
    """Verdicts, a row a claim, a column a data set; blank: no evidence. Different verdicts of a claim are counted."""
    wide = judged.pivot_table(index="id", columns="dataset", values="verdict", aggfunc=_together)
    return wide.loc[judged["id"].unique(), judged["dataset"].unique()].fillna("")


def _together(verdicts: pd.Series) -> str:
    counts = verdicts.value_counts().reindex(get_args(Verdict)).dropna().astype(int)
    return counts.index[0] if len(counts) == 1 else ", ".join(f"{count} {verdict}" for verdict, count in counts.items())


def story(judged: pd.DataFrame) -> str:
    """Every claim, its rules, and below each rule verdict and evidence of each data set."""
    lines = []
    for (name, statement), rows in judged.groupby(["id", "statement"], sort=False):
        lines.append(f"{name}: {statement}")
        for rule, by in rows.groupby("rule", sort=False):
            lines.append(f"    rule: {rule}")
            lines += [f"    {row.dataset}: {row.verdict}; {row.evidence}" for row in by.itertuples()]
    return "\n".join(lines)
