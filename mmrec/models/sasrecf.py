"""SASRecF: SASRec whose input is id and features fused early, E' = [E_id; E_1; ..; E_S] W + b.

A baseline of the S3-Rec paper (Zhou et al., CIKM 2020), which gives no equation; this is RecBole's. Early fusion: the
values contain features, which drown the ids according to NOVA and DIF-SR.
"""

import torch
from torch import Tensor, nn

from mmrec.config import models as config
from mmrec.models.layers import Transformer, initialise
from mmrec.models.modalities import Features, MultimodalModel, encoders


class SASRecF(MultimodalModel):
    """Letters: B batch, T time, D width of every stream, S modalities, V items."""

    def __init__(self, settings: config.SASRecF, *, n_items: int, max_length: int, features: Features):
        super().__init__()
        dim, modalities = settings.dim, settings.modalities
        self.item = nn.Embedding(n_items + 1, dim, padding_idx=0)
        # Encoded features are normalised; fresh id embeddings are fifty times smaller and would drown in `fuse`'s sum.
        self.item_norm = nn.LayerNorm(dim)
        self.keep(features, modalities)
        self.encoders = encoders(features, modalities, dim)
        self.fuse = nn.Linear((1 + len(modalities)) * dim, dim)
        self.transformer = Transformer(settings, max_length)
        self.apply(initialise)

    def forward(self, items: Tensor) -> Tensor:
        """items (B, T), right-padded with 0 -> states (B, T, D)."""
        streams = [self.item_norm(self.item(items)), *self.encoded(items)]
        return self.transformer(self.fuse(torch.cat(streams, -1)), items)  # (B, T, (1 + S) D) -> (B, T, D)
