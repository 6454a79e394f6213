import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmrec import evaluation
from mmrec.evaluation import EvaluationError, evaluate, gains, measures, target_ranks


def ranks(scores, target, negatives, seen=()):
    """Ranks of one user's target."""
    found = target_ranks(
        torch.tensor([scores]),
        torch.tensor([target]),
        torch.tensor([negatives]),
        torch.tensor(list(seen), dtype=torch.long),
        torch.zeros(len(seen), dtype=torch.long),
    )
    return {protocol: value.item() for protocol, value in found.items()}


# --- ranks -------------------------------------------------------------------------------------------------------


def test_ranks_by_hand():
    # Items 1..6 score .1 .9 .5 .7 .3 .5; the target is 5 (.3): above it stand 2, 4, 3, 6.
    scores = [0.1, 0.9, 0.5, 0.7, 0.3, 0.5]
    assert ranks(scores, 5, [1, 4], seen=[2, 3]) == {"full_all": 5, "full_unseen": 3, "sampled_100": 2}


def test_ties_count_against_the_target():
    scores = [0.5, 0.5, 0.5, 0.1]
    assert ranks(scores, 1, [2, 4]) == {"full_all": 3, "full_unseen": 3, "sampled_100": 2}
    assert ranks(scores, 1, [2, 4], seen=[3]) == {"full_all": 3, "full_unseen": 2, "sampled_100": 2}


def test_a_model_that_cannot_tell_items_apart_ranks_last():
    assert ranks([0.0] * 9, 4, [1, 2, 3], seen=[5, 6]) == {"full_all": 9, "full_unseen": 7, "sampled_100": 4}


def test_the_best_score_ranks_first_everywhere():
    assert set(ranks([0.1, 0.2, 0.9], 3, [1, 2], seen=[2]).values()) == {1}


def test_seen_items_leave_only_the_unseen_protocol():
    scores = [0.9, 0.8, 0.1, 0.7]
    with_seen, without = ranks(scores, 3, [4], seen=[1, 2]), ranks(scores, 3, [4])
    assert (with_seen.pop("full_unseen"), without.pop("full_unseen")) == (2, 4)
    assert with_seen == without


def test_each_users_seen_items_are_their_own():
    scores = torch.tensor([[0.9, 0.8, 0.1], [0.9, 0.8, 0.1]])
    targets, negatives = torch.tensor([3, 3]), torch.tensor([[1], [1]])
    found = target_ranks(scores, targets, negatives, seen=torch.tensor([1, 2, 2]), seen_row=torch.tensor([0, 0, 1]))
    assert found["full_unseen"].tolist() == [1, 2]
    assert found["full_all"].tolist() == [3, 3]


def test_an_item_that_was_seen_twice_leaves_the_catalogue_once():
    # Items 5, 4, 3 score above the target 2; 4 and 3 were seen.
    assert ranks([0.1, 0.2, 0.3, 0.4, 0.5], 2, [1], seen=[4, 3, 4, 4])["full_unseen"] == 2


def test_a_target_that_was_seen_stays_a_candidate():
    assert ranks([0.1, 0.2, 0.3, 0.4, 0.5], 2, [1], seen=[2, 4, 2])["full_unseen"] == 3


def test_infinite_scores_are_ranked():
    inf = math.inf
    assert ranks([-inf, 0.0, inf], 2, [1, 3]) == {"full_all": 2, "full_unseen": 2, "sampled_100": 2}
    assert ranks([inf, 0.0, inf], 3, [1, 2])["full_all"] == 2
    assert ranks([-inf, -inf, 0.0], 1, [2, 3])["full_all"] == 3


def test_a_score_that_is_not_a_number_is_refused():
    with pytest.raises(EvaluationError, match="NaN"):
        ranks([0.1, math.nan, 0.2], 1, [3])


@pytest.mark.parametrize("column", range(19))
@pytest.mark.parametrize("others", [0.0, math.inf, -math.inf])
def test_one_score_that_is_not_a_number_is_found_wherever_it_stands(column, others):
    scores = torch.full((3, 19), others)
    given = torch.tensor([7, 7, 7]), torch.tensor([[1], [1], [1]]), torch.tensor([2]), torch.tensor([0])
    target_ranks(scores, *given)
    scores[1, column] = math.nan
    with pytest.raises(EvaluationError, match="NaN"):
        target_ranks(scores, *given)


