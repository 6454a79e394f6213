import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, fields, replace
from pathlib import Path

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from mmrec import config, experiments, runtime, training
from mmrec.evaluation import evaluate, gains
from mmrec.features import store
from mmrec.models import maf, sasrec

CPU = torch.device("cpu")
PARAMS = """\
runtime: {device: cpu, threads: 1, encoder_threads: 1, instruction_set: native}
datasets:
  shop:
    title: a shop
    source: {kind: folder}
    user_core: 1
    item_core: 1
    split: {kind: leave_one_out}
    image: vgg
    text: bert
    category: true
protocol: {max_length: 8, ks: [10], negatives: 10, negatives_seed: 0}
encoders:
  vgg: {kind: vgg16, layer: fc7}
  bert: {kind: bert, package: some_package, pooling: mean}
training: {epochs: 2, patience: 2, batch_size: 32, learning_rate: 0.01, weight_decay: 0.0, clip_norm: 5.0}
models:
  popularity: {}
  sasrec: {dim: 8, layers: 1, heads: 2, dropout: 0.3}
  maf:
    dim: 8
    stream_dim: 4
    layers: 1
    heads: 2
    dropout: 0.3
    modalities: [image, text]
    fusion: gate
    position: stream
    image_weight: 0.0
    text_weight: 1.0
    category_weight: 1.0
    regression: cosine
experiments:
  main:
    popularity: {model: popularity}
    sasrec: {model: sasrec}
    maf: {model: maf}
  again:
    plain: {model: sasrec}
    wide: {model: sasrec, options: {dim: 16}}
  counts:
    popularity: {model: popularity}
seeds: [0, 1]
"""


@pytest.fixture(scope="module")
def settings(tmp_path_factory) -> config.Config:
    path = tmp_path_factory.mktemp("project") / "params.yaml"
    path.write_text(PARAMS)
    return config.load(path)


@pytest.fixture
def choose(settings):
    """An experiment by its name."""
    return lambda name, group="main": next(e for e in settings.resolve("shop", group) if e.name == name)


def write(shop: experiments.Data, folder: Path) -> None:
    """data/processed/<dataset>, as the earlier stages leave it."""
    shop.sequences.save(folder / "sequences.safetensors")
    for modality, (matrix, present) in shop.features.items():
        store.save(folder / "features" / f"{modality}.safetensors", store.Features(matrix, present, {}))


@pytest.fixture
def paths(shop, tmp_path) -> config.Paths:
    found = config.Paths(tmp_path, tmp_path)
    write(shop, found.processed("shop"))
    return found


# --- data --------------------------------------------------------------------------------------------------------


def test_data_comes_with_features_standardised_and_categories_as_they_are(shop, paths):
    data = experiments.load_data(paths.processed("shop"), ("image", "category"), CPU)
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
    data = experiments.load_data(folder, ("text",), CPU)
    assert data.digests == {
        "sequences": hashlib.sha256((folder / "sequences.safetensors").read_bytes()).hexdigest(),
        "text": hashlib.sha256((folder / "features" / "text.safetensors").read_bytes()).hexdigest(),
    }


# --- every setting of a model reaches it, and its runs' key ------------------------------------------------------

CHANGES = {
    config.SASRec: {"dim": 4, "layers": 2, "heads": 1, "dropout": 0.1},
    config.MAF: {
        "dim": 4,
        "stream_dim": 8,
        "layers": 2,
        "heads": 1,
        "dropout": 0.1,
        "modalities": ("image", "category"),
        "fusion": "sum",
        "position": "added",
        "image_weight": 0.5,
        "text_weight": 0.0,
        "category_weight": 2.0,
        "regression": "mse",
    },
}
EACH = [(kind, field.name) for kind in CHANGES for field in fields(kind)]


def behaviour(options, shop):
    """Shapes and the loss in training."""
    torch.manual_seed(0)
    model = experiments.build(options, shop, 8).train()
    items = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 0]])
    torch.manual_seed(0)
    parts = model.loss(items, items.roll(1, 0))
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return shapes, {name: value.item() for name, value in parts.items()}


