"""Caser (Tang and Wang, WSDM 2018, arXiv 1809.07426): convolutions over the last L items as a picture.

The original is trained window by window; here one pass gives the state of the window that ends at each position.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrec.config import models as config
from mmrec.models.layers import Dropout, initialise
from mmrec.models.next_item import NextItemModel


class Caser(NextItemModel):
    """Letters: B batch, T time, D width, V items, L items in a window, h height of a filter.

    The user embedding of equation 10 is left out: a model here serves unknown users. Zeros fill the windows that begin
    before the first item.
    """

    def __init__(self, settings: config.Caser, *, n_items: int):
        super().__init__()
        dim, horizontal, self.window = settings.dim, settings.horizontal, settings.window
        self.item = nn.Embedding(n_items + 1, dim, padding_idx=0)
        # Convolutions as products with the unfolded sequence: some algorithms of nn.Conv1d compute many positions
        # together, which lets the future into the last bits of the past.
        self.vertical = nn.Linear(self.window, settings.vertical)
        self.horizontal = nn.ModuleList(nn.Linear(dim * height, horizontal) for height in range(1, self.window + 1))
        self.dropout = Dropout(settings.dropout)
        self.out = nn.Linear(settings.vertical * dim + horizontal * self.window, dim)
        self.next = nn.Linear(dim, n_items)  # W', b' of equation 10
        initialise(self.item)
        initialise(self.next)

    def forward(self, items: Tensor) -> Tensor:
        """items (B, T), right-padded with 0 -> states (B, T, D + 1), the last column 1, for the bias of each item."""
        x = F.pad(self.item(items), (0, 0, self.window - 1, 0))  # (B, L - 1 + T, D)
        weighted = self.vertical(x.unfold(1, self.window, 1))  # (B, T, D, vertical); equation 7
        found = [weighted.transpose(2, 3).flatten(2)]
        for height, look in enumerate(self.horizontal, 1):
            seen = look(x.unfold(1, height, 1).flatten(2)).relu()  # (B, L - h + T, horizontal); equation 3
            found.append(seen.unfold(1, self.window - height + 1, 1).amax(3))  # (B, T, horizontal); equation 5
        z = self.out(self.dropout(torch.cat(found, 2))).relu()  # equation 9
        return F.pad(z, (0, 1), value=1.0)

    def output_embedding(self) -> Tensor:
        """(V, D + 1): W' and b'."""
        return torch.cat([self.next.weight, self.next.bias[:, None]], 1)
