import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from mmrec import losses

N, V, D = 7, 11, 4


def problem(seed=0, n=N, dtype=torch.double):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, D, generator=generator, dtype=dtype).requires_grad_()
    table = torch.randn(V, D, generator=generator, dtype=dtype).requires_grad_()
    return hidden, table, torch.randint(V, (n,), generator=generator)


# --- next item ---------------------------------------------------------------------------------------------------

ROW = V * 8  # bytes of one row of logits


@pytest.mark.parametrize("chunk", [1, ROW, 2 * ROW, 3 * ROW + 5, N * ROW, 2**25])
@pytest.mark.parametrize("upstream", [1.0, -2.5])
def test_next_item_is_cross_entropy_in_value_and_gradients_whatever_the_chunk(monkeypatch, chunk, upstream):
    monkeypatch.setattr(losses, "CHUNK_BYTES", chunk)
    hidden, table, targets = problem()
    expected = F.cross_entropy(hidden @ table.T, targets)
    wanted = torch.autograd.grad(upstream * expected, [hidden, table])
    found = losses.next_item(hidden, table, targets)
    given = torch.autograd.grad(upstream * found, [hidden, table])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(given, wanted)


def test_next_item_of_one_position():
    hidden, table, targets = problem(n=1)
    torch.testing.assert_close(losses.next_item(hidden, table, targets), F.cross_entropy(hidden @ table.T, targets))


def test_next_item_passes_a_numerical_check_of_its_gradients(monkeypatch):
    monkeypatch.setattr(losses, "CHUNK_BYTES", 2 * ROW)
    hidden, table, targets = problem()
    assert torch.autograd.gradcheck(lambda h, t: losses.next_item(h, t, targets), (hidden, table))


def test_next_item_of_equal_scores_is_the_logarithm_of_the_catalogue():
    hidden, table = torch.zeros(3, D), torch.randn(V, D)
    assert losses.next_item(hidden, table, torch.tensor([0, 5, 10])).item() == pytest.approx(math.log(V))


def test_next_item_survives_scores_far_from_zero():
    hidden = torch.tensor([[1000.0], [-1000.0]], requires_grad=True)
    table = torch.tensor([[1.0], [0.0], [-1.0]], requires_grad=True)
    loss = losses.next_item(hidden, table, torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(1000)  # 0 for the right answer, 2000 for the wrong one
    assert hidden.grad.isfinite().all() and table.grad.isfinite().all()


@given(st.integers(0, 1000))
def test_moving_all_scores_of_a_position_changes_nothing(seed):
    hidden, table, targets = problem(seed)
    shifted = torch.cat([table, torch.ones(V, 1, dtype=torch.double)], 1)  # one more column adds the same to all items
    more = torch.cat([hidden, torch.full((N, 1), 3.0, dtype=torch.double)], 1)
    torch.testing.assert_close(losses.next_item(more, shifted, targets), losses.next_item(hidden, table, targets))


class _Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return result


def test_next_item_never_holds_all_logits(monkeypatch):
    n, v = 400, 300
    monkeypatch.setattr(losses, "CHUNK_BYTES", 10 * v * 4)
    hidden, table = torch.randn(n, 2, requires_grad=True), torch.randn(v, 2, requires_grad=True)
    targets = torch.randint(v, (n,))
    with _Largest() as largest:
        losses.next_item(hidden, table, targets).backward()
    assert largest.elements == 10 * v
    with _Largest() as largest:
        F.cross_entropy(hidden @ table.T, targets).backward()
    assert largest.elements == n * v  # what the measuring sees where they are held


def test_next_item_keeps_nothing_of_the_size_of_the_logits_for_the_backward_pass():
    kept = []
    hidden, table, targets = problem()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        losses.next_item(hidden, table, targets)
    assert sorted(kept) == sorted([N * D, V * D])


# --- regression --------------------------------------------------------------------------------------------------

PREDICTED = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0]])
TARGET = torch.tensor([[4.0, 3.0], [-2.0, 0.0], [0.0, 0.0]])


