"""Intervals over seeds, paired comparisons over users and seeds, and corrections for many comparisons.

Letters: S seeds, U users, R resamples, K rows of gains.
"""

from collections.abc import Hashable, Iterable
from dataclasses import dataclass, fields

import numpy as np
import pandas as pd
from scipy import stats

RESAMPLES = 10_000
SEED = 20240527  # of the resampling, so that intervals are the same every time
POWER = 0.8


@dataclass(frozen=True)
class Comparison:
    """A paired difference of means, its 95 % interval, effect size and two-sided p-value."""

    difference: float
    ci_low: float
    ci_high: float
    effect: float
    p_value: float
    users: int
    seeds: int


def smallest_told(low: float, high: float) -> float:
    """The smallest true difference that a comparison finds with probability `POWER` at the two-sided 5 % level.

    (z_0.975 + z_power) standard errors, as wide as `low` and `high` say, the 95 % interval of its own bootstrap. Takes
    numbers or columns.
    """
    certain = stats.norm.ppf(0.975)
    return (high - low) * (certain + stats.norm.ppf(POWER)) / (2 * certain)


def mean_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """mean, low, high: mean over seeds (S,) and its Student interval, which is nan with one seed."""
    values, half = np.asarray(values, float), float("nan")
    if len(values) > 1:
        half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def intervals(values: Iterable[np.ndarray]) -> pd.DataFrame:
    """A row mean, low, high of `mean_interval` for each (S,)."""
    return pd.DataFrame(map(mean_interval, values), columns=["mean", "low", "high"])


def mean_p_value(values: np.ndarray) -> float:
    """Two-sided Student p-value of the mean over seeds (S,) being 0; 1 with one seed."""
    return float(stats.ttest_1samp(values, 0).pvalue) if len(values) > 1 else 1.0


def resampled_means(gains: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Means over users drawn with replacement, the same draws for every row: (K, U) of the same users -> (R, K)."""
    generator, users = np.random.default_rng(seed), gains.shape[1]
    means = np.empty((resamples, len(gains)))
    rows = max(1, 2**24 // users)  # bounded memory for every U
    for begin in range(0, resamples, rows):
        count = min(rows, resamples - begin)
        times = generator.multinomial(users, np.full(users, 1 / users), size=count)  # how often each user is drawn
        means[begin : begin + count] = times @ gains.T / users
    return means


def compare(
    ours: np.ndarray, theirs: np.ndarray, drawn_ours: np.ndarray, drawn_theirs: np.ndarray, seed: int = SEED
) -> Comparison:
    """Mean of ours - theirs, paired over users, with a percentile bootstrap over users and over seeds.

    Users are paired: both models answer the same questions. Seeds are drawn for each model by itself: seed 3 of one
    model has nothing in common with seed 3 of the other. See `_of_drawn_seeds` for the scale of their deviations.
    p = twice the smaller share of resamples on either side of 0, counting 0 on both, each share with one added to
    numerator and denominator. Effect: Cohen's d of paired differences, their mean in standard deviations between users
    (each user's mean over seeds); 0 if no answer changed.

    Args:
        ours, theirs: (S, U) gains of the same users; S may differ.
        drawn_ours, drawn_theirs: (R, S) their `resampled_means`, of the same draws.
    """
    if ours.shape[1] != theirs.shape[1]:
        raise ValueError(f"not the same users: {ours.shape[1]} and {theirs.shape[1]}")
    generator = np.random.default_rng(seed)
    drawn = _of_drawn_seeds(drawn_ours, generator) - _of_drawn_seeds(drawn_theirs, generator)
    low, high = np.quantile(drawn, [0.025, 0.975])
    apart = ours.mean(0) - theirs.mean(0)
    spread = apart.std(ddof=1) if len(apart) > 1 else 0.0
    below, above = ((1 + side.sum()) / (1 + len(drawn)) for side in (drawn <= 0, drawn >= 0))
    return Comparison(
        difference=float(ours.mean() - theirs.mean()),
        ci_low=float(low),
        ci_high=float(high),
        effect=float(apart.mean() / spread) if spread else 0.0,
        p_value=float(min(1, 2 * min(below, above))),
        users=ours.shape[1],
        seeds=min(len(ours), len(theirs)),
    )


def _of_drawn_seeds(means: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """(R, S) -> (R,): each row's mean over S columns drawn with replacement, its deviation scaled by sqrt(S / (S - 1)).

    The mean of S draws from S values has (S - 1) / S of the variance of a mean of S new values: with three seeds a
    third is missing. Users are many, so their means need no such scale.
    """
    seeds = means.shape[1]
    picks = generator.integers(0, seeds, means.shape)
    drawn, mean = np.take_along_axis(means, picks, axis=1).mean(1), means.mean(1)
    return mean + np.sqrt(seeds / max(1, seeds - 1)) * (drawn - mean)


def compare_all(gains: dict[Hashable, np.ndarray], pairs: Iterable[tuple[Hashable, Hashable]]) -> pd.DataFrame:
    """A row of `compare` for each pair. Users are drawn once for all pairs, because drawing costs most.

    Args:
        gains: name -> (S, U) of the same users. pairs: names of ours and theirs.
    """
    ends = np.cumsum([len(of_seeds) for of_seeds in gains.values()])[:-1]
    drawn = dict(zip(gains, np.split(resampled_means(np.vstack([*gains.values()])), ends, axis=1), strict=True))
    found = [compare(gains[ours], gains[theirs], drawn[ours], drawn[theirs]) for ours, theirs in pairs]
    return pd.DataFrame(found, columns=[field.name for field in fields(Comparison)])


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values (n,) adjusted for a family of comparisons (Holm 1979): rejecting below 0.05 errs in at most 5 %."""
    p_values = np.asarray(p_values, float)
    order = p_values.argsort(kind="stable")
    scaled = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return adjusted
