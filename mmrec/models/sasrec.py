"""SASRec (Kang and McAuley, ICDM 2018): causal self-attention over item ids and positions.

X = item embeddings + positions; in each layer softmax(X W_Q (X W_K)^T / sqrt(d)) X W_V under a causal mask, then a
feed-forward network at each position (section III-B); an item's score is the product of the last state and the item's
embedding (section III-D). Norms, activation and widths are those of the shared block, see `layers.Block`.

Trained with cross-entropy over the whole catalogue, rather than with the original one negative, it overtakes its
successors (arXiv 2309.07602).
"""

from torch import Tensor, nn

from mmrec.config import models as config
from mmrec.models.layers import Transformer, initialise
from mmrec.models.next_item import NextItemModel


class SASRec(NextItemModel):
    """Letters: B batch, T time, D width, V items."""

    def __init__(self, settings: config.SASRec, *, n_items: int, max_length: int):
        super().__init__()
        self.item = nn.Embedding(n_items + 1, settings.dim, padding_idx=0)
        self.transformer = Transformer(settings, max_length)
        self.apply(initialise)

    def forward(self, items: Tensor) -> Tensor:
        """items (B, T), right-padded with 0 -> states (B, T, D)."""
        return self.transformer(self.item(items), items)
