"""SASRec (Kang and McAuley, ICDM 2018): causal self-attention over item ids and positions.

Trained here with cross-entropy over the whole catalogue, with which it overtakes its successors (arXiv 2309.07602).
"""

import torch
from torch import Tensor, nn

from mmrec import losses
from mmrec.models.layers import Block, initialise, last


class SASRec(nn.Module):
    """Letters: B batch, T time, D width, V items."""

    def __init__(self, *, n_items: int, max_length: int, dim: int, layers: int, heads: int, dropout: float):
        super().__init__()
        self.item = nn.Embedding(n_items + 1, dim, padding_idx=0)
        self.position = nn.Embedding(max_length, dim)
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(stream_dims=[dim], heads=heads, dropout=dropout, fusion="sum", max_length=max_length)
            for _ in range(layers)
        )
        self.apply(initialise)

    def forward(self, items: Tensor) -> Tensor:
        """items (B, T), right-padded with 0 -> states (B, T, D)."""
        x = self.item(items) + self.position.weight[: items.shape[1]]
        x = self.dropout(self.norm(x))
        for block in self.blocks:
            x, _, _ = block(x, [])
        return x

    def loss(self, items: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """items, targets (B, T) -> `total`."""
        real = targets > 0
        return {"total": losses.next_item(self(items)[real], self.item.weight[1:], targets[real] - 1)}

    @torch.inference_mode()
    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """items (B, T), lengths (B,) -> how likely each item comes next, (B, V); column j is item j + 1."""
        return last(self(items), lengths) @ self.item.weight[1:].T
