import base64
import io
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image

from mmrec import config, runtime
from mmrec.analysis.robustness import missing
from mmrec.config import Paths
from mmrec.evaluation import PROTOCOLS, evaluate
from mmrec.experiments import grid
from mmrec.recommend import Recommender
from mmrec.report import explorer

LENGTH = 8  # max_length of the shop


@pytest.fixture(scope="module")
def project(tmp_path_factory, settings, write_shop):
    """The shop with ids, titles and one picture, on this processor; trained until features matter."""
    root = tmp_path_factory.mktemp("project")
    paths, ids = Paths(root, root), [f"{number:03}" for number in range(1, 31)]
    folder = paths.processed("shop")
    write_shop(folder)
    pd.DataFrame({"id": [f"u{number}" for number in range(60)]}).to_parquet(folder / "users.parquet")
    pd.DataFrame({"id": ids}).to_parquet(folder / "items.parquet")
    (folder / "sequences.json").write_text('{"negatives": 10}')
    paths.interim("shop").mkdir(parents=True)
    images = ["a.png", "broken.png", *[None] * 28]
    catalogue = pd.DataFrame({"item_id": ids, "title": [f"item {number}" for number in ids], "image": images})
    catalogue.to_parquet(paths.interim("shop") / "items.parquet")
    (paths.raw("shop") / "images").mkdir(parents=True)
    Image.new("RGB", (200, 100), "red").save(paths.raw("shop") / "images" / "a.png")
    (paths.raw("shop") / "images" / "broken.png").write_bytes(b"no picture")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(runtime, "prepare", lambda *_: torch.device("cpu"))
        patch.setattr(runtime, "workers", lambda *_: 1)
        yield paths, replace(settings, training=replace(settings.training, epochs=25, patience=25)), "shop"


@pytest.fixture(scope="module")
def found(project):
    return explorer.collect(*project)


def test_ranks_are_those_of_the_evaluation(found, project, shop):
    assert found["protocols"] == [*PROTOCOLS[:-1], "sampled_10"]
    assert len(found["users"]) == (shop.sequences.test >= 0).sum() <= explorer.USERS
    for name in ("popularity", "sasrec", "maf"):
        model = Recommender(*project, name).model
        ranks = evaluate(model.score, shop.sequences, "test", LENGTH).set_index("user")
        for row in found["users"]:
            assert row["answers"][name]["ranks"] == ranks.loc[row["user"]].tolist()


def test_the_target_stands_at_its_rank_among_unseen_items(found, project, shop):
    titles = [title for title, _ in found["items"]]
    inside = 0
    for row in found["users"]:
        end, begin = shop.sequences.test[row["user"]], shop.sequences.offsets[row["user"]]
        history = [f"item {item:03}" for item in shop.sequences.items[begin:end].tolist()]
        assert [titles[item] for item in row["history"]] == history[-explorer.LATEST :]
        assert row["length"] == len(history)
        assert titles[row["target"]] == f"item {shop.sequences.items[end]:03}"
        for answer in row["answers"].values():
            rank, top = answer["ranks"][0], answer["top"]
            assert len(top) == len(set(top)) == explorer.K and not set(top) & {*row["history"]}
            assert (top[rank - 1] == row["target"]) if rank <= explorer.K else (row["target"] not in top)
            inside += rank <= explorer.K
    assert inside > 20


def test_lists_are_those_of_the_recommender_but_for_ties(found, project, shop):
    maf, titles = Recommender(*project, "maf"), [title for title, _ in found["items"]]
    for row in found["users"][:10]:
        begin, end = (int(part[row["user"]]) for part in (shop.sequences.offsets, shop.sequences.test))
        before = [f"{item:03}" for item in shop.sequences.items[begin:end].tolist()]
        expected = maf.recommend({"one": before}, k=explorer.K)["title"].tolist()
        assert [titles[item] for item in row["answers"]["maf"]["top"]] == expected


