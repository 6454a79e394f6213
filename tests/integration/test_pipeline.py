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
from mmrec.experiments import grid

ROOT = Path(__file__).parents[2]
PIPELINE = YAML(typ="safe").load(ROOT / "dvc.yaml")
SOURCES = sorted((ROOT / "notebooks").glob("*.ipynb"))
EXECUTED = sorted((ROOT / "reports").rglob("*.ipynb"))
OF_ALL = ["08_claims"]  # notebooks that are not of one data set
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


def closure(code: str) -> set[Path]:
    """Files of mmrec that a piece of code needs, at any distance."""
    reached, waiting = set(), imported(code)
    while waiting:
        file = waiting.pop()
        reached.add(file)
        waiting |= imported(file.read_text()) - reached
    return reached - {ROOT / "mmrec/__init__.py"}


def code_of(stage: dict) -> str:
    module, *rest = stage["cmd"].removeprefix("python -m ").split()
    if module != "mmrec.report.notebook":
        return f"import {module}.__main__"
    cells = nbformat.read(ROOT / "notebooks" / f"{rest[0]}.ipynb", as_version=4).cells
    return "\n".join(["import mmrec.report.notebook", *(cell.source for cell in cells if cell.cell_type == "code")])


@pytest.mark.parametrize("name", STAGES)
def test_deps_name_exactly_the_code_that_the_stage_imports(name):
    named = [ROOT / dep for dep in STAGES[name]["deps"] if dep.startswith("mmrec")]
    used = closure(code_of(STAGES[name]))
    missing = [str(file) for file in used if not any(file == dep or dep in file.parents for dep in named)]
    superfluous = [str(dep) for dep in named if not any(file == dep or dep in file.parents for file in used)]
    assert (missing, superfluous) == ([], [])


@pytest.mark.parametrize("name", [name for name in STAGES if name != "fetch"])
def test_deps_name_the_notebook(name):
    notebook = STAGES[name]["cmd"].split()[3]
    assert f"notebooks/{notebook}.ipynb" in STAGES[name]["deps"]


def test_fetched_data_sets_are_those_that_no_person_places():
    settings = config.load(ROOT / "params.yaml")
    fetched = [name for name, dataset in settings.datasets.items() if config.is_fetched(dataset.source)]
    assert PIPELINE["vars"][0]["fetched"] == fetched


def test_ablated_data_sets_are_those_with_more_than_the_main_group():
    settings = config.load(ROOT / "params.yaml")
    several = [name for name, about in settings.datasets.items() if len(about.groups) > 1]
    assert PIPELINE["vars"][1]["ablated"] == several
    assert all(about.groups[0] == "main" for about in settings.datasets.values())


def test_probed_data_sets_are_those_with_the_group_that_is_probed():
    settings = config.load(ROOT / "params.yaml")
    probed = [name for name, about in settings.datasets.items() if set(grid.PROBED) <= set(about.groups)]
    assert PIPELINE["vars"][2]["probed"] == probed


def test_published_data_sets_are_those_with_published_numbers_of_experiments_that_exist():
    settings = config.load(ROOT / "params.yaml")
    published = {path.stem: pd.read_csv(path) for path in (ROOT / "references" / "published").glob("*.csv")}
    assert PIPELINE["vars"][3]["published"] == list(published)
    for name, table in published.items():
        groups = settings.datasets[name].groups
        known = {experiment.name for group in groups for experiment in settings.resolve(name, group)}
        assert set(table["experiment"]) <= known


def test_params_that_stages_depend_on_exist():
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    lists = {name: names for entry in PIPELINE["vars"] for name, names in entry.items()}
    for name, stage in STAGES.items():
        if "foreach" not in PIPELINE["stages"][name]:
            assert set(stage.get("params", [])) <= set(params)
            continue
        each = PIPELINE["stages"][name]["foreach"].strip("${}")
        for key in stage.get("params", []):
            for dataset in params["datasets"] if each == "datasets" else lists[each]:
                value = params
                for part in re.sub(r"\$\{(key|item)\}", dataset, key).split("."):
                    value = value[part]


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
    source = nbformat.read(ROOT / "notebooks" / path.name, as_version=4)
    injected = [cell for cell in notebook.cells if "injected-parameters" not in cell.metadata.get("tags", [])]
    assert [cell.source for cell in injected] == [cell.source for cell in source.cells]


def test_notebook_of_unknown_data_set_ends_in_one_line():
    run = subprocess.run(
        [sys.executable, "-m", "mmrec", "run", "01_prepare_data", "nowhere"], capture_output=True, text=True, cwd=ROOT
    )
    assert run.returncode == 1
    assert run.stderr.strip().splitlines()[-1].startswith("no data set 'nowhere' in params.yaml; one of ['demo'")
