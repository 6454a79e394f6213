import subprocess
import sys
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmrec import config, recommend, runtime, training
from mmrec.config import stages
from mmrec.data import sources
from mmrec.data.cleaning.rows import SourceError
from mmrec.evaluation import evaluate
from mmrec.experiments import build, grid
from mmrec.features import store
from mmrec.recommend import Recommender, RecommendError, best

N_ITEMS = 30


def user_id(number):
    return f"u{number:02}"


def item_id(number):
    return f"{number:03}"  # zeros in front


@pytest.fixture
def lines(monkeypatch):
    """Everything that is reported."""
    said = []
    for module in (recommend, grid):
        monkeypatch.setattr(module, "report", said.append)
    return said


@pytest.fixture
def prepared(paths, shop):
    """The project with ids and titles: item 3 has no title, item 031 was never bought."""
    frames = {
        "users": pd.DataFrame({"id": map(user_id, range(len(shop.sequences.train_end)))}),
        "items": pd.DataFrame({"id": map(item_id, range(1, N_ITEMS + 1))}),
    }
    for name, frame in frames.items():
        frame.to_parquet(paths.processed("shop") / f"{name}.parquet")
    numbers = range(N_ITEMS + 1, 0, -1)  # another order than that of the numbers
    titles = ["" if number == 3 else f"item {number}" for number in numbers]
    paths.interim("shop").mkdir(parents=True)
    catalogue = pd.DataFrame({"item_id": map(item_id, numbers), "title": titles})
    catalogue.to_parquet(paths.interim("shop") / "items.parquet")
    bought(paths, "u00")
    return paths


def bought(paths, *others):
    """The users of interactions.parquet: all that training knows, and others."""
    users = [*pd.read_parquet(paths.processed("shop") / "users.parquet")["id"], *others]
    pd.DataFrame({"user_id": users}).to_parquet(paths.interim("shop") / "interactions.parquet")


@pytest.fixture
def make(prepared, settings, monkeypatch, lines):
    """A recommender by the experiment's name; or by a model's, with fresh weights."""
    monkeypatch.setattr(runtime, "prepare", lambda *_: torch.device("cpu"))
    monkeypatch.setattr(runtime, "workers", lambda *_: 1)

    def make(name, fresh=True):
        one = Recommender(prepared, settings, "shop", name if name in settings.experiments["main"] else "popularity")
        if fresh:
            options = next(e for e in settings.resolve("shop", "every") if e.name == name).model
            torch.manual_seed(0)
            model = build.build(options, one.data, one.max_length)
            one.model = model.eval() if isinstance(model, torch.nn.Module) else model
        return one

    return make


def whole(sequences, users=None, end="offsets"):
    """user id -> item ids, up to the end or up to the item of `test`."""
    stop = sequences.offsets[1:] if end == "offsets" else getattr(sequences, end)
    items = sequences.items.tolist()
    return {
        user_id(user): [item_id(item) for item in items[sequences.offsets[user] : stop[user]]]
        for user in (range(len(stop)) if users is None else users)
        if stop[user] >= 0
    }


# --- ranks


@pytest.mark.parametrize(("include_seen", "protocol"), [(False, "full_unseen"), (True, "full_all")])
@pytest.mark.parametrize("name", list(config.MODELS))
def test_equal_histories_have_the_ranks_of_the_evaluation(make, shop, name, include_seen, protocol):
    one = make(name)
    found = one.recommend(whole(shop.sequences, end="test"), N_ITEMS, include_seen=include_seen)
    found["last"] = found.groupby(["user", "score"])["rank"].transform("max")
    asked = evaluate(one.model.score, shop.sequences, "test", one.max_length)
    target = shop.sequences.items[shop.sequences.test[asked["user"].tolist()]].tolist()
    wanted = pd.DataFrame({"user": asked["user"].map(user_id), "item_id": list(map(item_id, target))})
    assert wanted.merge(found, on=["user", "item_id"])["last"].tolist() == asked[protocol].tolist()


