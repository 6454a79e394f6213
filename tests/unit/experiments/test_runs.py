import hashlib
import inspect
import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from mmrec import config, losses, runtime, training
from mmrec.evaluation import evaluate, gains
from mmrec.experiments import build, grid, inputs, run, versions
from mmrec.features import category, store
from mmrec.report import overview

CPU = torch.device("cpu")


@pytest.fixture
def choose(settings):
    """An experiment by its name."""
    return lambda name, group="main": next(e for e in settings.resolve("shop", group) if e.name == name)


# --- data --------------------------------------------------------------------------------------------------------


def test_data_comes_with_features_standardised_and_categories_as_they_are(shop, paths):
    data = inputs.load_data(paths.processed("shop"), ("image", "category"), CPU)
    assert set(data.features) == {"image", "category"}
    assert torch.equal(data.sequences.items, shop.sequences.items)
    raw, present = shop.features["image"]
    matrix, mask = data.features["image"]
    assert torch.equal(mask, present)
    assert torch.equal(matrix, store.standardise(store.Features(raw, present, {})))
    assert matrix[mask].mean(0).abs().max() < 1e-6
    assert torch.equal(data.features["category"][0], shop.features["category"][0])


def test_data_is_named_by_the_content_of_its_files(shop, paths):
    folder = paths.processed("shop")
    data = inputs.load_data(folder, ("text",), CPU)
    assert data.digests == {
        "sequences": hashlib.sha256((folder / "sequences.safetensors").read_bytes()).hexdigest(),
        "text": hashlib.sha256((folder / "features" / "text.safetensors").read_bytes()).hexdigest(),
    }


@pytest.mark.parametrize("items", [29, 31])
def test_features_of_another_number_of_items_are_refused(paths, make_features, items):
    folder = paths.processed("shop")
    matrix, present = make_features(items)["text"]
    store.save(folder / "features" / "text.safetensors", store.Features(matrix, present, {}))
    inputs.load_data(folder, ("image", "category"), CPU)
    with pytest.raises(inputs.StaleFeatures, match=f"text.safetensors has {items} items, .* 30: extract .* anew"):
        inputs.load_data(folder, ("image", "text", "category"), CPU)


# --- every model is there ----------------------------------------------------------------------------------------


def test_every_model_that_can_be_named_can_be_built():
    assert set(build.MODELS) == set(config.MODELS.values())
    assert len(set(build.MODELS.values())) == len(build.MODELS)


@pytest.mark.parametrize("name, kind", config.MODELS.items())
def test_every_model_is_built_from_its_settings_and_scores(shop, choose, name, kind):
    experiment = choose(name, "every")
    assert type(experiment.model) is kind
    torch.manual_seed(0)
    model = build.build(experiment.model, shop, 8)
    assert type(model) is build.MODELS[kind]
    assert isinstance(model, torch.nn.Module) is (kind not in config.UNTRAINED)
    if kind not in config.UNTRAINED:
        model.eval()
    scores = model.score(torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([3, 1]))
    assert scores.shape == (2, 30)
    assert scores.dtype == torch.float32 and scores.isfinite().all()


@pytest.mark.parametrize("kind", config.MODELS.values(), ids=config.MODELS.keys())
def test_a_model_asks_for_its_settings_and_of_the_data_for_what_there_is(kind):
    asked = set(inspect.signature(build.MODELS[kind]).parameters)
    assert asked <= {"settings", "n_items", "max_length", "features", "sequences"}
    assert ("settings" in asked) is bool(fields(kind))


# --- every setting of a model reaches it, and its runs' key ------------------------------------------------------

ATTENTION = {"dim": 4, "layers": 2, "heads": 1, "dropout": 0.1, "positions_from": "latest"}
CHANGES = {
    config.Popularity: {},
    config.ItemKNN: {"neighbours": 2, "shrinkage": 3.0, "decay": 0.9},
    config.MarkovChain: {"backoff": 0.3},
    config.GRU4Rec: {"dim": 4, "hidden": 8, "layers": 2, "dropout": 0.1},
    config.Caser: {"dim": 4, "window": 4, "vertical": 3, "horizontal": 5, "dropout": 0.1},
    config.SASRec: ATTENTION,
    config.BERT4Rec: ATTENTION | {"mask_share": 0.8},
    config.SASRecF: ATTENTION | {"modalities": ("image", "category")},
    config.FDSA: ATTENTION | {"modalities": ("image", "category")},
    config.NOVA: ATTENTION | {"modalities": ("image", "category"), "fusion": "sum"},
    config.MAF: ATTENTION
    | {
        "stream_dim": 8,
        "modalities": ("image", "category"),
        "score_fusion": "sum",
        "position": "added",
        "image_weight": 0.5,
        "text_weight": 0.0,
        "category_weight": 2.0,
        "regression": "mse",
        "fusion_stage": "joint",
        "weighting": "uncertainty",
        "modality_dropout": 0.5,
    },
}
NAMES = {kind: name for name, kind in config.MODELS.items()}
EACH = [(kind, field.name) for kind in CHANGES for field in fields(kind)]


