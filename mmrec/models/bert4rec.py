"""BERT4Rec (Sun et al., CIKM 2019, arXiv 1904.06690): self-attention in both directions, trained on masked items.

The mask replaces each target in the input; a history is scored with a mask behind its last item.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrec.config import models as config
from mmrec.losses import Criterion
from mmrec.models.layers import Transformer, initialise
from mmrec.models.next_item import NextItemModel, last, left_align

LAST_ALONE = 1 / 11  # share of training samples; the authors write ten of the other kind and one of these a sequence


class BERT4Rec(NextItemModel):
    """Letters: B batch, T time, D width, V items.

    Args:
        max_length: of a sequence, the mask behind a history included.
    """

    def __init__(self, settings: config.BERT4Rec, *, n_items: int, max_length: int):
        super().__init__()
        dim = settings.dim
        self.max_length, self.mask_share = max_length, settings.mask_share
        self.mask = n_items + 1
        self.item = nn.Embedding(n_items + 2, dim, padding_idx=0)  # padding, items, mask
        self.transformer = Transformer(settings, max_length)
        self.head = nn.Sequential(nn.Linear(dim, dim), nn.GELU(), nn.LayerNorm(dim))
        self.bias = nn.Parameter(torch.zeros(n_items))
        self.apply(initialise)

    def forward(self, items: Tensor) -> Tensor:
        """items (B, T), some of them masks, right-padded with 0 -> states (B, T, D + 1), the last column 1.

        Equation 7: scores are GELU(h W + b) E^T + b', with E and b' in the output embedding. The norm after GELU is in
        the authors' code, not in the paper; without it training is far slower.
        """
        hidden = self.transformer(self.item(items), items, key_mask=items > 0)
        return F.pad(self.head(hidden), (0, 1), value=1.0)

    def output_embedding(self) -> Tensor:
        """(V, D + 1): the embedding of each item and its bias."""
        return torch.cat([self.item.weight[1:-1], self.bias[:, None]], 1)

    def loss(self, items: Tensor, targets: Tensor, criterion: Criterion) -> dict[str, Tensor]:
        """items, targets (B, T), padded with 0 on the right -> `total`, over masked items alone (equation 8).

        The whole sequence is the first item and all targets. As in the authors' samples, most sequences mask random
        items and some the last alone, as at scoring. The authors write ten samples of one kind and one of the other
        beforehand; here each sequence draws its kind anew in every epoch, with the same chances.
        """
        whole = _latest(torch.cat([items[:, :1], targets], 1), self.max_length)
        hidden = self._hidden(whole)
        states = self(whole.masked_fill(hidden, self.mask))[hidden]
        return {"total": criterion(states, self.output_embedding(), whole[hidden] - 1)}

    def _hidden(self, whole: Tensor) -> Tensor:
        """Items of (B, T) to mask: at least one of each sequence, never padding. Draws from dropout's generator."""
        draw = torch.rand(whole.shape, device=whole.device).masked_fill(whole == 0, 2)
        chosen = draw <= draw.amin(1, keepdim=True).clamp(min=self.mask_share)
        final = (whole > 0).sum(1, keepdim=True) - 1 == torch.arange(whole.shape[1], device=whole.device)
        return final.where(torch.rand(len(whole), 1, device=whole.device) < LAST_ALONE, chosen)

    @torch.inference_mode()
    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """(B, T) padded with 0 on either side, (B,) -> (B, V), scores of the mask behind the last item."""
        shown = F.pad(_latest(left_align(items), self.max_length - 1), (0, 1))
        behind = lengths.clamp(max=self.max_length - 1)
        shown = shown.scatter(1, behind[:, None], self.mask)
        return last(self(shown), behind + 1) @ self.output_embedding().T


def _latest(items: Tensor, count: int) -> Tensor:
    """(B, T) padded with 0 on the right -> the last `count` items of each row, at most, likewise padded."""
    surplus = ((items > 0).sum(1, keepdim=True) - count).clamp(min=0)
    return items.gather(1, surplus + torch.arange(min(count, items.shape[1]), device=items.device))