def test_users_are_served_from_their_whole_history(make, shop):
    one = make("sasrec")
    pd.testing.assert_frame_equal(one.recommend(k=5), one.recommend(whole(shop.sequences), 5))


def test_the_table_by_hand(make, shop):
    """Popularity: counts in training, without the user's own items; of equal counts the lower number comes first."""
    counts, history = shop.sequences.item_counts(), set(whole(shop.sequences, [7])[user_id(7)])
    order = [i for i in (-counts).argsort(stable=True).tolist() if item_id(i + 1) not in history][:4]
    found = make("popularity").recommend(k=4, users=[user_id(7)])
    expected = {
        "user": [user_id(7)] * 4,
        "rank": [1, 2, 3, 4],
        "item_id": [item_id(i + 1) for i in order],
        "score": counts[order].numpy().astype(np.float32),
        "title": ["" if i + 1 == 3 else f"item {i + 1}" for i in order],
    }
    pd.testing.assert_frame_equal(found, pd.DataFrame(expected))


def test_an_item_without_a_title_has_an_empty_one(make):
    titles = make("popularity").recommend(k=N_ITEMS, include_seen=True).set_index("item_id")["title"]
    assert set(titles["003"]) == {""} and set(titles["004"]) == {"item 4"}


def test_a_user_who_has_nearly_everything_gets_the_rest(make):
    found = make("sasrec").recommend({"me": [item_id(i) for i in range(1, 29)], "you": ["001"]}, 3)
    assert found.groupby("user")["rank"].apply(list).to_dict() == {"me": [1, 2], "you": [1, 2, 3]}
    assert set(found.query("user == 'me'")["item_id"]) == {"029", "030"}


def test_a_model_keeps_its_scores(make):
    one = make("popularity")
    before = one.model.counts.clone()
    one.recommend(users=[user_id(0)])
    assert torch.equal(one.model.counts, before)


def test_of_a_long_history_the_latest_items_decide(make):
    one, latest = make("sasrec"), [item_id(i) for i in range(1, 9)]  # as many as max_length
    found = one.recommend(
        {"short": latest, "long": ["020", "021", *latest], "other": latest[::-1]}, 5, include_seen=True
    )
    table = found.pivot(index="rank", columns="user", values="item_id")
    assert table["short"].tolist() == table["long"].tolist() != table["other"].tolist()


def test_small_batches_and_blocks_give_the_same_table(make, monkeypatch):
    one = make("item_knn")
    expected = one.recommend(k=5, explain=True)
    monkeypatch.setattr(recommend, "BLOCK", 7)
    one.rows = 3
    assert [table["user"].nunique() for table in one.blocks(k=5)] == [7] * 8 + [4]
    pd.testing.assert_frame_equal(one.recommend(k=5, explain=True), expected)


@pytest.mark.parametrize(("n_items", "rows"), [(30, 512), (12_101, 129), (10_000_000, 1)])
def test_scores_held_at_once_are_bounded(make, monkeypatch, prepared, n_items, rows):
    monkeypatch.setattr(recommend, "read_ids", lambda path: [str(i) for i in range(n_items if n_items < 1e6 else 30)])
    monkeypatch.setitem(recommend.SCORE_BYTES, "cpu", 6 * 2**20 if n_items < 1e6 else 100)
    assert make("popularity", fresh=False).rows == rows


def test_a_score_that_is_nan_is_refused(make):
    one = make("sasrec")
    with torch.no_grad():
        one.model.item.weight[4] = torch.nan
    with pytest.raises(RecommendError, match="NaN"):
        one.recommend()