def test_ranks_in_a_large_catalogue_are_exact():
    # Beyond 2048 float16 counts in steps, and beyond 65,504 it does not count at all; bfloat16 stops at 256.
    equal = torch.zeros(2, 70_000)
    equal[1, :3] = -1  # all but three of the second row score as high as its target
    found = target_ranks(
        equal,
        torch.tensor([70_000, 4]),
        torch.tensor([[1, 2], [1, 5]]),
        seen=torch.tensor([1, 7, 2, 9]),
        seen_row=torch.tensor([0, 0, 1, 1]),
    )
    assert {protocol: rank.tolist() for protocol, rank in found.items()} == {
        "full_all": [70_000, 69_997],
        "full_unseen": [69_998, 69_996],
        "sampled_100": [3, 2],
    }
    assert all(rank.dtype == torch.int64 for rank in found.values())


def test_every_rank_of_a_large_catalogue_comes_out():
    targets = torch.tensor([1, 2, 2047, 2050, 65_505, 69_999, 70_000])
    scores = -torch.arange(70_000.0).expand(len(targets), -1)  # item 1 scores best; rows share their memory
    none = torch.empty(0, dtype=torch.long)
    found = target_ranks(scores, targets, torch.full((len(targets), 1), 3), none, none)
    assert found["full_all"].tolist() == found["full_unseen"].tolist() == targets.tolist()


def test_scores_in_double_precision_rank_as_in_single():
    scores = [0.25, 0.5, 0.5, 0.75, 0.125]
    double = target_ranks(
        torch.tensor([scores], dtype=torch.double),
        torch.tensor([2]),
        torch.tensor([[1, 4]]),
        torch.tensor([4]),
        torch.tensor([0]),
    )
    assert {protocol: rank.item() for protocol, rank in double.items()} == ranks(scores, 2, [1, 4], seen=[4])


@given(st.integers(0, 10_000))
def test_ranks_agree_with_counting_one_by_one(seed):
    generator = np.random.default_rng(seed)
    n_items, users = 8, 5
    scores = generator.integers(0, 4, (users, n_items)).astype(np.float32)  # many ties
    orders = [generator.permutation(n_items) + 1 for _ in range(users)]
    targets = [int(order[0]) for order in orders]
    seen = [order[1 : 1 + generator.integers(0, 5)].tolist() for order in orders]
    negatives = [order[-2:].tolist() for order in orders]
    found = target_ranks(
        torch.from_numpy(scores),
        torch.tensor(targets),
        torch.tensor(negatives),
        torch.tensor(sum(seen, []), dtype=torch.long),
        torch.tensor([user for user, items in enumerate(seen) for _ in items], dtype=torch.long),
    )
    for user, target in enumerate(targets):
        others = {
            "full_all": set(range(1, n_items + 1)) - {target},
            "full_unseen": set(range(1, n_items + 1)) - {target} - set(seen[user]),
            "sampled_100": set(negatives[user]),
        }
        for protocol, items in others.items():
            better = sum(scores[user, item - 1] >= scores[user, target - 1] for item in items)
            assert found[protocol][user] == 1 + better


# --- gains -------------------------------------------------------------------------------------------------------


def test_gains_by_hand():
    rank = np.array([1, 2, 3, 10, 11])
    assert gains(rank, "hr", 10).tolist() == [1, 1, 1, 1, 0]
    assert gains(rank, "hr", 1).tolist() == [1, 0, 0, 0, 0]
    assert gains(rank, "ndcg", 10) == pytest.approx([1, 0.6309297536, 0.5, 0.2890648263, 0])
    assert gains(rank, "mrr") == pytest.approx([1, 1 / 2, 1 / 3, 1 / 10, 1 / 11])


def test_an_unknown_metric_is_refused_by_name():
    with pytest.raises(ValueError, match="'map'; one of hr, ndcg, mrr"):
        gains(np.array([1]), "map", 10)


@given(st.integers(1, 1000), st.integers(1, 1000), st.integers(1, 50))
def test_a_better_rank_never_gains_less(a, b, k):
    for metric in ("hr", "ndcg", "mrr"):
        better, worse = gains(np.array([min(a, b), max(a, b)]), metric, k)
        assert 0 <= worse <= better <= 1


