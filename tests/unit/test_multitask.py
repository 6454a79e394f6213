import pytest
import torch
from torch import nn

from mmrec.multitask import TaskGradients


class Two(nn.Module):
    """Two tasks on one shared weight (2,), each with a weight of its own."""

    def __init__(self):
        super().__init__()
        self.shared = nn.Parameter(torch.zeros(2))
        self.first, self.second = nn.Parameter(torch.ones(1)), nn.Parameter(torch.ones(1))

    def tasks(self, one, other):
        """Losses whose gradients on the shared weight are as given."""
        return {
            "a": self.shared @ torch.tensor(one) + 3 * self.first.sum(),
            "b": self.shared @ torch.tensor(other) + 5 * self.second.sum(),
        }


def apart(model, project=False, seed=0):
    return TaskGradients(model, project=project, generator=torch.Generator().manual_seed(seed))


def test_watched_is_the_gradient_of_the_sum():
    model = Two()
    found = apart(model)
    found.add(model.tasks([1.0, 0.0], [-1.0, 2.0]))
    found.settle()
    assert model.shared.grad.tolist() == [0, 2]
    assert (model.first.grad.item(), model.second.grad.item()) == (3, 5)


def test_groups_of_a_batch_add_up():
    model = Two()
    found = apart(model)
    found.add(model.tasks([1.0, 0.0], [0.0, 1.0]))
    found.add(model.tasks([2.0, 1.0], [0.0, 1.0]))
    noted = found.settle()
    assert model.shared.grad.tolist() == [3, 3]
    assert noted["cos_a_b"] == pytest.approx(1 / 10**0.5)  # (3, 1) and (0, 2)


def test_batches_do_not():
    model = Two()
    found = apart(model)
    for _ in range(2):
        found.add(model.tasks([1.0, 0.0], [0.0, 1.0]))
        found.settle()
    assert model.shared.grad.tolist() == [1, 1]


@pytest.mark.parametrize(("other", "cosine"), [([2.0, 0.0], 1), ([0.0, 3.0], 0), ([-1.0, 1.0], -(0.5**0.5))])
def test_cosines_are_over_what_tasks_share(other, cosine):
    model = Two()
    found = apart(model)
    found.add(model.tasks([1.0, 0.0], other))
    noted = found.settle()
    assert noted == {"cos_a_b": pytest.approx(cosine, abs=1e-6), "conflict_a_b": float(cosine < 0)}


def test_projection_removes_the_conflicting_part():
    # a = (1, 0), b = (-1, 1): a - (a.b / b.b) b = (1/2, 1/2); b - (b.a / a.a) a = (0, 1). Their own weights, 3 and 5,
    # are part of the gradients, as in the paper: of a they add 9 to a.a, of b 25 to b.b.
    model = Two()
    found = apart(model, project=True)
    found.add(model.tasks([1.0, 0.0], [-1.0, 1.0]))
    found.settle()
    a, b = torch.tensor([1.0, 0, 3, 0]), torch.tensor([-1.0, 1, 0, 5])
    expected = a - (a @ b) / (b @ b) * b + b - (a @ b) / (a @ a) * a
    given = torch.cat([model.shared.grad, model.first.grad, model.second.grad])
    torch.testing.assert_close(given, expected)
    assert (a @ given) >= 0 and (b @ given) >= 0  # neither task is harmed


def test_agreeing_tasks_are_not_projected():
    model = Two()
    found = apart(model, project=True)
    found.add(model.tasks([1.0, 0.0], [1.0, 1.0]))
    found.settle()
    assert model.shared.grad.tolist() == [2, 1]


class Three(nn.Module):
    def __init__(self):
        super().__init__()
        self.shared = nn.Parameter(torch.zeros(3))


def test_the_order_of_projections_is_drawn():
    conflicting = [torch.tensor(v) for v in ([1.0, -2.0, 0.5], [-1.0, 1.0, 0.2], [0.3, 1.0, -2.0])]
    found = set()
    for seed in range(10):
        model = Three()
        tasks = apart(model, project=True, seed=seed)
        tasks.add({str(number): model.shared @ vector for number, vector in enumerate(conflicting)})
        tasks.settle()
        found.add(tuple(model.shared.grad.tolist()))
    assert len(found) > 1


def test_a_task_that_reaches_nothing_of_a_parameter_counts_as_zero_there():
    model = Two()
    found = apart(model)
    found.add({"a": model.first.sum() * 2})
    assert found.settle() == {}
    assert model.shared.grad.tolist() == [0, 0] and model.first.grad.item() == 2
