from collections import Counter
from dataclasses import replace
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mmrec import config
from mmrec.data import preprocessing
from mmrec.data.batches import questions, take, training_batches
from mmrec.data.cleaning.tables import Tables
from mmrec.data.preprocessing import SequenceError, build, closing_line, draw_negatives, k_core
from mmrec.data.sequences import Sequences

PROTOCOL = config.Protocol(max_length=50, ks=(10,), negatives=1, negatives_seed=0)


def dataset(user_core=1, item_core=1, split=None) -> config.Dataset:
    return config.Dataset(
        title="",
        source=config.PlacedSource(kind="folder"),
        user_core=user_core,
        item_core=item_core,
        split=split or config.LeaveOneOut(kind="leave_one_out"),
        image=None,
        text=None,
        category=False,
    )


def table(*rows: tuple[str, str, int]) -> pd.DataFrame:
    return pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])


def by_user(built) -> dict[str, list[str]]:
    """user id -> item ids in order."""
    parts = built.sequences.items.split(built.sequences.offsets.diff().tolist())
    return {
        user: [built.item_ids[i - 1] for i in part.tolist()] for user, part in zip(built.user_ids, parts, strict=True)
    }


# --- k-core ------------------------------------------------------------------------------------------------------

pairs = st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), unique=True, max_size=40)
cores = st.integers(1, 4)


def slow_k_core(rows, user_core, item_core):
    """Throw out one offending row at a time."""
    rows = list(rows)
    while True:
        users, items = Counter(u for u, _ in rows), Counter(i for _, i in rows)
        bad = [row for row in rows if users[row[0]] < user_core or items[row[1]] < item_core]
        if not bad:
            return rows
        rows.remove(bad[0])


def columns(rows):
    return np.array([u for u, _ in rows], int), np.array([i for _, i in rows], int)


@given(pairs, cores, cores)
def test_k_core_agrees_with_throwing_out_one_row_at_a_time(rows, user_core, item_core):
    keep = k_core(*columns(rows), user_core, item_core)
    assert [row for row, kept in zip(rows, keep, strict=True) if kept] == slow_k_core(rows, user_core, item_core)


@given(pairs, cores, cores)
def test_k_core_of_a_core_is_the_core(rows, user_core, item_core):
    users, items = columns(rows)
    keep = k_core(users, items, user_core, item_core)
    assert k_core(users[keep], items[keep], user_core, item_core).all()


def test_k_core_goes_on_until_nothing_changes():
    # Item 2 goes for want of users, which leaves user 1 with one item, which leaves item 1 with one user, ...
    rows = [(0, 0), (0, 1), (1, 1), (1, 2)]
    assert not k_core(*columns(rows), 2, 2).any()
    assert k_core(*columns(rows), 2, 1).all()


# --- order and numbers -------------------------------------------------------------------------------------------


def test_items_stand_in_order_of_time_and_ties_in_order_of_the_source():
    built = build(
        table(("u", "c", 5), ("u", "a", 3), ("u", "e", 5), ("u", "b", 5), ("u", "d", 1), ("w", "f", 0)),
        dataset(),
        PROTOCOL,
    )
    assert by_user(built) == {"u": ["d", "a", "c", "e", "b"], "w": ["f"]}


def test_ties_are_counted_within_users_only():
    rows = [("u", "a", 1), ("u", "b", 1), ("u", "c", 1), ("u", "d", 2), ("v", "e", 2), ("v", "f", 2)]
    report = build(table(*rows), dataset(), PROTOCOL).report
    assert report["tied_with_previous"] == 3
    assert (report["users"], report["items"], report["interactions"], report["left_by_core"]) == (2, 6, 6, 0)


def test_users_and_items_are_numbered_in_order_of_their_ids_from_0_and_1():
    built = build(
        table(("v", "z", 1), ("v", "y", 2), ("v", "b", 3), ("u10", "x", 1), ("u9", "b", 1)), dataset(), PROTOCOL
    )
    assert (built.user_ids, built.item_ids) == (["u10", "u9", "v"], ["b", "x", "y", "z"])
    assert built.sequences.items.tolist() == [2, 1, 4, 3, 1]
    assert built.sequences.n_items == 4