@given(st.data())
def test_the_best_are_those_of_a_stable_sort(data):
    width, k = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 14))
    number = st.sampled_from([-torch.inf, -1.0, 0.0, 0.5, 2.0])
    scores = torch.tensor(data.draw(st.lists(st.lists(number, min_size=width, max_size=width), min_size=1, max_size=5)))
    values, columns = best(scores, k)
    order = scores.sort(descending=True, stable=True)
    assert torch.equal(columns, order.indices[:, :k]) and torch.equal(values, order.values[:, :k])


# --- requests


def test_users_keep_the_order_of_the_request_and_come_once(make):
    found = make("popularity").recommend(k=1, users=["u09", "u03", "u09", "u20"])
    assert found["user"].tolist() == ["u09", "u03", "u20"]


def test_a_table_is_ordered_by_time_and_then_as_it_stands(make):
    one = make("markov_chain")  # the last item decides
    rows = [("b", "004", 2), ("a", "005", 9), ("b", "009", 2), ("b", "001", 1), ("a", "002", 3)]
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    expected = one.recommend({"b": ["001", "004", "009"], "a": ["002", "005"]}, 5)
    pd.testing.assert_frame_equal(one.recommend(table, 5), expected)
    in_order = one.recommend({"b": ["004", "009", "001"], "a": ["005", "002"]}, 5)
    pd.testing.assert_frame_equal(one.recommend(table.drop(columns="timestamp"), 5), in_order)
    assert not in_order.equals(expected)


def test_unknown_ids_are_counted_and_left_out(make, lines):
    one = make("item_knn")
    found = one.recommend({"a": ["x", "004", "031"], "b": ["y"]}, 3)
    pd.testing.assert_frame_equal(found, one.recommend({"a": ["004"]}, 3))
    assert one.recommend(users=["u01", "U1"])["user"].unique().tolist() == ["u01"]
    assert lines == [
        "3 of 4 items are unknown ('x') and left out; 1 of these have too few interactions",
        "1 of 2 users are left out: none of their items is known",
        "1 of 2 users are unknown ('U1') and left out",
    ]


def test_users_with_too_few_interactions_are_told_from_unknown_ones(make, prepared, lines):
    bought(prepared, "small", "tiny")
    one = make("popularity")
    assert one.recommend(users=["u01", "small", "nobody"])["user"].unique().tolist() == ["u01"]
    assert lines.pop() == "2 of 3 users are unknown ('small') and left out; 1 of these have too few interactions"
    with pytest.raises(
        RecommendError, match="shop: the users asked for have too few interactions: give users' histories"
    ):
        one.recommend(users=["small", "tiny"])
    with pytest.raises(RecommendError, match="the items asked for have too few interactions: lower item_core"):
        one.recommend({"a": ["031"]})
    users = len(one.user_ids)
    one.recommend()
    assert lines.pop().startswith(f"2 of {users + 2} users are left out: too few interactions for user_core")


def test_settings_that_changed_since_the_data_were_prepared_are_told(make, prepared, settings, lines):
    stages.write(prepared, settings)
    make("popularity")
    assert lines == []
    path = prepared.work / "data/settings/shop/prepare.json"
    path.write_text(path.read_text().replace('"user_core": ', '"user_core": 1'))
    make("popularity")
    assert lines == ["params.yaml has changed since shop was prepared: `dvc repro results@shop` brings it up"]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"histories": {"a": ["4", "5"]}}, "no id of the items is one of shop ('4' here, '001' there)"),
        ({"histories": pd.DataFrame({"user_id": [1], "item_id": [4.0]})}, "('4.0' here, '001' there)"),
        ({"histories": {}}, "no id of the items is one of shop (there are none)"),
        ({"users": [3]}, "no id of the users is one of shop ('3' here, 'u00' there)"),
        ({"k": 0}, "0 recommendations for each user"),
        ({"users": ["u00"], "histories": {"a": ["004"]}}, "ask for one of the two"),
    ],
)
def test_a_request_without_an_answer_says_why(make, request_, message):
    with pytest.raises(RecommendError) as error:
        make("popularity").recommend(**request_)
    assert message in str(error.value) and "\n" not in str(error.value)


