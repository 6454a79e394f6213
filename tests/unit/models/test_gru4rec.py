from functools import partial

import pytest
import torch
from torch import nn


@pytest.fixture
def make_gru(make):
    return partial(make, "gru4rec")


def test_steps_are_the_papers_equations_with_the_reset_after_the_product(make_gru, random_items):
    model = make_gru(layers=1)
    items, gru = random_items(0), model.gru
    (w_r, w_z, w_h), (u_r, u_z, u_h) = gru.weight_ih_l0.chunk(3), gru.weight_hh_l0.chunk(3)
    (b_r, b_z, b_h), (c_r, c_z, c_h) = gru.bias_ih_l0.chunk(3), gru.bias_hh_l0.chunk(3)
    h = torch.zeros(5, 10)
    states = []
    for t in range(items.shape[1]):
        x = model.item.weight[items[:, t]]
        update = 1 - torch.sigmoid(x @ w_z.T + h @ u_z.T + b_z + c_z)  # the paper's z, equation 3
        reset = torch.sigmoid(x @ w_r.T + h @ u_r.T + b_r + c_r)  # equation 5
        candidate = torch.tanh(x @ w_h.T + b_h + reset * (h @ u_h.T + c_h))  # equation 4
        h = (1 - update) * h + update * candidate  # equation 2
        states.append(model.out(h))
    torch.testing.assert_close(model(items), torch.stack(states, 1), rtol=1e-5, atol=1e-5)


def test_layers_stand_on_each_other(make_gru, random_items):
    model = make_gru(layers=2)
    items = random_items(0)
    cells = [nn.GRUCell(8, 10), nn.GRUCell(10, 10)]
    for number, cell in enumerate(cells):
        suffix = f"_l{number}"
        parts = {name.removesuffix(suffix): value for name, value in model.gru.state_dict().items() if suffix in name}
        cell.load_state_dict(parts)
    h = [torch.zeros(5, 10), torch.zeros(5, 10)]
    for t in range(items.shape[1]):
        h[0] = cells[0](model.item.weight[items[:, t]], h[0])
        h[1] = cells[1](h[0], h[1])
    torch.testing.assert_close(model(items)[:, -1], model.out(h[1]), rtol=1e-5, atol=1e-5)


def test_a_sequence_may_be_of_any_length(make_gru, random_items):
    assert make_gru(dim=12)(random_items(0, (2, 100))).shape == (2, 100, 12)


@pytest.mark.filterwarnings("error")
def test_one_layer_with_dropout_is_nothing_to_warn_of(make_gru):
    make_gru(layers=1, dropout=0.5)
