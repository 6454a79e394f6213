"""GRU4Rec (Hidasi et al., ICLR 2016, arXiv 1511.06939): a recurrent network over item ids.

The paper's own loss compares with the other targets of a batch of parallel sessions; here any criterion may ask.
"""

from torch import Tensor, nn

from mmrec.config import models as config
from mmrec.models.item_vectors import Features, ItemVectors
from mmrec.models.layers import Dropout, initialise
from mmrec.models.next_item import NextItemModel


class GRU4Rec(NextItemModel):
    """Letters: B batch, T time, D width, H hidden width, V items.

    The GRU is torch's, like that of the authors' later PyTorch code. To equations 2 to 5 it adds biases, its z is the
    paper's 1 - z, and its reset gate acts after the product with the old state: r * (U h), in the paper U (r * h). The
    paper feeds one-hot items and has output weights of its own; here, as is common, items are embedded and scored
    with the same embedding, so that a linear layer leads from H back to D. Sequences of any length are read whole.
    """

    def __init__(self, settings: config.GRU4Rec, *, n_items: int, features: Features):
        super().__init__()
        self.item = ItemVectors(settings, n_items=n_items, features=features)
        self.dropout = Dropout(settings.dropout)
        self.gru = nn.GRU(settings.dim, settings.hidden, settings.layers, batch_first=True)
        self.out = nn.Linear(settings.hidden, settings.dim)
        self.item.apply(initialise)

    def forward(self, items: Tensor) -> Tensor:
        """items (B, T), right-padded with 0 -> states (B, T, D)."""
        hidden, _ = self.gru(self.dropout(self.item(items)))  # (B, T, H)
        return self.out(hidden)