def test_items_that_too_few_bought_are_refused_with_the_reason(make, lines):
    found = make("popularity", fresh=False).recommend(k=40, include_seen=True)
    assert "031" not in set(found["item_id"])
    why = "too few users bought them, and popularity does not score by content"
    assert lines == [f"shop: 1 items of the catalogue are not recommended: {why}"]


@pytest.fixture
def by_content(make, prepared, settings, shop):
    """A recommender by MAF with these item vectors, and item `twin`.

    Item 031 has the features of `twin`, 032 has none, 033 has a label that no other item has and one of `twin`. With
    `cold=False` the catalogue holds none of the three.
    """
    matrix, mask = shop.features["category"]
    twin = int((mask & shop.features["image"][1] & matrix.any(1)).nonzero()[0])
    labels = ["red", "tall", "wide"]
    folder, raw = prepared.processed("shop") / "features", prepared.raw("shop")
    store.save(folder / "category.safetensors", store.Features(matrix, mask, {"vocabulary": labels}))
    for modality in ("image", "text"):
        vector = shop.features[modality][0][twin].tolist()
        saved = pd.DataFrame({"item_id": ["031", "x"], "vector": [vector, vector]})
        sources.given.save(saved[int(modality == "text") :], sources.given.path_of(raw, modality))  # no text of 031
    own = [labels[column] for column in matrix[twin].nonzero().squeeze(1)]

    def by_content(item_vector, modalities=("image", "category"), cold=True, **more):
        table = pd.DataFrame({"item_id": map(item_id, range(1, 34 if cold else 31)), "title": "", "text": ""})
        categories = [[]] * 30 + [own, [], ["blue", own[0]]]
        table.assign(categories=categories[: len(table)], image=None).to_parquet(
            prepared.interim("shop") / "items.parquet"
        )
        off = dict.fromkeys(("image_weight", "text_weight", "category_weight"), 0.0)
        options = off | {"attention": False, "item_vector": item_vector, "modalities": modalities}
        one = replace(settings.experiments["main"]["maf"], options=options)
        about = replace(settings.datasets["shop"], groups=("main", "content"), image="given", text="given")
        changed = {"datasets": {"shop": about}, "experiments": settings.experiments | {"content": {"content": one}}}
        return Recommender(prepared, replace(settings, **changed), "shop", "content", **more), item_id(twin)

    return by_content


def scores_of(one, *histories):
    """user -> item -> score of every candidate."""
    found = one.recommend(*histories, k=40, include_seen=True)
    return found.pivot(index="user", columns="item_id", values="score")


@pytest.mark.parametrize("item_vector", ["features", "id_and_features"])
def test_unbought_items_are_scored_by_their_content(by_content, lines, item_vector):
    one, twin = by_content(item_vector)
    found, known = scores_of(one), scores_of(by_content(item_vector, cold=False)[0])
    assert list(found) == [*map(item_id, range(1, 32)), "033"] and found.notna().all(axis=None)
    pd.testing.assert_frame_equal(found[list(known)], known, check_exact=False, rtol=1e-5)
    why = "too few users bought them, and they have no content to score"
    assert f"shop: 1 items of the catalogue are not recommended: {why}" in lines
    of_twin, of_new = one.model.item.table("scores")[[int(twin), 31]]
    torch.testing.assert_close(of_new, of_twin - (one.model.item.weight[int(twin)] if one.model.item.with_ids else 0))
    assert not torch.equal(*one.model.item.table("scores")[[31, 32]])
    if item_vector == "features":
        pd.testing.assert_series_equal(found["031"], found[twin], check_names=False)
        histories = [{"me": [item, "001"]} for item in (twin, "031")]
        pd.testing.assert_frame_equal(*(scores_of(one, history) for history in histories))


