"""Popularity: score_j = n_j, the count of item j in training, for every history.

POP in the comparisons of SASRec (Kang and McAuley, ICDM 2018, section IV-B) and BERT4Rec (Sun et al., CIKM 2019).
"""

from torch import Tensor

from mmrec.data.sequences import Sequences


class Popularity:
    """Letters: B batch, T time, V items."""

    def __init__(self, *, sequences: Sequences):
        self.counts = sequences.item_counts().float()  # (V,)

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """items (B, T), lengths (B,) -> (B, V), the same for all; equal counts are ties."""
        return self.counts.expand(len(items), -1)
