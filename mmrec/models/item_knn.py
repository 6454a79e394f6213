"""ItemKNN: items similar to the user's, the latest weighted most.

Similarity is the cosine of items as sets of users (Sarwar et al., WWW 2001, section 3.1.1), shrunk where common users
are few: s_ij = n_ij / (sqrt(n_i n_j) + shrinkage). Each item keeps its nearest alone (Deshpande and Karypis 2004).
score_j = sum_i decay^(steps back to i) s_ij. With decay near 0 the last item decides, as in the session baseline of
Jannach and Ludewig (RecSys 2017).
"""

import numpy as np
import torch
from scipy import sparse
from torch import Tensor

from mmrec.config import models as config
from mmrec.data.sequences import Sequences

CHUNK = 4096  # items whose similarities to all others are held at once


class ItemKNN:
    """Letters: B batch, T time, V items, U users, K neighbours."""

    def __init__(self, settings: config.ItemKNN, *, sequences: Sequences):
        self.n_items, self.decay = sequences.n_items, settings.decay
        nearest, similarity = _nearest(_chosen(sequences), settings.neighbours, settings.shrinkage)
        device = sequences.items.device
        self.nearest = torch.from_numpy(nearest).to(device)  # (V + 1, K) item numbers; 0: none
        self.similarity = torch.from_numpy(similarity).to(device)  # (V + 1, K) float64

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """items (B, T), padded with 0 on either side, lengths (B,) -> (B, V); column j is item j + 1."""
        steps = (items > 0).flip(1).cumsum(1).flip(1) - 1  # (B, T); 0 at the last item
        # float64: in which order a GPU adds must not decide who comes first.
        weight = torch.full((), self.decay, dtype=torch.float64, device=items.device) ** steps.clamp(min=0)
        scores = weight.new_zeros(len(items), self.n_items + 1)
        scores.scatter_add_(1, self.nearest[items].flatten(1), (weight[..., None] * self.similarity[items]).flatten(1))
        return scores[:, 1:].float()


def _chosen(sequences: Sequences) -> sparse.csc_array:
    """(U, V + 1): 1 where the user's training part has the item."""
    items = sequences.training_items().cpu().numpy()
    length = (sequences.train_end - sequences.offsets[:-1]).cpu().numpy()
    users = np.repeat(np.arange(len(length)), length)
    chosen = sparse.coo_array((np.ones(len(items)), (users, items)), shape=(len(length), sequences.n_items + 1)).tocsc()
    chosen.data[:] = 1  # however often
    return chosen


def _nearest(chosen: sparse.csc_array, neighbours: int, shrinkage: float) -> tuple[np.ndarray, np.ndarray]:
    """The K most similar of each item, the most similar first, of equals the lower number; and how similar."""
    n_columns = chosen.shape[1]
    norm = np.sqrt(chosen.sum(0))
    nearest = np.zeros((n_columns, neighbours), np.int64)
    similarity = np.zeros((n_columns, neighbours))
    for begin in range(0, n_columns, CHUNK):
        together = (chosen[:, begin : begin + CHUNK].T @ chosen).tocoo()  # counts n_ij
        row, column = together.row + begin, together.col
        other = row != column
        row, column = row[other], column[other]
        value = together.data[other] / (norm[row] * norm[column] + shrinkage)
        order = np.lexsort((column, -value, row))
        row, column, value = row[order], column[order], value[order]
        rank = np.arange(len(row)) - np.searchsorted(row, row)  # within its row
        kept = rank < neighbours
        nearest[row[kept], rank[kept]] = column[kept]
        similarity[row[kept], rank[kept]] = value[kept]
    return nearest, similarity
