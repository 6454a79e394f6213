"""FDSA (Zhang et al., IJCAI 2019): one transformer reads the items, another their features; the last states meet.

Features A_1..A_S of an item are combined by vanilla attention, a = softmax(W_f A + b_f), f = sum_s a_s A_s; then
F_sf = [O_items; O_features] W_sf + b_sf, and an item's score is the product of F_sf and its embedding.
"""

import torch
from torch import Tensor, nn

from mmrec.config import models as config
from mmrec.models.layers import Transformer, initialise
from mmrec.models.modalities import Features, MultimodalModel, encoders


class FDSA(MultimodalModel):
    """Letters: B batch, T time, D width of every stream, S modalities, V items."""

    def __init__(self, settings: config.FDSA, *, n_items: int, max_length: int, features: Features):
        super().__init__()
        dim, modalities = settings.dim, settings.modalities  # at least one
        self.item = nn.Embedding(n_items + 1, dim, padding_idx=0)
        self.keep(features, modalities)
        self.encoders = encoders(features, modalities, dim)
        self.energy = nn.Linear(dim, 1, bias=False)  # softmax would take b_f, the same for all, out again
        self.item_transformer = Transformer(settings, max_length)
        self.feature_transformer = Transformer(settings, max_length)
        self.fuse = nn.Linear(2 * dim, dim)
        self.apply(initialise)

    def forward(self, items: Tensor) -> Tensor:
        """items (B, T), right-padded with 0 -> states (B, T, D)."""
        of_items = self.item_transformer(self.item(items), items)
        of_features = self.feature_transformer(self._combined(items), items)
        return self.fuse(torch.cat([of_items, of_features], -1))  # (B, T, 2 D) -> (B, T, D)

    def _combined(self, items: Tensor) -> Tensor:
        """Vanilla attention over modalities: (B, T) -> (B, T, D)."""
        streams = torch.stack(self.encoded(items), 2)  # (B, T, S, D)
        return (self.energy(streams).softmax(2) * streams).sum(2)