@pytest.mark.parametrize("kind, name", EACH, ids=lambda part: getattr(part, "__name__", part))
def test_every_setting_of_a_model_changes_what_it_does_and_its_key(shop, settings, choose, kind, name):
    experiment = choose(kind.__name__.lower())
    changed = replace(experiment, model=replace(experiment.model, **{name: CHANGES[kind][name]}))
    assert behaviour(changed.model, shop) != behaviour(experiment.model, shop)
    key, other = (experiments.run_key(e, 0, shop, settings) for e in (experiment, changed))
    assert key != other


def test_the_same_seed_builds_the_same_weights(shop, choose):
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        models.append(experiments.build(choose("maf").model, shop, 8).item.weight)
    assert torch.equal(models[0], models[1]) and not torch.equal(models[0], models[2])


# --- the key -----------------------------------------------------------------------------------------------------


@pytest.fixture
def key_of(shop, settings, choose):
    def key_of(name="sasrec", seed=0, data=shop, within=settings, **changes):
        return json.dumps(experiments.run_key(replace(choose(name), **changes), seed, data, within), sort_keys=True)

    return key_of


@pytest.mark.parametrize("name", [field.name for field in fields(config.Training)])
def test_every_setting_of_training_is_in_the_key(key_of, choose, name):
    budget = choose("sasrec").training
    assert key_of(training=replace(budget, **{name: getattr(budget, name) + 1})) != key_of()


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


def test_the_data_that_a_model_uses_is_in_the_key_and_no_other(key_of, shop):
    def changed(name):
        return replace(shop, digests=shop.digests | {name: "other"})

    assert key_of("sasrec", data=changed("sequences")) != key_of("sasrec")
    assert key_of("popularity", data=changed("sequences")) != key_of("popularity")
    assert key_of("sasrec", data=changed("image")) == key_of("sasrec")
    # MAF here: streams of image and text, heads of text and category
    for modality in ("image", "text", "category"):
        assert key_of("maf", data=changed(modality)) != key_of("maf")


def test_names_are_not_in_the_key(key_of, choose):
    assert key_of(name="sasrec", group="control") == key_of()
    plain = choose("plain", "again")
    assert (plain.name, plain.model) != (choose("sasrec").name, None)
    assert key_of(**{"group": plain.group}) == key_of()


def test_popularity_does_not_depend_on_training(key_of, choose):
    budget = choose("popularity").training
    assert key_of("popularity", training=replace(budget, epochs=99)) == key_of("popularity")


def test_models_of_equal_settings_have_different_keys(key_of):
    assert len({key_of("popularity"), key_of("sasrec"), key_of("maf")}) == 3


@pytest.fixture
def digest_with(monkeypatch):
    """code_digest where the source of one module reads otherwise."""

    def digest_with(module, old, new, of=sasrec):
        source = experiments.SOURCES[module]
        assert old in source
        with monkeypatch.context() as patch:
            patch.setitem(experiments.SOURCES, module, source.replace(old, new))
            return experiments.code_digest(of)

    return digest_with


def test_comments_docstrings_and_layout_are_not_code(digest_with):
    now = experiments.code_digest(sasrec)
    assert digest_with(training, "# what early stopping watches", "# as before") == now
    assert digest_with(training, "Whether the budget is spent", "Is the budget spent") == now
    assert digest_with(training, "    model.train()\n", "\n    model.train()\n\n") == now


def test_a_changed_number_or_line_is_code(digest_with):
    now = experiments.code_digest(sasrec)
    assert digest_with(training, '"ndcg", 10)', '"ndcg", 20)') != now
    assert digest_with(training, "    model.train()\n", "    model.eval()\n") != now
    assert digest_with(store, "(present - present.mean(0))", "(present + present.mean(0))") != now
    assert digest_with(experiments.build, "max_length=max_length", "max_length=max_length + 1") != now


def test_the_code_of_other_models_is_not_in_the_digest(digest_with):
    now = experiments.code_digest(sasrec)
    assert digest_with(maf, "persistent=False", "persistent=True") == now
    assert digest_with(maf, "persistent=False", "persistent=True", of=maf) != experiments.code_digest(maf)


# --- runs --------------------------------------------------------------------------------------------------------