def test_equal_scores_come_before_the_target(make_sequences):
    class Alike:
        def score(self, items, lengths):
            return torch.zeros(len(items), 6)

    answer = explorer.answered(Alike(), make_sequences([[1, 2, 3, 4]], 6), LENGTH)[0]
    assert answer == {"ranks": [3, 6, 3], "top": [5, 6, 4, *answer["top"][3:]]}


def test_a_repeated_target_stays_in_the_list(make_sequences):
    class Last:
        def score(self, items, lengths):
            return torch.arange(6.0).expand(len(items), 6)

    answer = explorer.answered(Last(), make_sequences([[6, 1, 2, 6]], 6), LENGTH)[0]
    assert answer["ranks"][0] == 1 and answer["top"][0] == 6


def test_ranks_without_a_modality_are_those_of_disturbed_features(found, project, shop):
    paths, settings, _ = project
    assert {name for row in found["users"] for name in row["without"]} == {"maf"}  # ids alone read no features
    users, whole = [row["user"] for row in found["users"]], Recommender(*project, "maf").data
    for place, gone in enumerate([["image"], ["text"], ["category"], ["image", "text", "category"]]):
        features = {name: missing(of, 1.0) if name in gone else of for name, of in whole.features.items()}
        data, seeds = replace(whole, features=features), [settings.seeds_of("shop")[0]]
        (model,) = grid.trained_models(paths, settings, "shop", "maf", data, seeds)
        ranks = evaluate(model.score, shop.sequences, "test", LENGTH).set_index("user")["full_unseen"]
        assert [row["without"]["maf"][place] for row in found["users"]] == ranks[users].tolist()


def test_attention_is_that_of_the_last_item(found):
    for row in found["users"]:
        weights, scores, shown = np.array(row["weights"]), np.array(row["scores"]), min(row["length"], LENGTH)
        assert weights.shape == (1, shown) and scores.shape == (1, len(found["streams"]), shown)
        assert weights.sum() == pytest.approx(1, abs=0.01) and (weights >= 0).all()
        assert scores.mean(-1) == pytest.approx(0, abs=0.001)
    assert np.abs(scores).max() > 0


def test_users_are_the_same_draw_each_time(shop, monkeypatch):
    monkeypatch.setattr(explorer, "USERS", 7)
    users, sequences = explorer.drawn(shop.sequences)
    assert users == sorted(set(users)) == explorer.drawn(shop.sequences)[0] and len(users) == 7
    assert (sequences.test >= 0).nonzero().squeeze(1).tolist() == users
    assert users != list(range(7))


def test_the_file_is_the_same_each_time_and_has_no_user_ids(project):
    paths, file = project[0], project[0].reports("shop") / "explorer.json"
    assert explorer.save(*project).endswith("30 items, models popularity, sasrec, maf")
    first = file.read_bytes()
    explorer.save(*project)
    assert file.read_bytes() == first and b'"u1' not in first
    held = json.loads(first)
    assert held["models"] == ["popularity", "sasrec", "maf"]
    assert not any(picture for _, picture in held["items"])  # of a folder: titles only
    assert list(paths.reports("shop").iterdir()) == [file]


def test_only_generated_shops_show_pictures(project):
    paths, settings, name = project
    demo = config.load(Path(__file__).parents[3] / "params.yaml").datasets["demo"].source
    generated = replace(settings, datasets={name: replace(settings.datasets[name], source=demo)})
    pictures = {title: picture for title, picture in explorer.collect(paths, generated, name)["items"] if picture}
    assert list(pictures) == ["item 001"]
    with Image.open(io.BytesIO(base64.b64decode(pictures["item 001"].removeprefix("data:image/png;base64,")))) as image:
        assert image.size == (explorer.SIDE, explorer.SIDE) and image.convert("RGB").getpixel((0, 0)) == (255, 0, 0)


def test_a_file_that_is_too_large_is_not_written(project, monkeypatch):
    monkeypatch.setattr(explorer, "LIMIT", 1000)
    file = project[0].reports("shop") / "explorer.json"
    file.unlink(missing_ok=True)
    with pytest.raises(ValueError, match="explorer.json would have .* bytes, 1,000 or more: show fewer users"):
        explorer.save(*project)
    assert not file.exists()
