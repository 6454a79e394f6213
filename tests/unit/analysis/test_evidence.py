import json

import pandas as pd
import pytest
from pydantic import TypeAdapter, ValidationError

from mmrec.analysis import evidence

BETTER = {"table": "comparisons", "experiment": "maf", "baseline": "sasrec"}


def asked(**settings):
    return TypeAdapter(evidence.Evidence).validate_json(json.dumps(settings))


def write_comparison(folder, low, high, p_holm, base=0.1):
    row = {"experiment": "maf", "baseline": "sasrec", "protocol": "full_unseen", "metric": "ndcg", "k": 10}
    row |= {"difference": (low + high) / 2, "ci_low": low, "ci_high": high, "p_holm": p_holm, "users": 9, "seeds": 5}
    row["effect"] = 0.25
    decoys = [row | {"k": 5, "ci_low": 1.0}, row | {"protocol": "full_all", "ci_low": 1.0}, row | {"baseline": "other"}]
    pd.DataFrame([*decoys, row]).to_csv(folder / "comparisons.csv", index=False)
    value = {"experiment": "sasrec", "split": "test", "protocol": "full_unseen", "metric": "ndcg", "k": 10}
    results = [value | {"value": base * 0.9}, value | {"value": base * 1.1}, value | {"split": "valid", "value": 9.0}]
    pd.DataFrame(results).to_csv(folder / "results.csv", index=False)


@pytest.mark.parametrize(
    "low, high, p_holm, better, worse",
    [
        (0.001, 0.02, 0.01, "supported", "not supported"),
        (0.001, 0.012, 0.20, "inconclusive", "not supported"),  # chance is not excluded
        (-0.001, 0.012, 0.01, "inconclusive", "not supported"),
        (-0.001, 0.004, 0.9, "not supported", "not supported"),  # 5 % of 0.1 are excluded on both sides
        (-0.0069, 0.0069, 0.9, "inconclusive", "inconclusive"),  # 0.71 of its width is 10 % of 0.1
        (-0.0071, 0.0071, 0.9, "underpowered", "underpowered"),
        (-0.02, -0.001, 0.01, "not supported", "supported"),
    ],
)
def test_a_comparison_is_judged_by_its_interval(tmp_path, low, high, p_holm, better, worse):
    write_comparison(tmp_path, low, high, p_holm)
    said, verdict = asked(**BETTER).judge(tmp_path)
    assert verdict == better
    assert f"[{low:+.4f}, {high:+.4f}]" in said and "+0.250 deviations of users" in said and "9 users, 5 seeds" in said
    assert asked(**BETTER, claimed="worse").judge(tmp_path)[1] == worse


def test_an_interval_of_zero_width_at_zero_is_inconclusive(tmp_path):
    write_comparison(tmp_path, 0.0, 0.0, 1.0, base=0.0)
    assert asked(**BETTER).judge(tmp_path)[1] == "inconclusive"


def test_comparisons_with_maf_are_read_from_baselines(tmp_path):
    write_comparison(tmp_path, -0.02, -0.001, 0.01)
    turned = asked(**(BETTER | {"table": "baselines"}), claimed="worse")
    assert turned.judge(tmp_path) is None
    (tmp_path / "comparisons.csv").rename(tmp_path / "baselines.csv")
    assert turned.judge(tmp_path)[1] == "supported" and asked(**BETTER).judge(tmp_path) is None


def test_the_excluded_effect_is_relative_to_the_base(tmp_path):
    write_comparison(tmp_path, -0.001, 0.004, 0.9, base=0.1)
    assert asked(**BETTER).judge(tmp_path)[1] == "not supported"
    write_comparison(tmp_path, -0.001, 0.004, 0.9, base=0.07)
    assert asked(**BETTER).judge(tmp_path)[1] == "inconclusive"


