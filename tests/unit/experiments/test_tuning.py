import time
from dataclasses import asdict, replace

import optuna
import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML

from mmrec import config, runtime, training
from mmrec.experiments import build, grid, inputs, run, store, tuning

CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def one_process(monkeypatch):
    monkeypatch.setattr(runtime, "workers", lambda *_: 1)


@pytest.fixture
def choose(settings):
    return lambda name: next(e for e in settings.resolve("shop", "main") if e.name == name)


def suggested(experiment, settings, **fixed):
    return tuning.propose(optuna.trial.FixedTrial(fixed), experiment, settings)


# --- the search --------------------------------------------------------------------------------------------------


def test_every_setting_gets_equal_trials_and_trial_0_is_unchanged(paths, settings):
    trials = tuning.tune(paths, settings, "shop", CPU)
    assert trials.groupby("experiment").size().to_dict() == {"sasrec": 5, "maf": 8}
    assert list(trials.columns[:4]) == tuning.COLUMNS
    first = trials[trials["trial"] == 0].set_index("experiment")
    assert first.loc["sasrec", ["learning_rate", "dropout", "dim", "layers"]].tolist() == [0.01, 0.3, 8, 1]
    assert first.loc["maf", ["fusion", "text_weight", "category_weight"]].tolist() == ["gate", 1.0, 1.0]
    for name in ("sasrec", "maf"):  # every setting, also those that are not searched
        experiment = next(e for e in settings.resolve("shop", "main") if e.name == name)
        data = inputs.load_data(paths.processed("shop"), ("image", "text", "category"), CPU)
        torch.manual_seed(0)
        model = build.build(experiment.model, data, 8)
        curve = training.fit(
            model, data.sequences, experiment.training, max_length=8, seed=0, checkpoint=paths.work / name
        )
        assert first.loc[name, "valid_ndcg_10"] == max(row["valid_ndcg_10"] for row in curve)
    assert trials["valid_ndcg_10"].between(0, 1).all()


def test_a_search_says_the_same_again_and_from_the_store_without_training(paths, settings, monkeypatch):
    first = tuning.tune(paths, settings, "shop", CPU)
    monkeypatch.setattr(training, "fit", None)
    pd.testing.assert_frame_equal(tuning.tune(paths, settings, "shop", CPU), first)


@pytest.mark.parametrize(
    "owner, name, calls",
    [(optuna.Study, "ask", 0), (optuna.Study, "tell", 2), (training, "evaluate", 1), (training, "evaluate", 9)],
)
def test_an_interrupted_search_ends_as_an_uninterrupted_one(
    paths, settings, monkeypatch, tmp_path, write_shop, owner, name, calls
):
    whole = config.Paths(tmp_path / "whole", tmp_path / "whole")
    write_shop(whole.processed("shop"))
    expected = tuning.tune(whole, settings, "shop", CPU)
    as_usual, begun = getattr(owner, name), []

    def broken(*given, **named):
        begun.append(1)
        if len(begun) > calls:
            raise KeyboardInterrupt
        return as_usual(*given, **named)

    with monkeypatch.context() as patch:
        patch.setattr(owner, name, broken)
        with pytest.raises(KeyboardInterrupt):
            tuning.tune(paths, settings, "shop", CPU)
    pd.testing.assert_frame_equal(tuning.tune(paths, settings, "shop", CPU), expected)


def test_a_search_does_not_wait_for_the_lock_of_a_killed_one(paths, settings):
    expected = tuning.tune(paths, settings, "shop", CPU)
    for study in paths.runs.glob("*/study.log"):
        study.with_name("study.log.lock").symlink_to(study)  # Optuna's lock, which a SIGKILL leaves
    begun = time.monotonic()
    pd.testing.assert_frame_equal(tuning.tune(paths, settings, "shop", CPU), expected)
    assert time.monotonic() - begun < 10  # Optuna would wait for 30 seconds


