"""Similarity of items by their features.

Letters: V items, F feature width, n items asked about.
"""

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
from torch import Tensor

from mmrec.data.sequences import Sequences
from mmrec.features.store import Features, standardise

SHUFFLES = 200  # pairings at random, for the interval of chance
PAIRS = 50_000  # at most: rows of up to 4096 numbers are held twice, and paired anew for each shuffle
SEED = 20240527
RARE = 5  # times an item was chosen


def _directions(features: Features) -> Tensor:
    """(V + 1, F) rows of length 1, or 0 where the item lacks the modality."""
    return F.normalize(standardise(features), dim=1)


def neighbours(features: Features, items: list[int], count: int) -> Tensor:
    """Each item and the `count` most similar others by cosine of standardised features: (n, 1 + count) or fewer."""
    directions = _directions(features)
    similarity = directions[items] @ directions.T  # (n, V + 1)
    similarity[:, ~features.mask] = -torch.inf
    similarity[torch.arange(len(items)), items] = torch.inf  # itself comes first
    return similarity.topk(min(1 + count, int(features.mask.sum()))).indices


def portrait(sequences: Sequences, near: pd.DataFrame) -> pd.DataFrame:
    """portrait.csv, one row: what may tell shops where content helps from those where it does not.

    users, items, interactions; `rare`, the share of test answers that were chosen at most `RARE` times in training; for
    each modality the excess of `near`, see `consecutive_similarity`.
    """
    target = sequences.items[sequences.test[sequences.test >= 0]] - 1
    rare = (sequences.item_counts()[target] <= RARE).double().mean().item()
    told = {
        "users": len(sequences.test),
        "items": sequences.n_items,
        "interactions": len(sequences.items),
        "rare": rare,
    }
    return pd.DataFrame([told | dict(zip(near["modality"], near["excess"], strict=True))])


def alignment(encoded: dict[str, Features], count: int = 10, ridge: float = 1.0) -> pd.DataFrame:
    """Does one modality of an item tell the other? Recall of an item's picture by its text, and of the reverse.

    A ridge map between standardised features is fitted on a random half of the items that have both, and asked for
    the other half: is the item's own vector among the `count` nearest to the mapped one, by cosine?

    Args:
        ridge: penalty, in mean eigenvalues of the covariance.

    Returns:
        A row a direction: given, wanted, recall, chance (`count` / asked), asked (items).
    """
    columns, rows = ["given", "wanted", "recall", "chance", "asked"], []
    if not {"image", "text"} <= set(encoded):
        return pd.DataFrame(columns=columns)
    both = (encoded["image"].mask & encoded["text"].mask).nonzero().squeeze(1)
    both = both[torch.randperm(len(both), generator=torch.Generator().manual_seed(SEED))]
    known, asked = both.split([len(both) // 2, len(both) - len(both) // 2])
    for given, wanted in (("text", "image"), ("image", "text")):
        source, target = (standardise(encoded[name]).double() for name in (given, wanted))
        covariance = source[known].T @ source[known]
        covariance.diagonal().add_(ridge * covariance.diagonal().mean())
        mapped = source[asked] @ torch.linalg.solve(covariance, source[known].T @ target[known])
        cosine = F.normalize(mapped, dim=1) @ F.normalize(target[asked], dim=1).T
        rank = (cosine >= cosine.diagonal()[:, None]).sum(1)  # a tie counts against the item
        recall = (rank <= count).double().mean().item()
        rows.append((given, wanted, recall, min(1.0, count / len(asked)), len(asked)))
    return pd.DataFrame(rows, columns=columns)


def example_items(encoded: dict[str, Features], modality: str, count: int) -> list[int]:
    """Items with a modality and the most other modalities, evenly spread over the catalogue."""
    held = torch.stack([features.mask for features in encoded.values()]).sum(0) * encoded[modality].mask
    complete = (held == held.max()).nonzero().squeeze(1)
    places = torch.linspace(0, len(complete) - 1, count + 2)[1:-1].round().long()
    return complete[places].unique().tolist()


def consecutive_similarity(sequences: Sequences, encoded: dict[str, Features]) -> pd.DataFrame:
    """Are consecutive choices of the training parts more alike than chance? At most PAIRS pairs are drawn.

    Chance pairs the same first and second choices at random, so that popularity cannot look like taste.

    Returns:
        A row a modality: mean cosine of consecutive pairs; mean, 2.5 % and 97.5 % points of random pairings; excess
        (difference of the means); number of pairs with the modality on both sides.
    """
    items = sequences.training_items()
    owner = torch.repeat_interleave((sequences.train_end - sequences.offsets[:-1]).clamp(min=0))
    same_user = owner[1:] == owner[:-1]
    first, second = items[:-1][same_user], items[1:][same_user]
    generator = torch.Generator().manual_seed(SEED)
    rows = []
    for modality, features in encoded.items():
        directions = _directions(features)
        both = (features.mask[first] & features.mask[second]).nonzero().squeeze(1)
        if len(both) > PAIRS:
            both = both[torch.randperm(len(both), generator=generator)[:PAIRS]]
        left, right = directions[first[both]], directions[second[both]]
        observed = (left * right).sum(1).mean().item()
        draws = (torch.randperm(len(right), generator=generator) for _ in range(SHUFFLES))
        chance = [(left * right[order]).sum(1).mean().item() for order in draws]
        low, high = np.quantile(chance, [0.025, 0.975])
        mean = float(np.mean(chance))
        rows.append((modality, observed, mean, low, high, observed - mean, len(both)))
    columns = ["modality", "consecutive", "chance", "chance_low", "chance_high", "excess", "pairs"]
    return pd.DataFrame(rows, columns=columns)