def test_items_outside_the_core_get_no_number():
    kept = [("u", "a", 0), ("u", "b", 1), ("u", "c", 2), ("v", "b", 0), ("v", "c", 1), ("v", "e", 2), ("w", "a", 0)]
    kept += [("w", "e", 1)]
    built = build(table(*kept, ("x", "a", 0), ("u", "d", 9)), dataset(user_core=2, item_core=2), PROTOCOL)
    assert (built.user_ids, built.item_ids, built.report["left_by_core"]) == (["u", "v", "w"], ["a", "b", "c", "e"], 2)
    assert by_user(built) == {"u": ["a", "b", "c"], "v": ["b", "c", "e"], "w": ["a", "e"]}


@given(st.randoms(use_true_random=False))
def test_the_order_of_users_in_the_source_changes_nothing(random):
    users = {"u": "abcd", "v": "bcde", "w": "aedc"}  # each with ties
    blocks = [[(user, item, position // 2) for position, item in enumerate(items)] for user, items in users.items()]
    expected = build(table(*sum(blocks, [])), dataset(), PROTOCOL)
    merged = []
    queues = [list(block) for block in blocks]
    while any(queues):  # any interleaving that keeps each user's own order
        merged.append(random.choice([queue for queue in queues if queue]).pop(0))
    found = build(table(*merged), dataset(), PROTOCOL)
    assert (found.user_ids, found.item_ids, found.report) == (expected.user_ids, expected.item_ids, expected.report)
    for name, tensor in expected.sequences._tensors().items():
        assert torch.equal(getattr(found.sequences, name), tensor), name


def test_every_tensor_is_int64():
    built = build(table(*[("u", item, 0) for item in "abcd"], ("v", "e", 0)), dataset(), PROTOCOL)
    assert {tensor.dtype for tensor in built.sequences._tensors().values()} == {torch.int64}


# --- splits ------------------------------------------------------------------------------------------------------


def test_leave_one_out_tests_the_last_item_and_validates_the_one_before():
    rows = [(user, item, time) for user, items in (("u", "abcde"), ("v", "xyz")) for time, item in enumerate(items)]
    built = build(table(*rows), dataset(), PROTOCOL)
    found = built.sequences
    assert found.train_end.tolist() == [3, 6]
    assert [built.item_ids[i - 1] for i in found.items[found.valid].tolist()] == ["d", "y"]
    assert [built.item_ids[i - 1] for i in found.items[found.test].tolist()] == ["e", "z"]
    assert built.report["training_interactions"] == 4


def test_users_with_fewer_than_three_items_only_train():
    rows = [("a", "p", 0), ("b", "p", 0), ("b", "q", 1), ("c", "p", 0), ("c", "q", 1), ("c", "r", 2), ("d", "s", 0)]
    built = build(table(*rows), dataset(), PROTOCOL)
    found = built.sequences
    assert found.valid.tolist() == [-1, -1, 4, -1]
    assert found.test.tolist() == [-1, -1, 5, -1]
    assert found.train_end.tolist() == [1, 3, 4, 7]
    assert (built.report["valid_users"], built.report["test_users"]) == (1, 1)


def seconds(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp())


def test_global_time_asks_for_the_first_choice_after_each_cut():
    split = config.GlobalTime(kind="global_time", valid=date(2020, 2, 1), test=date(2020, 3, 1))
    before, last_before = seconds("2020-01-10"), seconds("2020-01-31T23:59:59")
    at_valid, at_test = seconds("2020-02-01"), seconds("2020-03-01")
    rows = [
        # a: a past, two choices between the cuts (the first validates), two after (the first tests)
        *[("a", "p", before), ("a", "q", last_before), ("a", "r", at_valid), ("a", "s", at_valid + 9)],
        *[("a", "t", at_test), ("a", "v", at_test + 9)],
        # b: nothing between the cuts: no validation
        *[("b", "p", before), ("b", "q", at_test)],
        # c: no past when validation starts, one when the test does
        *[("c", "p", at_valid), ("c", "q", at_test)],
        # d: only a past; e: only a future
        *[("d", "p", before), ("e", "w", at_test)],
        # f: ends between the cuts
        *[("f", "p", before), ("f", "q", at_test - 1)],
    ]
    built = build(table(*rows), dataset(split=split), PROTOCOL)
    found = built.sequences

    def asked(which):
        return {
            user: built.item_ids[found.items[index] - 1]
            for user, index in zip(built.user_ids, which.tolist(), strict=True)
            if index >= 0
        }

    assert asked(found.valid) == {"a": "r", "f": "q"}
    assert asked(found.test) == {"a": "t", "b": "q", "c": "q"}
    assert (found.train_end - found.offsets[:-1]).tolist() == [2, 1, 0, 1, 0, 1]


def test_nothing_from_the_first_cut_on_is_trained_on():
    split = config.GlobalTime(kind="global_time", valid=date(2020, 2, 1), test=date(2020, 3, 1))
    generator = np.random.default_rng(0)
    start, stop = seconds("2020-01-01"), seconds("2020-04-01")
    rows = pd.DataFrame([(f"u{u}", f"i{i}", 0) for u in range(30) for i in range(8)], columns=table().columns)
    rows["timestamp"] = generator.integers(start, stop, len(rows))
    rows = rows[generator.random(len(rows)) < np.where(rows["item_id"] == "i0", 0.1, 0.7)]
    rows = rows[rows.groupby("user_id")["item_id"].transform("count") < 8]
    built = build(rows, dataset(split=split), PROTOCOL)
    trained = built.sequences.training_items()
    early = rows[rows["timestamp"] < seconds("2020-02-01")]
    assert Counter(built.item_ids[i - 1] for i in trained.tolist()) == Counter(early["item_id"])


# --- errors ------------------------------------------------------------------------------------------------------


def test_when_the_core_leaves_nothing_the_message_names_the_settings():
    with pytest.raises(SequenceError, match="no interaction is left of 2.*lower user_core or item_core"):
        build(table(("u", "a", 0), ("u", "b", 1)), dataset(user_core=3), PROTOCOL)


def test_an_empty_table_is_refused():
    with pytest.raises(SequenceError, match="no interaction is left of 0"):
        build(table(), dataset(), PROTOCOL)


@pytest.mark.parametrize(("asked", "drawn"), [(1, 1), (2, 2), (3, 2), (100, 2)])
def test_the_user_with_most_items_limits_the_number_of_negatives(asked, drawn):
    rows = [("u", item, 0) for item in "abc"] + [("v", item, 0) for item in "de"]
    built = build(table(*rows), dataset(), replace(PROTOCOL, negatives=asked))
    assert built.report["negatives"] == drawn and built.sequences.negatives.shape == (2, drawn)


# --- repeats and the closing line --------------------------------------------------------------------------------


def test_a_kept_repeat_may_be_the_target():
    rows = [("u", item, time) for time, item in enumerate("abcab")] + [("v", "d", 0)]
    built = build(table(*rows), dataset(), PROTOCOL)
    assert by_user(built)["u"] == list("abcab")
    [question] = questions(built.sequences, "test", 50, 9)
    assert built.item_ids[question.targets.item() - 1] == "b"
    assert built.sequences.negatives[0].tolist() == [4]  # d, which alone is not known


def test_the_closing_line_counts_rows_users_items_pictures_and_texts():
    rows = [("u", item, time) for time, item in enumerate("abc")] + [("v", "e", 0), ("w", "d", 0)]
    built = build(table(*rows, *[("w", item, time) for time, item in enumerate("ab")]), dataset(item_core=1), PROTOCOL)
    listed = pd.DataFrame(
        {"item_id": list("abcdez"), "title": ["A", "", "", "", "", "Z"], "text": ["", "b", "", "", "", ""]}
    )
    listed["image"] = ["a.png", None, None, "d.png", None, "z.png"]
    account = {"read": 2_000, "kept": 7, "dropped": {"repeat": 1_900, "no user": 93}}
    tables = Tables(table(*rows), listed, {"interactions": account}, Path("none"))
    assert closing_line(tables, built) == (
        "2,000 interactions read, 7 kept; left out: 1,900 repeat (95.0%), 93 no user (4.7%); "
        "3 users, 5 items, 2 usable pictures, 2 texts, 1 negatives a user; "
        "timestamps are positions in each user's history, no dates"
    )
    dated = replace(tables, interactions=tables.interactions.assign(timestamp=1_500_000_000))
    assert closing_line(dated, built).endswith("1 negatives a user")
    report = built.report | {"left_by_core": 3}
    assert "93 no user (4.7%), 3 k-core (0.1%); " in closing_line(tables, replace(built, report=report))
    most = closing_line(tables, replace(built, report=built.report | {"left_by_core": 1_001}))
    assert "1,001 k-core (50.0%): more than half, so lower user_core and item_core" in most


# --- negatives ---------------------------------------------------------------------------------------------------


@given(st.integers(0, 2**31), st.integers(1, 6))
def test_negatives_are_different_untouched_items(seed, count):
    generator = np.random.default_rng(seed)
    touched = [generator.choice(12, generator.integers(1, 7), replace=False) + 1 for _ in range(9)]
    users = np.repeat(np.arange(9), [len(items) for items in touched])
    drawn = draw_negatives(users, np.concatenate(touched), 12, count, seed)
    assert drawn.shape == (9, count)
    for row, items in zip(drawn, touched, strict=True):
        assert len(set(row)) == count
        assert not set(row) & set(items)
        assert 1 <= row.min() and row.max() <= 12


def test_an_item_that_a_user_has_twice_counts_once():
    drawn = draw_negatives(np.array([0, 0, 0, 1]), np.array([1, 1, 2, 3]), 4, 9, 0)
    assert sorted(drawn[0]) == [3, 4] and drawn.shape == (2, 2)


def test_negatives_of_a_small_catalogue_stay_as_archived_runs_have_them():
    drawn = draw_negatives(np.array([0, 0, 1, 2]), np.array([1, 2, 3, 4]), 7, 4, 5)
    assert drawn.tolist() == [[5, 6, 4, 3], [4, 1, 5, 2], [7, 1, 2, 3]]


def test_negatives_may_need_all_untouched_items():
    drawn = draw_negatives(np.array([0, 0, 1]), np.array([1, 3, 5]), 5, 3, 0)
    assert sorted(drawn[0]) == [2, 4, 5]
    assert set(drawn[1]) < {1, 2, 3, 4}


def test_negatives_are_uniform_over_the_untouched():
    # 4000 users who all touched item 3 of 1..8: each of the seven others is drawn 3 / 7 of times.
    drawn = draw_negatives(np.arange(4000), np.full(4000, 3), 8, 3, 7)
    counts = np.bincount(drawn.ravel(), minlength=9)[[1, 2, 4, 5, 6, 7, 8]]
    assert counts.sum() == 12_000
    # Drawn without replacement the counts vary less than independent ones, so the test errs on the lenient side.
    assert stats.chisquare(counts).pvalue > 0.01
    for column in drawn.T:
        assert stats.chisquare(np.bincount(column, minlength=9)[[1, 2, 4, 5, 6, 7, 8]]).pvalue > 0.001


def test_negatives_depend_on_their_seed_alone():
    users, items = np.arange(50), np.full(50, 1)
    first, again, other = (draw_negatives(users, items, 100, 5, seed) for seed in (0, 0, 1))
    assert (first == again).all()
    assert (first != other).any()


# --- take --------------------------------------------------------------------------------------------------------


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 10)), min_size=1, max_size=6))
def test_take_agrees_with_slicing(pieces):
    flat = torch.arange(100, 120)
    found = take(flat, torch.tensor([b for b, _ in pieces]), torch.tensor([n for _, n in pieces]))
    longest = max(n for _, n in pieces)
    assert found.tolist() == [flat[b : b + n].tolist() + [0] * (longest - n) for b, n in pieces]