def files_of(folder):
    return {path.name: path.stat().st_mtime_ns for path in folder.iterdir()}


def test_a_run_leaves_curve_weights_ranks_and_circumstances(shop, settings, choose, tmp_path):
    folder = experiments.run(choose("maf"), 1, shop, settings, tmp_path)
    assert set(files_of(folder)) == {"curve.csv", "model.safetensors", "ranks.parquet", "run.json"}
    about = json.loads((folder / "run.json").read_text())
    assert about["key"] == json.loads(json.dumps(experiments.run_key(choose("maf"), 1, shop, settings)))
    assert {"commit", "python", "device", "seconds_of_last_session", "peak_memory_bytes"} <= set(about)
    assert about["peak_memory_bytes"] > 10**7
    ranks = pd.read_parquet(folder / "ranks.parquet")
    assert set(ranks) == {"split", "user", "full_unseen", "full_all", "sampled_100"}
    asked = int((shop.sequences.test >= 0).sum())
    assert ranks["split"].value_counts().to_dict() == {"valid": asked, "test": asked}
    assert pd.read_csv(folder / "curve.csv")["epoch"].tolist() == [1, 2]


def test_what_was_run_is_not_run_again(shop, settings, choose, tmp_path, monkeypatch):
    folder = experiments.run(choose("sasrec"), 0, shop, settings, tmp_path)
    before = files_of(folder)
    monkeypatch.setattr(training, "fit", None)
    monkeypatch.setattr(experiments, "build", None)
    # under its other name too
    for experiment in (choose("sasrec"), choose("plain", "again")):
        assert experiments.run(experiment, 0, shop, settings, tmp_path) == folder
    assert files_of(folder) == before


def test_a_run_of_popularity_has_ranks_alone(shop, settings, choose, tmp_path):
    folder = experiments.run(choose("popularity"), 0, shop, settings, tmp_path)
    assert set(files_of(folder)) == {"ranks.parquet", "run.json"}
    ranks = pd.read_parquet(folder / "ranks.parquet")
    counts = shop.sequences.training_items().bincount(minlength=31)[1:]
    user = ranks.query("split == 'test'").iloc[0]
    target = shop.sequences.items[shop.sequences.test[user["user"]]]
    assert user["full_all"] == (counts >= counts[target - 1]).sum()


def test_two_runs_from_nothing_end_with_the_same_bytes(shop, settings, choose, tmp_path):
    one, other = (experiments.run(choose("maf"), 0, shop, settings, tmp_path / name) for name in "ab")
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
    monkeypatch.setattr(experiments, "code_digest", lambda model: "the same")
    equal = [choose("sasrec"), choose("plain", "again")]
    with ThreadPoolExecutor(2) as pool:
        folders = list(pool.map(lambda experiment: experiments.run(experiment, 0, shop, settings, tmp_path), equal))
    assert folders[0] == folders[1]
    assert len(begun) == 1


class Interrupted(Exception):
    pass


@pytest.mark.parametrize("after_the_write", [False, True])
@pytest.mark.parametrize("number", range(4))
def test_interrupted_at_any_write_after_training_it_goes_on_without_training(
    shop, settings, choose, tmp_path, monkeypatch, number, after_the_write
):
    whole = experiments.run(choose("sasrec"), 0, shop, settings, tmp_path / "whole")
    original, writes = experiments.atomic, []

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
        patch.setattr(experiments, "atomic", atomic)
        experiments.run(choose("sasrec"), 0, shop, settings, tmp_path / "parts")
    assert len(writes) == number + 1
    monkeypatch.setattr(training, "_epoch", None)  # what was learned is not learned again
    parts = experiments.run(choose("sasrec"), 0, shop, settings, tmp_path / "parts")
    for name in ("curve.csv", "model.safetensors", "ranks.parquet"):
        assert (parts / name).read_bytes() == (whole / name).read_bytes()
    assert (parts / "run.json").exists()


# --- killed ------------------------------------------------------------------------------------------------------

