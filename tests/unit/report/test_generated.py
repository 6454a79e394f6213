from pathlib import Path

import pandas as pd
import pytest

from mmrec import config
from mmrec.report import figures, generated

ROOT = Path(__file__).parents[3]
ROWS = [
    ("demo", "maf", 0.2, 0.1, 0.3, 0.15, 0.1, 1000, 3),
    ("shop", "maf", -0.02, -0.05, 0.01, 0.05, 0.05, 20_000, 5),
    ("shop", "item_vector", 0.12, 0.09, 0.15, 0.05, 0.05, 20_000, 5),
    ("shop", "item_vector_permuted", 0.2, 0.1, 0.3, 0.05, 0.05, 20_000, 5),
    ("tiny", "maf", 0.3, -0.3, 0.9, 0.8, 0.01, 90, 5),
]


@pytest.fixture
def table():
    columns = ["dataset", "experiment", "gain", "low", "high", "smallest", "base", "users", "seeds"]
    return pd.DataFrame(ROWS, columns=columns)


def test_findings_answer_with_data_that_could_tell(table, tmp_path, monkeypatch):
    monkeypatch.setattr(generated, "_best", lambda *_: {"shop": "item_vector", "tiny": "maf"})
    lines = generated.findings(config.Paths(tmp_path, tmp_path), None, table).splitlines()
    assert "(reading A) beat SASRec for certain on 0 of 1 real data sets" in lines[0]
    assert "Reading A: shop -2.0 % [-5.0 %, +1.0 %]. Reading B: not run yet." in lines[1]
    assert "scored: shop +12.0 % [+9.0 %, +15.0 %]; with the features of other items: shop +20.0 %" in lines[2]
    assert "demo +20.0 % [+10.0 %, +30.0 %]" in lines[3]
    assert "Validation prefers: shop `item_vector`. [By data set]" in lines[4]
    assert lines[-1].endswith(": tiny 80 %.")


def test_generated_shops_are_told_by_kind(table, tmp_path):
    paths = config.Paths(tmp_path, tmp_path)
    paths.reports().mkdir()
    shops = pd.DataFrame(
        {
            "kind": ["nothing", "nothing", "content"],
            "shop": [0, 1, 0],
            "experiment": ["maf", "maf", "item_vector"],
            "difference": [0.0, 0.1, 0.1],
            "base": 0.1,
            "verdict": ["inconclusive", "supported", "supported"],
        }
    )
    shops.to_csv(paths.reports() / "controls.csv", index=False)
    _, false, planted = generated.instruments(paths, table)
    assert false.startswith("False findings: 50.0 % [1.3 %, 98.7 %] of 2 verdicts on 2 generated shops")
    assert planted == "Found in shops with a planted channel: content planted, `item_vector` 1 of 1."


def test_the_headline_is_the_largest_certain_gain_of_real_data_with_its_own_features(table):
    assert generated.headline(table) == "item vector: +12% over SASRec on shop"
    assert generated.headline(table[table["experiment"] == "maf"]).startswith("On real data no channel")


def test_results_have_a_row_a_data_set_and_a_column_a_channel_that_ran(table):
    head, _, demo, shop, tiny = generated.results(table).splitlines()
    assert head == "| data set | users | SASRec | `maf` | `item_vector` | `item_vector_permuted` | smallest gain told |"
    assert demo.startswith("| demo | 1,000 | 0.1000 | +20.0 % [+10.0 %, +30.0 %] |  |  |") and tiny.endswith("| 80 % |")


def test_comparisons_that_could_not_tell_are_drawn_pale(table):
    (axes,) = figures.gains(table, generated.CHANNELS, 0.1, "title").axes
    drawn = {bars.get_label(): bars.lines[0].get_xdata().tolist() for bars in axes.containers}
    assert drawn["too few users"] == pytest.approx([30.0])
    assert drawn["certain, or could have told 10%"] == pytest.approx([20.0, -2.0, 12.0, 20.0])


def test_blocks_are_written_between_their_markers_and_an_unknown_one_is_named(tmp_path, monkeypatch, table):
    settings = config.load(ROOT / "params.yaml")
    monkeypatch.setattr(generated, "gains", lambda *_: table)
    monkeypatch.setattr(generated, "datasets", lambda *_: [])
    monkeypatch.setattr(generated, "origins", lambda _: "")
    (tmp_path / "reports").mkdir()
    pd.DataFrame(columns=["id", "statement", "dataset", "verdict"]).to_csv(tmp_path / "reports/claims.csv", index=False)
    readme, paths = tmp_path / "README.md", config.Paths(tmp_path, tmp_path)
    readme.write_text("before\n<!-- results: generated -->\nold\n<!-- end -->\nafter\n")
    assert generated.fill(paths, settings) == [readme] and generated.fill(paths, settings) == []
    text = readme.read_text()
    assert text.startswith("before\n<!-- results: generated -->\n| data set") and text.endswith("<!-- end -->\nafter\n")
    readme.write_text("<!-- nothing: generated -->\n<!-- end -->\n")
    with pytest.raises(config.ConfigError, match=r"README.md: no generated block 'nothing'; one of .*'results'"):
        generated.fill(paths, settings)


def test_advice_is_the_model_that_validation_prefers(tmp_path, monkeypatch):
    paths, settings = config.Paths(tmp_path, tmp_path), config.load(ROOT / "params.yaml")
    monkeypatch.setattr(generated, "datasets", lambda *_: ["demo", "hm"])
    measure = {"protocol": "full_unseen", "metric": "ndcg", "k": 10}
    values = [("sasrec", "valid", 0.2), ("maf", "valid", 0.3), ("item_vector_permuted", "valid", 0.9)]
    values += [("sasrec", "test", 0.1), ("maf", "test", 0.11)]
    results = pd.DataFrame(values, columns=["experiment", "split", "value"]).assign(group="main", **measure)
    gain = {
        "experiment": "maf",
        "baseline": "sasrec",
        "difference": 0.01,
        "ci_low": 0.005,
        "ci_high": 0.015,
        "smallest": 0.01,
    }
    lost = gain | {"experiment": "without_text", "baseline": "maf", "difference": -0.002}
    paths.tables("hm").mkdir(parents=True)
    for name, table in (
        ("results", results),
        ("gains", pd.DataFrame([gain | measure])),
        ("comparisons", pd.DataFrame([lost | measure])),
    ):
        table.to_csv(paths.table("hm", name), index=False)
    *_, row = generated.advice(paths, settings).splitlines()
    assert row == "| hm | `maf` | +10.0 % [+5.0 %, +15.0 %] | text +2.0 % |  |"


def test_content_stands_beside_the_gain_of_the_item_vector(table, tmp_path):
    paths = config.Paths(tmp_path, tmp_path)
    paths.tables("shop").mkdir(parents=True)
    told = {"users": 9, "items": 4, "interactions": 10, "rare": 0.25, "text": 0.1234}
    pd.DataFrame([told]).to_csv(paths.table("shop", "portrait"), index=False)
    assert generated.content(paths, table).splitlines()[2:] == [
        "| shop | 2.5 | 25 % |  | +0.123 |  | +12.0 % [+9.0 %, +15.0 %] |"
    ]
