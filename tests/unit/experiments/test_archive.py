import json
import os
from dataclasses import replace

import pandas as pd
import pytest
import torch

from mmrec import config, training
from mmrec.experiments import archive, grid, run

BUT_WEIGHTS = {"curve.csv", "ranks.parquet", "run.json"}


@pytest.fixture
def choose(settings):
    return lambda name: next(e for e in settings.resolve("shop", "main") if e.name == name)


@pytest.fixture
def perform(shop, settings, choose, tmp_path):
    """A run in a store of the given name, with an archive that all stores share."""
    archived = tmp_path / "archived"
    return lambda name, store, weights=False, seed=0: run.run(
        choose(name), seed, shop, settings, tmp_path / store, archived=archived, weights=weights
    )


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.name != "model.safetensors"}


@pytest.mark.parametrize("name", ["sasrec", "popularity"])
def test_a_run_comes_out_of_the_archive_as_it_went_in_but_for_its_weights(perform, tmp_path, monkeypatch, name):
    made = perform(name, "here")
    (file,) = (tmp_path / "archived").iterdir()
    monkeypatch.setattr(run, "_carry_out", None)
    found = perform(name, "there")
    assert found.name == made.name and found != made
    assert content(found) == content(made)
    assert set(content(found)) == (BUT_WEIGHTS if name == "sasrec" else BUT_WEIGHTS - {"curve.csv"})
    assert not (found / "model.safetensors").exists()


def test_where_weights_are_needed_a_run_is_made_again_and_ends_with_the_same_ranks(perform, tmp_path):
    made = perform("sasrec", "here")
    before = {path: path.read_bytes() for path in (tmp_path / "archived").iterdir()}
    restored = perform("sasrec", "there")
    again = perform("sasrec", "there", weights=True)
    assert again == restored and (again / "model.safetensors").read_bytes() == (made / "model.safetensors").read_bytes()
    assert content(again)["ranks.parquet"] == content(made)["ranks.parquet"]
    assert {path: path.read_bytes() for path in (tmp_path / "archived").iterdir()} == before


def test_popularity_has_no_weights_to_need(perform, monkeypatch):
    perform("popularity", "here")
    monkeypatch.setattr(run, "_carry_out", None)
    perform("popularity", "there", weights=True)


def test_the_archive_says_what_determined_a_run(perform, tmp_path):
    made = perform("sasrec", "here")
    (file,) = (tmp_path / "archived").iterdir()
    assert archive.about(file) == json.loads((made / "run.json").read_text())
    key = archive.about(file)["key"]
    assert run.run_folder(key, tmp_path) == tmp_path / made.name
    assert run.archive_file(key, file.parent) == file


def test_a_run_is_taken_from_the_archive_whatever_machine_made_it(choose, shop, settings, tmp_path, monkeypatch):
    archived, elsewhere = tmp_path / "archived", replace(settings.runtime, threads=settings.runtime.threads + 1)
    made = run.run(choose("sasrec"), 0, shop, settings, tmp_path, archived=archived)
    monkeypatch.setattr(run, "_carry_out", None)
    other = replace(settings, runtime=elsewhere)
    found = run.run(choose("sasrec"), 0, shop, other, tmp_path, archived=archived, weights=False)
    assert found != made and content(found) == content(made)
    assert json.loads((found / "run.json").read_text())["key"]["threads"] == settings.runtime.threads


@pytest.mark.parametrize("changed", ["seed", "versions", "data", "options"])
def test_what_changes_a_run_beyond_its_last_bits_is_another_one_in_the_archive(perform, tmp_path, changed):
    key = json.loads((perform("sasrec", "here") / "run.json").read_text())["key"]
    assert run.archive_file(key | {changed: "other"}, tmp_path) != run.archive_file(key, tmp_path)
    arithmetic = dict.fromkeys(("torch", "device", "threads", "instruction_set"), "other")
    assert run.archive_file(key | arithmetic, tmp_path) == run.archive_file(key, tmp_path)