def test_take_reads_up_to_the_last_element_and_not_beyond():
    assert take(torch.tensor([7, 8, 9]), torch.tensor([2, 0]), torch.tensor([1, 3])).tolist() == [[9, 0, 0], [7, 8, 9]]


# --- training batches --------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def many(make_sequences) -> Sequences:
    """200 users of 1 to 30 items, so skewed that most are short."""
    generator = np.random.default_rng(0)
    lengths = np.clip(generator.geometric(0.2, 200), 1, 30)
    return make_sequences([(generator.permutation(60)[:n] + 1).tolist() for n in lengths], n_items=60)


def epoch(found: Sequences, max_length=50, batch_size=16, seed=0):
    return list(training_batches(found, max_length, batch_size, torch.Generator().manual_seed(seed)))


def groups_of(batches):
    return [(items, targets) for batch in batches for items, targets, _ in batch]


def rows_of(batches):
    """(inputs, targets) of every user, without padding."""
    rows = []
    for items, targets in groups_of(batches):
        for row, target in zip(items.tolist(), targets.tolist(), strict=True):
            length = len(row) - row.count(0)
            rows.append((tuple(row[:length]), tuple(target[:length])))
    return rows


@pytest.mark.parametrize("max_length", [50, 7, 2])
@pytest.mark.parametrize("batch_size", [1, 16, 1000])
def test_an_epoch_holds_every_users_latest_training_items_once_with_targets_one_later(many, max_length, batch_size):
    expected = []
    for begin, end in zip(many.offsets[:-1].tolist(), many.train_end.tolist(), strict=True):
        part = many.items[begin:end].tolist()[-(max_length + 1) :]
        if len(part) > 1:
            expected.append((tuple(part[:-1]), tuple(part[1:])))
    assert sorted(rows_of(epoch(many, max_length, batch_size))) == sorted(expected)
    assert max(len(row) for row, _ in expected) <= max_length


