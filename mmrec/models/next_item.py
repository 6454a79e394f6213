"""Base of every neural model: loss of the next item in training, scores of all items afterwards."""

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor, nn

from mmrec.losses import Criterion
from mmrec.models.item_vectors import SCORES, ItemVectors


class NextItemModel(nn.Module):
    """A model that turns a sequence into a state at every position, and scores items by their product with it.

    A model gives `forward(items (B, T)) -> states (B, T, D)` and an embedding `item` of V + 1 rows, row 0 padding.
    """

    item: nn.Embedding

    def output_embedding(self) -> Tensor:
        """(V, D): a state's product with row j scores item j + 1."""
        table = self.item.table(SCORES) if isinstance(self.item, ItemVectors) else self.item.weight
        return table[1:]

    def shared(self) -> AbstractContextManager[None]:
        """Inside, several losses share the computed item vectors, if their gradients are summed by `backward`."""
        return self.item.once() if isinstance(self.item, ItemVectors) else nullcontext()

    def loss(self, items: Tensor, targets: Tensor, criterion: Criterion) -> dict[str, Tensor]:
        """items, targets (B, T), padded with 0 on the right -> `total`."""
        real = targets > 0
        return {"total": criterion(self(items)[real], self.output_embedding(), targets[real] - 1)}

    def tasks(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """The parts of a loss as they enter its total; here the next item alone."""
        return {"id": parts["total"]}

    @torch.inference_mode()
    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """Scores of the next item.

        Args:
            items: (B, T), padded with 0 on either side. lengths: (B,) items without padding.

        Returns:
            (B, V), column j is item j + 1.
        """
        return last(self(left_align(items)), lengths) @ self.output_embedding().T


def left_align(items: Tensor) -> Tensor:
    """(B, T) padded with 0 anywhere -> the same items in the same order, padded on the right."""
    return items.gather(1, (items == 0).byte().argsort(dim=1, stable=True))


def last(hidden: Tensor, lengths: Tensor) -> Tensor:
    """The state at each sequence's last real position: (B, T, D), (B,) -> (B, D)."""
    return hidden[torch.arange(len(lengths), device=hidden.device), lengths - 1]