def test_an_unbought_item_without_a_modality_of_the_vectors_is_refused(by_content, lines):
    one, _ = by_content("features", ("text",))
    assert set(one.recommend(k=40, include_seen=True)["item_id"]) == set(map(item_id, range(1, 31)))
    assert any(line.startswith("shop: 3 items of the catalogue are not recommended") for line in lines)


def test_unbought_items_stay_outside_where_this_is_asked_for(by_content, lines):
    one, _ = by_content("features", bought_only=True)
    assert len(one.item_ids) == 30 and one.recommend(k=40, include_seen=True)["item_id"].nunique() == 30
    assert lines[0].endswith("items of the catalogue are not recommended: too few users bought them, as asked for")


# --- explanations


@pytest.mark.parametrize("name", ["item_knn", "sasrec", "maf", "bert4rec"])
def test_reasons_are_the_items_without_which_the_score_falls_most(make, shop, name):
    one = make(name)
    histories = whole(shop.sequences, users=[user for user in range(12)])
    histories = {user: items[-8:] for user, items in histories.items()}
    found = one.recommend(histories, 3, explain=True)
    for row in found.itertuples():
        items, falls = histories[row.user], {}
        for item in dict.fromkeys(items):
            left = [int(other) for other in items if other != item]
            score = one.model.score(torch.tensor([left]), torch.tensor([len(left)]))[0, int(row.item_id) - 1].item()
            falls[item] = row.score - score
        order = sorted((item for item in falls if falls[item] > 1e-5 * abs(row.score)), key=falls.get, reverse=True)[:3]
        named = [row.because_1, row.because_2, row.because_3]
        assert named == order + [""] * (3 - len(order))
        assert np.allclose(
            [row.fall_1, row.fall_2, row.fall_3][: len(order)], [falls[i] for i in order], rtol=1e-3, atol=1e-6
        )
    assert (found["because_3"] != "").any()


def test_without_an_influence_there_is_no_reason(make):
    found = make("popularity").recommend(k=3, explain=True)
    assert set(found["because_1"]) == {""} and found["fall_1"].isna().all()
    alone = make("sasrec").recommend({"one": ["004"], "again": ["004", "004"]}, 3, explain=True)
    assert (alone["because_1"] == "").all()


def test_a_repeated_item_is_taken_out_everywhere_and_named_once(make):
    one = make("item_knn")
    found = one.recommend({"me": ["004", "005", "004"]}, 1, explain=True).iloc[0]
    alone = one.model.score(torch.tensor([[5], [4]]), torch.tensor([1, 1]))[:, int(found["item_id"]) - 1]
    falls = {"004": found["score"] - alone[0].item(), "005": found["score"] - alone[1].item()}
    order = sorted(falls, key=falls.get, reverse=True)
    assert [found[f"because_{n}"] for n in (1, 2, 3)] == [item for item in order if falls[item] > 0] + [""]


def test_a_model_is_asked_with_padding_on_the_right_alone(make):
    one, asked = make("item_knn"), []
    score = one.model.score
    one.model.score = lambda items, lengths: asked.append((items, lengths)) or score(items, lengths)
    one.recommend({"me": ["004", "005", "006"], "you": ["007"]}, 2, explain=True)
    assert len(asked) == 2
    for items, lengths in asked:
        assert torch.equal(items > 0, torch.arange(items.shape[1]) < lengths[:, None])


# --- models


@pytest.mark.parametrize("name", ["sasrec", "maf"])
def test_missing_weights_are_trained_once(make, monkeypatch, lines, name):
    found = make(name, fresh=False).recommend(k=3)
    assert f"shop {name}: training 1 models whose weights are missing" in lines
    monkeypatch.setattr(training, "fit", None)
    pd.testing.assert_frame_equal(make(name, fresh=False).recommend(k=3), found)