def test_padding_is_on_the_right_and_the_same_for_items_and_targets(many):
    for items, targets in groups_of(epoch(many)):
        assert torch.equal(items > 0, targets > 0)
        real = (items > 0).long()
        assert (real.diff(dim=1) <= 0).all()
        assert real[:, 0].all()
        assert real.any(0).all()  # no column of padding alone


def test_batches_have_the_size_asked_for(many):
    sizes = [sum(len(items) for items, _, _ in batch) for batch in epoch(many, batch_size=16)]
    total = int((many.train_end - many.offsets[:-1] > 1).sum())
    assert sum(sizes) == total
    assert sizes[:-1] == [16] * (len(sizes) - 1)


def test_shares_are_those_of_the_positions_of_a_batch(many):
    for batch in epoch(many):
        positions = [int((targets > 0).sum()) for _, targets, _ in batch]
        assert [share for _, _, share in batch] == pytest.approx([n / sum(positions) for n in positions])


def test_validation_and_test_items_are_never_trained_on(make_sequences):
    found = make_sequences([[1, 2, 3, 8, 9], [4, 5, 6, 10, 11]], n_items=20)
    shown = {item for group in groups_of(epoch(found)) for part in group for item in part.unique().tolist()}
    assert shown == {1, 2, 3, 4, 5, 6}


