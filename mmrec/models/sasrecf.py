"""SASRecF: SASRec whose input is id and features fused early, E' = [E_id; E_1; ..; E_S] W + b.

The baseline of the S3-Rec paper (Zhou et al., CIKM 2020), which names it and gives no equation; the equation is that of
RecBole. "Early": features become part of what attention moves, which NOVA and DIF-SR hold to drown the ids.
"""

import torch
from torch import Tensor, nn

from mmrec.models.layers import Transformer, initialise
from mmrec.models.modalities import Features, MultimodalModel, encoders


class SASRecF(MultimodalModel):
    """Letters: B batch, T time, D width of every stream, S modalities, V items.

    Args:
        positions_from: where positions are counted from, see `Positions`.
        features: see `Features`. modalities: those that are used.
    """

    def __init__(
        self,
        *,
        n_items: int,
        max_length: int,
        features: Features,
        dim: int,
        layers: int,
        heads: int,
        dropout: float,
        positions_from: str,
        modalities: tuple[str, ...],
    ):
        super().__init__()
        self.item = nn.Embedding(n_items + 1, dim, padding_idx=0)
        # Features come normalised; fresh ids, fifty times as small, would go under in the sum that `fuse` is.
        self.item_norm = nn.LayerNorm(dim)
        self.keep(features, modalities)
        self.encoders = encoders(features, modalities, dim)
        self.fuse = nn.Linear((1 + len(modalities)) * dim, dim)
        shape = {"dim": dim, "layers": layers, "heads": heads, "dropout": dropout, "max_length": max_length}
        self.transformer = Transformer(**shape, positions_from=positions_from)
        self.apply(initialise)

    def forward(self, items: Tensor) -> Tensor:
        """items (B, T), right-padded with 0 -> states (B, T, D)."""
        streams = [self.item_norm(self.item(items)), *self.encoded(items)]
        return self.transformer(self.fuse(torch.cat(streams, -1)), items)  # (B, T, (1 + S) D) -> (B, T, D)
