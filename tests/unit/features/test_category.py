import numpy as np
import torch

from mmrec.features import similarity, store
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


def test_5000_labels_are_columns_of_one_file_and_one_row_of_the_overview(tmp_path):
    rows = [[f"label {(13 * item + step) % 5000}" for step in range(25)] for item in range(400)]
    matrix, vocabulary = multi_hot(rows)
    meta = {"encoder": {"name": "multi_hot"}, "counts": {"items": 400, "present": 400, "misses": {}}}
    features = store.Features(matrix, matrix.any(1), meta | {"vocabulary": vocabulary})
    store.save(tmp_path / "category.safetensors", features)
    assert (tmp_path / "category.safetensors").stat().st_size < 401 * 5000 * 4 + 200_000
    assert torch.equal(store.load(tmp_path / "category.safetensors").matrix, matrix)
    assert matrix.sum(1)[1:].eq(25).all() and vocabulary == sorted(f"label {number}" for number in range(5000))
    assert store.overview({"category": features}).loc["category", "width"] == 5000
    assert similarity.neighbours(features, [1], count=1).tolist() == [[1, 386]]  # 20 of 25 labels
