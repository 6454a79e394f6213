from pathlib import Path

import pandas as pd
import pytest

from mmrec import claims, config
from mmrec.config import ConfigError

ROOT = Path(__file__).parents[2]
BETTER = {"table": "comparisons", "experiment": "maf", "against": "sasrec"}


def claim(**evidence):
    kinds = {"comparisons": claims.Compared, "attention": claims.Attended, "robustness": claims.Disturbed}
    return claims.Claim(statement="s", source="p", evidence=kinds[evidence["table"]](**evidence))


def write_comparison(folder, low, high, p_holm, base=0.1):
    row = {"experiment": "maf", "baseline": "sasrec", "protocol": "full_unseen", "metric": "ndcg", "k": 10}
    row |= {"difference": (low + high) / 2, "ci_low": low, "ci_high": high, "p_holm": p_holm, "users": 9, "seeds": 5}
    decoys = [row | {"k": 5, "ci_low": 1.0}, row | {"protocol": "full_all", "ci_low": 1.0}, row | {"baseline": "other"}]
    pd.DataFrame([*decoys, row]).to_csv(folder / "comparisons.csv", index=False)
    value = {"experiment": "sasrec", "split": "test", "protocol": "full_unseen", "metric": "ndcg", "k": 10}
    results = [value | {"value": base * 0.9}, value | {"value": base * 1.1}, value | {"split": "valid", "value": 9.0}]
    pd.DataFrame(results).to_csv(folder / "results.csv", index=False)


@pytest.mark.parametrize(
    "low, high, p_holm, better, worse",
    [
        (0.001, 0.02, 0.01, "supported", "not supported"),
        (0.001, 0.02, 0.20, "inconclusive", "not supported"),  # chance is not excluded
        (-0.001, 0.02, 0.01, "inconclusive", "not supported"),
        (-0.001, 0.004, 0.9, "not supported", "not supported"),  # 5 % of 0.1 are excluded on both sides
        (-0.02, 0.02, 0.9, "inconclusive", "inconclusive"),
        (-0.02, -0.001, 0.01, "not supported", "supported"),
    ],
)
def test_a_comparison_is_judged_by_its_interval(tmp_path, low, high, p_holm, better, worse):
    write_comparison(tmp_path, low, high, p_holm)
    evidence, verdict = claim(**BETTER).evidence.judge(tmp_path)
    assert verdict == better
    assert f"[{low:+.4f}, {high:+.4f}]" in evidence and "9 users, 5 seeds" in evidence
    assert claim(**BETTER, claimed="worse").evidence.judge(tmp_path)[1] == worse


def test_what_is_worth_having_is_measured_by_what_it_is_compared_with(tmp_path):
    write_comparison(tmp_path, -0.001, 0.004, 0.9, base=0.1)
    assert claim(**BETTER).evidence.judge(tmp_path)[1] == "not supported"
    write_comparison(tmp_path, -0.001, 0.004, 0.9, base=0.07)
    assert claim(**BETTER).evidence.judge(tmp_path)[1] == "inconclusive"


@pytest.mark.parametrize(
    "observed, p_holm, verdict",
    [(0.5, 0.01, "supported"), (0.5, 0.06, "inconclusive"), (0.25, 0.2, "inconclusive"), (0.19, 1, "not supported")],
)
def test_attention_is_judged_against_permutations(tmp_path, observed, p_holm, verdict):
    row = {"modality": "image", "observed": observed, "chance": 0.2, "chance_low": 0.1, "chance_high": 0.3}
    rows = [row | {"p_holm": p_holm, "users": 7}, row | {"modality": "text", "observed": 0.9, "p_holm": 0, "users": 7}]
    pd.DataFrame(rows).to_csv(tmp_path / "attention.csv", index=False)
    assert claim(table="attention", modality="image").evidence.judge(tmp_path)[1] == verdict
    assert claim(table="attention", modality="category").evidence.judge(tmp_path) is None


