"""Features of items as inputs of a model: kept beside the weights, turned into streams of vectors.

Letters: B batch, T time, V items, F feature width, D_s width of a stream.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from mmrec.models.next_item import NextItemModel

Features = dict[str, tuple[Tensor, Tensor]]
"""Modality -> (standardised features (V + 1, F) float32, presence (V + 1,) bool); row 0 is padding."""


class ModalityEncoder(nn.Module):
    """Frozen features of items -> a stream: linear, norm. Items that lack the modality share one learned vector."""

    def __init__(self, feature_dim: int, dim: int):
        super().__init__()
        self.project = nn.Linear(feature_dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.missing = nn.Parameter(torch.randn(dim))  # on the scale that the norm gives the others

    def forward(self, items: Tensor, features: Tensor, present: Tensor) -> Tensor:
        """items (B, T), features (V + 1, F), present (V + 1,) -> (B, T, D_s).

        Every position is projected, repeated items too: were each different item projected once, the size of the
        product, and with it the last bits of earlier positions, would depend on later items.
        """
        return self.norm(self.project(features[items])).where(present[items, None], self.missing)


class MultimodalModel(NextItemModel):
    """A next-item model that also sees features: the constructor calls `keep` and sets `encoders`."""

    encoders: nn.ModuleDict

    def keep(self, features: Features, modalities: Iterable[str]) -> None:
        """Hold on to the features of these modalities. They belong to the data set: neither trained nor saved."""
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


DISGUISE_SEED = 20240527


def disguised(features: Features, how: str) -> Features:
    """Features that say nothing of their items, to be compared with those that do; the same at every call.

    Args:
        how: `own`: as they are. `permuted`: each modality's vectors moved among the items that have it. `random`:
            normal vectors of the same size; of categories, as many as the item has, drawn evenly.
    """
    if how == "own":
        return features
    generator = torch.Generator().manual_seed(DISGUISE_SEED)
    changed = {}
    for modality, (matrix, present) in sorted(features.items()):
        rows = matrix[present].cpu()
        if how == "permuted":
            rows = rows[torch.randperm(len(rows), generator=generator)]
        elif modality == "category":
            rows = rows.gather(1, torch.rand(rows.shape, generator=generator).argsort(1))
        else:
            rows = torch.randn(rows.shape, generator=generator)
        changed[modality] = (matrix.clone().index_put_((present,), rows.to(matrix)), present)
    return changed