def test_costs_are_those_of_the_runs_that_are_asked_for_by_group(perform, choose, tmp_path):
    archived = tmp_path / "archived"
    for name in ("sasrec", "maf", "popularity"):
        perform(name, "here")
    perform("maf", "here", seed=1)
    sasrec, maf = choose("sasrec"), choose("maf")
    twin = replace(sasrec, name="twin", group="later")  # the same run under another name
    unlike = replace(sasrec, group="later", model=replace(sasrec.model, dropout=0.123))
    made = {file: archive.about(file) for file in archived.iterdir()}
    old = next(file for file, one in made.items() if one["key"]["model"] == "SASRec")
    stale = archived / "0000000000000000.parquet"  # the same run as older code made it
    again = archive.pq.read_table(old)
    slower = json.dumps(made[old] | {"seconds_of_last_session": 9e9})
    archive.pq.write_table(again.replace_schema_metadata(again.schema.metadata | {b"run.json": slower}), stale)
    os.utime(stale)  # which file is taken must not depend on the clock
    table = archive.costs(archived, [sasrec, replace(maf, group="second"), twin, unlike])
    assert table.columns.tolist() == ["group", "device", "runs", "minutes", "gigabytes"]
    assert table["group"].tolist() == ["main", "second"] and table["runs"].tolist() == [1, 2]
    assert table["device"].tolist() == [made[old]["device"]] * 2
    of_maf = [one for one in made.values() if one["key"]["model"] == "MAF"]
    assert table["minutes"][0] == made[old]["seconds_of_last_session"] / 60
    assert table["minutes"][1] == pytest.approx(sum(one["seconds_of_last_session"] for one in of_maf) / 60)
    assert table["gigabytes"][1] == max(one["peak_memory_bytes"] for one in of_maf) / 1e9
    assert archive.costs(tmp_path / "nowhere", [sasrec]).empty
    on_gpu = json.dumps(made[old] | {"device": "a GPU", "key": made[old]["key"] | {"seed": 1}})
    archive.pq.write_table(again.replace_schema_metadata(again.schema.metadata | {b"run.json": on_gpu}), stale)
    both = archive.costs(archived, [sasrec])
    assert both["group"].tolist() == ["main", "main"] and both["runs"].tolist() == [1, 1]
    assert set(both["device"]) == {made[old]["device"], "a GPU"}


def test_ranks_are_those_of_the_runs_that_are_asked_for(perform, choose, tmp_path):
    archived = tmp_path / "archived"
    made = {(name, seed): perform(name, "here", seed=seed) for name in ("sasrec", "maf") for seed in (0, 1)}
    twin = replace(choose("sasrec"), name="twin", group="later")  # the same run under another name
    table = archive.ranks(archived, [choose("maf"), twin], (0, 1))
    assert list(table.groupby(["group", "experiment", "seed"]).groups) == [
        ("later", "twin", 0),
        ("later", "twin", 1),
        ("main", "maf", 0),
        ("main", "maf", 1),
    ]
    for (name, seed), part in table.groupby(["experiment", "seed"]):
        expected = pd.read_parquet(made[{"twin": "sasrec"}.get(name, name), seed] / "ranks.parquet")
        found = part[expected.columns].reset_index(drop=True)
        pd.testing.assert_frame_equal(found, expected)  # types, too: with small integers gains would be rounded


def test_ranks_are_not_taken_from_fewer_runs_or_from_either_of_two(perform, choose, tmp_path):
    archived = tmp_path / "archived"
    perform("sasrec", "here")
    with pytest.raises(FileNotFoundError, match="'sasrec' with seed 1 .*archived: true"):
        archive.ranks(archived, [choose("sasrec")], (0, 1))
    (file,) = archived.iterdir()
    (archived / "0000000000000000.parquet").write_bytes(file.read_bytes())
    with pytest.raises(ValueError, match=f"0000000000000000.parquet, {file.name} .* are one run"):
        archive.ranks(archived, [choose("sasrec")], (0,))


def test_numbers_take_no_more_bytes_than_they_need_and_come_back_as_they_were(tmp_path):
    users = range(70_000)
    ranks = pd.DataFrame({"user": users, "full_all": [user % 300 + 1 for user in users], "split": "test"})
    run = tmp_path / "run"
    run.mkdir()
    ranks.to_parquet(run / "ranks.parquet", index=False)
    (run / "run.json").write_text("{}")
    archive.pack(run, tmp_path / "file")
    archive.unpack(tmp_path / "file", tmp_path / "back")
    pd.testing.assert_frame_equal(pd.read_parquet(tmp_path / "back" / "ranks.parquet"), ranks)
    assert pd.read_parquet(tmp_path / "file").dtypes[["user", "full_all"]].astype(str).tolist() == ["uint32", "uint16"]


def test_a_group_takes_from_the_archive_and_puts_there_what_it_lacks(shop_params, write_shop, tmp_path, monkeypatch):
    settings = config.load(shop_params)
    settings = replace(settings, datasets={"shop": replace(settings.datasets["shop"], archived=True)})
    monkeypatch.setattr(grid, "side_by_side", lambda work, tasks, *_: [work(task) for task in tasks])
    paths = config.Paths(tmp_path, tmp_path)
    write_shop(paths.processed("shop"))
    device = torch.device("cpu")
    trained = []
    fit = training.fit
    monkeypatch.setattr(training, "fit", lambda *args, **named: trained.append(named["label"]) or fit(*args, **named))
    wanted = [(e, seed) for e in settings.resolve("shop", "main") for seed in (0, 1)]
    folders = grid.run_all(paths, settings, "shop", device, wanted)
    files = [
        run.archive_file(json.loads((folder / "run.json").read_text())["key"], paths.archive("shop"))
        for folder in folders
    ]
    assert set(paths.archive("shop").iterdir()) == set(files)
    neural = len(trained)
    assert neural
    for folder in folders:
        (folder / "run.json").unlink()  # as if this were another machine
    files[-1].unlink()
    grid.run_all(paths, settings, "shop", device, wanted)
    assert trained[neural:] == [f"[{len(wanted)}/{len(wanted)}] shop {wanted[-1][0].name} seed 1"]
    grid.run_all(paths, settings, "shop", device, wanted)
    assert len(trained) == neural + 1
