"""NOVA (Liu et al., AAAI 2021, arXiv 2103.03578): side information enters queries and keys, never values.

In each layer softmax(Q K^T / sqrt(d_k)) V, with Q = R W_Q, K = R W_K and V = R_id W_V. R fuses f_1..f_m: the id stream,
the positions and the features.

    sum     R = f_1 + .. + f_m
    concat  R = [f_1; ..; f_m] W + b
    gate    R = sum_i G_i f_i, G = sigmoid(F W_F), F the f_i as rows

The paper's NOVA is bidirectional, inside BERT4Rec. This one is causal, as in comparisons with SASRec (DIF-SR's, on
RecBole): models here differ by input, not by training.
"""

import torch
from torch import Tensor, nn

from mmrec.config import models as config
from mmrec.models.layers import Dropout, Positions, blocks, initialise
from mmrec.models.modalities import Features, MultimodalModel, encoders


class EmbeddingFusion(nn.Module):
    """m streams of one width -> one, by `sum`, `concat` or `gate`."""

    def __init__(self, *, kind: str, streams: int, dim: int):
        super().__init__()
        self.kind = kind
        if kind == "concat":
            self.mix = nn.Linear(streams * dim, dim)
        elif kind == "gate":
            self.gate = nn.Linear(dim, 1, bias=False)

    def forward(self, streams: list[Tensor]) -> Tensor:
        """m tensors (B, T, D) -> (B, T, D)."""
        if self.kind == "concat":
            return self.mix(torch.cat(streams, -1))
        stacked = torch.stack(streams, 2)  # (B, T, m, D)
        if self.kind == "gate":
            stacked = self.gate(stacked).sigmoid() * stacked
        return stacked.sum(2)


class NOVA(MultimodalModel):
    """Letters: B batch, T time, D width of every stream, m streams, V items."""

    def __init__(self, settings: config.NOVA, *, n_items: int, max_length: int, features: Features):
        super().__init__()
        dim, modalities = settings.dim, settings.modalities
        self.item = nn.Embedding(n_items + 1, dim, padding_idx=0)
        self.position = Positions(max_length, dim, start=settings.positions_from)
        self.norm = nn.LayerNorm(dim)
        self.position_norm = nn.LayerNorm(dim)  # all fused streams have one scale
        self.dropout = Dropout(settings.dropout)
        self.keep(features, modalities)
        self.encoders = encoders(features, modalities, dim)
        self.fusions = nn.ModuleList(
            EmbeddingFusion(kind=settings.fusion, streams=2 + len(modalities), dim=dim) for _ in range(settings.layers)
        )
        self.blocks = blocks(settings, max_length, dim)
        self.apply(initialise)

    def forward(self, items: Tensor) -> Tensor:
        """items (B, T), right-padded with 0 -> states (B, T, D)."""
        x = self.dropout(self.norm(self.item(items)))
        positions = self.position_norm(self.position(items)).expand_as(x)
        side = [positions, *self.encoded(items)]
        for fuse, block in zip(self.fusions, self.blocks, strict=True):
            x, _, _ = block(x, [], guide=fuse([x, *side]))
        return x
