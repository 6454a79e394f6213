from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

WIDTH, WINDOW, VERTICAL, HORIZONTAL = 8, 5, 2, 3


@pytest.fixture
def make_caser(make):
    return partial(make, "caser", window=WINDOW, vertical=VERTICAL, horizontal=HORIZONTAL)


def slow_state(model, items):
    """z of one window (L,) as the authors compute it, with convolutions over a picture of one channel."""
    items = items[items > 0]
    picture = F.pad(model.item(items), (0, 0, WINDOW - len(items), 0))[None, None]  # (1, 1, L, D)
    vertical = nn.Conv2d(1, VERTICAL, (WINDOW, 1))
    vertical.load_state_dict({"weight": model.vertical.weight[:, None, :, None], "bias": model.vertical.bias})
    found = [vertical(picture).flatten()]
    for height in range(1, WINDOW + 1):
        look, ours = nn.Conv2d(1, HORIZONTAL, (height, WIDTH)), model.horizontal[height - 1]
        # Ours reads an unfolded window, (D, h); a picture has the h rows first.
        weight = ours.weight.unflatten(1, (WIDTH, height)).transpose(1, 2)[:, None]
        look.load_state_dict({"weight": weight, "bias": ours.bias})
        seen = look(picture).relu().squeeze(3)  # (1, horizontal, L - h + 1)
        found.append(F.max_pool1d(seen, seen.shape[2]).flatten())
    return model.out(torch.cat(found)).relu()


@torch.no_grad()
def test_every_state_is_that_of_the_window_that_ends_there(make_caser, random_items):
    model, items = make_caser(), random_items(0, (2, 9))
    states = model(items)
    assert (states[..., :-1] > 0).float().mean() > 0.2  # or ReLU hides all
    for row in range(2):
        for end in range(9):
            window = F.pad(items[row], (WINDOW - 1, 0))[end : end + WINDOW]
            torch.testing.assert_close(states[row, end, :-1], slow_state(model, window), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_items_before_the_window_change_no_bit(make_caser, random_items):
    model, items = make_caser(), random_items(0)
    for first in range(4):
        changed = torch.cat([random_items(1)[:, :first], items[:, first:]], 1)
        assert torch.equal(model(changed)[:, first + WINDOW - 1 :], model(items)[:, first + WINDOW - 1 :])
    assert not torch.equal(model(random_items(1)), model(items))


def test_scores_are_those_of_the_output_weights_plus_a_bias_each(make_caser, random_items):
    model, items = make_caser(), random_items(0, (3, 6))
    z = model(items)[:, -1, :-1]
    expected = z @ model.next.weight.T + model.next.bias
    torch.testing.assert_close(model.score(items, torch.full((3,), 6)), expected)
    assert model.next.bias.abs().min() > 0


def test_a_window_of_one_item_sees_that_item_alone(make_caser, random_items):
    model = make_caser(window=1)
    alone = model(random_items(0)[:, 3:4])
    torch.testing.assert_close(model(random_items(0))[:, 3:4], alone)


def test_the_embedding_of_padding_is_never_used(make_caser):
    model = make_caser().train()
    states = model(torch.tensor([[1, 2, 3, 0, 0]]))[:, :3]
    [gradient] = torch.autograd.grad(states.sum(), model.item.weight)
    with torch.no_grad():
        model.item.weight[0] += 1
    assert torch.equal(model(torch.tensor([[1, 2, 3, 0, 0]]))[:, :3], states)
    assert (gradient[0] == 0).all() and (gradient[1:4].abs().amax(1) > 0).all()