def test_the_generator_alone_decides_the_order(many):
    def same(a, b):
        parts = zip(groups_of(a), groups_of(b), strict=True)
        return all(x.shape == y.shape and torch.equal(x, y) for (x, _), (y, _) in parts)

    first = epoch(many, seed=3)
    torch.manual_seed(99)
    assert same(first, epoch(many, seed=3))
    assert not same(first, epoch(many, seed=4))


def test_epochs_differ_and_mix_users(many):
    generator = torch.Generator().manual_seed(0)
    first, second = (list(training_batches(many, 50, 16, generator)) for _ in range(2))
    assert rows_of(first) != rows_of(second)
    companions = [{frozenset(rows_of([batch])) for batch in batches} for batches in (first, second)]
    assert not companions[0] & companions[1]


def test_a_batch_is_of_random_users_and_a_group_of_similar_ones(many):
    batches = epoch(many)
    lengths = [[(items > 0).sum(1) for items, _, _ in batch] for batch in batches]
    means = torch.stack([torch.cat(groups).double().mean() for groups in lengths[:-1]])
    assert means.std() < 2  # of batches sorted by length it would be that of the users, above 4
    assert torch.cat([torch.cat(groups) for groups in lengths]).double().std() > 4
    for groups in lengths:
        for group in groups:
            low, high = int(group.min()), int(group.max())
            assert high <= 8 or (low - 1).bit_length() == (high - 1).bit_length()


def test_users_with_one_training_item_have_nothing_to_predict(make_sequences):
    assert epoch(make_sequences([[1, 2, 3], [4]], n_items=9)) == []


