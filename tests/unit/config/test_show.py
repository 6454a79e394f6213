"""`python -m mmrec.config show`: values and the layers that they come from."""

import subprocess
import sys
from pathlib import Path

import pytest

from mmrec import config
from mmrec.__main__ import main
from mmrec.config.__main__ import show

PARAMS = (Path(__file__).parents[2] / "fixtures" / "shop.yaml").read_text()
CHANGES = {
    "    category: true\n": "    category: true\n    groups: [main, again, others]\n    seeds: [7]\n"
    "    models: {sasrec: {heads: 4}}\n    training: {epochs: 9}\n    experiments: {sasrec: {options: {dim: 12}}}\n",
    "    wide: {model: sasrec, options: {dim: 16}}": "    wide: {model: sasrec, control: sasrec, options: {layers: 2}}",
    "  counts:\n": "  others:\n    shuffled: {model: maf, control: sasrec, data: {histories: shuffled}}\n  counts:\n",
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    text = PARAMS
    for old, new in CHANGES.items():
        assert old in text
        text = text.replace(old, new, 1)
    (tmp_path / "params.yaml").write_text(text)
    monkeypatch.chdir(tmp_path)
    return config.load(tmp_path / "params.yaml")


def rows(text):
    """setting -> (layer, value)"""
    lines = text.splitlines()
    start, end = lines[0].index("from"), lines[0].index("value")
    return {line[:start].strip(): (line[start:end].strip(), line[end:]) for line in lines[1:]}


def test_every_setting_of_an_experiment_comes_with_its_layer(project):
    shown = rows(show(project, "shop", "wide"))
    assert shown["options.positions_from"] == ("default", "oldest")
    assert shown["options.heads"] == ("data set", "4")
    assert shown["options.dim"] == ("control sasrec", "12")
    assert shown["options.layers"] == ("experiment", "2")
    assert shown["training.epochs"] == ("data set", "9")
    assert shown["data.histories"] == ("default", "ordered")
    assert rows(show(project, "shop", "sasrec"))["options.dim"] == ("experiment on this data set", "12")


def test_an_experiment_of_another_model_than_its_control_starts_from_the_defaults(project):
    shown = rows(show(project, "shop", "shuffled"))
    assert shown["options.dim"] == ("default", "8")
    assert (shown["model"], shown["control"]) == (("experiment", "MAF"), ("experiment", "sasrec"))
    assert shown["data.histories"] == ("experiment", "shuffled")
    assert shown["options.modalities"] == ("default", "image, text")


def test_every_setting_is_shown_as_it_is_used(project):
    for group in ("main", "again", "others"):
        for experiment in project.resolve("shop", group):
            shown = rows(show(project, "shop", experiment.name))
            for part, of in (("options", experiment.model), ("training", experiment.training)):
                for name, value in vars(of).items():
                    if not name.startswith("__"):
                        expected = ", ".join(value) if isinstance(value, tuple) else str(value)
                        assert shown[f"{part}.{name}"][1] == expected


def test_a_data_set_is_shown_with_its_defaults_and_its_experiments(project):
    shown = rows(show(project, "shop"))
    assert shown["user_core"] == ("data set", "1") and shown["archived"] == ("default", "False")
    assert shown["source.kind"] == ("data set", "folder") and shown["split.kind"] == ("default", "leave_one_out")
    assert shown["seeds"] == ("data set", "7") and shown["protocol.max_length"] == ("default", "8")
    assert shown["experiments"][1] == "popularity, sasrec, maf, plain, wide, shuffled"


@pytest.mark.parametrize(
    "asked, named",
    [(["shap"], "no data set 'shap'; one of"), (["shop", "sasrek"], "no experiment 'sasrek'; one of .*'sasrec'")],
)
def test_an_unknown_name_ends_with_one_line(project, asked, named):
    with pytest.raises(SystemExit, match=named):
        main(["config", "show", *asked])


@pytest.mark.parametrize("way", [["mmrec.config"], ["mmrec", "config"]], ids=" ".join)
def test_the_command_prints_the_table(project, way):
    command = [sys.executable, "-m", *way, "show", "shop", "maf"]
    assert (
        subprocess.run(command, capture_output=True, text=True, check=True).stdout
        == show(project, "shop", "maf") + "\n"
    )
