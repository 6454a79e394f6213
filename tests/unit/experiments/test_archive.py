import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

import mmrec
from mmrec import training
from mmrec.experiments import archive, grid, store, versions

CPU = torch.device("cpu")
RUNS = [(name, seed) for name in ("sasrec", "maf") for seed in (0, 1)] + [("popularity", 0)]


@pytest.fixture(scope="session")
def results(made):
    """Results of RUNS."""
    return {(name, seed): store.read(made(name, seed=seed)) for name, seed in RUNS}


@pytest.fixture
def file(tmp_path):
    return tmp_path / "reports" / "runs.parquet"


def changed(result, name, value):
    """The same result under another key."""
    return replace(result, record=result.record | {"key": result.record["key"] | {name: value}})


def held(file):
    return {(record["key"]["model"], record["key"]["seed"]) for record in archive.records(file).values()}


def assert_same(one, other):
    assert one.record == other.record and one.curve_csv == other.curve_csv
    pd.testing.assert_frame_equal(one.ranks, other.ranks)  # types, too: with small integers gains would be rounded


# --- file --------------------------------------------------------------------------------------------------------


def test_runs_come_out_of_the_archive_as_they_went_in(file, results):
    archive.append(file, results.values())
    names = {archive.archive_name(result.record["key"]): result for result in results.values()}
    found = archive.load(file, [*names, "another"])
    assert found.keys() == names.keys()
    for name, result in names.items():
        assert_same(found[name], result)
    assert results["popularity", 0].curve_csv is None and results["sasrec", 0].curve["epoch"].tolist() == [1, 2]
    assert [path.name for path in file.parent.iterdir()] == ["runs.parquet"]


def test_the_order_of_appending_leaves_no_trace(file, results, tmp_path):
    archive.append(file, results.values())
    for number in range(3):
        other, order = tmp_path / str(number) / "runs.parquet", list(results.values())
        random.Random(number).shuffle(order)
        for result in order:
            archive.append(other, [result])
        assert other.read_bytes() == file.read_bytes()


def test_an_archived_run_is_not_rewritten(file, results):
    result = results["sasrec", 0]
    archive.append(file, [result])
    before = file.stat()
    archive.append(file, [changed(result, "threads", 9)])
    assert file.stat().st_ino == before.st_ino and file.stat().st_mtime_ns == before.st_mtime_ns


@pytest.mark.parametrize("name", ["data", "versions", "max_length"])
def test_a_run_of_the_same_settings_takes_the_place_of_an_older_one(file, results, name):
    archive.append(file, [changed(results["sasrec", 0], name, "older"), results["sasrec", 1], results["maf", 0]])
    archive.append(file, [results["sasrec", 0]])
    assert held(file) == {("SASRec", 0), ("SASRec", 1), ("MAF", 0)}
    assert results["sasrec", 0].record in archive.records(file).values()


@pytest.mark.parametrize("name", ["seed", "versions", "data", "options", "training", "max_length"])
def test_the_name_of_a_run_tells_everything_but_arithmetic(results, name):
    key = results["sasrec", 0].record["key"]
    assert archive.archive_name(key | {name: "other"}) != archive.archive_name(key)
    assert archive.archive_name(key | dict.fromkeys(store.ARITHMETIC, "other")) == archive.archive_name(key)


def test_ranks_of_a_large_catalogue_take_few_bytes_and_come_back(file, results):
    generator = np.random.default_rng(0)
    users = np.tile(np.arange(20_000) * 3, 2)  # not every user is asked
    full_all = generator.integers(1, 2_000_000, 40_000)
    ranks = pd.DataFrame(
        {
            "user": users,
            "full_unseen": full_all - generator.integers(0, full_all.clip(max=5)),
            "full_all": full_all,
            "sampled_100": generator.integers(1, 1_001, 40_000),  # of more negatives than the name says
            "split": np.repeat(["valid", "test"], 20_000),
        }
    ).astype({"split": "str"})
    several = [changed(replace(results["sasrec", 0], ranks=ranks), "seed", seed) for seed in range(5)]
    archive.append(file, several)
    found = archive.load(file, [archive.archive_name(several[3].record["key"])])
    assert_same(*found.values(), several[3])
    # 5 runs of the same ranks: bits of 21 for a rank, 10 for a sampled one, 3 for a difference; the rest costs nothing
    assert file.stat().st_size < 1.2 * 40_000 * 5 * (21 + 10 + 3) / 8