def test_cosine_by_hand():
    # (12 + 12) / 25 = 0.96 -> 0.04; opposite -> 2
    assert losses.regression(PREDICTED[:1], TARGET[:1], torch.tensor([True]), "cosine").item() == pytest.approx(0.04)
    both = losses.regression(PREDICTED, TARGET, torch.tensor([True, True, False]), "cosine")
    assert both.item() == pytest.approx((0.04 + 2) / 2)


def test_mse_by_hand():
    # (1 + 1) / 2 = 1; (9 + 0) / 2 = 4.5; (1 + 1) / 2 = 1
    each = [losses.regression(PREDICTED[[i]], TARGET[[i]], torch.tensor([True]), "mse").item() for i in range(3)]
    assert each == pytest.approx([1, 4.5, 1])
    assert losses.regression(PREDICTED, TARGET, torch.tensor([True, True, False]), "mse").item() == pytest.approx(2.75)


def test_cosine_looks_at_directions_alone():
    present = torch.tensor([True, True, False])
    near, far = (losses.regression(PREDICTED * size, TARGET, present, "cosine") for size in (1, 100))
    torch.testing.assert_close(near, far)


# --- categories --------------------------------------------------------------------------------------------------


def test_multi_label_by_hand():
    logits = torch.tensor([[0.0, math.log(3)], [-math.log(3), 0.0]])  # chances 1/2, 3/4; 1/4, 1/2
    target = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    first = (math.log(2) + math.log(4)) / 2
    second = (math.log(4) + math.log(2)) / 2
    one = losses.multi_label(logits, target, torch.tensor([True, False]))
    both = losses.multi_label(logits, target, torch.tensor([True, True]))
    assert one.item() == pytest.approx(first)
    assert both.item() == pytest.approx((first + second) / 2)


# --- what is missing contributes nothing -------------------------------------------------------------------------

AUXILIARY = {
    "cosine": lambda p, t, present: losses.regression(p, t, present, "cosine"),
    "mse": lambda p, t, present: losses.regression(p, t, present, "mse"),
    "multi_label": losses.multi_label,
}


@pytest.fixture(params=AUXILIARY)
def auxiliary(request):
    return AUXILIARY[request.param]


@given(present=st.lists(st.booleans(), min_size=6, max_size=6).filter(any), seed=st.integers(0, 100))
@pytest.mark.parametrize("loss", AUXILIARY.values(), ids=AUXILIARY.keys())
def test_missing_targets_are_as_if_they_were_not_there(loss, present, seed):
    generator = torch.Generator().manual_seed(seed)
    predicted = torch.randn(6, 3, generator=generator, dtype=torch.double).requires_grad_()
    target = torch.randint(2, (6, 3), generator=generator).double()
    target[:, 0] = 1  # a direction
    present = torch.tensor(present)
    value = loss(predicted, target.where(present[:, None], 0), present)
    [gradient] = torch.autograd.grad(value, predicted)
    alone = predicted.detach()[present].requires_grad_()
    expected = loss(alone, target[present], torch.ones(len(alone), dtype=torch.bool))
    [wanted] = torch.autograd.grad(expected, alone)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient[present], wanted)
    assert (gradient[~present] == 0).all()


def test_where_nothing_is_present_the_loss_is_0_and_moves_nothing(auxiliary):
    predicted = torch.randn(4, 3, requires_grad=True)
    value = auxiliary(predicted, torch.zeros(4, 3), torch.zeros(4, dtype=torch.bool))
    value.backward()
    assert value.item() == 0
    assert (predicted.grad == 0).all()


def test_a_prediction_of_zeros_has_finite_gradients(auxiliary):
    predicted = torch.zeros(2, 3, requires_grad=True)
    auxiliary(predicted, torch.eye(2, 3), torch.tensor([True, False])).backward()
    assert predicted.grad.isfinite().all()