EPOCHS, KILLS = 60, 10
RUN = """
import os, sys
from pathlib import Path
import torch
from mmrec import config, experiments

def run():
    folder, runs = map(Path, sys.argv[1:])
    settings = config.load(folder / "params.yaml")
    data = experiments.load_data(folder, ("image", "text", "category"), torch.device("cpu"))
    experiment = next(e for e in settings.resolve("shop", "main") if e.name == "maf")
    experiments.run(experiment, 0, data, settings, runs)
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
def test_killed_at_random_moments_and_started_again_it_ends_with_the_same_bits(shop, tmp_path):
    text = PARAMS.replace("epochs: 2, patience: 2", f"epochs: {EPOCHS}, patience: {EPOCHS}")
    (tmp_path / "params.yaml").write_text(text)
    write(shop, tmp_path)
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
    experiments.run_group(paths, settings, "shop", "main", CPU)
    return paths.results("shop") / "main"


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
    experiments.run_group(paths, settings, "shop", "main", CPU)
    assert {path: path.read_bytes() for path in gathered.rglob("*") if path.is_file()} == before


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*not set as in the pipeline")
def test_side_by_side_a_group_comes_out_as_one_by_one(gathered, shop, settings, tmp_path, monkeypatch):
    monkeypatch.setattr(runtime, "workers", lambda *_: 2)
    for name, value in runtime.environment(settings.runtime).items():
        monkeypatch.setenv(name, value)
    paths = config.Paths(tmp_path / "apart", tmp_path / "apart")
    write(shop, paths.processed("shop"))
    experiments.run_group(paths, settings, "shop", "main", CPU)
    results = paths.results("shop") / "main"
    for path in (path for path in gathered.rglob("*") if path.is_file()):
        assert (results / path.relative_to(gathered)).read_bytes() == path.read_bytes()


def test_a_group_without_neural_models_is_gathered_too(settings, paths, one_by_one):
    experiments.run_group(paths, settings, "shop", "counts", CPU)
    results = paths.results("shop") / "counts"
    assert pd.read_parquet(results / "ranks.parquet")["experiment"].unique().tolist() == ["popularity"]
    assert len(pd.read_csv(results / "curves.csv")) == 0


@pytest.mark.parametrize("name", ["sasrec", "maf"])
def test_a_trained_model_gives_the_ranks_that_were_stored(gathered, settings, paths, name):
    data = experiments.load_data(paths.processed("shop"), ("image", "text", "category"), CPU)
    model = experiments.trained_model(paths, settings, "shop", "main", name, 1, data)
    assert not model.training
    ranks = pd.read_parquet(gathered / "ranks.parquet").query("experiment == @name and seed == 1")
    for split in ("valid", "test"):
        found = evaluate(model.score, data.sequences, split, 8)
        stored = ranks[ranks["split"] == split].drop(columns=["experiment", "seed", "split"])
        pd.testing.assert_frame_equal(found, stored.reset_index(drop=True))


def test_stored_weights_are_the_best_of_the_curve(gathered, settings, paths, choose):
    data = experiments.load_data(paths.processed("shop"), ("image", "text", "category"), CPU)
    model = experiments.build(choose("sasrec").model, data, 8)
    model.load_state_dict(load_file(gathered / "models" / "sasrec-0.safetensors"))
    ranks = evaluate(model.eval().score, data.sequences, "valid", 8)["full_unseen"].to_numpy()
    curve = pd.read_csv(gathered / "curves.csv").query("experiment == 'sasrec' and seed == 0")
    assert gains(ranks, "ndcg", 10).mean() == pytest.approx(curve["valid_ndcg_10"].max())


def test_the_overview_shows_every_setting_and_a_blank_where_none_applies(settings):
    table = experiments.overview(settings.resolve("shop", "main"))
    assert table.columns.tolist() == ["popularity", "sasrec", "maf"]
    assert table.loc["model"].tolist() == ["Popularity", "SASRec", "MAF"]
    assert table.loc["dim"].tolist() == ["", "8", "8"]
    assert table.loc["modalities"].tolist() == ["", "", "image, text"]
    assert table.loc["epochs"].tolist() == ["", "2", "2"]
    assert set(asdict(settings.training)) | {field.name for field in fields(config.MAF)} < set(table.index)
