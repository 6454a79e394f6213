"""Features of items as inputs of a model: buffers beside the weights, encoded as streams.

Letters: B batch, T time, V items, F feature width, D_s width of a stream.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mmrec.models.item_vectors import Features
from mmrec.models.next_item import NextItemModel


class ModalityEncoder(nn.Module):
    """Frozen features of items -> a stream: linear, norm. Items that lack the modality share one learned vector."""

    def __init__(self, feature_dim: int, dim: int):
        super().__init__()
        self.project = nn.Linear(feature_dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.missing = nn.Parameter(torch.randn(dim))  # on the scale that the norm gives the others

    def forward(self, items: Tensor, features: Tensor, present: Tensor) -> Tensor:
        """items (B, T), features (V + 1, F), present (V + 1,) -> (B, T, D_s).

        Every position is projected, repeated items too. Projecting distinct items once would let later items change the
        size of the product, and so the last bits of earlier positions.
        """
        return self.norm(self.project(features[items])).where(present[items, None], self.missing)


class MultimodalModel(NextItemModel):
    """A next-item model that also sees features: the constructor calls `keep` and sets `encoders`."""

    encoders: nn.ModuleDict

    def keep(self, features: Features, modalities: Iterable[str]) -> None:
        """Register the features of these modalities as buffers, neither trained nor saved: they belong to the data."""
        for modality in modalities:
            for name, tensor in zip(("features", "present"), features[modality], strict=True):
                self.register_buffer(f"{modality}_{name}", tensor, persistent=False)

    def _features(self, modality: str) -> tuple[Tensor, Tensor]:
        return self.get_buffer(f"{modality}_features"), self.get_buffer(f"{modality}_present")

    def encoded(self, items: Tensor) -> list[Tensor]:
        """items (B, T) -> a stream (B, T, D_s) of each modality that has an encoder."""
        return [encoder(items, *self._features(modality)) for modality, encoder in self.encoders.items()]


def encoders(features: Features, modalities: Iterable[str], dim: int) -> nn.ModuleDict:
    """A fresh encoder to width `dim` for each modality."""
    return nn.ModuleDict({m: ModalityEncoder(features[m][0].shape[1], dim) for m in modalities})
