"""Which stages an edit of params.yaml concerns, and the files that tell DVC so."""

import json
import subprocess
import sys
from dataclasses import replace
from datetime import date

import pytest

from mmrec import config
from mmrec.config import stages
from mmrec.config.experiments import ExperimentEntry

TRAINED = {"tune", "finalists", "train", "ablate", "probe", "explore", "probe_training", "results", "published"}
WITH_SEEDS = TRAINED - {"tune"}
FURTHER = {"tune", "finalists", "ablate", "results", "published"}  # stages that look at further groups of experiments
SPLIT = config.GlobalTime(kind="global_time", valid=date(2020, 5, 1), test=date(2020, 7, 1))


@pytest.fixture
def settings(settings) -> config.Config:
    """The shop's, with a group that differs from main and one for the probes of training."""
    wide = {"wide": ExperimentEntry(model="sasrec", options={"dim": 16})}
    probed = {"watched": ExperimentEntry(model="maf", training={"gradients": "watched"})}
    return replace(settings, experiments=settings.experiments | {"further": wide, stages.TRAINING_PROBES: probed})


def changed(before: config.Config, after: config.Config) -> set[str]:
    old, new = (stages.of_stages(settings, "shop") for settings in (before, after))
    return {name for name in old if old[name] != new[name]}


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("title", "another shop", {"prepare"}),
        ("source", config.PlacedSource(kind="hm"), {"fetch", "prepare", "features"}),
        ("user_core", 2, {"prepare"}),
        ("item_core", 2, {"prepare"}),
        ("split", SPLIT, {"prepare"}),
        ("repeats", "keep", {"prepare"}),
        ("image", None, {"prepare", "features"} | TRAINED),
        ("image", "given", {"prepare", "features"}),
        ("text", None, {"prepare", "features"} | TRAINED),
        ("category", False, {"prepare", "features"} | TRAINED),
        ("expected", config.Statistics(users=1, items=1), {"prepare"}),
        ("groups", ("main", "further"), FURTHER),
        ("seeds", (3,), WITH_SEEDS),
        ("max_length", 9, TRAINED),
        ("instruction_set", "portable", TRAINED),
        ("archived", True, WITH_SEEDS),
        ("experiments", {"sasrec": config.Changes(options={"dim": 4})}, WITH_SEEDS - {"finalists"}),
        ("models", {"sasrec": {"dim": 4}}, TRAINED),
        ("training", {"epochs": 3}, TRAINED),
    ],
)
def test_each_setting_of_a_data_set_reaches_the_stages_that_use_it(settings, field, value, expected):
    shop = replace(settings.datasets["shop"], **{field: value})
    assert changed(settings, replace(settings, datasets={"shop": shop})) == expected


def test_every_setting_of_a_data_set_is_tried():
    [marks] = test_each_setting_of_a_data_set_reaches_the_stages_that_use_it.pytestmark
    assert {case[0] for case in marks.args[1]} == set(config.Dataset.__dataclass_fields__)


@pytest.mark.parametrize(
    ("section", "key", "value", "expected"),
    [
        ("runtime", "encoder_threads", 2, {"features"}),
        ("runtime", "engine", "ray", set()),
        ("runtime", "threads", 2, {"features"} | TRAINED),
        ("protocol", "negatives", 11, {"prepare"} | TRAINED),
        ("protocol", "max_length", 9, TRAINED),
        ("tuning", "trials", 3, {"tune"}),
        ("tuning", "experiments", ("maf",), {"tune"}),
        ("training", "patience", 3, TRAINED),
    ],
)
def test_each_setting_of_all_data_sets_reaches_the_stages_that_use_it(settings, section, key, value, expected):
    assert (
        changed(settings, replace(settings, **{section: replace(getattr(settings, section), **{key: value})}))
        == expected
    )


def test_an_encoder_that_a_data_set_does_not_use_concerns_no_stage(settings):
    other = settings.encoders | {"another": config.EfficientNetLite0(kind="efficientnet_lite0")}
    assert changed(settings, replace(settings, encoders=other)) == set()


def test_models_of_equal_settings_differ_by_name(settings):
    first, second = (
        replace(settings, experiments=settings.experiments | {"main": settings.experiments["main"] | {"one": entry}})
        for entry in (ExperimentEntry(model="sasrecf"), ExperimentEntry(model="fdsa"))
    )
    assert changed(first, second) == TRAINED


def test_files_are_written_again_only_where_their_content_differs(settings, tmp_path):
    paths = config.Paths(tmp_path, tmp_path)
    folder = tmp_path / "data" / "settings"
    shop = settings.datasets["shop"]
    stages.write(paths, replace(settings, datasets={"shop": shop, "gone": shop}))
    assert (folder / "gone" / "train.json").is_file()
    before = {path: path.stat().st_mtime_ns for path in folder.glob("shop/*.json")}
    stages.write(paths, replace(settings, datasets={"shop": replace(shop, title="another")}))
    after = {path: path.stat().st_mtime_ns for path in folder.glob("shop/*.json")}
    assert {path.stem for path in before if before[path] != after[path]} == {"prepare"}
    assert sorted(path.name for path in folder.iterdir()) == ["claims.json", "shop"]
    assert json.loads((folder / "shop" / "prepare.json").read_text())["title"] == "another"


def test_targets_are_the_stages_whose_question_applies(settings, tmp_path):
    paths = config.Paths(tmp_path, tmp_path)
    assert stages.targets(paths, settings, "shop") == ["results@shop", "probe@shop"]
    (tmp_path / "references" / "published").mkdir(parents=True)
    (tmp_path / "references" / "published" / "shop.csv").touch()
    probed = replace(settings, datasets={"shop": replace(settings.datasets["shop"], groups=("main", "probes"))})
    further = ["probe_training@shop", "published@shop"]
    assert stages.targets(paths, probed, "shop") == ["results@shop", "probe@shop", *further]


def test_the_command_needs_neither_torch_nor_pandas():
    code = "import sys, mmrec.__main__; print({'torch', 'pandas', 'papermill'} & set(sys.modules))"
    ended = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert ended.stdout == "set()\n", ended.stderr
