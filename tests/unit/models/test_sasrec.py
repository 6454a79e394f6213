from functools import partial

import pytest
import torch

from mmrec.losses import softmax


@pytest.fixture
def make_sasrec(make):
    return partial(make, "sasrec")


def test_states_have_the_width_asked_for(make_sasrec):
    assert make_sasrec(dim=12, heads=3)(torch.tensor([[1, 2, 0]])).shape == (1, 3, 12)


def test_scores_are_products_with_the_items_own_embeddings(make_sasrec):
    model = make_sasrec()
    items = torch.tensor([[3, 1, 4, 0], [1, 5, 0, 0]])
    states = model(items)[[0, 1], [2, 1]]
    expected = torch.stack([states @ model.item.weight[item] for item in range(1, 21)], 1)
    torch.testing.assert_close(model.score(items, torch.tensor([3, 2])), expected)


def test_the_embedding_of_padding_stays_as_it_is(make_sasrec):
    model = make_sasrec().train()
    items = torch.tensor([[1, 2, 0], [3, 4, 5]])
    model.loss(items, torch.tensor([[2, 6, 0], [4, 5, 7]]), softmax)["total"].backward()
    assert (model.item.weight.grad[0] == 0).all()
    assert (model.item.weight.grad[1:] != 0).all()


@pytest.mark.parametrize(
    ("start", "places"),
    [("oldest", [[0, 1, 2], [0, 1, 2]]), ("latest", [[5, 6, 7], [6, 7, 7]])],  # the last is padding's
)
def test_positions_count_from_one_end(make_sasrec, start, places):
    model = make_sasrec(layers=1, positions_from=start)  # eight places
    items = torch.tensor([[1, 2, 3], [4, 5, 0]])
    transformer = model.transformer
    expected = transformer.norm(model.item.weight[items] + transformer.position.weight[torch.tensor(places)])
    seen = []
    transformer.blocks[0].register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    model(items)
    torch.testing.assert_close(seen[0], expected)
