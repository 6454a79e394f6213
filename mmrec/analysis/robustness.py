"""Accuracy of a trained model when features go missing or get noise at test time.

Letters: V items, F feature width, S seeds, U users.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from mmrec.evaluation import evaluate, gains
from mmrec.experiments.build import Recommender
from mmrec.experiments.inputs import Data
from mmrec.statistics import compare_all, holm

MISSING = (0.1, 0.3, 0.5, 1.0)  # shares of the items with the modality
NOISE = (0.25, 0.5, 1.0, 2.0)  # in standard deviations of each column
SEED = 20240527


def missing(feature: tuple[Tensor, Tensor], share: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Take a modality, (V + 1, F) and presence (V + 1,), from a share (0..1) of the items that have it.

    The items of a smaller share are among those of a larger one.
    """
    matrix, present = feature
    having = present.nonzero().squeeze(1)
    order = torch.randperm(len(having), generator=torch.Generator().manual_seed(SEED + seed)).to(having.device)
    return matrix, present.index_fill(0, having[order[: round(share * len(having))]], False)


def noisy(feature: tuple[Tensor, Tensor], strength: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Add Gaussian noise to the items that have the modality: `strength` times each column's standard deviation."""
    matrix, present = feature
    spread = matrix[present].std(0, correction=0)
    draw = torch.randn(matrix.shape, generator=torch.Generator().manual_seed(SEED + seed)).to(matrix)
    return torch.where(present[:, None], matrix + strength * spread * draw, matrix), present


DISTURBANCES = {"missing": (missing, MISSING), "noise": (noisy, NOISE)}

Gains = dict[tuple[str, str, float], np.ndarray]
"""(kind, modality, level) -> (S, U) NDCG@10 (full_unseen) of each model and test user; level 0 is undisturbed."""


def disturbed(
    models: Callable[..., list[Recommender]],
    data: Data,
    max_length: int,
    seeds: Sequence[int],
    kinds: Iterable[str] = tuple(DISTURBANCES),
) -> Gains:
    """Gains of trained models with disturbed features, one modality or all at once, by kinds of `DISTURBANCES`.

    Items and noise are drawn anew for each seed: the luck of one draw is no part of an interval over seeds.

    Args:
        models: data, `seeds=` -> trained models of these seeds, which read these data.
    """

    def gained(disturb: Callable, chosen: str, level: float) -> np.ndarray:
        rows = []
        for seed in seeds:
            features = {
                name: disturb(feature, level, seed) if chosen in (name, "all") else feature
                for name, feature in data.features.items()
            }
            (model,) = models(replace(data, features=features), seeds=[seed])
            ranks = evaluate(model.score, data.sequences, "test", max_length)["full_unseen"]
            rows.append(gains(ranks.to_numpy(), "ndcg", 10))
        return np.stack(rows)

    whole, found = gained(missing, "none", 0.0), {}
    for kind in kinds:
        disturb, levels = DISTURBANCES[kind]
        for modality in [*data.features, "all"]:
            found[kind, modality, 0.0] = whole
            found |= {(kind, modality, level): gained(disturb, modality, level) for level in levels}
    return found


def losses_table(found: Gains) -> pd.DataFrame:
    """robustness.csv: the loss by each disturbance, paired over users and seeds of the same model.

    Returns:
        kind, modality, level, ndcg_10, loss, ci_low, ci_high (95 %, bootstrap over users and seeds), p_value, p_holm
        (over the modalities and all at once, of one kind and level), users, seeds.
    """
    lost = {key: found[key[0], key[1], 0.0] - after for key, after in found.items()}
    nothing = np.zeros((1, next(iter(lost.values())).shape[1]))
    return _table(found, lost, dict.fromkeys(lost, nothing)).rename(columns={"difference": "loss"})


def modality_dropout_table(without: Gains, with_dropout: Gains) -> pd.DataFrame:
    """modality_dropout.csv: the same disturbances of models trained without and with modality dropout.

    Returns:
        kind, modality, level, ndcg_10 (with dropout), without, difference, ci_low, ci_high, p_value, p_holm,
        users, seeds; see `losses_table`. The same of `extra`, the difference less that with all features: what dropout
        does for missing features, besides what it does in any case.
    """
    table = _table(with_dropout, with_dropout, without)
    table.insert(4, "without", [of.mean() for of in without.values()])
    ours, theirs = (
        {key: of - found[key[0], key[1], 0.0] for key, of in found.items()} for found in (with_dropout, without)
    )
    extra = _table(with_dropout, ours, theirs)[["difference", "ci_low", "ci_high", "p_holm"]]
    return table.join(extra.set_axis(["extra", "extra_low", "extra_high", "extra_p_holm"], axis=1))


def _table(shown: Gains, ours: Gains, theirs: Gains) -> pd.DataFrame:
    gained = {("ours", key): rows for key, rows in ours.items()} | {("theirs", key): theirs[key] for key in ours}
    table = pd.DataFrame(list(ours), columns=["kind", "modality", "level"])
    table["ndcg_10"] = [of.mean() for of in shown.values()]
    found = compare_all(gained, [(("ours", key), ("theirs", key)) for key in ours])
    table = table.join(found[["difference", "ci_low", "ci_high", "p_value"]])
    table["p_holm"] = table.groupby(["kind", "level"], sort=False)["p_value"].transform(holm)
    seeds, users = next(iter(shown.values())).shape
    return table.assign(users=users, seeds=seeds)