@pytest.mark.parametrize(
    "low, high, p_holm, verdict",
    [
        (0.01, 0.03, 0.01, "supported"),
        (0.01, 0.03, 0.06, "inconclusive"),
        (-0.01, 0.03, 0.01, "inconclusive"),
        (-0.03, -0.01, 0.01, "not supported"),
    ],
)
def test_attention_of_maf_is_judged_against_that_of_sasrec(tmp_path, low, high, p_holm, verdict):
    row = {"modality": "image", "ours": 0.3, "theirs": 0.2, "difference": (low + high) / 2, "ci_low": low}
    row |= {"ci_high": high, "p_holm": p_holm, "users": 7, "seeds": 3}
    other = row | {"modality": "text", "ci_low": 0.4, "ci_high": 0.5, "p_holm": 0.0}
    pd.DataFrame([row, other]).to_csv(tmp_path / "attention_compared.csv", index=False)
    said, found = asked(table="attention_compared", modality="image").judge(tmp_path)
    assert found == verdict and f"[{low:+.4f}, {high:+.4f}]" in said and "7 users, 3 seeds" in said
    assert asked(table="attention_compared", modality="category").judge(tmp_path) is None


def write_shares(folder, text, category, base=0.1):
    """Of `text`, which has the larger share, and of `category`: loss, its interval, p after Holm."""
    shares = [("item", 0.9), ("text", 0.08), ("category", 0.02)]
    rows = [
        {"layer": layer, "stream": stream, "share": share + spread, "seed": seed}
        for seed, spread in ((0, 0.01), (1, -0.01))
        for layer in (1, 2)
        for stream, share in shares
    ]
    pd.DataFrame(rows).to_csv(folder / "stream_shares.csv", index=False)
    rows = []
    for modality, (loss, low, high, p_holm) in {
        "text": text,
        "category": category,
        "all": (0.09, 0.08, 0.1, 0),
    }.items():
        row = {"kind": "missing", "modality": modality, "level": 1.0, "ndcg_10": base - loss, "loss": loss}
        row |= {"ci_low": low, "ci_high": high, "p_holm": p_holm, "users": 9, "seeds": 2}
        rows += [row, row | {"level": 0.5, "ci_low": 9}, row | {"kind": "noise", "ci_low": 9}]
    pd.DataFrame(rows).to_csv(folder / "robustness.csv", index=False)


CERTAIN, SMALL, UNSURE = (0.02, 0.014, 0.026, 0.01), (0.001, -0.002, 0.004, 1.0), (0.02, -0.01, 0.05, 0.2)


@pytest.mark.parametrize(
    "text, category, verdict",
    [
        (CERTAIN, SMALL, "supported"),
        ((*CERTAIN[:3], 0.06), SMALL, "inconclusive"),
        (CERTAIN, (0.025, 0.01, 0.04, 0.01), "inconclusive"),  # the other's loss is larger, if not surely
        (CERTAIN, (0.05, 0.04, 0.06, 0.01), "not supported"),  # surely
        (SMALL, SMALL, "not supported"),
        (SMALL, CERTAIN, "not supported"),
        (UNSURE, SMALL, "underpowered"),
    ],
)
def test_shares_are_judged_by_the_loss_without_the_modality(tmp_path, text, category, verdict):
    write_shares(tmp_path, text, category)
    said, found = asked(table="stream_shares").judge(tmp_path)
    assert found == verdict
    assert said.startswith(f"text has 8%, its absence costs {text[0]:+.4f}") and "category has 2%" in said
    (tmp_path / "stream_shares.csv").unlink()
    assert asked(table="stream_shares").judge(tmp_path) is None


def test_shares_are_inconclusive_if_seeds_disagree(tmp_path):
    write_shares(tmp_path, CERTAIN, SMALL)
    table = pd.read_csv(tmp_path / "stream_shares.csv")
    table.loc[(table["stream"] == "category") & (table["seed"] == 1), "share"] = 0.1  # text has 0.07 there
    table.to_csv(tmp_path / "stream_shares.csv", index=False)
    assert asked(table="stream_shares").judge(tmp_path)[1] == "inconclusive"


