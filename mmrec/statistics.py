"""How sure a number is: intervals over seeds, paired comparisons over users and seeds, many comparisons at once.

Letters: S seeds, U users, R resamples, K rows of gains.
"""

from dataclasses import dataclass

import numpy as np
from scipy import stats

RESAMPLES = 10_000
SEED = 20240527  # of the resampling: the same intervals every time


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


def mean_interval(values: np.ndarray, level: float = 0.95) -> tuple[float, float, float]:
    """Mean over seeds and its Student interval.

    Args:
        values: (S,).

    Returns:
        mean, low, high; with one seed the interval is nan, for one run says nothing of the next.
    """
    values = np.asarray(values, float)
    if len(values) < 2:
        return float(values.mean()), float("nan"), float("nan")
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return float(values.mean()), float(values.mean() - half), float(values.mean() + half)


def mean_p_value(values: np.ndarray) -> float:
    """Two-sided Student p-value of a mean over seeds being 0; 1 with one seed.

    Args:
        values: (S,).
    """
    return float(stats.ttest_1samp(values, 0).pvalue) if len(values) > 1 else 1.0


def resampled_means(gains: np.ndarray, resamples: int = RESAMPLES, seed: int = SEED) -> np.ndarray:
    """Means over users drawn with replacement, the same draws for every row.

    Drawing is what costs, so all rows that are to be compared are given at once.

    Args:
        gains: (K, U) of the same users.

    Returns:
        (R, K).
    """
    generator = np.random.default_rng(seed)
    users = gains.shape[1]
    means = np.empty((resamples, len(gains)))
    rows = max(1, 2**24 // users)  # bounded memory, whatever U is
    for begin in range(0, resamples, rows):
        count = min(rows, resamples - begin)
        times = generator.multinomial(users, np.full(users, 1 / users), size=count)  # how often each user is drawn
        means[begin : begin + count] = times @ gains.T / users
    return means


def compare(
    ours: np.ndarray, theirs: np.ndarray, drawn_ours: np.ndarray, drawn_theirs: np.ndarray, seed: int = SEED
) -> Comparison:
    """Mean of ours - theirs, paired over users, with a percentile bootstrap over users and over seeds.

    Users are paired: both models answer the same questions. Seeds are drawn for each model by itself, since seed 3 of
    one has nothing in common with seed 3 of the other, and their deviations are scaled to what so few tell of the next.
    p = twice the smaller share of resamples on either side of 0, counting 0 on both, each share with one added to
    numerator and denominator. Effect: Cohen's d of paired differences, their mean in standard deviations between users
    (each user's mean over seeds); 0 where nobody's answer changed.

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

    The variance of a mean of S draws from S values is (S - 1) / S of that of a mean of S new values: with three seeds a
    third is missing. Users are so many that the same does not matter for them.
    """
    seeds = means.shape[1]
    picks = generator.integers(0, seeds, means.shape)
    drawn, mean = np.take_along_axis(means, picks, axis=1).mean(1), means.mean(1)
    return mean + np.sqrt(seeds / max(1, seeds - 1)) * (drawn - mean)


def holm(p_values: np.ndarray) -> np.ndarray:
    """p-values adjusted for a family of comparisons (Holm 1979): reject those below 0.05, err at most 5 % of times.

    Args:
        p_values: (n,).
    """
    p_values = np.asarray(p_values, float)
    order = p_values.argsort(kind="stable")
    scaled = p_values[order] * np.arange(len(p_values), 0, -1)
    adjusted = np.empty_like(p_values)
    adjusted[order] = np.minimum(1, np.maximum.accumulate(scaled))
    return adjusted
