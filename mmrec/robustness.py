"""What a trained model is worth when features go missing or are disturbed while it is asked, not while it learned.

Letters: V items, F feature width.
"""

from collections.abc import Callable, Iterable
from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from mmrec import config, experiments
from mmrec.evaluation import evaluate, gains
from mmrec.experiments import Data, Recommender

MISSING = (0.1, 0.3, 0.5, 1.0)  # shares of the items that have the modality
NOISE = (0.25, 0.5, 1.0, 2.0)  # standard deviations, in those of each column
SEED = 20240527


def missing(feature: tuple[Tensor, Tensor], share: float, seed: int = SEED) -> tuple[Tensor, Tensor]:
    """The modality with a share of the items that have it left without; less is always part of more.

    Args:
        feature: (V + 1, F), presence (V + 1,). share: 0..1.
    """
    matrix, present = feature
    having = present.nonzero().squeeze(1)
    lost = having[_order(len(having), seed).to(having.device)[: round(share * len(having))]]
    return matrix, present.index_fill(0, lost, False)


def _order(count: int, seed: int) -> Tensor:
    return torch.randperm(count, generator=torch.Generator().manual_seed(seed))


def noisy(feature: tuple[Tensor, Tensor], strength: float, seed: int = SEED) -> tuple[Tensor, Tensor]:
    """The modality with Gaussian noise on the items that have it, `strength` times each column's deviation."""
    matrix, present = feature
    spread = matrix[present].std(0, correction=0)
    draw = torch.randn(matrix.shape, generator=torch.Generator().manual_seed(seed)).to(matrix)
    return torch.where(present[:, None], matrix + strength * spread * draw, matrix), present


def trained(paths: config.Paths, settings: config.Config, dataset: str, name: str, data: Data) -> list[Recommender]:
    """An experiment's model of every seed, looking at these data; see `experiments.PROBED`."""
    group = next(group for group in experiments.PROBED if name in settings.experiments[group])
    seeds = settings.seeds_of(dataset)
    return [experiments.trained_model(paths, settings, dataset, group, name, seed, data) for seed in seeds]


WAYS = {"missing": (missing, MISSING), "noise": (noisy, NOISE)}


def robustness(
    models: Callable[[Data], Iterable[Recommender]], data: Data, max_length: int, kinds: Iterable[str] = tuple(WAYS)
) -> pd.DataFrame:
    """Test NDCG@10 (full_unseen) of trained models whose features are disturbed, one modality or all at once.

    Args:
        models: those, one for each seed, that look at the data that they are given.
        kinds: of `WAYS`.

    Returns:
        kind (`missing` or `noise`), modality, level, model (0, 1, ..), ndcg_10; level 0 is the model undisturbed.
    """
    whole = _scores(models(data), data, max_length)
    rows = []
    for kind in kinds:
        disturb, levels = WAYS[kind]
        for modality in [*data.features, "all"]:
            rows += [(kind, modality, 0.0, number, score) for number, score in enumerate(whole)]
            for level in levels:
                features = {
                    name: disturb(feature, level) if modality in (name, "all") else feature
                    for name, feature in data.features.items()
                }
                scores = _scores(models(replace(data, features=features)), data, max_length)
                rows += [(kind, modality, level, number, score) for number, score in enumerate(scores)]
    return pd.DataFrame(rows, columns=["kind", "modality", "level", "model", "ndcg_10"])


def _scores(models: Iterable[Recommender], data: Data, max_length: int) -> list[float]:
    ranks = (evaluate(model.score, data.sequences, "test", max_length)["full_unseen"].to_numpy() for model in models)
    return [float(gains(rank, "ndcg", 10).mean()) for rank in ranks]
