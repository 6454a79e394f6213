"""A data set of one's own is one entry in params.yaml: README's section, word for word, in a clone."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pandas as pd
import pytest

from mmrec import config
from mmrec.data import sources
from mmrec.report import generated

ROOT = Path(__file__).parents[2]
SECTION = (ROOT / "README.md").read_text().split("## Your own data\n")[1].split("\n## ")[0]
[COMMANDS] = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)
[RECOMMEND] = re.findall(r"```sh\n(.*?)```", (ROOT / "docs" / "own_data.md").read_text(), re.DOTALL)
[SAVE, LOAD] = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / "own_data.md").read_text(), re.DOTALL)
[ENTRY] = re.findall(r"```yaml\n(.*?)```", SECTION, re.DOTALL)
SHOP = {"shoppers": 200, "items": 150, "mean_length": 9.0}


def call(project: Path, command: str, **variables: str) -> subprocess.CompletedProcess:
    """A shell line in the clone. Its own mmrec comes first, and the environment that runs the tests is its .venv."""
    inherited = {name: value for name, value in os.environ.items() if name != "MMREC_WORK"}
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    return subprocess.run(
        ["bash", "-euo", "pipefail", "-c", command],
        cwd=project,
        capture_output=True,
        text=True,
        env=inherited | {"PYTHONPATH": str(project), "PATH": path, "OMP_NUM_THREADS": "1"} | variables,
    )


def clone(folder: Path) -> Path:
    """Every file of the project that git knows, changed or not, as a repository of its own."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and not name.startswith("reports/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    assert call(folder, "git init --quiet").returncode == 0
    return folder


@pytest.fixture(scope="module")
def project(tmp_path_factory) -> Path:
    """A clone with an environment that `make setup` finds complete, and the files that README copies in my/."""
    root = clone(tmp_path_factory.mktemp("project"))
    (root / ".venv").mkdir()
    for path in Path(sys.prefix).iterdir():
        if path.name != "complete":
            (root / ".venv" / path.name).symlink_to(path)
    (root / ".venv" / "complete").touch()
    source = config.DemoSource(**(asdict(config.load(ROOT / "params.yaml").datasets["demo"].source) | SHOP))
    made = root / "made"
    sources.fetch(source, made, downloads=root, checksums=root)  # which a demo has no use for
    (root / "my").mkdir()
    for path in made.glob("*.csv"):
        shutil.move(path, root / "my")
    shutil.move(made / "images", root / "my" / "pictures")
    return root


@pytest.fixture(scope="module")
def finished(project) -> str:
    """What README's commands printed; its editor is one that pastes README's lines under `datasets:`."""
    editor = project / "editor.sh"
    (project / "entry.yaml").write_text(ENTRY)
    editor.write_text(f"#!/bin/sh\nsed -i '/^datasets:$/r {project}/entry.yaml' \"$1\"\n")
    editor.chmod(0o755)
    ended = call(project, COMMANDS, EDITOR=str(editor))
    assert ended.returncode == 0, ended.stdout[-3000:] + ended.stderr[-3000:]
    return ended.stdout


@pytest.mark.slow
def test_readme_leads_to_results_of_ones_own_data(project, finished):
    tables = project / "reports" / "my_shop" / "tables"
    results = pd.read_csv(tables / "results.csv")
    assert set(results["experiment"]) == set(config.load(ROOT / "params.yaml").experiments["main"])
    assert set(results["seed"]) == {0, 1}
    assert "my_shop has no further groups" in (project / "reports/my_shop/04_ablations.ipynb").read_text()
    assert re.search(r"my_shop holds the placed files", finished)


@pytest.mark.slow
def test_a_second_call_has_nothing_to_do(project, finished):
    ended = call(project, "dvc repro results@my_shop")
    assert ended.returncode == 0 and "are up to date" in ended.stdout


@pytest.mark.slow
def test_trained_models_recommend_to_every_user_without_training_again(project, finished):
    raw = project / "data" / "raw" / "my_shop"
    users = set(pd.read_parquet(project / "data/processed/my_shop/users.parquet")["id"])
    titles = pd.read_csv(raw / "items.csv", dtype=str).set_index("item_id")["title"].fillna("")
    bought = pd.read_csv(raw / "interactions.csv", dtype=str)
    bought = set(zip(bought["user_id"], bought["item_id"], strict=True))
    for experiment in config.load(ROOT / "params.yaml").experiments["main"]:
        ended = call(project, f"python -m mmrec recommend my_shop --experiment {experiment} --top 5 --out recs.parquet")
        assert ended.returncode == 0 and "training" not in ended.stderr, ended.stderr
        recommended = pd.read_parquet(project / "recs.parquet")
        assert set(recommended["user"]) == users and (recommended.groupby("user").size() == 5).all()
        assert (recommended["title"] == recommended["item_id"].map(titles)).all()
        assert not bought & set(zip(recommended["user"], recommended["item_id"], strict=True))