def test_shares_of_a_single_modality_are_no_evidence(tmp_path):
    write_shares(tmp_path, CERTAIN, SMALL)
    table = pd.read_csv(tmp_path / "robustness.csv")
    table[table["modality"] != "category"].to_csv(tmp_path / "robustness.csv", index=False)
    assert asked(table="stream_shares").judge(tmp_path) is None


INTERVALS = [
    (0.02, 0.03, 0.01, "supported"),
    (0.02, 0.03, 0.06, "inconclusive"),
    (-0.001, 0.003, 0.5, "not supported"),
    (-0.01, 0.015, 0.5, "inconclusive"),
    (-0.02, 0.03, 0.5, "underpowered"),
    (-0.03, -0.02, 0.01, "not supported"),
]


@pytest.mark.parametrize("low, high, p_holm, verdict", INTERVALS)
def test_a_loss_under_disturbance_is_judged_by_its_interval(tmp_path, low, high, p_holm, verdict):
    columns = ["kind", "modality", "level", "ndcg_10", "loss", "ci_low", "ci_high", "p_holm", "users", "seeds"]
    rows = [
        ("noise", "image", 2.0, 0.2 - (low + high) / 2, (low + high) / 2, low, high, p_holm, 7, 3),
        ("noise", "image", 0.0, 0.2, 0, 0, 0, 1, 7, 3),
        *[("noise", "image", 1.0, 9, 9, 9, 9, 0, 7, 3), ("missing", "image", 2.0, 9, 9, 9, 9, 0, 7, 3)],
        *[("noise", "text", 2.0, 9, 9, 9, 9, 0, 7, 3), ("missing", "image", 0.0, 9, 0, 0, 0, 1, 7, 3)],
    ]
    pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=0).to_csv(tmp_path / "robustness.csv", index=False)
    said, found = asked(table="robustness", kind="noise", modality="image", level=2.0, experiment="maf").judge(tmp_path)
    assert found == verdict and "of 0.2000" in said and "7 users, 3 seeds" in said
    assert (
        asked(table="robustness", kind="noise", modality="category", level=2.0, experiment="maf").judge(tmp_path)
        is None
    )
    pd.read_csv(tmp_path / "robustness.csv").assign(experiment="item_vector").to_csv(
        tmp_path / "robustness.csv", index=False
    )
    same = {"table": "robustness", "kind": "noise", "modality": "image", "level": 2.0}
    assert asked(**same, experiment="maf").judge(tmp_path) is None
    assert asked(**same, experiment="item_vector").judge(tmp_path)[1] == verdict


def test_a_comparison_under_another_protocol_is_judged_by_that(tmp_path):
    write_comparison(tmp_path, 0.001, 0.02, 0.01)
    assert asked(**BETTER, protocol="sampled_100").judge(tmp_path) is None
    of = pd.read_csv(tmp_path / "comparisons.csv").assign(protocol="sampled_100", ci_low=-0.02, ci_high=-0.01)
    of.query("k == 10 and baseline == 'sasrec'").iloc[-1:].to_csv(tmp_path / "comparisons.csv", index=False)
    pd.read_csv(tmp_path / "results.csv").assign(protocol="sampled_100").to_csv(tmp_path / "results.csv", index=False)
    assert asked(**BETTER, protocol="sampled_100").judge(tmp_path)[1] == "not supported"
    assert asked(**BETTER).judge(tmp_path) is None


