import numpy as np
import torch

from mmrec.features.controls import rarest
from mmrec.features.extract import multi_hot


def test_multi_hot_by_hand():
    matrix, vocabulary = multi_hot([["shoes", "red"], [], np.array(["red"], dtype=object), ["hats", "hats"]])
    assert vocabulary == ["hats", "red", "shoes"]
    assert matrix.dtype == torch.float32
    assert matrix.tolist() == [[0, 0, 0], [0, 1, 1], [0, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_items_without_any_categories():
    matrix, vocabulary = multi_hot([[], []])
    assert matrix.shape == (3, 0)
    assert vocabulary == []


def test_the_rarest_category_of_an_item_stays():
    matrix = torch.tensor([[1.0, 1, 0, 1], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 1, 1, 1]])
    # Items of each column: 3, 3, 1, 2; of the equally rare first two the first stays.
    assert rarest(matrix).tolist() == [[0, 0, 0, 1], [1, 0, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 0]]


def test_the_only_category_of_an_item_stays():
    one = rarest((torch.rand(50, 9, generator=torch.Generator().manual_seed(0)) < 0.3).float())
    assert set(one.sum(1).tolist()) == {0.0, 1.0}
    torch.testing.assert_close(rarest(one), one)