def behaviour(options, shop):
    """Shapes and the loss in training; of what is not trained, the scores."""
    torch.manual_seed(0)
    model = build.build(options, shop, 8)
    items = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 0]])
    if isinstance(options, config.UNTRAINED):
        return model.score(items, torch.tensor([4, 3])).tolist()
    with torch.no_grad():
        for parameter in model.parameters():  # fresh ones are so small that attention to positions is lost in rounding
            parameter *= 10
    torch.manual_seed(0)
    parts = model.train().loss(items, items.roll(1, 0), losses.softmax)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return shapes, {name: value.item() for name, value in parts.items()}


@pytest.mark.parametrize("kind, name", EACH, ids=lambda part: getattr(part, "__name__", part))
def test_every_setting_of_a_model_changes_what_it_does_and_its_key(shop, settings, choose, kind, name):
    experiment = choose(NAMES[kind], "every")
    changed = replace(experiment, model=replace(experiment.model, **{name: CHANGES[kind][name]}))
    assert behaviour(changed.model, shop) != behaviour(experiment.model, shop)
    key, other = (run.run_key(e, 0, shop, settings) for e in (experiment, changed))
    assert key != other


def test_the_settings_of_every_model_are_among_them():
    assert {kind: set(changes) for kind, changes in CHANGES.items()} == {
        kind: {field.name for field in fields(kind)} for kind in config.MODELS.values()
    }


def test_the_same_seed_builds_the_same_weights(shop, choose):
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        models.append(build.build(choose("maf").model, shop, 8).item.weight)
    assert torch.equal(models[0], models[1]) and not torch.equal(models[0], models[2])


# --- the key -----------------------------------------------------------------------------------------------------


@pytest.fixture
def key_of(shop, settings, choose):
    def key_of(name="sasrec", seed=0, data=shop, within=settings, **changes):
        experiment = replace(choose(name, "every"), **changes)
        return json.dumps(run.run_key(experiment, seed, data, within), sort_keys=True)

    return key_of


@pytest.mark.parametrize("name", [field.name for field in fields(config.Training)])
def test_every_setting_of_training_is_in_the_key(key_of, choose, name):
    budget = replace(choose("sasrec").training, loss="sampled_softmax")
    named = {"loss": "bce", "gradients": "projected"}
    other = named.get(name) or getattr(budget, name) + 1
    assert key_of(training=replace(budget, **{name: other})) != key_of(training=budget)


CONTROLS = [{"features": how} for how in ("permuted", "random", "none")]
CONTROLS += [{"categories": "rarest"}, {"histories": "shuffled"}]


@pytest.mark.parametrize("control", CONTROLS, ids=str)
@pytest.mark.parametrize("name", ["maf", "popularity"])
def test_data_controls_are_in_the_key_beside_the_digests_of_the_files(shop, settings, choose, control, name):
    experiment = choose(name, "every")
    key, other = (
        run.run_key(e, 0, shop, settings)
        for e in (experiment, replace(experiment, data=config.DataControls(**control)))
    )
    assert (key["controls"], other["controls"]) == ({}, control)
    used = {} if control == {"features": "none"} else key["data"]
    assert other == key | {"controls": control, "data": {"sequences": "sequences"} | used}


def test_a_setting_at_a_default_is_not_in_the_key(choose):
    """So a new setting whose default means "as before" leaves the keys of finished runs as they are."""

    @dataclass(frozen=True)
    class Newer(config.SASRec):
        novelty: int = 3

    experiment = choose("sasrec")
    newer = [Newer(**asdict(experiment.model), novelty=novelty) for novelty in (3, 4)]
    options = [replace(experiment, model=model).determines["options"] for model in newer]
    assert options == [experiment.determines["options"], experiment.determines["options"] | {"novelty": 4}]


def test_negatives_are_not_in_the_key_of_a_loss_that_draws_none(key_of, choose):
    budget = choose("sasrec").training
    assert key_of(training=replace(budget, negatives=99)) == key_of(training=budget)


def test_seed_and_device_arithmetic_are_in_the_key(key_of, settings, monkeypatch):
    runtime = settings.runtime
    keys = [
        key_of(),
        key_of(seed=1),
        key_of(within=replace(settings, runtime=replace(runtime, threads=2))),
        key_of(within=replace(settings, runtime=replace(runtime, instruction_set="portable"))),
        key_of(within=replace(settings, protocol=replace(settings.protocol, max_length=9))),
    ]
    monkeypatch.setattr(torch, "__version__", "0.0")
    keys.append(key_of())
    assert len(set(keys)) == 6