@pytest.mark.parametrize("low, high, p_holm, verdict", INTERVALS)
def test_a_gain_by_modality_dropout_is_judged_by_its_interval(tmp_path, low, high, p_holm, verdict):
    columns = ["kind", "modality", "level", "without", "extra", "extra_low", "extra_high", "extra_p_holm"]
    rows = [
        ("missing", "image", 1.0, 0.2, (low + high) / 2, low, high, p_holm),
        *[("missing", "image", 0.5, 9, 9, 9, 9, 0), ("missing", "text", 1.0, 9, 9, 9, 9, 0)],
    ]
    table = pd.DataFrame(rows, columns=columns).sample(frac=1, random_state=0).assign(users=7, seeds=3)
    plain = {"difference": 9.0, "ci_low": 9.0, "ci_high": 9.0, "p_holm": 0.0}
    table.assign(**plain).to_csv(tmp_path / "modality_dropout.csv", index=False)
    said, found = asked(table="modality_dropout", modality="image", level=1.0).judge(tmp_path)
    assert found == verdict and "above 0.2000" in said and "7 users, 3 seeds" in said
    assert asked(table="modality_dropout", modality="category", level=1.0).judge(tmp_path) is None
    table.drop(columns="extra").assign(**plain).to_csv(tmp_path / "modality_dropout.csv", index=False)
    assert asked(table="modality_dropout", modality="image", level=1.0).judge(tmp_path) is None


@pytest.mark.parametrize("low, high, p_holm, verdict", INTERVALS)
def test_cold_items_are_judged_by_their_auc(tmp_path, low, high, p_holm, verdict):
    row = {"experiment": "maf", "auc": 0.3, "baseline": 0.2, "difference": (low + high) / 2, "ci_low": low}
    row |= {"ci_high": high, "p_holm": p_holm, "users": 7, "seeds": 3}
    pd.DataFrame([row, row | {"experiment": "other", "ci_low": 9.0}]).to_csv(tmp_path / "cold.csv", index=False)
    said, found = asked(table="cold", experiment="maf").judge(tmp_path)
    assert found == verdict and "to 0.2000" in said and "7 users, 3 seeds" in said


@pytest.mark.parametrize(
    "low, high, p_value, verdict",
    [
        (0.01, 0.03, 0.001, "supported"),
        (0.01, 0.02, 0.03, "inconclusive"),  # one of two parts: Holm doubles it
        (-0.02, 0.004, 0.5, "not supported"),  # 5 % of 0.1
        (-0.02, 0.03, 0.5, "underpowered"),
    ],
)
def test_a_slice_is_corrected_over_its_parts(tmp_path, low, high, p_value, verdict):
    row = {"slice": "popularity", "label": "0", "users": 7, "experiment": "maf", "baseline": 0.1}
    row |= {"difference": (low + high) / 2, "ci_low": low, "ci_high": high, "p_value": p_value}
    other = row | {"label": "1 to 3", "ci_low": 9.0, "p_value": 0.9}
    decoys = [row | {"experiment": "popularity", "ci_low": 9.0}, row | {"slice": "history", "ci_low": 9.0}]
    pd.DataFrame([*decoys, row, other]).to_csv(tmp_path / "slices.csv", index=False)
    said, found = asked(table="slices", slice="popularity", label="0", experiment="maf").judge(tmp_path)
    assert found == verdict and "7 users" in said
    assert asked(table="slices", slice="popularity", label="9", experiment="maf").judge(tmp_path) is None


def test_the_lowest_part_is_the_first_above_0(tmp_path):
    row = {"slice": "popularity", "users": 7, "experiment": "maf", "baseline": 0.1, "difference": 0.02}
    row |= {"ci_low": 0.01, "ci_high": 0.03, "p_value": 0.9}
    parts = [row | {"label": "0"}, row | {"label": "1 to 3", "p_value": 0.001}, row | {"label": "4 to 9"}]
    lowest = asked(table="slices", slice="popularity", label="lowest", experiment="maf")
    for table in (parts, parts[1:]):
        pd.DataFrame(table).to_csv(tmp_path / "slices.csv", index=False)
        said, found = lowest.judge(tmp_path)
        assert found == "supported" and said.startswith("1 to 3: ")
    pd.DataFrame(parts[:1]).to_csv(tmp_path / "slices.csv", index=False)
    assert lowest.judge(tmp_path) is None


