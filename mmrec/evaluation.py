"""Ranks of the true next items under three protocols, and metrics of the ranks.

The rank of a target is 1 + the number of other candidates with at least its score. A tie counts against the target: a
model that scores all items alike gets no credit. The protocols differ in the candidates:

- `full_unseen`, the primary one: the whole catalogue without the user's earlier items.
- `full_all`: the whole catalogue.
- `sampled_100`: the target and the drawn negatives, for comparison with older papers alone. It can reverse the order of
  models (Krichene and Rendle 2020). Reports name the number of negatives of the data set: `sampled_10` for 10.

Letters: B batch, V items, n negatives, M earlier items.
"""

from collections.abc import Callable

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmrec.data.batches import questions
from mmrec.data.sequences import Sequences

PROTOCOLS = ("full_unseen", "full_all", "sampled_100")  # columns of ranks, in archives too
BATCH = 512  # users scored at once


class EvaluationError(ValueError):
    """Scores without a rank."""


def target_ranks(
    scores: Tensor, targets: Tensor, negatives: Tensor, seen: Tensor, seen_row: Tensor
) -> dict[str, Tensor]:
    """Rank of each target under the three protocols, in one pass over the scores.

    Args:
        scores: (B, V), column j for item j + 1. targets: (B,) items. negatives: (B, n) items, without the target.
        seen: (M,) earlier items of all users, perhaps twice. seen_row: (M,) the row of each item's user. A target that
            was seen stays a candidate.

    Returns:
        protocol -> (B,) int64 from 1.

    Raises:
        EvaluationError: a score is NaN.
    """
    if scores.amax(1).isnan().any():
        raise EvaluationError("a score is NaN: the model has diverged or its input is broken")
    own = scores.gather(1, targets[:, None] - 1)  # (B, 1)
    # Counted in float32: exact up to 16 million items, and twenty times as fast as bools. The target supplies the 1.
    full_all = torch.ge(scores, own, out=torch.empty_like(scores, dtype=torch.float32)).sum(1).long()
    pair = (seen_row * scores.shape[1] + seen - 1).unique()  # an item that was seen twice leaves the catalogue once
    seen_row, seen = pair // scores.shape[1], pair % scores.shape[1] + 1
    seen_above = (scores[seen_row, seen - 1] >= own[seen_row, 0]) & (seen != targets[seen_row])
    full_unseen = full_all - torch.zeros_like(full_all).index_add_(0, seen_row, seen_above.long())
    sampled = 1 + (scores.gather(1, negatives - 1) >= own).sum(1)
    return {"full_unseen": full_unseen, "full_all": full_all, "sampled_100": sampled}


def evaluate(
    score: Callable[[Tensor, Tensor], Tensor], sequences: Sequences, split: str, max_length: int
) -> pd.DataFrame:
    """Rank the target of every user of a split.

    Args:
        score: items (B, T), lengths (B,) -> scores (B, V).

    Returns:
        One row a user, ordered by user: `user` and a rank under each protocol, int64.
    """
    tables = []
    for question in questions(sequences, split, max_length, BATCH):
        scores, negatives = score(question.items, question.lengths), sequences.negatives[question.users]
        ranks = target_ranks(scores, question.targets, negatives, question.seen, question.seen_row)
        tables.append(torch.stack([question.users, *(ranks[protocol] for protocol in PROTOCOLS)], 1))
    table = torch.cat(tables).cpu().numpy()
    return pd.DataFrame(table[table[:, 0].argsort()], columns=["user", *PROTOCOLS])


def gains(rank: np.ndarray, metric: str, k: int | None = None) -> np.ndarray:
    """Gain of each rank, 0..1; a metric is the mean over users.

    With one target a user: hr = [rank <= k], ndcg = [rank <= k] / log2(rank + 1), mrr = 1 / rank (no k), auc = share of
    the other k - 1 items below it.

    Raises:
        ValueError: another metric.
    """
    if metric == "mrr":
        return 1 / rank
    if metric == "auc":
        return 1 - (rank - 1) / (k - 1)
    if metric not in ("hr", "ndcg"):
        raise ValueError(f"no metric {metric!r}; one of hr, ndcg, mrr, auc")
    return np.where(rank <= k, 1.0 if metric == "hr" else 1 / np.log2(rank + 1), 0)


def measures(ks: tuple[int, ...]) -> list[tuple[str, int | None]]:
    """Every (metric, k) that is reported."""
    return [(metric, k) for metric in ("hr", "ndcg") for k in ks] + [("mrr", None)]
