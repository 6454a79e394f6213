import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from mmrec import config
from mmrec.models.markov import MarkovChain

# Training parts 1 2 3 | 1 2 | 1 3 2 | 5; what follows the first three is for validation and test.
USERS = [[1, 2, 3, 4, 6], [1, 2, 4, 6], [1, 3, 2, 6, 4], [5]]
POPULARITY = np.array([3, 3, 2, 0, 1, 0, 0, 0]) / 9


def chain(sequences, backoff):
    return MarkovChain(config.MarkovChain(backoff=backoff), sequences=sequences)


def scores(model, *history):
    return model.score(torch.tensor([history]), torch.tensor([sum(item > 0 for item in history)]))[0].tolist()


def test_shares_of_what_followed_by_hand(make_sequences):
    model = chain(make_sequences(USERS, 8), 0.0)
    assert scores(model, 1) == pytest.approx([0, 2 / 3, 1 / 3, 0, 0, 0, 0, 0])
    assert scores(model, 2) == pytest.approx([0, 0, 1, 0, 0, 0, 0, 0])
    assert scores(model, 3) == pytest.approx([0, 1, 0, 0, 0, 0, 0, 0])


def test_the_last_item_alone_speaks(make_sequences):
    model = chain(make_sequences(USERS, 8), 0.1)
    assert scores(model, 2, 3, 1) == scores(model, 1)


def test_backoff_mixes_in_popularity(make_sequences):
    model = chain(make_sequences(USERS, 8), 0.1)
    followed = np.array([0, 2 / 3, 1 / 3, 0, 0, 0, 0, 0])
    assert scores(model, 1) == pytest.approx(0.9 * followed + 0.1 * POPULARITY)
    assert sum(scores(model, 1)) == pytest.approx(1)


@pytest.mark.parametrize("item", [4, 5, 8])
def test_where_nothing_ever_followed_popularity_decides(make_sequences, item):
    model = chain(make_sequences(USERS, 8), 0.1)
    assert scores(model, item) == pytest.approx(0.1 * POPULARITY)


def test_one_users_last_item_is_not_followed_by_the_nexts_first(make_sequences):
    model = chain(make_sequences([[1], [2], [3]], 8), 0.0)
    assert scores(model, 1) == scores(model, 2) == [0] * 8


def test_padding_on_either_side_changes_nothing(make_sequences):
    model = chain(make_sequences(USERS, 8), 0.1)
    assert scores(model, 0, 0, 2, 1) == scores(model, 2, 1, 0, 0) == scores(model, 2, 1)


def test_validation_and_test_choices_are_not_counted(make_sequences):
    other = [[1, 2, 3, 7, 8], [1, 2, 8, 7], [1, 3, 2, 7, 8], [5]]
    one, two = (chain(make_sequences(users, 8), 0.1) for users in (USERS, other))
    for item in range(1, 9):
        assert scores(one, item) == scores(two, item)


@given(
    st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=9), min_size=1, max_size=8),
    st.sampled_from([0.0, 0.05, 0.999]),
)
def test_it_agrees_with_dense_matrices(make_sequences, users, backoff):
    model = chain(make_sequences(users, 11), backoff)
    followed, chosen = np.zeros((12, 12)), np.zeros(12)
    for user in users:
        training = user[:-2] if len(user) >= 3 else user
        for before, after in zip(training, training[1:], strict=False):
            followed[before, after] += 1
        for item in training:
            chosen[item] += 1
    share = followed / followed.sum(1, keepdims=True).clip(min=1)
    expected = (1 - backoff) * share + backoff * chosen / chosen.sum()
    items = torch.arange(1, 12)[:, None]
    found = model.score(items, torch.ones(11, dtype=torch.int64))
    assert (found.shape, found.dtype) == ((11, 11), torch.float32)
    np.testing.assert_allclose(found, expected[1:, 1:], rtol=1e-5, atol=1e-6)