@pytest.mark.parametrize(
    "cosines, verdict",
    [
        ([-0.1, -0.12, -0.11], "supported"),
        ([-0.04, -0.03, -0.035], "not supported"),  # below 0, but by less than is of interest
        ([-0.1, 0.2, 0.0], "inconclusive"),
    ],
)
def test_tasks_conflict_if_their_gradients_do(tmp_path, cosines, verdict):
    rows = [("id, image", seed, cosine, 0.25) for seed, cosine in enumerate(cosines)] + [("id, text", 0, 9.0, 0.0)]
    table = pd.DataFrame(rows, columns=["tasks", "seed", "cosine", "conflicting"])
    table.to_csv(tmp_path / "gradient_agreement.csv", index=False)
    said, found = asked(table="gradient_agreement", modality="image").judge(tmp_path)
    assert found == verdict and "25.0% of the steps, 3 seeds" in said
    assert asked(table="gradient_agreement", modality="category").judge(tmp_path) is None


def test_conflicts_are_corrected_over_the_auxiliary_tasks(tmp_path):
    cosines = [-0.15, -0.2, -0.25]  # p = 0.035 by itself
    rows = [("id, image", seed, cosine, 0.5) for seed, cosine in enumerate(cosines)]

    def verdict(*others):
        table = pd.DataFrame(rows + list(others), columns=["tasks", "seed", "cosine", "conflicting"])
        table.to_csv(tmp_path / "gradient_agreement.csv", index=False)
        return asked(table="gradient_agreement", modality="image").judge(tmp_path)[1]

    assert verdict() == "supported"
    assert verdict(*[("image, text", seed, 0.3, 0.0) for seed in range(3)]) == "supported"  # of another pair
    assert verdict(*[("id, text", seed, 0.3 - 0.2 * seed, 0.0) for seed in range(3)]) == "inconclusive"


@pytest.mark.parametrize(
    "wrong, message",
    [
        (BETTER | {"modality": "image"}, "needs the keys experiment, baseline"),
        (
            {"table": "gradient_agreement", "modality": "image", "protocol": "full_all"},
            r"needs the keys modality \(optional: none\), got",
        ),
        ({"table": "stream_shares", "modality": "image"}, r"needs the keys none \(optional: none\), got"),
        (
            {"table": "robustness", "kind": "noise", "modality": "image"},
            "needs the keys kind, modality, level, experiment",
        ),
        (
            {"table": "attention_compared", "modality": "image", "claimed": "worse"},
            r"needs the keys modality \(optional: none\), got",
        ),
    ],
)
def test_evidence_takes_the_keys_of_its_table_alone(wrong, message):
    with pytest.raises(ValidationError, match=message):
        asked(**wrong)


def test_a_comparison_without_results_has_no_base(tmp_path):
    write_comparison(tmp_path, 0.001, 0.02, 0.01)
    (tmp_path / "results.csv").unlink()
    assert asked(**BETTER).judge(tmp_path) is None


def test_every_kind_has_a_rule_and_no_evidence_without_its_table(tmp_path):
    kinds = [
        BETTER,
        {"table": "attention_compared", "modality": "image"},
        {"table": "robustness", "kind": "noise", "modality": "image", "level": 1.0, "experiment": "maf"},
        {"table": "cold", "experiment": "maf"},
        {"table": "modality_dropout", "modality": "image", "level": 1.0},
        {"table": "stream_shares"},
        {"table": "slices", "slice": "popularity", "label": "0", "experiment": "maf"},
        {"table": "gradient_agreement", "modality": "image"},
    ]
    kinds.append(BETTER | {"table": "baselines"})
    assert {kind["table"] for kind in kinds} == set(evidence.KINDS)
    for kind in kinds:
        assert asked(**kind).judge(tmp_path) is None
        assert "not supported:" in asked(**kind).rule
