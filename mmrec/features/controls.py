"""Data controls: features and histories that lack one kind of information, see `config.DataControls`."""

import torch
from torch import Tensor

from mmrec.config import DataControls
from mmrec.data.sequences import Sequences

SEED = 20240527

Features = dict[str, tuple[Tensor, Tensor]]
"""Modality -> (features (V + 1, F) float32, presence (V + 1,) bool); row 0 is padding."""


def controlled_features(features: Features, controls: DataControls, seed: int) -> Features:
    """The features that a model sees: none, or all, with the rarest category alone and `disguised` if asked for.

    `seed` is that of the run.
    """
    if controls.features == "none":
        return {}
    if controls.categories == "rarest":
        matrix, present = features["category"]
        features = features | {"category": (rarest(matrix), present)}
    drawn = SEED if controls.draws == "once" else SEED + 1 + seed
    return features if controls.features == "own" else disguised(features, controls.features, drawn)


def rarest(matrix: Tensor) -> Tensor:
    """Multi-hot categories (n, c) with each item's rarest one alone, the first column in a tie.

    This is the traditional encoding by one label: in a tree of categories the rarest is the innermost. The columns
    stay, so that both models have the same size.
    """
    order = matrix.sum(0).argsort(stable=True)  # columns, the rarest first
    has = matrix[:, order] > 0
    kept = has & (has.cumsum(1) == 1)
    return torch.zeros_like(matrix).index_copy_(1, order, kept.to(matrix))


def disguised(features: Features, how: str, seed: int = SEED) -> Features:
    """Features without information on their items, drawn from `seed`.

    `permuted`: each modality's vectors move among the items that have it. `random`: normal vectors of the same size;
    categories are drawn evenly, as many as the item has.
    """
    generator = torch.Generator().manual_seed(seed)
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
    """The histories that a model sees in training and before the items of `valid`, or before those of `test`."""
    return sequences.shuffled(split, seed) if controls.histories == "shuffled" else sequences
