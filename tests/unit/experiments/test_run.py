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

from mmrec import config, training
from mmrec.experiments import run, store, versions

NAMES = {kind: name for name, kind in config.MODELS.items()}


# --- key


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
    # Permuted and random features are drawn over every modality of the data set.
    used = {"none": {}, None: key["data"]}.get(control.get("features"), shop.digests)
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


def test_only_the_input_length_of_the_protocol_is_in_the_key(key_of, settings):
    def within(**changes):
        return replace(settings, protocol=replace(settings.protocol, **changes))

    for name in config.MODELS:
        assert key_of(name, within=within(max_length=9)) != key_of(name)
        # ks come after the ranks, and the negatives are drawn with the sequences, whose digest is in the key.
        assert key_of(name, within=within(ks=(1, 5), negatives=7, negatives_seed=3)) == key_of(name)


def test_only_data_of_modalities_that_a_model_uses_are_in_the_key(key_of, shop):
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


def test_names_are_not_in_the_key(key_of, choose):
    assert key_of(name="sasrec", group="control") == key_of()
    plain = choose("plain", "again")
    assert (plain.name, plain.model) != (choose("sasrec").name, None)
    assert key_of(**{"group": plain.group}) == key_of()


@pytest.mark.parametrize("name", [NAMES[kind] for kind in config.UNTRAINED])
def test_keys_of_untrained_models_hold_no_training(key_of, choose, name):
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


# --- what a change touches


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


def test_a_changed_loss_weight_changes_only_runs_with_that_weight(replication, shop):
    before = runs_of(replication, shop)
    loss = replication.experiments["weights"]
    swept = loss | {"image_weight_1": replace(loss["image_weight_1"], options={"image_weight": 1.5})}
    after = runs_of(replace(replication, experiments=replication.experiments | {"weights": swept}), shop)
    assert {run for run in before if before[run] != after[run]} == {("image_weight_1", seed) for seed in range(5)}


def test_a_changed_default_weight_changes_runs_with_that_loss(replication, shop):
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
        *("attention_only", "values_only", "item_vector", "item_vector_permuted", "item_vector_apart", "features_only"),
        *("detied", "gru4rec_ids", "gru4rec_item_vector", "unisrec", "unisrec_ids", "maf_ids"),
        *("losses_only", "all_channels"),  # with a weight of their own
        *replication.experiments["precursor"],
    }
    assert len({run for run in before if before[run] != after[run]}) == 5 * (len(before) // 5 - len(kept))


# --- runs
def test_where_a_run_is_kept_depends_on_its_key_and_not_on_the_order_in_it(shop, settings, choose, made):
    key, folder = run.run_key(choose("maf"), 0, shop, settings), made("maf")
    assert store.run_folder(key, folder.parent) == folder
    assert store.run_folder(dict(reversed(key.items())), folder.parent) == folder
    assert store.run_folder(key | {"seed": 1}, folder.parent) != folder


def files_of(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_run_leaves_curve_weights_ranks_and_circumstances(shop, settings, choose, made):
    folder = made("maf", seed=1)
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


def test_a_finished_run_is_not_repeated(shop, settings, choose, made, monkeypatch):
    folder = made("sasrec")
    before = files_of(folder)
    monkeypatch.setattr(training, "fit", None)
    monkeypatch.setattr(run, "build", None)
    # under its other name too
    for experiment in (choose("sasrec"), choose("plain", "again")):
        assert run.run(experiment, 0, shop, settings, folder.parent) == folder
    assert files_of(folder) == before


def test_a_run_of_popularity_has_ranks_alone(shop, made):
    folder = made("popularity")
    assert set(files_of(folder)) == {"ranks.parquet", "run.json"}
    ranks = pd.read_parquet(folder / "ranks.parquet")
    counts = shop.sequences.training_items().bincount(minlength=31)[1:]
    user = ranks.query("split == 'test'").iloc[0]
    target = shop.sequences.items[shop.sequences.test[user["user"]]]
    assert user["full_all"] == (counts >= counts[target - 1]).sum()


@pytest.mark.parametrize("name", config.MODELS)
def test_every_model_has_a_run(shop, made, name):
    folder = made(name, "every")
    ranks = pd.read_parquet(folder / "ranks.parquet")
    assert len(ranks) == 2 * int((shop.sequences.test >= 0).sum())
    assert ranks[["full_unseen", "full_all"]].ge(1).all(axis=None)
    assert (folder / "curve.csv").exists() is (config.MODELS[name] not in config.UNTRAINED)


def test_two_runs_from_nothing_end_with_the_same_bytes(shop, settings, choose, made, tmp_path):
    one, other = made("maf"), run.run(choose("maf"), 0, shop, settings, tmp_path)
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


@pytest.mark.parametrize("after_the_write", [False, True])
@pytest.mark.parametrize("number", range(4))
def test_a_run_interrupted_at_a_write_after_training_resumes_without_training(
    shop, settings, choose, made, interrupt, tmp_path, monkeypatch, number, after_the_write
):
    whole = made("sasrec")
    with pytest.raises(interrupt.exception):
        writes = interrupt(run, number, after_the_write)
        run.run(choose("sasrec"), 0, shop, settings, tmp_path / "parts")
    monkeypatch.undo()
    assert len(writes) == number + 1
    monkeypatch.setattr(training, "_epoch", None)  # what was learned is not learned again
    parts = run.run(choose("sasrec"), 0, shop, settings, tmp_path / "parts")
    for name in ("curve.csv", "model.safetensors", "ranks.parquet"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    assert (parts / "run.json").exists()


def test_histories_are_shuffled_in_evaluation_too(shop, settings, choose, tmp_path, monkeypatch):
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


# --- killed

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
def test_a_run_killed_at_random_moments_ends_with_the_same_bits(shop_params, write_shop, tmp_path):
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