@pytest.mark.parametrize(
    "losses, verdict",
    [
        ([0.02, 0.03, 0.025], "supported"),
        ([0.001, -0.001, 0.0], "not supported"),
        ([0.03, -0.02, 0.01], "inconclusive"),
        ([-0.02, -0.03, -0.025], "not supported"),
    ],
)
def test_a_loss_under_disturbance_is_paired_by_model(tmp_path, losses, verdict):
    whole = [0.10, 0.20, 0.30]  # models differ more than they lose
    rows = []
    for model, (before, loss) in enumerate(zip(whole, losses, strict=True)):
        rows.append(("missing", "image", 0.0, model, before))
        rows.append(("noise", "image", 2.0, model, before - loss))
        rows.append(("noise", "image", 1.0, model, before - 9))
        rows.append(("missing", "text", 0.0, model, 9.0))
    table = pd.DataFrame(rows, columns=["kind", "modality", "level", "model", "ndcg_10"])
    table.sample(frac=1, random_state=0).to_csv(tmp_path / "robustness.csv", index=False)
    evidence, found = claim(table="robustness", kind="noise", modality="image", level=2.0).evidence.judge(tmp_path)
    assert found == verdict and "of 0.2000, 3 seeds" in evidence


def test_what_has_no_evidence_has_no_row(tmp_path):
    (tmp_path / "bare").mkdir()
    (tmp_path / "shop").mkdir()
    write_comparison(tmp_path / "shop", 0.01, 0.02, 0.001)
    asked = {"gain": claim(**BETTER), "other": claim(**BETTER | {"experiment": "nova"})}
    judged = claims.judge(asked, {name: tmp_path / name for name in ("bare", "shop")})
    assert judged[["id", "dataset", "verdict"]].to_numpy().tolist() == [["gain", "shop", "supported"]]
    assert list(judged) == claims.COLUMNS
    assert judged["rule"].item() == asked["gain"].evidence.rule


def test_tables_for_readers(tmp_path):
    rows = [("b", "second", "shop", "supported"), ("a", "first", "shop", "inconclusive"), ("a", "first", "null", "x")]
    judged = pd.DataFrame(
        [
            dict.fromkeys(claims.COLUMNS, "?") | dict(zip(("id", "statement", "dataset", "verdict"), row, strict=True))
            for row in rows
        ]
    )
    assert claims.as_markdown(judged).splitlines() == [
        "| claim | shop | null |",
        "| --- | --- | --- |",
        "| second | supported |  |",
        "| first | inconclusive | x |",
    ]
    assert claims.story(judged).splitlines()[0] == "b: second"


@pytest.mark.parametrize(
    "text, message",
    [
        ("a: {statement: s, source: p}", "a.evidence: Missing|a.evidence: Field required"),
        ("a: {statement: s, source: p, evidence: {table: nowhere}}", "a.evidence: .*nowhere"),
        ("a: {statement: s, source: p, evidence: {table: attention, modality: image, k: 1}}", "k: Unexpected"),
        ("A b: {statement: s, source: p, evidence: {table: attention, modality: image}}", "A b"),
        (
            "a: {statement: s, source: p, evidence: {table: robustness, kind: noise, modality: image, level: 0}}",
            "level: .*greater than 0",
        ),
    ],
)
def test_a_wrong_entry_is_named(tmp_path, text, message):
    (tmp_path / "claims.yaml").write_text(text + "\n")
    with pytest.raises(ConfigError, match=f"claims.yaml: .*({message})"):
        claims.load(tmp_path / "claims.yaml")


def test_registered_claims_ask_for_experiments_that_exist():

    known = {e for group in config.load(ROOT / "params.yaml").experiments.values() for e in group}
    for name, registered in claims.load(ROOT / "notebooks" / "claims.yaml").items():
        if isinstance(registered.evidence, claims.Compared):
            assert {registered.evidence.experiment, registered.evidence.against} <= known, name
