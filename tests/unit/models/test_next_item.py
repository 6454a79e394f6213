import pytest
import torch

from mmrec.losses import softmax
from mmrec.models.next_item import NextItemModel, last, left_align


@pytest.mark.parametrize("row", [[1, 2, 3, 0, 0], [0, 0, 1, 2, 3], [0, 1, 2, 3, 0], [0, 1, 0, 2, 3]])
def test_left_align_keeps_the_order(row):
    assert left_align(torch.tensor([row])).tolist() == [[1, 2, 3, 0, 0]]


def test_left_align_does_not_sort_and_keeps_what_occurs_twice():
    items = torch.tensor([[0, 3, 1, 3], [0, 0, 0, 7], [9, 8, 7, 6], [0, 0, 0, 0]])
    assert left_align(items).tolist() == [[3, 1, 3, 0], [7, 0, 0, 0], [9, 8, 7, 6], [0, 0, 0, 0]]


def test_last_takes_each_sequences_last_real_state():
    hidden = torch.arange(12.0).view(2, 3, 2)
    assert last(hidden, torch.tensor([1, 3])).tolist() == [[0, 1], [10, 11]]


class Mirror(NextItemModel):
    """The state is the item's own embedding, so that each item asks for itself."""

    def __init__(self):
        super().__init__()
        self.item = torch.nn.Embedding(4, 3)
        with torch.no_grad():
            self.item.weight[1:] = torch.eye(3)

    def forward(self, items):
        return self.item(items)


def test_scores_are_products_with_the_output_embedding_which_leaves_padding_out():
    items = torch.tensor([[3, 2, 0], [0, 0, 1]])
    assert Mirror().score(items, torch.tensor([2, 1])).tolist() == [[0, 1, 0], [1, 0, 0]]


def test_the_loss_asks_for_every_target_and_for_no_padding():
    items, targets = torch.tensor([[1, 2, 0], [3, 0, 0]]), torch.tensor([[1, 3, 0], [3, 0, 0]])
    asked = []

    def criterion(hidden, table, wanted):
        asked.append((hidden.argmax(1).tolist(), tuple(table.shape), wanted.tolist()))
        return softmax(hidden, table, wanted)

    loss = Mirror().loss(items, targets, criterion)
    assert asked == [([0, 1, 2], (3, 3), [0, 2, 2])]
    # Two of three ask for themselves: -log(e / (e + 2)); one does not: -log(1 / (e + 2)).
    e = torch.tensor(1.0).exp()
    torch.testing.assert_close(loss["total"], (e + 2).log() - 2 / 3)