@pytest.fixture
def trained(monkeypatch):
    """Models whose training began."""
    fit, models = training.fit, []
    monkeypatch.setattr(
        training, "fit", lambda model, *given, **named: models.append(model) or fit(model, *given, **named)
    )
    return models


def test_finished_trials_are_not_repeated_after_an_interruption(paths, settings, monkeypatch, trained):
    tell, told = optuna.Study.tell, []
    with monkeypatch.context() as patch, pytest.raises(IndexError):
        patch.setattr(optuna.Study, "tell", lambda *given: told.append([1, 2][len(told)]) or tell(*given))
        tuning.tune(paths, settings, "shop", CPU)
    tuning.tune(paths, settings, "shop", CPU)
    assert len(trained) == 3 + 11  # the third of thirteen trials is repeated


def test_a_search_of_other_settings_is_another_search(paths, settings, trained):
    tuning.tune(paths, settings, "shop", CPU)
    slower = settings.models | {"sasrec": settings.models["sasrec"] | {"dropout": 0.5}}
    space = replace(settings.tuning.space, dropout=(0.1, 0.7))
    for changed, repeated in [
        ({"models": slower}, 5),  # those of sasrec, none of maf
        ({"tuning": replace(settings.tuning, space=space)}, 13),
        ({"tuning": replace(settings.tuning, trials=2)}, 26),
    ]:
        trained.clear()
        tuning.tune(paths, replace(settings, **changed), "shop", CPU)
        assert len(trained) == repeated


def test_an_experiment_outside_of_the_space_is_refused(paths, settings):
    narrow = replace(settings.tuning, space=replace(settings.tuning.space, dim=(4, 16)))
    with pytest.raises(config.ConfigError, match=r"tuning.space.dim: sasrec stands at 8, outside of \[4, 16\]"):
        tuning.tune(paths, replace(settings, tuning=narrow), "shop", CPU)


def test_another_seed_searches_elsewhere(paths, settings):
    other = replace(settings, tuning=replace(settings.tuning, seed=1))
    first, second = (tuning.tune(paths, chosen, "shop", CPU) for chosen in (settings, other))
    later = first["trial"] > 0
    assert (first["learning_rate"] != second["learning_rate"])[later].any()
    assert (first["learning_rate"] == second["learning_rate"])[~later].all()


def test_a_trial_keeps_training_settings_of_its_experiment(paths, settings, monkeypatch):
    given = {}

    def fit(model, sequences, training, **named):
        given.setdefault(named["label"].split()[1], training)
        return [{"epoch": 1.0, "total": 1.0, "valid_ndcg_10": 0.1}]

    monkeypatch.setattr(training, "fit", fit)
    entry = settings.experiments["main"]["sasrec"]
    own = {"main": settings.experiments["main"] | {"sasrec": replace(entry, training={"loss": "bce", "negatives": 1})}}
    budget = replace(settings.tuning, training={"epochs": 9, "loss": "sampled_softmax"})
    tuning.tune(paths, replace(settings, experiments=settings.experiments | own, tuning=budget), "shop", CPU)
    assert (given["sasrec"].loss, given["sasrec"].negatives, given["sasrec"].epochs) == ("bce", 1, 9)
    assert (given["maf"].loss, given["maf"].epochs) == ("sampled_softmax", 9)


def test_a_trial_applies_data_controls_of_its_experiment(paths, settings, monkeypatch):
    main = settings.experiments["main"]
    rarest = main | {"maf": replace(main["maf"], data={"categories": "rarest"})}
    as_usual, most = run.build, []

    def watched(options, data, max_length):
        most.append((type(options), data.features["category"][0].sum(1).max().item()))
        return as_usual(options, data, max_length)

    monkeypatch.setattr(run, "build", watched)
    tuning.tune(paths, replace(settings, experiments=settings.experiments | {"main": rarest}), "shop", CPU)
    assert {at_most for kind, at_most in most if kind is config.MAF} == {1.0}
    assert {at_most for kind, at_most in most if kind is config.SASRec} != {1.0}


