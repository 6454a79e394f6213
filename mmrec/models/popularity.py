"""Popularity: every user is offered what was chosen most often in training."""

from torch import Tensor


class Popularity:
    """Letters: B batch, T time, V items."""

    def __init__(self, *, training_items: Tensor, n_items: int):
        self.counts = training_items.bincount(minlength=n_items + 1)[1:].float()  # (V,)

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """items (B, T), lengths (B,) -> (B, V), the same for all; equal counts are ties."""
        return self.counts.expand(len(items), -1)
