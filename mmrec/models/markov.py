"""A first-order Markov chain: the most frequent successor of the last item in training.

P(j | i) = n_ij / sum_j n_ij by maximum likelihood (the chain that FPMC factorises: Rendle et al., WWW 2010),
interpolated with popularity (Jelinek and Mercer 1980): score_j = (1 - backoff) P(j | last) + backoff P(j). Popularity
breaks ties, and ranks alone behind an item without successors.
"""

import torch
from torch import Tensor

from mmrec.config import models as config
from mmrec.data.batches import take
from mmrec.data.sequences import Sequences
from mmrec.models.next_item import last, left_align


class MarkovChain:
    """Letters: B batch, T time, V items, N different transitions.

    Transitions are sorted by their first item; `offsets[i]:offsets[i + 1]` are those from item i.
    """

    def __init__(self, settings: config.MarkovChain, *, sequences: Sequences):
        columns = sequences.n_items + 1
        items = sequences.training_items()
        length = sequences.train_end - sequences.offsets[:-1]
        user = torch.repeat_interleave(length)
        same_user = user[1:] == user[:-1]
        pairs, counts = (items[:-1] * columns + items[1:])[same_user].unique(return_counts=True)  # (N,), sorted
        start = pairs // columns
        self.following = pairs % columns  # (N,) item numbers
        self.offsets = torch.searchsorted(start, torch.arange(columns + 1, device=items.device))
        total = torch.zeros(columns, device=items.device).index_add_(0, start, counts.float())
        self.probability = (1 - settings.backoff) * counts / total[start]  # (N,)
        popularity = sequences.item_counts().float()
        self.popularity = settings.backoff * popularity / popularity.sum()  # (V,)

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """items (B, T), padded with 0 on either side, lengths (B,) -> (B, V); column j is item j + 1."""
        latest = last(left_align(items), lengths)  # (B,)
        begin = self.offsets[latest]
        length = self.offsets[latest + 1] - begin
        scores = self.popularity.new_zeros(len(items), len(self.popularity) + 1)
        # Padding falls on column 0, which is none.
        scores.scatter_(1, take(self.following, begin, length), take(self.probability, begin, length))
        return scores[:, 1:] + self.popularity