def test_the_test_users_are_never_asked(paths, settings, monkeypatch):
    asked, evaluate = [], training.evaluate
    monkeypatch.setattr(training, "evaluate", lambda *given: asked.append(given[2]) or evaluate(*given))
    tuning.tune(paths, settings, "shop", CPU)
    assert set(asked) == {"valid"}


# --- what is searched --------------------------------------------------------------------------------------------

VALUES = {"learning_rate": 0.0012345, "dropout": 0.23456, "dim": 16, "layers": 2}
VALUES |= {"positions_from": "latest", "fusion": "sum"}


def test_proposals_reach_the_experiment_rounded_to_what_params_yaml_can_hold(choose, settings):
    values = suggested(choose("maf"), settings, **VALUES, text_weight=0.56789, category_weight=0.2)
    assert values == VALUES | {"learning_rate": 0.0012, "dropout": 0.23, "text_weight": 0.57, "category_weight": 0.2}
    found = tuning.changed(choose("maf"), values)
    assert found.training.learning_rate == 0.0012
    assert (found.model.dim, found.model.stream_dim, found.model.layers, found.model.dropout) == (16, 16, 2, 0.23)
    assert (found.model.image_weight, found.model.text_weight, found.model.category_weight) == (0, 0.57, 0.2)
    assert found.model.score_fusion == "sum"


def test_novas_fusion_is_searched_under_the_name_of_the_space(settings):
    nova = next(e for e in settings.resolve("shop", "every") if e.name == "nova")
    assert tuning.changed(nova, suggested(nova, settings, **VALUES)).model.fusion == "sum"


def test_settings_that_a_model_lacks_are_not_searched(choose, settings):
    searched = {"learning_rate", "dropout", "dim", "layers", "positions_from"}
    assert set(suggested(choose("sasrec"), settings, **VALUES)) == searched


# --- what is chosen ----------------------------------------------------------------------------------------------


def test_the_best_trial_of_each_experiment_is_chosen():
    rows = [("a", 0, 3, 0.1), ("a", 1, 3, 0.3), ("b", 0, 3, 0.2)]
    trials = pd.DataFrame(rows, columns=tuning.COLUMNS)
    assert tuning.best(trials)[["experiment", "trial"]].values.tolist() == [["a", 1], ["b", 0]]


# --- finalists -----------------------------------------------------------------------------------------------------


def test_finalists_are_trial_0_and_the_best_other_trial_trained_like_final_runs(paths, settings):
    trials = tuning.tune(paths, settings, "shop", CPU)
    finalists = tuning.finalists(paths, settings, "shop", CPU, trials)
    assert finalists["experiment"].tolist() == ["sasrec", "sasrec", "maf", "maf"]
    data = inputs.load_data(paths.processed("shop"), ("image", "text", "category"), CPU)
    for name in ("sasrec", "maf"):
        first, other = finalists[finalists["experiment"] == name].to_dict("records")
        tried = trials[(trials["experiment"] == name) & (trials["trial"] > 0)]
        assert first["trial"] == 0
        assert other["trial"] == tried.loc[tried["valid_ndcg_10"].idxmax(), "trial"]
        standing = next(e for e in settings.resolve("shop", "main", tuned=False) if e.name == name)
        values = {key: other[key] for key in asdict(settings.tuning.space) if not pd.isna(other.get(key))}
        candidates = [(first, standing), (other, tuning.changed(standing, values))]
        for row, experiment in candidates:
            key = run.run_key(experiment, settings.seeds_of("shop")[0], data, settings)
            curve = pd.read_csv(store.run_folder(key, paths.runs) / "curve.csv")["valid_ndcg_10"]
            assert (row["epochs"], row["best_epoch"]) == (len(curve), curve.idxmax() + 1)
            assert row["valid_ndcg_10"] == curve.max()


