from pathlib import Path

import pandas as pd
import pytest

from mmrec import config
from mmrec.analysis import claims, evidence
from mmrec.config import ConfigError
from mmrec.report import generated

ROOT = Path(__file__).parents[3]


def claim(*experiments):
    asked = [evidence.Evidence(table="comparisons", experiment=name, baseline="sasrec") for name in experiments]
    return claims.Claim(statement="s", source="p", evidence=tuple(asked))


def test_claims_without_evidence_have_no_row(tmp_path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "shop").mkdir()
    measured = {"protocol": "full_unseen", "metric": "ndcg", "k": 10}
    row = measured | {"experiment": "maf", "baseline": "sasrec", "difference": 0.015, "ci_low": 0.01, "ci_high": 0.02}
    row |= {"effect": 0.1, "p_holm": 0.001, "users": 9, "seeds": 5}
    pd.DataFrame([row]).to_csv(tmp_path / "shop" / "comparisons.csv", index=False)
    base = measured | {"experiment": "sasrec", "split": "test", "value": 0.1}
    pd.DataFrame([base]).to_csv(tmp_path / "shop" / "results.csv", index=False)
    asked = {"gain": claim("nova", "maf"), "other": claim("nova")}
    judged = claims.judge(asked, {name: tmp_path / name for name in ("bare", "shop")})
    assert judged[["id", "dataset", "verdict"]].to_numpy().tolist() == [["gain", "shop", "supported"]]
    assert list(judged) == claims.COLUMNS
    assert judged["rule"].item() == asked["gain"].evidence[1].rule


def test_tables_for_readers(tmp_path):
    rows = [
        ("b", "second", "shop", "supported"),
        ("a", "first", "shop", "inconclusive"),
        ("a", "first", "null", "supported"),
    ]
    rows += [("a", "first", "shop", verdict) for verdict in ("supported", "inconclusive")]
    judged = pd.DataFrame(
        [
            dict.fromkeys(claims.COLUMNS, "?") | dict(zip(("id", "statement", "dataset", "verdict"), row, strict=True))
            for row in rows
        ]
    )
    assert generated.verdicts(judged).splitlines() == [
        "| claim | shop | null |",
        "| --- | --- | --- |",
        "| second | supported |  |",
        "| first | 1 supported, 2 inconclusive | supported |",
    ]
    assert claims.story(judged).splitlines()[0] == "b: second"


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: {statement: s, source: p}", "a.evidence: Missing|a.evidence: Field required"),
        ("a: {statement: s, source: p, evidence: [{table: nowhere}]}", "a.evidence.0.table: .*comparisons"),
        (
            "a: {statement: s, source: p, evidence: [{table: attention_compared, modality: image, k: 1}]}",
            "k: no such key; one of .*modality",
        ),
        ("A b: {statement: s, source: p, evidence: [{table: attention_compared, modality: image}]}", "A b"),
        (
            "a: {statement: s, source: p, evidence: [{table: robustness, kind: noise, modality: image, level: 0}]}",
            "level: .*greater than 0",
        ),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, text, message):
    (tmp_path / "claims.yaml").write_text(text + "\n")
    with pytest.raises(ConfigError, match=rf"^claims\.yaml\..*({message})"):
        claims.load(tmp_path / "claims.yaml")


def test_registered_claims_ask_for_experiments_that_exist():
    known = {e for group in config.load(ROOT / "params.yaml").experiments.values() for e in group}
    for name, registered in claims.load(ROOT / "references" / "claims.yaml").items():
        named = {of for row in registered.evidence for of in (row.experiment, row.baseline)}
        assert named - {None} <= known, name
