"""The paper's claims, each with a rule, and what the evidence says.

references/claims.yaml holds the claims, and says which evidence had been seen when they were written; `evidence` their
rules; the evidence itself is in the tables of reports/<dataset>/. A claim is judged on every data set that has the
tables it asks for, and on no other: a row of claims.csv without evidence does not exist.
"""

import json
from pathlib import Path

import pandas as pd
from pydantic import TypeAdapter, ValidationError
from pydantic.dataclasses import dataclass
from ruamel.yaml import YAML

from mmrec.analysis.evidence import Evidence
from mmrec.config import STRICT, ConfigError, Name

COLUMNS = ["id", "statement", "source", "rule", "dataset", "evidence", "verdict"]


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