@pytest.mark.slow
def test_the_page_on_own_data_leads_to_recommendations(project, finished):
    ended = call(project, RECOMMEND)
    assert ended.returncode == 0, ended.stderr
    assert len(pd.read_parquet(project / "recs.parquet")) == 10 * len(
        pd.read_parquet(project / "data/processed/my_shop/users.parquet")
    )
    assert {"because_1", "fall_1"} <= set(pd.read_csv(project / "recs.csv"))
    results = pd.read_csv(project / "reports" / "my_shop" / "tables" / "results.csv")
    best = generated.preferred(results).idxmax()
    for experiment in {"maf", "sasrec"} - {best}:
        ended = call(project, f"python -m mmrec recommend my_shop --experiment {experiment} --out recs.csv")
        assert f"on validation {best} is best" in ended.stderr


@pytest.mark.slow
def test_the_lines_of_python_on_own_data(project, finished, tmp_path):
    known = pd.read_parquet(project / "data/processed/my_shop/items.parquet")["id"]
    block = (
        LOAD.replace("i012", known[0]).replace("i345", known[1]).replace("Recommender.load", "got = Recommender.load")
    )
    ended = call(project, f"python - <<'END'\n{block}\nprint(list(got.columns), len(got))\nEND")
    assert "['user', 'rank', 'item_id', 'score', 'title'] 5" in ended.stdout, ended.stderr
    frame = "import pandas as pd\nframe = pd.DataFrame({'item_id': ['a'], 'vector': [[1.0]]})\n"
    (tmp_path / "save.py").write_text(frame + SAVE)
    ended = call(project, f"cd {tmp_path} && python save.py")
    assert ended.returncode == 0, ended.stderr
    assert list(pd.read_parquet(tmp_path / "data/raw/my_shop/features/image.parquet")["item_id"]) == ["a"]


def stale(project: Path) -> set[str]:
    """Stages of my_shop that DVC would run after those of the settings."""
    ended = call(project, "dvc repro --quiet settings && dvc status --json results@my_shop --with-deps")
    assert ended.returncode == 0, ended.stderr
    return {name.removesuffix("@my_shop") for name in json.loads(ended.stdout)}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ("title: my own shop", "title: my shop", {"prepare"}),
        ("title: my own shop", "archived: false\n    expected: null\n    title: my own shop", set()),
        ("text: minilm                ", "text: bert_base", {"features"}),
        ("training: {epochs: 5} ", "training: {epochs: 6} ", {"train", "ablate", "results"}),
        ("seeds: [0, 1]  ", "groups: [main, content]\n    seeds: [0, 1]  ", {"ablate", "results"}),
        ("  negatives_seed: 0", "  negatives_seed: 1", {"prepare", "train", "ablate", "results"}),
        ("    title: a generated shop with", "    title: a shop with", set()),
    ],
)  # fmt: skip
def test_an_edit_makes_stale_the_stages_that_it_concerns(project, finished, before, after, expected):
    params = project / "params.yaml"
    whole = params.read_text()
    assert before in whole
    params.write_text(whole.replace(before, after, 1))
    try:
        assert stale(project) == expected
    finally:
        params.write_text(whole)


@pytest.mark.slow
def test_a_change_of_a_figure_redraws_and_does_not_train(project, finished):
    figures = project / "mmrec" / "report" / "figures" / "__init__.py"
    whole = figures.read_text()
    figures.write_text(whole + "# another colour\n")
    changed = stale(project)
    figures.write_text(whole)
    assert changed == {"prepare", "results"}
    assert stale(project) == set()  # and neither is anything after the edits of params.yaml above were taken back


@pytest.mark.slow
def test_files_that_a_person_changes_are_noticed_and_links_to_folders_refused(project, finished):
    raw = project / "data" / "raw" / "my_shop"
    rows = list(csv.reader((raw / "items.csv").open()))
    (raw / "items.csv").write_text((raw / "items.csv").read_text().replace(rows[1][1], "Another title", 1))
    assert {"fetch", "prepare", "features"} <= stale(project)
    shutil.move(raw / "images", project / "elsewhere")
    (raw / "images").symlink_to(project / "elsewhere")
    ended = call(project, "dvc repro results@my_shop")
    assert ended.returncode != 0
    assert f"{raw}/images links to a folder or to nothing: DVC does not see what changes behind it" in ended.stderr
