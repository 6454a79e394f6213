"""Data controls: features and histories that lack one kind of information, see `config.DataControls`."""

import torch
from torch import Tensor

from mmrec.config import DataControls
from mmrec.data.sequences import Sequences

SEED = 20240527

Features = dict[str, tuple[Tensor, Tensor]]
"""Modality -> (features (V + 1, F) float32, presence (V + 1,) bool); row 0 is padding."""


def controlled_features(features: Features, controls: DataControls) -> Features:
    """The features that a model sees: of every item the rarest category alone, then `disguised`; or none at all."""
    if controls.features == "none":
        return {}
    if controls.categories == "rarest":
        matrix, present = features["category"]
        features = features | {"category": (rarest(matrix), present)}
    return features if controls.features == "own" else disguised(features, controls.features)


def rarest(matrix: Tensor) -> Tensor:
    """Each item's rarest category; in a tree of categories this is the innermost.

    This is the traditional encoding by one label. It keeps the columns of the multi-hot matrix, so that both models
    have the same size. The first column wins a tie.

    Args:
        matrix: multi-hot (n, c).

    Returns:
        (n, c) with a single 1 in each row that has any.
    """
    order = matrix.sum(0).argsort(stable=True)  # columns, the rarest first
    has = matrix[:, order] > 0
    kept = has & (has.cumsum(1) == 1)
    return torch.zeros_like(matrix).index_copy_(1, order, kept.to(matrix))


def disguised(features: Features, how: str) -> Features:
    """Features that say nothing of their items; the same at every call.

    Args:
        how: `permuted`: each modality's vectors move among the items that have it. `random`: normal vectors of the same
            size; as many categories as the item has, drawn evenly.
    """
    generator = torch.Generator().manual_seed(SEED)
    changed = {}
    for modality, (matrix, present) in sorted(features.items()):
        rows = matrix[present].cpu()
        if how == "permuted":
            rows = rows[torch.randperm(len(rows), generator=generator)]
        elif modality == "category":
            rows = rows.gather(1, torch.rand(rows.shape, generator=generator).argsort(1))
        else:
            rows = torch.randn(rows.shape, generator=generator)
        changed[modality] = (matrix.clone().index_put_((present,), rows.to(matrix)), present)
    return changed


def controlled_histories(sequences: Sequences, controls: DataControls, split: str, seed: int) -> Sequences:
    """The histories that a model sees before the items of `valid` (and in training) or of `test`."""
    return sequences.shuffled(split, seed) if controls.histories == "shuffled" else sequences
