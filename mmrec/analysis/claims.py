"""Claims of the paper, each with a rule, judged by the tables of every data set.

references/claims.yaml holds the claims and says which results had been read when they were written. `evidence` holds
the rules. A claim is judged on the data sets with its tables: claims.csv has no row without evidence.
"""

from pathlib import Path

import pandas as pd
from ruamel.yaml import YAML

from mmrec.analysis.evidence import Evidence
from mmrec.config.types import Name, section, validate

COLUMNS = ["id", "statement", "source", "rule", "dataset", "evidence", "verdict"]


@section
class Claim:
    """A statement, its source in the paper card, and the evidence that judges it."""

    statement: str
    source: str
    evidence: Evidence


def load(path: Path) -> dict[str, Claim]:
    """Read claims.yaml: id -> claim. A ConfigError names the claim and the wrong key."""
    return validate(dict[Name, Claim], YAML(typ="safe").load(path), path.name)


def judge(claims: dict[str, Claim], tables: dict[str, Path]) -> pd.DataFrame:
    """claims.csv: a row for each claim and data set with evidence; `tables` holds the folder of each data set."""
    rows = [
        (name, claim.statement, claim.source, claim.evidence.rule, dataset, *found)
        for name, claim in claims.items()
        for dataset, folder in tables.items()
        if (found := claim.evidence.judge(folder))
    ]
    return pd.DataFrame(rows, columns=COLUMNS)


def overview(judged: pd.DataFrame) -> pd.DataFrame:
    """Verdicts, a row a claim, a column a data set; blank: no evidence."""
    wide = judged.pivot(index="id", columns="dataset", values="verdict")
    return wide.loc[judged["id"].unique(), judged["dataset"].unique()].fillna("")


def story(judged: pd.DataFrame) -> str:
    """Every claim with its rule, and below it verdict and evidence of each data set."""
    lines = []
    for (name, statement, rule), rows in judged.groupby(["id", "statement", "rule"], sort=False):
        lines += [f"{name}: {statement}", f"    rule: {rule}"]
        lines += [f"    {row.dataset}: {row.verdict}; {row.evidence}" for row in rows.itertuples()]
    return "\n".join(lines)


def as_markdown(judged: pd.DataFrame) -> str:
    """`overview` with statements, for README. `DataFrame.to_markdown` would pad cells to the longest statement."""
    table = overview(judged)
    table.insert(0, "claim", judged.drop_duplicates("id").set_index("id")["statement"])
    rows = [table.columns, ["---"] * len(table.columns), *table.to_numpy()]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)