@pytest.mark.parametrize("after_the_write", [False, True])
def test_an_interrupted_append_leaves_the_old_or_the_new_file(file, results, interrupt, after_the_write):
    archive.append(file, [results["sasrec", 0]])
    with pytest.raises(interrupt.exception):
        interrupt(archive, 0, after_the_write)
        archive.append(file, [results["maf", 0]])
    assert held(file) == {("SASRec", 0)} | ({("MAF", 0)} if after_the_write else set())


APPEND = """
import os, sys, time
from pathlib import Path
from mmrec.experiments import archive, store

file, barrier, folders = Path(sys.argv[1]), Path(sys.argv[2]), [Path(folder) for folder in sys.argv[3:]]
results = [store.read(folder) for folder in folders]
print("ready", flush=True)
while not barrier.exists():
    time.sleep(0.001)
for result in results:
    archive.append(file, [result])
"""


@pytest.fixture
def appending(file, made, tmp_path):
    """Start a process that appends these runs once the barrier is there."""

    def start(*runs):
        folders = [str(made(name, seed=seed)) for name, seed in runs]
        command = [sys.executable, "-c", APPEND, str(file), str(tmp_path / "barrier"), *folders]
        return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)

    return start


def test_two_processes_append_at_once_and_all_their_runs_are_there(file, results, appending, tmp_path):
    with appending(*RUNS[:3]) as one, appending(*RUNS[2:]) as other:
        for process in (one, other):
            assert process.stdout.readline() == "ready\n"
        (tmp_path / "barrier").touch()
    assert one.returncode == other.returncode == 0
    archive.append(tmp_path / "whole.parquet", results.values())
    assert file.read_bytes() == (tmp_path / "whole.parquet").read_bytes()


def test_threads_append_at_once_and_all_their_runs_are_there(file, results):
    several = [changed(results["sasrec", 0], "seed", seed) for seed in range(12)]
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda result: archive.append(file, [result]), several))
    assert held(file) == {("SASRec", seed) for seed in range(12)}


def test_a_reader_beside_a_writer_sees_a_whole_file(file, results):
    several = [changed(results["sasrec", 0], "seed", seed) for seed in range(60)]
    archive.append(file, several[:1])
    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(lambda: [archive.append(file, [result]) for result in several])
        while not writing.done():
            assert ("SASRec", 0) in held(file)
        writing.result()


@pytest.mark.slow
def test_killed_at_random_moments_of_appending_the_file_is_whole(file, results, tmp_path):
    """Children of this process append; forked, so that nothing is imported again."""
    several = [changed(results["sasrec", 0], "seed", seed) for seed in range(400)]
    archive.append(file, several[:1])
    moments, sizes = random.Random(0), [1]
    for _ in range(20):
        if not (child := os.fork()):
            signal.alarm(60)
            for result in several:
                archive.append(file, [result])
            os._exit(0)
        time.sleep(moments.uniform(0.02, 0.2))
        os.kill(child, signal.SIGKILL)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL
        seeds = {seed for _, seed in held(file)}
        assert seeds == set(range(len(seeds)))
        sizes.append(len(seeds))
    assert sizes == sorted(sizes) and sizes[-1] > sizes[0]
    archive.append(file, several)
    archive.append(tmp_path / "whole.parquet", several)
    assert file.read_bytes() == (tmp_path / "whole.parquet").read_bytes()
    assert [path.name for path in file.parent.iterdir()] == ["runs.parquet"]  # nor is there a leftover