def test_each_seed_has_its_model_and_the_first_is_the_default(make, prepared, settings):
    by_default = make("sasrec", fresh=False)
    first, second = (Recommender(prepared, settings, "shop", "sasrec", seed).recommend(k=3) for seed in (0, 1))
    pd.testing.assert_frame_equal(by_default.recommend(k=3), first)
    assert not first.equals(second)


def test_a_control_reaches_an_untrained_model(make, prepared, settings):
    shuffled = replace(settings.experiments["every"]["markov_chain"], data={"histories": "shuffled"})
    probed = replace(settings.datasets["shop"], groups=("main", "probes"))
    experiments = settings.experiments | {"probes": {"shuffled": shuffled}}
    controlled = replace(settings, datasets={"shop": probed}, experiments=experiments)
    found = Recommender(prepared, controlled, "shop", "shuffled", 1)
    data = replace(found.data, sequences=found.data.sequences.shuffled("valid", 1))
    expected = build.build(found.experiment.model, data, found.max_length)
    assert torch.equal(found.model.following, expected.following)
    assert not torch.equal(found.model.following, make("markov_chain").model.following)


def test_what_is_not_there_is_named(prepared, settings, monkeypatch):
    monkeypatch.setattr(runtime, "prepare", lambda *_: torch.device("cpu"))
    for given_, message in (
        (("shop_2", "maf"), "no data set 'shop_2'; one of"),
        (("shop", "plain"), "no experiment 'plain'; one of"),
        (("shop", "maf", 5), "no seed 5; one of"),
    ):
        with pytest.raises(config.ConfigError, match=message):
            Recommender(prepared, settings, *given_)
    (prepared.processed("shop") / "features" / "text.safetensors").unlink()
    with pytest.raises(RecommendError, match="shop is not prepared .*text.safetensors.*dvc repro features@shop"):
        Recommender(prepared, settings, "shop", "maf")
    (prepared.processed("shop") / "users.parquet").unlink()
    with pytest.raises(RecommendError, match="shop is not prepared .*users.parquet"):
        Recommender(prepared, settings, "shop", "maf")


# --- files


def test_ids_are_read_as_text(tmp_path):
    (tmp_path / "users.txt").write_bytes("\ufeff007\r\n8 8 \r\n\r\n".encode())
    assert recommend.read(tmp_path / "users.txt", ["user_id"])["user_id"].tolist() == ["007", "8 8"]
    (tmp_path / "users.csv").write_text("age,user_id\n3, 007\n4,NA\n")
    assert recommend.read(tmp_path / "users.csv", ["user_id"])["user_id"].tolist() == ["007", "NA"]
    pd.DataFrame({"user_id": [7, 8]}).to_parquet(tmp_path / "users.parquet")
    assert recommend.read(tmp_path / "users.parquet", ["user_id"])["user_id"].tolist() == ["7", "8"]