# --- questions ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("split", ["valid", "test"])
@pytest.mark.parametrize("batch_size", [1, 16, 1000])
def test_a_question_shows_only_items_before_the_target(many, split, batch_size):
    target = getattr(many, split)
    asked = []
    for question in questions(many, split, 5, batch_size):
        seen = {row: question.seen[question.seen_row == row].tolist() for row in range(len(question.users))}
        for row, user in enumerate(question.users.tolist()):
            asked.append(user)
            index = int(target[user])
            before = many.items[many.offsets[user] : index].tolist()
            length = int(question.lengths[row])
            assert question.items[row, :length].tolist() == before[-5:]
            assert question.items[row, length:].sum() == 0
            assert question.targets[row] == many.items[index]
            assert seen[row] == before
    assert sorted(asked) == (target >= 0).nonzero().squeeze(1).tolist()


def test_in_test_the_validation_item_is_part_of_the_history(make_sequences):
    found = make_sequences([[1, 2, 3, 4]], n_items=9)
    [question] = questions(found, "test", 50, 8)
    assert (question.items.tolist(), question.targets.tolist()) == ([[1, 2, 3]], [4])


def test_questions_come_in_order_of_the_history_length(many):
    lengths = torch.cat([question.lengths for question in questions(many, "test", 50, 16)])
    assert (lengths.diff() >= 0).all()


# --- on disk -----------------------------------------------------------------------------------------------------


def test_sequences_survive_writing_and_reading(many, tmp_path):
    many.save(tmp_path / "new" / "sequences.safetensors")
    found = Sequences.load(tmp_path / "new" / "sequences.safetensors")
    assert found.n_items == many.n_items
    for name, tensor in many._tensors().items():
        assert torch.equal(getattr(found, name), tensor), name


def test_ids_are_written_beside_the_numbers(tmp_path):
    built = build(table(*[("ü", item, 0) for item in "abc"], ("v", "007", 1)), dataset(), PROTOCOL)
    built.write(tmp_path)
    assert preprocessing.read_ids(tmp_path / "users.parquet") == built.user_ids == ["v", "ü"]
    assert preprocessing.read_ids(tmp_path / "items.parquet") == built.item_ids == ["007", "a", "b", "c"]
    assert torch.equal(Sequences.load(tmp_path / "sequences.safetensors").items, built.sequences.items)


def test_training_items_are_those_of_the_training_parts(make_sequences):
    found = make_sequences([[1, 2, 3, 4], [5, 6], [7, 8, 9]], n_items=20)
    assert found.training_items().tolist() == [1, 2, 5, 6, 7]


# --- histories in random order -----------------------------------------------------------------------------------

HISTORIES = [[1, 2, 3, 4, 5, 6, 7, 8], [3, 1], [9, 8, 7, 6, 5]]


@pytest.mark.parametrize("split", ["valid", "test"])
def test_shuffled_histories_hold_the_same_and_ask_for_the_same(make_sequences, split):
    whole = make_sequences(HISTORIES, 12)
    changed = whole.shuffled(split, seed=1)
    targets = getattr(whole, split)
    asked = targets[targets >= 0]
    assert torch.equal(changed.items[asked], whole.items[asked])
    assert torch.equal(changed.items[whole.test[whole.test >= 0]], whole.items[whole.test[whole.test >= 0]])
    for begin, end in zip(whole.offsets[:-1].tolist(), whole.offsets[1:].tolist(), strict=True):
        assert sorted(changed.items[begin:end].tolist()) == sorted(whole.items[begin:end].tolist())
    assert not torch.equal(changed.items, whole.items)
    assert torch.equal(changed.items, whole.shuffled(split, seed=1).items)
    assert not torch.equal(changed.items, whole.shuffled(split, seed=2).items)


def test_shuffled_training_holds_no_held_out_item(make_sequences):
    whole = make_sequences(HISTORIES, 12)
    # As with a split by time, where some are asked in test alone.
    whole = replace(whole, valid=torch.tensor([6, -1, -1]))
    for seed in range(20):
        changed = whole.shuffled("valid", seed)
        assert sorted(changed.training_items().tolist()) == sorted(whole.training_items().tolist())


def test_shuffled_test_histories_mix_the_item_of_validation_in(make_sequences):
    whole = make_sequences(HISTORIES, 12)
    places = {whole.shuffled("test", seed).items[:7].tolist().index(7) for seed in range(60)}
    assert places == set(range(7))
