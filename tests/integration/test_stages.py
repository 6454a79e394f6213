"""The real notebooks, run as stages by papermill on somebody's own small folder of data."""

import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest
from ruamel.yaml import YAML

from mmrec import config
from mmrec.data import sources

ROOT = Path(__file__).parents[2]
STAGES = [
    *["01_prepare_data", "02_extract_features", "02b_tune", "02c_finalists"],
    *["03_train", "04_ablations", "05_probes", "05b_training_probes", "06_results", "07_published"],
]
PUBLISHED = (
    "model,experiment,protocol,metric,k,published,source\nSASRec,sasrec,full_unseen,hr,10,0.1,a paper: so and so\n"
)


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project with one data set of kind `folder`, too small to learn from, and a short training."""
    root = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "notebooks", root / "notebooks")
    (root / "references" / "published").mkdir(parents=True)
    (root / "references" / "published" / "mine.csv").write_text(PUBLISHED)
    shutil.copy(ROOT / "references" / "provenance.yaml", root / "references")
    yaml = YAML(typ="safe")
    params = yaml.load(ROOT / "params.yaml")
    demo = params["datasets"].pop("demo")
    params["datasets"] = {"mine": demo | {"source": {"kind": "folder"}, "title": "a small shop of my own"}}
    params["datasets"]["mine"].update(
        user_core=3, item_core=2, groups=["main", "more", "probes"], seeds=[0, 1], archived=True
    )
    gru = {"model": "gru4rec", "control": "sasrec", "options": {"dim": 32, "hidden": 64}}
    params["experiments"]["more"] = {"gru": gru}
    params["tuning"].update(trials=1, training={"epochs": 1})
    params["tuning"]["space"]["dim"] = [32]
    params["protocol"]["negatives"] = 10
    params["training"] |= {"epochs": 2}
    yaml.dump(params, root / "params.yaml")
    source = config.DemoSource(**(asdict(config.load(ROOT / "params.yaml").datasets["demo"].source) | SMALL))
    sources.fetch(source, root / "data" / "raw" / "mine", downloads=root, checksums=root)  # which a demo has no use for
    return root


SMALL = {"shoppers": 60, "items": 40, "mean_length": 6.0}


def run(project: Path, stage: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "mmrec", "run", stage, "mine"], cwd=project, capture_output=True, text=True
    )


@pytest.fixture(scope="module")
def finished(project):
    for stage in STAGES:
        ended = run(project, stage)
        assert ended.returncode == 0, ended.stderr
    return project / "reports" / "mine"


@pytest.mark.slow
def test_stages_lead_from_a_folder_to_result_tables(finished):
    results = pd.read_csv(finished / "tables/results.csv")
    assert list(results) == ["group", "experiment", "seed", "split", "protocol", "metric", "k", "value"]
    neural = {"sasrec", "maf", "gru", "watched", "modality_dropout"}
    assert set(results["experiment"]) == {"popularity", *neural}
    assert len(results) == 6 * 2 * 2 * 3 * 7  # experiments, seeds, splits, protocols, measures
    assert results["value"].between(0, 1).all()
    comparisons = pd.read_csv(finished / "tables/comparisons.csv")
    assert len(comparisons) == 4 * 3 * 7
    controls = comparisons.drop_duplicates("experiment").set_index("experiment")["baseline"].to_dict()
    assert controls == {"popularity": "sasrec", "maf": "sasrec", "gru": "sasrec", "modality_dropout": "maf"}
    assert len(list((finished / "figures").glob("*.png"))) == 18
    trials = pd.read_csv(finished / "tables/trials.csv")
    assert trials.groupby("experiment").size().to_dict() == {"sasrec": 5, "maf": 9}  # as many as settings
    finalists = pd.read_csv(finished / "tables/finalists.csv")
    assert finalists.groupby("experiment")["trial"].agg(["size", "min"]).to_numpy().tolist() == [[2, 0], [2, 0]]
    assert set(finalists["experiment"]) == {"sasrec", "maf"}
    [published] = pd.read_csv(finished / "tables/published.csv").itertuples()
    values = results.query(
        "experiment == 'sasrec' and split == 'test' and protocol == 'full_unseen' and metric == 'hr'"
    )
    assert published.ours == pytest.approx(values[values["k"] == 10]["value"].mean())
    against = pd.read_csv(finished / "tables/baselines.csv")
    assert set(against["experiment"]) == {"popularity", "sasrec", "gru"} and set(against["baseline"]) == {"maf"}
    turned, own = (
        table[table["experiment"] == name]["difference"].to_numpy()
        for table, name in ((against, "sasrec"), (comparisons, "maf"))
    )
    assert turned == pytest.approx(-own, abs=1e-12)


@pytest.mark.slow
def test_the_probes_of_training_look_at_maf_itself_and_at_what_was_to_mend_it(project, finished):
    neural = ("maf", "modality_dropout")
    results = pd.read_csv(finished / "tables/results.csv")
    values = results.set_index(["seed", "split", "protocol", "metric", "k"]).groupby("experiment")["value"]
    # The same sums in another order: last bits may differ, and with them a rank now and then.
    trained = project / "data" / "trained" / "mine"
    watched, maf = (
        pd.read_csv(folder / "curves.csv").query("experiment == @name").reset_index(drop=True)
        for folder, name in ((trained / "ablations" / "probes", "watched"), (trained / "main", "maf"))
    )
    parts = ["seed", "epoch", "total", "id", "image", "text", "category"]
    pd.testing.assert_frame_equal(watched[parts], maf[parts], rtol=1e-3)
    agreement = pd.read_csv(finished / "tables/gradient_agreement.csv")
    assert agreement["tasks"].nunique() == 6 and agreement["seed"].unique().tolist() == [0, 1]
    assert agreement["cosine"].between(-1, 1).all() and agreement["conflicting"].between(0, 1).all()
    mended = pd.read_csv(finished / "tables/modality_dropout.csv")
    assert len(mended) == 4 * 5 and (mended["kind"] == "missing").all() and (mended["seeds"] == 2).all()
    whole = {name: values.get_group(name).loc[:, "test", "full_unseen", "ndcg", 10.0].mean() for name in neural}
    undisturbed = mended[mended["level"] == 0]
    assert undisturbed["without"].to_numpy() == pytest.approx(whole["maf"])
    assert undisturbed["ndcg_10"].to_numpy() == pytest.approx(whole["modality_dropout"])


@pytest.mark.slow
def test_progress_goes_to_the_terminal_and_not_into_the_notebook(project, finished):
    shutil.rmtree(project / ".runs")
    assert "epoch" not in run(project, "03_train").stderr  # archived
    ended = run(project, "05_probes")
    assert "epoch 2" in ended.stderr and "validation ndcg@10" in ended.stderr
    assert "validation ndcg@10 0" not in (finished / "05_probes.ipynb").read_text()


@pytest.mark.slow
def test_a_second_run_writes_the_same_bytes(project, finished):
    (finished / "runs.parquet").unlink()
    before = {path: path.read_bytes() for path in finished.rglob("*") if path.is_file()}
    results = {path: path.read_bytes() for path in (project / "data" / "results").rglob("*") if path.is_file()}
    shutil.rmtree(project / ".runs")  # nothing is taken from the store
    for stage in STAGES:
        assert run(project, stage).returncode == 0
    assert {path for path in before if path.read_bytes() != before[path]} == set()
    assert {path for path in results if path.read_bytes() != results[path]} == set()


@pytest.mark.slow
def test_a_broken_input_ends_in_a_message_and_leaves_the_report(project, finished):
    items = project / "data/raw/mine/items.csv"
    whole, report = items.read_text(), (finished / "01_prepare_data.ipynb").read_bytes()
    items.write_text(whole.replace("item_id", "article", 1))
    ended = run(project, "01_prepare_data")
    items.write_text(whole)
    assert ended.returncode == 1
    assert "items.csv" in ended.stderr and "item_id" in ended.stderr
    assert (finished / "01_prepare_data.ipynb").read_bytes() == report