def test_a_finalist_that_is_chosen_is_not_trained_again(paths, settings, monkeypatch):
    finalists = tuning.finalists(paths, settings, "shop", CPU, tuning.tune(paths, settings, "shop", CPU))
    chosen = YAML(typ="safe").load(tuning.as_yaml(finalists, settings, "shop"))["experiments"]
    changes = {name: config.Changes(**change) for name, change in chosen.items()}
    tuned = {"shop": replace(settings.datasets["shop"], experiments=changes, seeds=(settings.seeds_of("shop")[0],))}
    monkeypatch.setattr(training, "fit", None)
    grid.run_groups(paths, replace(settings, datasets=settings.datasets | tuned), "shop", ["main"], CPU)


# --- what params.yaml is told ------------------------------------------------------------------------------------


def test_text_for_params_yaml_resolves_to_the_chosen_experiments(paths, shop_params, tmp_path):
    """With Caser, which has no layers: its blanks must not make the others' whole numbers real ones."""
    text = shop_params.read_text().replace("  again:\n", "    caser: {model: caser}\n  again:\n", 1)
    (tmp_path / "params.yaml").write_text(text)
    settings = config.load(tmp_path / "params.yaml")
    trials = tuning.tune(paths, settings, "shop", CPU)
    trials.to_csv(tmp_path / "trials.csv", index=False)
    again = pd.read_csv(tmp_path / "trials.csv", dtype={"dim": "Int64", "layers": "Int64"})
    chosen = tuning.as_yaml(again, settings, "shop")
    (tmp_path / "params.yaml").write_text(text.replace("    category: true\n", f"    category: true\n{chosen}\n", 1))
    tuned = config.load(tmp_path / "params.yaml")
    for row in tuning.best(trials).to_dict("records"):
        before = next(e for e in settings.resolve("shop", "main") if e.name == row["experiment"])
        names = [name for name in asdict(settings.tuning.space) if not pd.isna(row.get(name))]
        expected = tuning.changed(before, {name: row[name] for name in names}) if row["trial"] else before
        assert next(e for e in tuned.resolve("shop", "main") if e.name == row["experiment"]) == expected
    changed = tuning.best(trials).query("trial > 0")["experiment"]
    assert set(tuned.datasets["shop"].experiments) == set(changed) != set()


def test_a_variant_of_a_chosen_control_is_printed_with_its_differences_to_that(settings, shop_params, tmp_path):
    text = shop_params.read_text().replace(
        "  again:\n", "    deep: {model: sasrec, control: sasrec, options: {layers: 2}}\n  again:\n", 1
    )
    (tmp_path / "params.yaml").write_text(text)
    settings = config.load(tmp_path / "params.yaml")
    values = {"learning_rate": 0.01, "dropout": 0.3, "dim": 8, "layers": 1, "positions_from": "oldest"}
    rows = [{"experiment": "sasrec", "trial": 1, "valid_ndcg_10": 0.2} | values | {"dim": 16}]
    rows += [{"experiment": "deep", "trial": 1, "valid_ndcg_10": 0.2} | values | {"layers": 2, "dropout": 0.1}]
    chosen = tuning.as_yaml(pd.DataFrame(rows), settings, "shop")
    assert YAML(typ="safe").load(chosen)["experiments"] == {
        "sasrec": {"options": {"dim": 16}},
        "deep": {"options": {"dim": 8, "dropout": 0.1}},
    }
    (tmp_path / "params.yaml").write_text(text.replace("    category: true\n", f"    category: true\n{chosen}\n", 1))
    deep = next(e for e in config.load(tmp_path / "params.yaml").resolve("shop", "main") if e.name == "deep")
    assert (deep.model.dim, deep.model.layers, deep.model.dropout) == (8, 2, 0.1)
