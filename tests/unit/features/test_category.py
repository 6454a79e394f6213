import numpy as np
import torch

from mmrec.features.category import multi_hot


def test_by_hand():
    matrix, vocabulary = multi_hot([["shoes", "red"], [], np.array(["red"], dtype=object), ["hats", "hats"]])
    assert vocabulary == ["hats", "red", "shoes"]
    assert matrix.dtype == torch.float32
    assert matrix.tolist() == [[0, 1, 1], [0, 0, 0], [0, 1, 0], [1, 0, 0]]


def test_no_categories_at_all():
    matrix, vocabulary = multi_hot([[], []])
    assert matrix.shape == (2, 0)
    assert vocabulary == []