# --- tables ------------------------------------------------------------------------------------------------------


@pytest.fixture
def twin(choose):
    """The run of SASRec under another name."""
    return replace(choose("sasrec"), name="twin", group="later")


def test_ranks_are_those_of_the_runs_that_are_asked_for(file, results, choose, twin):
    archive.append(file, results.values())
    ranks = archive.ranks(file, [(one, seed) for one in (choose("maf"), twin) for seed in (0, 1)])
    found = ranks[["group", "experiment", "seed"]].drop_duplicates().itertuples(index=False, name=None)
    assert list(found) == [(*of, seed) for of in (("main", "maf"), ("later", "twin")) for seed in (0, 1)]
    for (name, seed), part in ranks.groupby(["experiment", "seed"]):
        expected = results[{"twin": "sasrec"}.get(name, name), seed].ranks
        pd.testing.assert_frame_equal(part[expected.columns].reset_index(drop=True), expected)


def test_ranks_are_not_taken_from_fewer_runs_or_from_older_ones(file, results, choose, monkeypatch):
    with pytest.raises(FileNotFoundError, match="'sasrec' with seed 0 .*archived: true"):
        archive.ranks(file, [(choose("sasrec"), 0)])
    archive.append(file, [results["sasrec", 0]])
    with pytest.raises(FileNotFoundError, match="'sasrec' with seed 1 "):
        archive.ranks(file, [(choose("sasrec"), 0), (choose("sasrec"), 1)])
    monkeypatch.setitem(versions.RESULTS_VERSIONS, "sasrec", 2)
    with pytest.raises(FileNotFoundError, match="'sasrec' with seed 0 .*results version"):
        archive.ranks(file, [(choose("sasrec"), 0)])


def test_costs_are_those_of_the_runs_that_are_asked_for_by_group(file, results, choose, twin):
    archive.append(file, results.values())
    sasrec, maf = choose("sasrec"), choose("maf")
    unlike = replace(sasrec, group="later", model=replace(sasrec.model, dropout=0.123))
    asked = [sasrec, replace(maf, group="second"), twin, unlike]
    of = {name: [results[name, seed].record for seed in (0, 1)] for name in ("sasrec", "maf")}
    table = archive.costs(file, asked)
    assert table.columns.tolist() == ["group", "device", "runs", "minutes", "gigabytes"]
    assert table["group"].tolist() == ["main", "second"] and table["runs"].tolist() == [2, 2]
    assert table["device"].tolist() == [of["sasrec"][0]["device"]] * 2
    for place, records in enumerate(of.values()):
        seconds = sum(record["seconds_of_last_session"] for record in records)
        assert table["minutes"][place] == pytest.approx(seconds / 60)
        assert table["gigabytes"][place] == max(record["peak_memory_bytes"] for record in records) / 1e9
    assert archive.costs(file.parent / "nowhere", asked).empty
    other = replace(changed(results["sasrec", 1], "seed", 2), record=results["sasrec", 1].record | {"device": "a GPU"})
    archive.append(file, [changed(other, "seed", 2)])
    both = archive.costs(file, [sasrec])
    assert both["group"].tolist() == ["main", "main"]
    assert dict(zip(both["device"], both["runs"], strict=True)) == {of["sasrec"][0]["device"]: 2, "a GPU": 1}


# --- a data set whose runs are archived --------------------------------------------------------------------------


@pytest.fixture
def archived(settings):
    return replace(settings, datasets={"shop": replace(settings.datasets["shop"], archived=True)})


@pytest.fixture
def trained(monkeypatch):
    """Labels of the runs that are trained."""
    labels, fit = [], training.fit
    monkeypatch.setattr(training, "fit", lambda *args, **named: labels.append(named["label"]) or fit(*args, **named))
    return labels


