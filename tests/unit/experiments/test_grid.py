import json
import shutil
import sys
from dataclasses import replace

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from mmrec import config, runtime, training
from mmrec.evaluation import evaluate, gains
from mmrec.experiments import engine, grid, inputs, run, store

CPU = torch.device("cpu")


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
    assert {path.name for path in gathered.iterdir()} == {"ranks.parquet", "curves.csv"}


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
    monkeypatch.setattr(engine, "ProcessPoolExecutor", start)


def test_a_finished_group_starts_no_process(gathered, settings, paths, no_process):
    before = {path: path.read_bytes() for path in gathered.rglob("*") if path.is_file()}
    grid.run_groups(paths, settings, "shop", ["main"], CPU)
    assert {path: path.read_bytes() for path in gathered.rglob("*") if path.is_file()} == before


def test_one_missing_run_of_a_group_starts_no_process(gathered, settings, paths, no_process, choose):
    before = (gathered / "ranks.parquet").read_bytes()
    data = inputs.load_data(paths.processed("shop"), ("image", "text", "category"), CPU)
    key = run.run_key(choose("sasrec"), 1, data, settings)
    (store.run_folder(key, paths.runs) / "run.json").unlink()
    grid.run_groups(paths, settings, "shop", ["main"], CPU)
    assert (store.run_folder(key, paths.runs) / "run.json").exists()
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


def test_engine_ray_without_ray_says_what_to_install(settings, paths, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "mmrec.experiments.cluster", raising=False)
    on_ray = replace(settings, runtime=replace(settings.runtime, engine="ray"))
    with pytest.raises(config.ConfigError, match=r"runtime\.engine: .*pip install '\.\[scale\]'"):
        grid.run_groups(paths, on_ray, "shop", ["main"], CPU)


def test_progress_counts_missing_runs(gathered, settings, paths, choose, monkeypatch):
    lines = []
    monkeypatch.setattr(run, "report", lines.append)
    data = inputs.load_data(paths.processed("shop"), ("image", "text", "category"), CPU)
    for name in ("sasrec", "maf"):
        key = run.run_key(choose(name), 1, data, settings)
        (store.run_folder(key, paths.runs) / "run.json").unlink()
    grid.run_groups(paths, settings, "shop", ["main"], CPU)
    assert [line.rsplit(":", 1)[0] for line in lines] == ["[1/2] shop sasrec seed 1", "[2/2] shop maf seed 1"]


def test_a_group_runs_with_the_seeds_of_the_data_set(settings, paths, one_by_one):
    shop = replace(settings.datasets["shop"], seeds=(3, 4, 5))
    grid.run_groups(paths, replace(settings, datasets={"shop": shop}), "shop", ["counts"], CPU)
    ranks = pd.read_parquet(paths.group("shop", "counts") / "ranks.parquet")
    assert ranks["seed"].unique().tolist() == [3, 4, 5]


def test_a_side_question_runs_with_the_first_seeds_alone(settings):
    main = settings.experiments["main"]
    fewer = settings.experiments | {"main": main | {"maf": replace(main["maf"], seeds=1)}}
    found = replace(settings, experiments=fewer).grid(replace(settings, experiments=fewer).resolve("shop", "main"))
    assert [(one.name, seed) for one, seed in found if one.name in ("sasrec", "maf")] == [
        ("sasrec", 0),
        ("sasrec", 1),
        ("maf", 0),
    ]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*not set as in the pipeline")
def test_parallel_and_sequential_runs_of_a_group_are_equal(write_shop, gathered, shop, settings, tmp_path, monkeypatch):
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


def test_several_groups_share_their_processes_and_are_gathered_apart(settings, paths, monkeypatch, capsys):
    asked = []
    run_parallel = grid.run_parallel

    def noted(work, tasks, *given):
        asked.append(len(tasks))
        return run_parallel(work, tasks, *given)

    monkeypatch.setattr(grid, "run_parallel", noted)
    monkeypatch.setattr(runtime, "workers", lambda *_: 1)
    grid.run_groups(paths, settings, "shop", ["again", "counts"], CPU)
    assert asked == [2 * 2 + 1 * 2]
    assert capsys.readouterr().err.splitlines()[-1].startswith("shop: runs: 6/6, ")
    for group, names in (("again", ["plain", "wide"]), ("counts", ["popularity"])):
        ranks = pd.read_parquet(paths.group("shop", group) / "ranks.parquet")
        assert ranks["experiment"].unique().tolist() == names and ranks["seed"].unique().tolist() == [0, 1]


def test_missing_weights_are_trained_together_and_reported(gathered, settings, paths, choose, monkeypatch):
    data = inputs.load_data(paths.processed("shop"), ("image", "text", "category"), CPU)
    folder = store.run_folder(run.run_key(choose("sasrec"), 1, data, settings), paths.runs)
    before = load_file(folder / "model.safetensors")
    shutil.rmtree(folder)
    lines = []
    monkeypatch.setattr(grid, "report", lines.append)
    disturbed = replace(data, features={}, digests={})  # data to look at are not data that were trained on
    models = grid.trained_models(paths, settings, "shop", "sasrec", disturbed)
    assert lines == ["shop sasrec: training 1 models whose weights are missing"]
    assert torch.equal(models[1].state_dict()["item.weight"], before["item.weight"])
    monkeypatch.setattr(grid, "run_all", None)
    grid.trained_models(paths, settings, "shop", "sasrec", disturbed)


@pytest.mark.parametrize("name", ["sasrec", "maf"])
def test_a_trained_model_gives_the_ranks_that_were_stored(gathered, settings, paths, name):
    data = inputs.load_data(paths.processed("shop"), ("image", "text", "category"), CPU)
    [model] = grid.trained_models(paths, settings, "shop", name, data, [1])
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
    probed = replace(settings.datasets["shop"], groups=("main", "probes"))
    experiments = settings.experiments | {"probes": {"rarest": rarest}}
    one = replace(settings, datasets={"shop": probed}, experiments=experiments)
    grid.run_groups(paths, one, "shop", ["probes"], CPU)
    monkeypatch.setattr(grid, "run", None)  # it is not called again
    grid.run_groups(paths, one, "shop", ["probes"], CPU)
    data = inputs.load_data(paths.processed("shop"), ("image", "text", "category"), CPU)
    [model] = grid.trained_models(paths, one, "shop", "rarest", data, [0])
    assert set(model.get_buffer("category_features").sum(1).tolist()) == {0.0, 1.0}
    stored = pd.read_parquet(paths.group("shop", "probes") / "ranks.parquet").query("seed == 0 and split == 'test'")
    found = evaluate(model.score, data.sequences, "test", 8)["full_unseen"]
    assert found.tolist() == stored["full_unseen"].tolist()


def test_stored_weights_are_the_best_of_the_curve(gathered, settings, paths):
    data = inputs.load_data(paths.processed("shop"), ("image", "text", "category"), CPU)
    [model] = grid.trained_models(paths, settings, "shop", "sasrec", data, [0])
    ranks = evaluate(model.score, data.sequences, "valid", 8)["full_unseen"].to_numpy()
    curve = pd.read_csv(gathered / "curves.csv").query("experiment == 'sasrec' and seed == 0")
    assert gains(ranks, "ndcg", 10).mean() == pytest.approx(curve["valid_ndcg_10"].max())
