import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmrec import config
from mmrec.evaluation import evaluate
from mmrec.models import item_knn
from mmrec.models.item_knn import ItemKNN

# Training parts 1 2 | 1 2 3 | 2 3; what follows them is for validation and test.
USERS = [[1, 2, 4, 5], [1, 2, 3, 4, 5], [2, 3, 5, 4]]
OFTEN = 2 / math.sqrt(6)  # items 1 and 2, likewise 2 and 3: together with two users, alone with 2 and 3
ONCE = 1 / 2  # items 1 and 3: together with one user, alone with 2 each


def knn(sequences, neighbours, shrinkage, decay):
    return ItemKNN(config.ItemKNN(neighbours=neighbours, shrinkage=shrinkage, decay=decay), sequences=sequences)


def scores(model, *history):
    return model.score(torch.tensor([history]), torch.tensor([sum(item > 0 for item in history)]))[0].tolist()


def test_cosine_by_hand(make_sequences):
    model = knn(make_sequences(USERS, 8), 5, 0.0, 1.0)
    assert scores(model, 1) == pytest.approx([0, OFTEN, ONCE, 0, 0, 0, 0, 0])
    assert scores(model, 2) == pytest.approx([OFTEN, 0, OFTEN, 0, 0, 0, 0, 0])
    assert scores(model, 1, 3) == pytest.approx([ONCE, 2 * OFTEN, ONCE, 0, 0, 0, 0, 0])


def test_what_lies_further_back_counts_less(make_sequences):
    model = knn(make_sequences(USERS, 8), 5, 0.0, 0.5)
    assert scores(model, 1, 3) == pytest.approx([ONCE, 1.5 * OFTEN, ONCE / 2, 0, 0, 0, 0, 0])
    assert scores(model, 1, 4, 4) == pytest.approx([0, OFTEN / 4, ONCE / 4, 0, 0, 0, 0, 0])


def test_with_decay_near_0_the_last_item_alone_speaks(make_sequences):
    model = knn(make_sequences(USERS, 8), 5, 0.0, 1e-9)
    assert scores(model, 1, 2, 3) == pytest.approx(scores(model, 3), abs=1e-6)


def test_shrinkage_by_hand(make_sequences):
    model = knn(make_sequences(USERS, 8), 5, 3.0, 1.0)
    assert scores(model, 1) == pytest.approx([0, 2 / (math.sqrt(6) + 3), 1 / (2 + 3), 0, 0, 0, 0, 0])


def test_each_item_passes_on_to_its_nearest_alone(make_sequences):
    model = knn(make_sequences(USERS, 8), 1, 0.0, 1.0)
    assert scores(model, 1) == pytest.approx([0, OFTEN, 0, 0, 0, 0, 0, 0])
    assert scores(model, 2) == pytest.approx([OFTEN, 0, 0, 0, 0, 0, 0, 0])  # 1 and 3 are equally near
    assert scores(model, 3) == pytest.approx([0, OFTEN, 0, 0, 0, 0, 0, 0])


def test_a_user_who_chose_twice_is_one_user(make_sequences):
    twice = [[1, 2, 1, 4, 5], *USERS[1:]]
    once, again = (knn(make_sequences(users, 8), 5, 1.0, 1.0) for users in (USERS, twice))
    assert torch.equal(once.similarity, again.similarity)


def test_padding_on_either_side_changes_nothing(make_sequences):
    model = knn(make_sequences(USERS, 8), 5, 1.0, 0.7)
    assert scores(model, 0, 0, 1, 3) == scores(model, 1, 3, 0, 0) == scores(model, 1, 3)


def test_validation_and_test_choices_are_not_counted(make_sequences):
    other = [[*user[:-2], 7, 6] for user in USERS]
    one, two = (knn(make_sequences(users, 8), 5, 1.0, 0.7) for users in (USERS, other))
    assert torch.equal(one.nearest, two.nearest) and torch.equal(one.similarity, two.similarity)
    assert not torch.isin(one.nearest, torch.tensor([4, 5])).any()
    # Item 4 or 5, the target of all, was never chosen in training: all that never were tie with it.
    assert evaluate(one.score, make_sequences(USERS, 8), "test", 50)["full_all"].tolist() == [8, 8, 8]


def dense(users, n_items, neighbours, shrinkage, decay, history):
    """The same by its definition, with matrices of everything."""
    chosen = np.zeros((len(users), n_items + 1))
    for row, user in enumerate(users):
        chosen[row, user[:-2] if len(user) >= 3 else user] = 1
    together = chosen.T @ chosen
    norm = np.sqrt(np.diag(together))
    with np.errstate(invalid="ignore"):
        similarity = np.nan_to_num(together / (np.outer(norm, norm) + shrinkage))
    np.fill_diagonal(similarity, 0)
    for row in similarity:
        row[np.argsort(-row, kind="stable")[neighbours:]] = 0
    return sum(decay**steps * similarity[item] for steps, item in enumerate(reversed(history)))[1:]


@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=7, unique=True), min_size=1, max_size=8),
    st.integers(1, 12),
    st.sampled_from([0.0, 2.5]),
    st.sampled_from([0.3, 1.0]),
)
def test_it_agrees_with_dense_matrices(make_sequences, users, neighbours, shrinkage, decay):
    model = knn(make_sequences(users, 11), neighbours, shrinkage, decay)
    for user in users:
        expected = dense(users, 11, neighbours, shrinkage, decay, user)
        np.testing.assert_allclose(scores(model, *user), expected, rtol=1e-5, atol=1e-6)


def test_in_pieces_it_is_the_same(make_sequences, monkeypatch):
    generator = np.random.default_rng(0)
    users = [generator.permutation(30)[: generator.integers(3, 12)] + 1 for _ in range(40)]
    found = make_sequences([user.tolist() for user in users], 30)
    whole = knn(found, 4, 1.0, 0.5)
    monkeypatch.setattr(item_knn, "CHUNK", 7)
    pieces = knn(found, 4, 1.0, 0.5)
    assert torch.equal(whole.nearest, pieces.nearest) and torch.equal(whole.similarity, pieces.similarity)


def test_a_batch_scores_as_one_by_one(make_sequences):
    model = knn(make_sequences(USERS, 8), 5, 1.0, 0.7)
    found = model.score(torch.tensor([[1, 2, 3], [2, 0, 0], [1, 3, 0]]), torch.tensor([3, 1, 2]))
    assert (found.shape, found.dtype) == ((3, 8), torch.float32)
    assert found.tolist() == [scores(model, 1, 2, 3), scores(model, 2), scores(model, 1, 3)]