def test_every_metric_is_measured_at_every_k_and_mrr_once():
    assert measures((5, 10)) == [("hr", 5), ("hr", 10), ("ndcg", 5), ("ndcg", 10), ("mrr", None)]


# --- evaluate ----------------------------------------------------------------------------------------------------


def by_item_number(items, lengths):
    """Item j scores j."""
    return torch.arange(1.0, 13.0).expand(len(items), -1)


@pytest.fixture
def three(make_sequences):
    """Users with 12 items to choose from, in which user 1 is never asked."""
    return make_sequences([[12, 3, 5, 7, 9, 11, 1], [2, 4], [10, 6, 8]], n_items=12)


def test_evaluate_by_hand(three):
    table = evaluate(by_item_number, three, "test", 50)
    assert table.columns.tolist() == ["user", "full_unseen", "full_all", "sampled_100"]
    assert (table.dtypes == "int64").all()
    # User 0 is asked for 1, with 12, 3, 5, 7, 9, 11 seen and 2, 4 as negatives: 11 items are above it, 5 of them new.
    # User 2 is asked for 8, with 10 and 6 seen and 1, 2 as negatives: 9, 10, 11, 12 are above it.
    assert table.to_numpy().tolist() == [[0, 6, 12, 3], [2, 4, 5, 1]]


def test_in_validation_the_test_item_is_not_yet_seen(three):
    # User 0 is asked for 11 with 12 above it but seen; user 2 for 6, with 7, 8, 9, 11, 12 above it, and 10 but seen.
    table = evaluate(by_item_number, three, "valid", 50)
    assert table[["user", "full_unseen", "full_all"]].to_numpy().tolist() == [[0, 1, 2], [2, 6, 7]]


def test_seen_items_count_even_where_they_are_too_old_for_the_model(three):
    assert evaluate(by_item_number, three, "test", 2).equals(evaluate(by_item_number, three, "test", 50))


def test_the_model_gets_the_latest_items_and_their_number(three):
    shown = []

    def score(items, lengths):
        shown.append((items.tolist(), lengths.tolist()))
        return by_item_number(items, lengths)

    evaluate(score, three, "test", 4)
    assert shown == [([[10, 6, 0, 0], [5, 7, 9, 11]], [2, 4])]


@pytest.mark.parametrize("split", ["valid", "test"])
def test_the_batch_changes_nothing(shop, monkeypatch, split):
    weight = torch.randn(31, 30, generator=torch.Generator().manual_seed(0))

    def score(items, lengths):
        return weight[items[torch.arange(len(items)), lengths - 1]]

    tables = []
    for batch in (1, 7, 512):
        monkeypatch.setattr(evaluation, "BATCH", batch)
        tables.append(evaluate(score, shop.sequences, split, 50))
    assert tables[0].equals(tables[1]) and tables[0].equals(tables[2])
    assert tables[0]["user"].is_monotonic_increasing


def test_random_scores_hit_as_often_as_chance(make_sequences):
    users = [[1 + (u + step) % 100 for step in range(3)] for u in range(4000)]
    found = make_sequences(users, n_items=100, negatives=20)
    generator = torch.Generator().manual_seed(0)
    table = evaluate(lambda items, _: torch.rand(len(items), 100, generator=generator), found, "test", 50)
    hit = {protocol: (table[protocol] <= 10).mean() for protocol in ("full_all", "full_unseen", "sampled_100")}
    # 10 / 100, 10 / 98 and 10 / 21, within four standard errors
    assert hit["full_all"] == pytest.approx(10 / 100, abs=0.019)
    assert hit["full_unseen"] == pytest.approx(10 / 98, abs=0.019)
    assert hit["sampled_100"] == pytest.approx(10 / 21, abs=0.032)


def test_equal_scores_give_no_credit(shop):
    table = evaluate(lambda items, _: torch.zeros(len(items), 30), shop.sequences, "test", 50)
    history = (shop.sequences.test - shop.sequences.offsets[:-1])[table["user"].tolist()]
    assert (table["full_all"] == 30).all()
    assert table["full_unseen"].tolist() == (30 - history).tolist()
    assert (table["sampled_100"] == 11).all()