def test_the_instruction_set_of_the_data_set_is_in_the_key(key_of, settings):
    def within(**chosen):
        return replace(settings, datasets={"shop": replace(settings.datasets["shop"], **chosen)})

    assert key_of(within=within(instruction_set="portable")) != key_of()
    assert key_of(within=within(instruction_set="native")) == key_of()  # as that of all is


def test_of_the_protocol_only_what_a_model_sees_is_in_the_key(key_of, settings):
    def within(**changes):
        return replace(settings, protocol=replace(settings.protocol, **changes))

    for name in config.MODELS:
        assert key_of(name, within=within(max_length=9)) != key_of(name)
        # ks come after the ranks, and the negatives are drawn with the sequences, whose digest is in the key.
        assert key_of(name, within=within(ks=(1, 5), negatives=7, negatives_seed=3)) == key_of(name)


def test_where_a_run_is_kept_depends_on_its_key_and_not_on_the_order_in_it(shop, settings, choose, tmp_path):
    key = run.run_key(choose("maf"), 0, shop, settings)
    folder = run.run_folder(key, tmp_path)
    assert run.run(choose("maf"), 0, shop, settings, tmp_path) == folder
    assert run.run_folder(dict(reversed(key.items())), tmp_path) == folder
    assert run.run_folder(key | {"seed": 1}, tmp_path) != folder


def test_the_data_that_a_model_uses_is_in_the_key_and_no_other(key_of, shop):
    def changed(name):
        return replace(shop, digests=shop.digests | {name: "other"})

    assert key_of("sasrec", data=changed("sequences")) != key_of("sasrec")
    assert key_of("popularity", data=changed("sequences")) != key_of("popularity")
    assert key_of("sasrec", data=changed("image")) == key_of("sasrec")
    # MAF here: streams of image and text, heads of text and category
    for modality in ("image", "text", "category"):
        assert key_of("maf", data=changed(modality)) != key_of("maf")
    for name in ("sasrecf", "fdsa", "nova"):  # here of image and text
        assert [key_of(name, data=changed(m)) != key_of(name) for m in ("image", "text", "category")] == [1, 1, 0]


def test_an_experiment_with_the_rarest_category_is_shown_no_other(shop, settings, choose, tmp_path):
    maf = choose("maf")
    rarest = replace(maf, data=config.DataControls(categories="rarest"))
    assert inputs.shown_to(maf, shop, 0) == shop
    shown = inputs.shown_to(rarest, shop, 0)
    matrix, present = shown.features["category"]
    torch.testing.assert_close(matrix, category.rarest(shop.features["category"][0]))
    assert matrix.sum() < shop.features["category"][0].sum()  # some of the shop's items are in two
    torch.testing.assert_close(present, shop.features["category"][1])
    assert shown.features["image"] is shop.features["image"]
    made = [run.run(experiment, 0, shop, settings, tmp_path) for experiment in (maf, rarest)]
    weights = [load_file(run / "model.safetensors") for run in made]
    assert weights[0].keys() == weights[1].keys()  # of the same size, learned from other targets
    assert any((weights[0][name] != weights[1][name]).any() for name in weights[0])
    keys = [json.loads((run / "run.json").read_text())["key"] for run in made]
    assert {name for name in keys[1] if keys[1][name] != keys[0][name]} == {"controls"}


def test_names_are_not_in_the_key(key_of, choose):
    assert key_of(name="sasrec", group="control") == key_of()
    plain = choose("plain", "again")
    assert (plain.name, plain.model) != (choose("sasrec").name, None)
    assert key_of(**{"group": plain.group}) == key_of()


@pytest.mark.parametrize("name", [NAMES[kind] for kind in config.UNTRAINED])
def test_what_is_not_trained_does_not_depend_on_training(key_of, choose, name):
    budget = choose(name, "every").training
    assert key_of(name, training=replace(budget, epochs=99)) == key_of(name)


def test_models_of_equal_settings_have_different_keys(key_of):
    assert len({key_of(name) for name in config.MODELS}) == len(config.MODELS)


def test_a_raised_version_asks_for_new_runs_of_its_family_alone(key_of, monkeypatch):
    before = {name: key_of(name) for name in config.MODELS}
    for raised, moved in (("maf", {"maf"}), ("shared", set(config.MODELS))):
        with monkeypatch.context() as patch:
            patch.setitem(versions.RESULTS_VERSIONS, raised, 2)
            assert {name for name in config.MODELS if key_of(name) != before[name]} == moved


# --- runs --------------------------------------------------------------------------------------------------------