TIMES = {
    "ISO 8601": (["2018-01-02", "2018-01-01T12:00"], (), [1514851200, 1514808000]),
    "order numbers": ([1, 0], (), [2, 1]),
    "moments": (pd.to_datetime(["2018-01-02T00:00", "2018-01-01T12:00"]), (), [1514851200, 1514808000]),
    "a format": (["02/01/2018", "01/01/2018"], ("%d/%m/%Y",), [1514851200, 1514764800]),
    "any year": (["1980-01-01", "2018-01-02"], (None, True), [315532800, 1514851200]),
}


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
@pytest.mark.parametrize(("times", "meaning", "expected"), TIMES.values(), ids=TIMES)
def test_times_are_read_as_those_of_a_data_set(tmp_path, suffix, times, meaning, expected):
    table = pd.DataFrame({"user_id": "a", "item_id": ["1", "2"], "timestamp": times})
    path = tmp_path / f"histories.{suffix}"
    table.to_csv(path, index=False) if suffix == "csv" else table.to_parquet(path)
    found = recommend.read(path, ["user_id", "item_id"], *meaning)
    assert found["timestamp"].tolist() == expected and found["item_id"].tolist() == ["1", "2"]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("histories.csv", "user_id,item_id,timestamp\na,1,2018-01-02\nb,1,x\n", "1 times cannot be read"),
        ("histories.csv", "user_id,item_id,timestamp\na,1,01/02/2018\n", "histories.csv:2: .*timestamp_format"),
        ("histories.csv", "user_id,item\na,1\n", "no column 'item_id'"),
        ("histories.txt", "a\n", "name a .csv or .parquet file with user_id, item_id"),
        ("histories.parquet", "a\n", "histories.parquet cannot be read"),
        (None, "", "is missing"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_one_line(tmp_path, name, content, message):
    if name:
        (tmp_path / name).write_text(content)
    with pytest.raises((RecommendError, SourceError), match=message) as error:
        recommend.read(tmp_path / (name or "histories.csv"), ["user_id", "item_id"])
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("suffix", ["csv", "parquet"])
def test_tables_are_written_as_one_file_whole_or_not_at_all(tmp_path, suffix):
    tables = [pd.DataFrame({"user": ["01"], "score": np.float32([n])}) for n in range(3)]
    out = tmp_path / "new" / f"recs.{suffix}"
    assert recommend.write(iter(tables), out) == 3
    found = pd.read_csv(out, dtype={"user": str}) if suffix == "csv" else pd.read_parquet(out)
    pd.testing.assert_frame_equal(found, pd.concat(tables, ignore_index=True), check_dtype=suffix == "parquet")

    def broken():
        yield tables[0]
        raise KeyboardInterrupt

    before = out.read_bytes()
    with pytest.raises(KeyboardInterrupt):
        recommend.write(broken(), out)
    assert out.read_bytes() == before and [path.name for path in out.parent.iterdir()] == [out.name]
    with pytest.raises(RecommendError, match="recs.* cannot be written: File exists"):
        recommend.write(iter(tables), out / f"recs.{suffix}")


@pytest.mark.slow
def test_the_command_from_a_file_of_histories_to_a_file_of_recommendations(prepared, shop_params):
    root = prepared.root
    (root / "params.yaml").write_text(shop_params.read_text())
    (root / "histories.csv").write_text("user_id,item_id\nme,004\nme,005\nyou,999\n")

    def call(*arguments):
        command = [sys.executable, "-m", "mmrec", "recommend", "shop", *arguments]
        return subprocess.run(command, cwd=root, capture_output=True, text=True)

    asked = ("--histories", "histories.csv", "--top", "3", "--explain")
    ended = call("--experiment", "sasrec", "--seed", "1", *asked, "--out", "recs.csv")
    assert (ended.returncode, ended.stdout) == (0, "recs.csv: 3 recommendations\n"), ended.stderr
    assert "shop sasrec: training 1 models" in ended.stderr and "1 of 3 items are unknown ('999')" in ended.stderr
    assert "Warning" not in ended.stderr
    table = pd.read_csv(root / "recs.csv", dtype={"item_id": str})
    assert table.columns.tolist()[:5] == ["user", "rank", "item_id", "score", "title"]
    assert table["user"].tolist() == ["me"] * 3 and not {"004", "005"} & set(table["item_id"])
    for arguments, line in (
        (["--out", "recs.json"], "--out recs.json: name a .parquet or .csv file"),
        (["--out", "r.csv", "--users", "nobody.txt"], "nobody.txt is missing: place it in ."),
    ):
        ended = call(*arguments)
        assert (ended.returncode, ended.stderr.strip()) == (1, line)


def test_the_history_of_a_user_is_everything_that_the_user_bought(make, shop):
    one, bought = make("popularity"), whole(shop.sequences)
    assert {user: one.history(user) for user in bought} == bought
    with pytest.raises(RecommendError, match="no id of the users is one of shop"):
        one.history("nobody")
