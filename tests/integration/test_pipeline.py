"""dvc.yaml and the notebooks keep their promises: complete deps, clean sources, sound executed copies."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pandas as pd
import pytest
from ruamel.yaml import YAML

from mmrec import config
from mmrec.config import stages

ROOT = Path(__file__).parents[2]
PIPELINE = YAML(typ="safe").load(ROOT / "dvc.yaml")
SOURCES = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXECUTED = sorted((ROOT / "reports").rglob("*.ipynb"))
OF_ALL = ["08_claims", "09_controls", "summary"]  # notebooks that are not of one data set
# Data sets that nobody may redistribute. Their notebooks were executed before modules moved and differ from the sources
# in names; archived runs hold their tables. The next run of a data set brings its notebooks up and it leaves this set.
OLDER = {"beauty_2014", "beauty_2014_sampled", "hm", "hm_by_time", "movielens_1m_1500_users"}
STAGES = {name: stage.get("do", stage) for name, stage in PIPELINE["stages"].items()}


# --- deps --------------------------------------------------------------------------------------------------------


def imported(code: str) -> set[Path]:
    """Files of mmrec that a piece of code imports by name."""
    found = set()
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            path = ROOT / name.replace(".", "/")
            for candidate in (path.with_suffix(".py"), path / "__init__.py"):
                if name.split(".")[0] == "mmrec" and candidate.is_file():
                    found.add(candidate)
    return found


def closure(code: str, but: Path | None) -> set[Path]:
    """Files of mmrec that a piece of code imports, directly or not; those of the folder `but` are left out."""
    reached, waiting = set(), imported(code)
    while waiting:
        file = waiting.pop()
        if but in file.parents:
            continue
        reached.add(file)
        waiting |= imported(file.read_text()) - reached
    return reached - {ROOT / "mmrec/__init__.py"}


def code_of(stage: dict) -> str:
    """The code that a stage runs: a command of `mmrec.__main__`, and a notebook's cells."""
    _, _, _, command, notebook, *_ = [*stage["cmd"].split(), ""]
    if command != "run":
        return {"settings": "import mmrec.config.stages", "fetch": "import mmrec.data.sources"}[command]
    cells = nbformat.read(ROOT / "notebooks" / f"{notebook}.ipynb", as_version=4).cells
    return "\n".join(["import mmrec.report.notebook", *(cell.source for cell in cells if cell.cell_type == "code")])


REPORT = ROOT / "mmrec" / "report"
LONG = {
    "features",
    "tune",
    "finalists",
    "train",
    "ablate",
    "controls",
}  # some draw, and a new figure is no reason to train again


def inside(file: Path, folders: list[Path]) -> bool:
    return any(file == folder or folder in file.parents for folder in folders)


@pytest.mark.parametrize("name", [name for name, stage in STAGES.items() if not stage.get("always_changed")])
def test_deps_hold_the_code_that_the_stage_imports_and_no_other_folder(name):
    named = [ROOT / dep for dep in STAGES[name]["deps"] if dep.startswith("mmrec")]
    used = closure(code_of(STAGES[name]), but=REPORT if name in LONG else None)
    assert sorted(str(file.relative_to(ROOT)) for file in used if not inside(file, named)) == []
    assert [str(dep) for dep in named if not any(inside(file, [dep]) for file in used)] == []


def test_a_figure_is_no_dep_of_training():
    for name in LONG:
        named = [ROOT / dep for dep in STAGES[name]["deps"]]
        assert not any(inside(REPORT / file, named) for file in ("figures/__init__.py", "tables.py")), name


@pytest.mark.parametrize("name", [name for name in STAGES if name not in ("fetch", "settings")])
def test_deps_name_the_notebook_and_the_settings_of_the_stage(name):
    notebook = STAGES[name]["cmd"].split()[4]
    settings = name if name in ("claims", "controls") else f"${{key}}/{name}"
    assert {f"notebooks/{notebook}.ipynb", f"data/settings/{settings}.json"} <= set(STAGES[name]["deps"])


def test_every_stage_has_settings_on_every_data_set():
    settings = config.load(ROOT / "params.yaml")
    assert {stage["foreach"] for stage in PIPELINE["stages"].values() if "foreach" in stage} == {"${datasets}"}
    for dataset in settings.datasets:
        of_all = ("claims", "controls", "settings")
        assert list(stages.of_stages(settings, dataset)) == [name for name in STAGES if name not in of_all]


def test_published_experiments_exist():
    settings = config.load(ROOT / "params.yaml")
    for path in (ROOT / "references" / "published").glob("*.csv"):
        groups = settings.datasets[path.stem].groups
        known = {experiment.name for group in groups for experiment in settings.resolve(path.stem, group)}
        assert set(pd.read_csv(path)["experiment"]) <= known


def test_params_hold_nothing_that_dvc_cannot_read():
    """It knows no dates: "2020-05-01" is one only in quotation marks."""
    waiting = [YAML(typ="safe").load(ROOT / "params.yaml")]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list):
            waiting += value.values() if isinstance(value, dict) else value
        else:
            assert value is None or type(value) in (str, bool, int, float), value


# --- notebooks ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.stem)
def test_source_notebook_is_stripped_and_only_calls(path):
    notebook = nbformat.read(path, as_version=4)
    assert set(notebook.metadata) <= {"kernelspec", "language_info"}
    assert [cell.id for cell in notebook.cells] == [f"cell-{number}" for number in range(len(notebook.cells))]
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(not cell.outputs and cell.execution_count is None for cell in code)
    if path.stem not in OF_ALL:
        assert code[0].metadata["tags"] == ["parameters"]
        assert re.fullmatch(r'dataset = "(demo|beauty_2014|beauty_2014_sampled)"', code[0].source)
    for cell in code:
        kinds = {type(node) for node in ast.walk(ast.parse(cell.source))}
        assert not kinds & {ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda}, cell.source


@pytest.mark.parametrize("path", EXECUTED, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_executed_notebook_is_whole_and_is_of_its_source(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert all(cell.execution_count for cell in code)
    outputs = [output for cell in code for output in cell.outputs]
    assert not [output for output in outputs if output.output_type == "error" or output.get("name") == "stderr"]
    assert str(ROOT) not in path.read_text() and "/home/" not in path.read_text()
    if path.parent.name in OLDER:
        return
    source = nbformat.read(ROOT / "notebooks" / path.name, as_version=4)
    injected = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    assert [cell.source for cell in injected] == [cell.source for cell in source.cells]


@pytest.mark.parametrize("dataset", sorted(OLDER))
def test_a_data_set_whose_notebooks_are_of_their_sources_is_not_among_the_older_ones(dataset):
    texts = {
        path: [
            {cell.source for cell in nbformat.read(file, as_version=4).cells}
            for file in (path, ROOT / "notebooks" / path.name)
        ]
        for path in (ROOT / "reports" / dataset).glob("*.ipynb")
    }
    assert any(not source <= executed for executed, source in texts.values() if source) or not texts


def test_notebook_of_unknown_data_set_ends_in_one_line():
    run = subprocess.run(
        [sys.executable, "-m", "mmrec", "run", "01_prepare_data", "nowhere"], capture_output=True, text=True, cwd=ROOT
    )
    assert run.returncode == 1
    assert run.stderr.strip().splitlines()[-1].startswith("params.yaml has no data set 'nowhere'; one of ")