def files_of(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_run_leaves_curve_weights_ranks_and_circumstances(shop, settings, choose, tmp_path):
    folder = run.run(choose("maf"), 1, shop, settings, tmp_path)
    assert set(files_of(folder)) == {"curve.csv", "model.safetensors", "ranks.parquet", "run.json"}
    about = json.loads((folder / "run.json").read_text())
    assert about["key"] == json.loads(json.dumps(run.run_key(choose("maf"), 1, shop, settings)))
    assert {"commit", "python", "device", "seconds_of_last_session", "peak_memory_bytes"} <= set(about)
    assert about["peak_memory_bytes"] > 10**7
    ranks = pd.read_parquet(folder / "ranks.parquet")
    assert set(ranks) == {"split", "user", "full_unseen", "full_all", "sampled_100"}
    asked = int((shop.sequences.test >= 0).sum())
    assert ranks["split"].value_counts().to_dict() == {"valid": asked, "test": asked}
    assert pd.read_csv(folder / "curve.csv")["epoch"].tolist() == [1, 2]


def test_what_was_run_is_not_run_again(shop, settings, choose, tmp_path, monkeypatch):
    folder = run.run(choose("sasrec"), 0, shop, settings, tmp_path)
    before = files_of(folder)
    monkeypatch.setattr(training, "fit", None)
    monkeypatch.setattr(run, "build", None)
    # under its other name too
    for experiment in (choose("sasrec"), choose("plain", "again")):
        assert run.run(experiment, 0, shop, settings, tmp_path) == folder
    assert files_of(folder) == before


def test_a_run_of_popularity_has_ranks_alone(shop, settings, choose, tmp_path):
    folder = run.run(choose("popularity"), 0, shop, settings, tmp_path)
    assert set(files_of(folder)) == {"ranks.parquet", "run.json"}
    ranks = pd.read_parquet(folder / "ranks.parquet")
    counts = shop.sequences.training_items().bincount(minlength=31)[1:]
    user = ranks.query("split == 'test'").iloc[0]
    target = shop.sequences.items[shop.sequences.test[user["user"]]]
    assert user["full_all"] == (counts >= counts[target - 1]).sum()


@pytest.mark.parametrize("name", config.MODELS)
def test_every_model_has_a_run(shop, settings, choose, tmp_path, name):
    folder = run.run(choose(name, "every"), 0, shop, settings, tmp_path)
    ranks = pd.read_parquet(folder / "ranks.parquet")
    assert len(ranks) == 2 * int((shop.sequences.test >= 0).sum())
    assert ranks[["full_unseen", "full_all"]].ge(1).all(axis=None)
    assert (folder / "curve.csv").exists() is (config.MODELS[name] not in config.UNTRAINED)


def test_two_runs_from_nothing_end_with_the_same_bytes(shop, settings, choose, tmp_path):
    one, other = (run.run(choose("maf"), 0, shop, settings, tmp_path / name) for name in "ab")
    for name in ("curve.csv", "model.safetensors", "ranks.parquet"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_the_same_run_is_never_worked_on_twice_at_once(shop, settings, choose, tmp_path, monkeypatch):
    fit, begun = training.fit, []

    def slow_fit(*given, **named):
        begun.append(1)
        time.sleep(0.3)  # time enough for the other to begin too
        return fit(*given, **named)

    monkeypatch.setattr(training, "fit", slow_fit)
    # Threads stand for processes here, and Python 3.11's parser fails now and then in two threads at once.
    equal = [choose("sasrec"), choose("plain", "again")]
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda experiment: run.run(experiment, 0, shop, settings, tmp_path), equal))
    assert folders[0] == folders[1]
    assert len(begun) == 1


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("after_the_write", [False, True])
@pytest.mark.parametrize("number", range(4))
def test_interrupted_at_any_write_after_training_it_goes_on_without_training(
    shop, settings, choose, tmp_path, monkeypatch, number, after_the_write
):
    whole = run.run(choose("sasrec"), 0, shop, settings, tmp_path / "whole")
    original, writes = run.atomic, []

    class atomic:
        def __init__(self, path):
            self.inner, self.stop = original(path), len(writes) == number
            writes.append(path.name)

        def __enter__(self):
            if self.stop and not after_the_write:
                raise Interrupted
            return self.inner.__enter__()

        def __exit__(self, *error):
            self.inner.__exit__(*error)
            if self.stop:
                raise Interrupted

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(run, "atomic", atomic)
        run.run(choose("sasrec"), 0, shop, settings, tmp_path / "parts")
    assert len(writes) == number + 1
    monkeypatch.setattr(training, "_epoch", None)  # what was learned is not learned again
    parts = run.run(choose("sasrec"), 0, shop, settings, tmp_path / "parts")
    for name in ("curve.csv", "model.safetensors", "ranks.parquet"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    assert (parts / "run.json").exists()


# --- killed ------------------------------------------------------------------------------------------------------

EPOCHS, KILLS = 60, 10
RUN = """
import os, sys
from pathlib import Path
import torch
from mmrec import config
from mmrec.experiments import inputs, run as module

def run():
    folder, store = map(Path, sys.argv[1:])
    settings = config.load(folder / "params.yaml")
    data = inputs.load_data(folder, ("image", "text", "category"), torch.device("cpu"))
    experiment = next(e for e in settings.resolve("shop", "main") if e.name == "maf")
    module.run(experiment, 0, data, settings, store)
"""
# Each line on stdin starts a new process that runs; Python and torch are loaded once, before. The first optimiser of a
# process loads another 900 modules.
STARTER = """
torch.optim.Adam([torch.zeros(1)])
for _ in sys.stdin:
    child = os.fork()
    if child == 0:
        try:
            run()
            os._exit(0)
        finally:
            os._exit(1)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


def wait_for(condition, seconds=60):
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.001)


@pytest.mark.slow
def test_killed_at_random_moments_and_started_again_it_ends_with_the_same_bits(shop_params, write_shop, tmp_path):
    text = shop_params.read_text().replace("epochs: 2\n  patience: 2", f"epochs: {EPOCHS}\n  patience: {EPOCHS}")
    assert text != shop_params.read_text()
    (tmp_path / "params.yaml").write_text(text)
    write_shop(tmp_path)
    progress = tmp_path / "progress"
    progress.touch()
    environment = os.environ | {"MMREC_PROGRESS": str(progress), "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}

    def start(code, runs, **options):
        command = [sys.executable, "-c", code, str(tmp_path), str(tmp_path / runs)]
        return subprocess.Popen(command, env=environment, text=True, **options)

    with start(RUN + "run()", "whole") as uninterrupted:
        assert uninterrupted.wait() == 0
    [whole] = (tmp_path / "whole").iterdir()
    reached = {}  # epochs in the checkpoint after each kill
    moments = random.Random(0)
    with start(RUN + STARTER, "parts", stdin=subprocess.PIPE, stdout=subprocess.PIPE) as starter:
        for kill in range(KILLS):
            seen = progress.read_text().count("\n")
            print("run", file=starter.stdin, flush=True)
            child = int(starter.stdout.readline())
            # After a few more lines of progress, of which the first comes before training, and then any time.
            lines = seen + moments.choice([0, 1, 2, 3, 4])
            wait_for(lambda lines=lines: progress.read_text().count("\n") >= lines)
            time.sleep(moments.uniform(0, 0.05))
            os.kill(child, signal.SIGKILL)
            assert int(starter.stdout.readline()) == -signal.SIGKILL
            checkpoints = list((tmp_path / "parts").glob("*/checkpoint.pt"))
            reached[kill] = len(torch.load(checkpoints[0], weights_only=True)["curve"]) if checkpoints else 0
        print("run", file=starter.stdin, flush=True)
        starter.stdout.readline()
        assert int(starter.stdout.readline()) == 0
        starter.stdin.close()

    epochs = list(reached.values())
    assert epochs == sorted(epochs)
    assert len({epoch for epoch in epochs if 0 < epoch < EPOCHS}) >= 4  # killed in the midst of training
    [parts] = (tmp_path / "parts").iterdir()
    assert parts.name == whole.name
    assert {path.name for path in parts.iterdir() if not path.name.startswith(".")} == set(files_of(whole))
    for name in ("curve.csv", "model.safetensors", "ranks.parquet"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes(), name


# --- groups ------------------------------------------------------------------------------------------------------


@pytest.fixture
def one_by_one(monkeypatch):
    monkeypatch.setattr(runtime, "workers", lambda *_: 1)


@pytest.fixture
def gathered(settings, paths, one_by_one):
    grid.run_groups(paths, settings, "shop", ["main"], CPU)
    return paths.group("shop", "main")


def test_a_group_gathers_every_experiment_and_seed(gathered, shop):
    ranks = pd.read_parquet(gathered / "ranks.parquet")
    assert ranks.columns[:2].tolist() == ["experiment", "seed"]
    asked = int((shop.sequences.test >= 0).sum())
    sizes = ranks.groupby(["experiment", "seed", "split"]).size()
    names = ["popularity", "sasrec", "maf"]
    assert set(sizes.index) == {(name, seed, split) for name in names for seed in (0, 1) for split in ("valid", "test")}
    assert (sizes == asked).all()
    assert ranks["experiment"].unique().tolist() == names
    curves = pd.read_csv(gathered / "curves.csv")
    assert curves.groupby(["experiment", "seed"])["epoch"].apply(list).to_dict() == {
        (name, seed): [1, 2] for name in ("sasrec", "maf") for seed in (0, 1)
    }
    models = {path.name for path in (gathered / "models").iterdir()}
    assert models == {f"{name}-{seed}.safetensors" for name in ("sasrec", "maf") for seed in (0, 1)}


def test_gathering_twice_gives_the_same_bytes_and_trains_nothing(gathered, settings, paths, monkeypatch):
    before = {path: path.read_bytes() for path in gathered.rglob("*") if path.is_file()}
    monkeypatch.setattr(training, "fit", None)
    grid.run_groups(paths, settings, "shop", ["main"], CPU)
    assert {path: path.read_bytes() for path in gathered.rglob("*") if path.is_file()} == before


class Started(Exception):
    pass


@pytest.fixture
def no_process(monkeypatch):
    """Two processes may work side by side; the first that starts is noticed."""

    def start(*given):
        raise Started

    monkeypatch.setattr(runtime, "workers", lambda *_: 2)
    monkeypatch.setattr(grid, "ProcessPoolExecutor", start)


def test_a_finished_group_starts_no_process(gathered, settings, paths, no_process):
    before = {path: path.read_bytes() for path in gathered.rglob("*") if path.is_file()}
    grid.run_groups(paths, settings, "shop", ["main"], CPU)
    assert {path: path.read_bytes() for path in gathered.rglob("*") if path.is_file()} == before


def test_a_group_of_which_one_run_is_missing_is_completed_without_another_process(
    gathered, settings, paths, no_process, choose
):
    before = (gathered / "ranks.parquet").read_bytes()
    data = inputs.load_data(paths.processed("shop"), ("image", "text", "category"), CPU)
    key = run.run_key(choose("sasrec"), 1, data, settings)
    (run.run_folder(key, paths.runs) / "run.json").unlink()
    grid.run_groups(paths, settings, "shop", ["main"], CPU)
    assert (run.run_folder(key, paths.runs) / "run.json").exists()
    assert (gathered / "ranks.parquet").read_bytes() == before


def test_several_missing_runs_start_processes(settings, paths, no_process):
    with pytest.raises(Started):
        grid.run_groups(paths, settings, "shop", ["main"], CPU)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_runs_side_by_side_on_a_gpu_give_the_bits_of_one_after_the_other(settings, write_shop, tmp_path, monkeypatch):
    found, on_gpu = [], replace(settings.runtime, device="cuda")
    for processes in (1, 2):
        monkeypatch.setattr(runtime, "workers", lambda *_, processes=processes: processes)
        paths = config.Paths(tmp_path / str(processes), tmp_path / str(processes))
        write_shop(paths.processed("shop"))
        grid.run_groups(paths, settings, "shop", ["main"], runtime.prepare(on_gpu))
        group = paths.group("shop", "main")
        found.append({file.relative_to(group): file.read_bytes() for file in group.rglob("*") if file.is_file()})
        for about in paths.runs.glob("*/run.json"):
            assert json.loads(about.read_text())["device"] == torch.cuda.get_device_name()
    assert found[0] == found[1]


def test_progress_counts_what_is_missing(gathered, settings, paths, choose, monkeypatch):
    lines = []
    monkeypatch.setattr(run, "report", lines.append)
    data = inputs.load_data(paths.processed("shop"), ("image", "text", "category"), CPU)
    for name in ("sasrec", "maf"):
        key = run.run_key(choose(name), 1, data, settings)
        (run.run_folder(key, paths.runs) / "run.json").unlink()
    grid.run_groups(paths, settings, "shop", ["main"], CPU)
    assert [line.rsplit(":", 1)[0] for line in lines] == ["[1/2] shop sasrec seed 1", "[2/2] shop maf seed 1"]


def test_a_group_runs_with_the_seeds_of_the_data_set(settings, paths, one_by_one):
    shop = replace(settings.datasets["shop"], seeds=(3, 4, 5))
    grid.run_groups(paths, replace(settings, datasets={"shop": shop}), "shop", ["counts"], CPU)
    ranks = pd.read_parquet(paths.group("shop", "counts") / "ranks.parquet")
    assert ranks["seed"].unique().tolist() == [3, 4, 5]


def test_tasks_are_worked_on_in_order_and_answered_in_order(settings):
    worked = []

    def work(task):
        worked.append(task)
        return task * 10

    assert grid.side_by_side(work, [3, 1, 2], replace(settings.runtime, threads=10**6), CPU) == [30, 10, 20]
    assert worked == [3, 1, 2]
    assert grid.side_by_side(work, [], settings.runtime, CPU) == []


def test_data_that_changed_since_is_read_anew(settings, paths, make_features, no_process):
    folder = paths.processed("shop")

    def digest(_):
        return grid.data_once(folder, ("text",), CPU).digests["text"]

    first = grid.side_by_side(digest, [0], settings.runtime, CPU)
    store.save(folder / "features" / "text.safetensors", store.Features(*make_features(30, seed=1)["text"], {}))
    assert grid.side_by_side(digest, [0], settings.runtime, CPU) != first


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*not set as in the pipeline")
def test_side_by_side_a_group_comes_out_as_one_by_one(write_shop, gathered, shop, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "workers", lambda *_: 2)
    for name, value in runtime.environment(settings.runtime).items():
        monkeypatch.setenv(name, value)
    paths = config.Paths(tmp_path / "apart", tmp_path / "apart")
    write_shop(paths.processed("shop"))
    grid.run_groups(paths, settings, "shop", ["main"], CPU)
    results = paths.group("shop", "main")
    for path in (path for path in gathered.rglob("*") if path.is_file()):
        assert (results / path.relative_to(gathered)).read_bytes() == path.read_bytes()


def test_a_group_without_neural_models_is_gathered_too(settings, paths, one_by_one):
    grid.run_groups(paths, settings, "shop", ["counts"], CPU)
    results = paths.group("shop", "counts")
    assert pd.read_parquet(results / "ranks.parquet")["experiment"].unique().tolist() == ["popularity"]
    assert len(pd.read_csv(results / "curves.csv")) == 0


def test_several_groups_share_their_processes_and_are_gathered_apart(settings, paths, monkeypatch):
    asked = []
    side_by_side = grid.side_by_side

    def noted(work, tasks, *given):
        asked.append(len(tasks))
        return side_by_side(work, tasks, *given)

    monkeypatch.setattr(grid, "side_by_side", noted)
    monkeypatch.setattr(runtime, "workers", lambda *_: 1)
    grid.run_groups(paths, settings, "shop", ["again", "counts"], CPU)
    assert asked == [2 * 2 + 1 * 2]
    for group, names in (("again", ["plain", "wide"]), ("counts", ["popularity"])):
        ranks = pd.read_parquet(paths.group("shop", group) / "ranks.parquet")
        assert ranks["experiment"].unique().tolist() == names and ranks["seed"].unique().tolist() == [0, 1]


def test_weights_are_kept_of_what_is_probed_and_of_nothing_else(settings, paths, one_by_one):
    for group in ("probes", "every"):
        one = replace(
            settings, experiments=settings.experiments | {group: {"maf": settings.experiments["main"]["maf"]}}
        )
        grid.run_groups(paths, one, "shop", [group], CPU)
        assert (paths.group("shop", group) / "models").exists() == (group == "probes")


@pytest.mark.parametrize("name", ["sasrec", "maf"])
def test_a_trained_model_gives_the_ranks_that_were_stored(gathered, settings, paths, name):
    data = inputs.load_data(paths.processed("shop"), ("image", "text", "category"), CPU)
    model = grid.trained_model(paths, settings, "shop", "main", name, 1, data)
    assert not model.training
    ranks = pd.read_parquet(gathered / "ranks.parquet").query("experiment == @name and seed == 1")
    for split in ("valid", "test"):
        found = evaluate(model.score, data.sequences, split, 8)
        stored = ranks[ranks["split"] == split].drop(columns=["experiment", "seed", "split"])
        pd.testing.assert_frame_equal(found, stored.reset_index(drop=True))


def test_with_the_rarest_category_too_a_run_is_found_again_and_its_weights_give_its_ranks(
    settings, paths, one_by_one, monkeypatch
):
    maf = settings.experiments["main"]["maf"]
    rarest = replace(maf, data={"categories": "rarest"}, options={"modalities": ("text", "category")})
    one = replace(settings, experiments=settings.experiments | {"probes": {"rarest": rarest}})
    grid.run_groups(paths, one, "shop", ["probes"], CPU)
    monkeypatch.setattr(grid, "run", None)  # it is not called again
    grid.run_groups(paths, one, "shop", ["probes"], CPU)
    data = inputs.load_data(paths.processed("shop"), ("image", "text", "category"), CPU)
    model = grid.trained_model(paths, one, "shop", "probes", "rarest", 0, data)
    assert set(model.get_buffer("category_features").sum(1).tolist()) == {0.0, 1.0}
    stored = pd.read_parquet(paths.group("shop", "probes") / "ranks.parquet").query("seed == 0 and split == 'test'")
    found = evaluate(model.score, data.sequences, "test", 8)["full_unseen"]
    assert found.tolist() == stored["full_unseen"].tolist()


def test_histories_are_shuffled_where_it_is_asked_too(shop, settings, choose, tmp_path, monkeypatch):
    experiment = choose("sasrec")
    experiment = replace(experiment, data=config.DataControls(histories="shuffled"))
    asked, evaluate, fit = {}, run.evaluation.evaluate, training.fit

    def noted(score, sequences, split, max_length):
        asked[split] = sequences.items
        return evaluate(score, sequences, split, max_length)

    def fitted(model, sequences, *given, **named):
        asked["training"] = sequences.items
        return fit(model, sequences, *given, **named)

    monkeypatch.setattr(run.evaluation, "evaluate", noted)
    monkeypatch.setattr(training, "fit", fitted)
    run.run(experiment, 1, shop, settings, tmp_path)
    assert torch.equal(asked["training"], shop.sequences.shuffled("valid", 1).items)
    for split in ("valid", "test"):
        assert torch.equal(asked[split], shop.sequences.shuffled(split, 1).items)


def test_stored_weights_are_the_best_of_the_curve(gathered, settings, paths, choose):
    data = inputs.load_data(paths.processed("shop"), ("image", "text", "category"), CPU)
    model = build.build(choose("sasrec").model, data, 8)
    model.load_state_dict(load_file(gathered / "models" / "sasrec-0.safetensors"))
    ranks = evaluate(model.eval().score, data.sequences, "valid", 8)["full_unseen"].to_numpy()
    curve = pd.read_csv(gathered / "curves.csv").query("experiment == 'sasrec' and seed == 0")
    assert gains(ranks, "ndcg", 10).mean() == pytest.approx(curve["valid_ndcg_10"].max())


def test_the_overview_shows_every_setting_and_a_blank_where_none_applies(settings):
    table = overview.overview(settings.resolve("shop", "main"))
    assert table.columns.tolist() == ["popularity", "sasrec", "maf"]
    assert table.loc["model"].tolist() == ["Popularity", "SASRec", "MAF"]
    assert table.loc["dim"].tolist() == ["", "8", "8"]
    assert table.loc["modalities"].tolist() == ["", "", "image, text"]
    assert table.loc["epochs"].tolist() == ["", "2", "2"]
    assert set(asdict(settings.training)) | {field.name for field in fields(config.MAF)} < set(table.index)


def variants_of(settings, **changes):
    """Group main and a variant of MAF."""
    maf = settings.experiments["main"]["maf"]
    variant = replace(maf, control="maf", options=maf.options | changes.pop("options", {}), **changes)
    return replace(settings, experiments=settings.experiments | {"loss": {"variant": variant}})


def test_differences_are_what_a_variant_changes_of_its_control(settings):
    changed = variants_of(settings, options={"text_weight": 0.7, "modalities": ("image",)}, training={"patience": 9})
    everything = changed.resolve("shop", "main") + changed.resolve("shop", "loss")
    (row,) = overview.differences(everything).itertuples(index=False)
    own = asdict(changed.resolve("shop", "main")[-1].model)
    assert tuple(row) == (
        *("loss", "variant", "maf"),
        f"modalities: image (image, text); text_weight: 0.7 ({own['text_weight']}); "
        f"patience: 9 ({settings.training.patience})",
    )
    assert [e.name for e in overview.originals(everything)] == ["popularity", "sasrec", "maf"]


# --- what a change touches ---------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def replication():
    """params.yaml, all groups on one data set, but those of one that is tuned."""
    found = config.load(Path(__file__).parents[3] / "params.yaml")
    groups = tuple(group for group in found.experiments if group not in ("baselines", "other_end"))
    return replace(found, datasets={"hm": replace(found.datasets["hm"], groups=groups)})


def runs_of(settings, shop):
    """experiment -> the keys of its runs."""
    return {
        (experiment.name, seed): str(run.run_key(experiment, seed, shop, settings))
        for group in settings.datasets["hm"].groups
        for experiment in settings.resolve("hm", group)
        for seed in settings.seeds_of("hm")
    }


def test_one_changed_loss_weight_trains_anew_only_the_runs_that_use_it(replication, shop):
    before = runs_of(replication, shop)
    loss = replication.experiments["loss"]
    swept = loss | {"image_weight_1": replace(loss["image_weight_1"], options={"image_weight": 1.5})}
    after = runs_of(replace(replication, experiments=replication.experiments | {"loss": swept}), shop)
    assert {run for run in before if before[run] != after[run]} == {("image_weight_1", seed) for seed in range(5)}


def test_a_changed_default_weight_trains_anew_what_has_that_loss(replication, shop):
    before = runs_of(replication, shop)
    models = replication.models | {"maf": replication.models["maf"] | {"image_weight": 0.4}}
    after = runs_of(replace(replication, models=models), shop)
    kept = {name for name, _ in before} - {name for name, seed in before if before[name, seed] != after[name, seed]}
    assert kept == {
        *(
            "popularity",
            "sasrec",
            "sasrec_shuffled",
            "sasrec_wide",
            "sasrec_from_latest",
        ),  # without losses of modalities
        *("without_image", "text_alone", "category_alone", "id_only", "no_image_loss"),  # without this one
        *("image_weight_01", "image_weight_1", "image_weight_3"),  # with a weight of their own
    }
    assert len({run for run in before if before[run] != after[run]}) == 5 * (len(before) // 5 - len(kept))
