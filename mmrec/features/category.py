"""Categories as a multi-hot matrix, or as one category an item."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor


def multi_hot(categories: Sequence[Iterable[str]]) -> tuple[Tensor, list[str]]:
    """One row an item, one column a category, 1 where the item is in it.

    Returns:
        Matrix (n, c) float32 and the c categories in alphabetical order, one a column. An item without categories
        has a row of zeros.
    """
    vocabulary = sorted({category for row in categories for category in row})
    column = {category: index for index, category in enumerate(vocabulary)}
    matrix = torch.zeros(len(categories), len(vocabulary))
    for row, chosen in enumerate(categories):
        for category in chosen:
            matrix[row, column[category]] = 1
    return matrix, vocabulary


def rarest(matrix: Tensor) -> Tensor:
    """Each item's rarest category; in a tree of categories this is the innermost.

    This is the traditional encoding by one label. It keeps the columns of the multi-hot matrix, so that both models
    have the same size. The first column wins a tie.

    Args:
        matrix: multi-hot (n, c).

    Returns:
        (n, c) with a single 1 in each row that has any.
    """
    order = matrix.sum(0).argsort(stable=True)  # columns, the rarest first
    has = matrix[:, order] > 0
    kept = has & (has.cumsum(1) == 1)
    return torch.zeros_like(matrix).index_copy_(1, order, kept.to(matrix))
