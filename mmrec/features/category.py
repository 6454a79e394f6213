"""Categories to a multi-hot vector."""

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