def tables(paths):
    return {path.name: path.read_bytes() for path in paths.group("shop", "main").iterdir()}


@pytest.fixture
def filled(archived, paths, gathered, trained):
    """A project with an archive and no store."""
    grid.run_groups(paths, archived, "shop", ["main"], CPU)
    assert not trained  # finished runs of the store are put there as they are
    shutil.rmtree(paths.runs)
    return paths


def test_a_group_is_gathered_from_the_archive_alone(archived, filled, trained, monkeypatch):
    before, whole = tables(filled), filled.archive("shop").read_bytes()
    shutil.rmtree(filled.group("shop", "main"))
    elsewhere = replace(archived, runtime=replace(archived.runtime, threads=archived.runtime.threads + 1))
    monkeypatch.setattr(torch, "__version__", "2.0.0")
    grid.run_groups(filled, elsewhere, "shop", ["main"], CPU)
    assert tables(filled) == before and filled.archive("shop").read_bytes() == whole
    assert not trained and not filled.runs.exists()


def test_runs_missing_in_the_archive_are_trained_and_appended(archived, filled, trained, choose):
    before = archive.records(filled.archive("shop"))
    whole = archive.load(filled.archive("shop"), [archive.archive_name(record["key"]) for record in before.values()])
    filled.archive("shop").unlink()
    kept = [result for result in whole.values() if result.record["key"]["seed"] == 0]
    archive.append(filled.archive("shop"), kept)
    tables_before = tables(filled)
    grid.run_groups(filled, archived, "shop", ["main"], CPU)
    assert trained == ["[2/3] shop sasrec seed 1", "[3/3] shop maf seed 1"]
    assert archive.records(filled.archive("shop")).keys() == before.keys()
    assert tables(filled) == tables_before


def test_weights_of_archived_runs_are_trained_where_they_are_asked_for(archived, filled, trained, shop, monkeypatch):
    whole, lines = filled.archive("shop").read_bytes(), []
    monkeypatch.setattr(grid, "report", lines.append)
    models = grid.trained_models(filled, archived, "shop", "maf", shop)
    assert trained == ["[1/2] shop maf seed 0", "[2/2] shop maf seed 1"] and len(models) == 2
    assert lines == ["shop maf: training 2 models whose weights are missing; 2 archived ones took 0 minutes"]
    assert filled.archive("shop").read_bytes() == whole
    grid.trained_models(filled, archived, "shop", "maf", shop)
    assert len(trained) == 2


RENAMED = """
import sys
from pathlib import Path
import torch
from mmrec import config, objectives, training
from mmrec.experiments import grid

training.fit = None
root = Path(sys.argv[1])
settings = config.load(root / "params.yaml")
grid.run_groups(config.Paths(root, root), settings, "shop", ["main"], torch.device("cpu"))
"""


def test_renaming_a_shared_module_trains_nothing(shop_params, filled, tmp_path):
    package = tmp_path / "renamed" / "mmrec"
    shutil.copytree(Path(mmrec.__file__).parent, package, ignore=shutil.ignore_patterns("__pycache__"))
    (package / "losses.py").rename(package / "objectives.py")
    for path in package.rglob("*.py"):
        text = re.sub(r"\bmmrec\.losses\b", "mmrec.objectives", path.read_text())
        text = re.sub(r"(?m)^(from mmrec import .*)\blosses\b", r"\1objectives as losses", text)
        path.write_text(text)
    params = shop_params.read_text().replace("    category: true\n", "    category: true\n    archived: true\n")
    (tmp_path / "params.yaml").write_text(params)
    before = tables(filled)
    shutil.rmtree(filled.group("shop", "main"))
    environment = os.environ | {"PYTHONPATH": str(package.parent)}
    subprocess.run([sys.executable, "-c", RENAMED, str(tmp_path)], env=environment, check=True, cwd=tmp_path)
    assert tables(filled) == before and not filled.runs.exists()
