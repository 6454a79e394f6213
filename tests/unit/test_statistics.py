import math
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from mmrec import statistics
from mmrec.statistics import SEED, Comparison, holm, mean_interval, resampled_means

# --- over seeds --------------------------------------------------------------------------------------------------


def test_the_interval_over_seeds_by_hand():
    # mean 3, standard deviation sqrt(10 / 4), standard error sqrt(2.5 / 5) = 0.7071, t(0.975, 4) = 2.776445
    assert mean_interval(np.array([1, 2, 3, 4, 5])) == pytest.approx((3, 3 - 1.963243, 3 + 1.963243), abs=1e-6)
    # two values: half the distance 0.1 times t(0.975, 1) = 12.706205
    assert mean_interval(np.array([0.2, 0.4])) == pytest.approx((0.3, 0.3 - 1.2706205, 0.3 + 1.2706205), abs=1e-6)


def test_a_lower_level_gives_a_narrower_interval():
    # t(0.75, 4) = 0.740697
    assert mean_interval(np.array([1, 2, 3, 4, 5]), level=0.5)[2] == pytest.approx(3 + 0.7071068 * 0.740697, abs=1e-6)


def test_one_seed_says_nothing_of_the_next():
    mean, low, high = mean_interval(np.array([0.25]))
    assert mean == 0.25
    assert math.isnan(low) and math.isnan(high)


def test_the_p_value_of_a_mean_goes_with_its_interval():
    values = np.array([-0.1, -0.2, -0.35])
    half = mean_interval(values)[2] - values.mean()
    # The level at which the interval would just reach 0 is 1 - p.
    p = statistics.mean_p_value(values)
    assert mean_interval(values, level=1 - p)[2] == pytest.approx(0, abs=1e-9)
    assert (half < abs(values.mean())) == (p < 0.05)
    assert statistics.mean_p_value(np.array([3.0])) == 1


# --- paired comparisons ------------------------------------------------------------------------------------------


def compare(ours: np.ndarray, theirs: np.ndarray, resamples: int, seed: int = SEED) -> Comparison:
    means = resampled_means(np.vstack([ours, theirs]), resamples, seed)
    return statistics.compare(ours, theirs, means[:, : len(ours)], means[:, len(ours) :], seed)


def drawn(seed, seeds, users, mean=0.0, spread=1.0):
    return np.random.default_rng(seed).normal(mean, spread, (seeds, users))


def test_a_model_does_not_differ_from_itself():
    same = np.random.default_rng(0).random((1, 50))
    found = compare(same, same, resamples=200)
    assert (found.difference, found.ci_low, found.ci_high, found.effect, found.p_value) == (0, 0, 0, 0, 1)


def test_with_several_seeds_a_model_does_not_differ_from_itself_significantly():
    same = drawn(0, 5, 80)
    found = compare(same, same, resamples=1000)
    assert found.difference == 0
    assert found.ci_low < 0 < found.ci_high
    assert found.p_value > 0.5


def test_a_clear_gap_is_found_on_either_side():
    base = np.random.default_rng(0).random((3, 100))
    found = compare(base + 0.3, base, resamples=1000)
    assert found.difference == pytest.approx(0.3)
    assert 0 < found.ci_low < 0.3 < found.ci_high
    assert found.p_value == pytest.approx(2 / 1001)  # the smallest that 1000 resamples can say
    swapped = compare(base, base + 0.3, resamples=1000)
    assert swapped.ci_high < 0
    assert swapped.p_value == found.p_value


def test_the_effect_is_cohens_d_between_users():
    # seeds' means of each user: ours 1, 2, 6, theirs 1, 1, 1: differences 0, 1, 5, mean 2, deviation sqrt(7)
    ours, theirs = np.array([[0.0, 2, 6], [2, 2, 6]]), np.ones((3, 3))
    assert compare(ours, theirs, resamples=100).effect == pytest.approx(2 / 7**0.5)
    assert compare(theirs, ours, resamples=100).effect == pytest.approx(-2 / 7**0.5)
    assert compare(ours[:, :1], theirs[:, :1], resamples=100).effect == 0  # one user has no spread
    # For one seed it is what a paired t statistic is a multiple of.
    ours, theirs = drawn(0, 1, 50, mean=0.3), drawn(1, 1, 50)
    t = stats.ttest_rel(ours[0], theirs[0]).statistic
    assert compare(ours, theirs, resamples=100).effect == pytest.approx(t / 50**0.5)


def test_with_one_seed_the_interval_is_that_of_paired_normal_theory():
    base = drawn(1, 1, 400, spread=5)  # users differ much from each other
    ours = base + drawn(2, 1, 400, mean=0.1)  # and little between the models
    difference = (ours - base)[0]
    half = 1.96 * difference.std(ddof=1) / 20
    found = compare(ours, base, resamples=10_000)
    assert found.difference == pytest.approx(difference.mean())
    assert found.ci_low == pytest.approx(difference.mean() - half, abs=0.1 * half)
    assert found.ci_high == pytest.approx(difference.mean() + half, abs=0.1 * half)
    assert found.p_value == pytest.approx(stats.ttest_1samp(difference, 0).pvalue, abs=0.02)


def test_unpaired_users_would_have_hidden_it():
    base = drawn(1, 1, 400, spread=5)
    ours = base + drawn(2, 1, 400, mean=0.2)
    assert compare(ours, base, resamples=2000).p_value < 0.01
    assert compare(ours[:, ::-1], base, resamples=2000).p_value > 0.05


def test_seeds_that_disagree_widen_the_interval():
    base = drawn(1, 4, 200)
    apart = np.array([[-0.5], [0.5], [-0.4], [0.4]])
    calm, wild = compare(base + 0.1, base, resamples=1000), compare(base + 0.1 + apart, base, resamples=1000)
    assert wild.difference == pytest.approx(calm.difference)
    assert wild.ci_high - wild.ci_low > 1.5 * (calm.ci_high - calm.ci_low)


def test_seeds_are_not_paired():
    # Seed 0 of one has nothing to do with seed 0 of the other: order must not matter more than chance does.
    base = drawn(1, 5, 200) + np.arange(5)[:, None]
    straight, turned = compare(base, base, resamples=4000), compare(base[::-1], base, resamples=4000)
    assert straight.ci_high - straight.ci_low == pytest.approx(turned.ci_high - turned.ci_low, rel=0.05)
    assert straight.ci_high > 0.5


@pytest.mark.parametrize("values", [[0.0, 1.0], [0.0, 1.0, 2.0], [1.0, 4.0, 4.0, 5.0, 9.0]])
def test_means_of_drawn_seeds_vary_as_means_of_new_ones_would(values):
    drawn_means = statistics._of_drawn_seeds(np.tile(values, (20_000, 1)), np.random.default_rng(0))
    assert drawn_means.mean() == pytest.approx(np.mean(values), abs=0.03)
    assert drawn_means.std() == pytest.approx(np.std(values, ddof=1) / len(values) ** 0.5, rel=0.02)


@pytest.mark.parametrize("seeds", [1, 3, 8])
def test_the_interval_holds_the_truth_about_as_often_as_it_says(seeds):
    # Each model's seeds vary by 0.1, each user's difference by 1; the truth is 0.2.
    generator = np.random.default_rng(0)
    held = 0
    for trial in range(200):
        users = generator.normal(0, 1, 100)
        shift = 0.1 * generator.normal(size=(2, seeds, 1)) * (seeds > 1)
        noise = generator.normal(0, 0.5, (2, seeds, 100))
        found = compare(users + 0.2 + shift[0] + noise[0], users + shift[1] + noise[1], resamples=300, seed=trial)
        held += found.ci_low <= 0.2 <= found.ci_high
    assert 0.90 <= held / 200 <= 1.0


def test_under_no_difference_p_values_are_seldom_small():
    generator = np.random.default_rng(0)
    p = [compare(*generator.normal(size=(2, 1, 60)), resamples=300, seed=t).p_value for t in range(200)]
    assert np.mean(np.array(p) < 0.05) < 0.09
    assert 0.3 < np.mean(p) < 0.7


def test_numbers_of_seeds_may_differ_and_the_smaller_is_named():
    found = compare(drawn(0, 5, 30), drawn(1, 2, 30), resamples=100)
    assert (found.users, found.seeds) == (30, 2)


def test_other_users_are_refused():
    with pytest.raises(ValueError, match="not the same users: 30 and 31"):
        statistics.compare(drawn(0, 1, 30), drawn(1, 1, 31), np.zeros((9, 1)), np.zeros((9, 1)))


def test_the_same_question_gets_the_same_answer():
    ours, theirs = drawn(0, 3, 40), drawn(1, 3, 40)
    assert compare(ours, theirs, resamples=500) == compare(ours, theirs, resamples=500)
    assert compare(ours, theirs, resamples=500) != compare(ours, theirs, resamples=500, seed=1)


def test_a_gap_of_nothing_but_ties_is_not_significant():
    ours, theirs = np.zeros((1, 40)), np.zeros((1, 40))
    ours[0, 0] = 1  # one user of forty: most resamples with that user see a gap, a third see none
    assert compare(ours, theirs, resamples=2000).p_value > 0.5


def test_all_pairs_are_compared_with_the_same_drawn_users():
    gains = {"a": drawn(0, 3, 40), "b": drawn(1, 2, 40), "c": drawn(2, 1, 40)}
    table = statistics.compare_all(gains, [("c", "a"), ("b", "c")])
    for row, (ours, theirs) in zip(table.to_numpy(), (("c", "a"), ("b", "c")), strict=True):
        assert row == pytest.approx(np.array(astuple(compare(gains[ours], gains[theirs], statistics.RESAMPLES))))
    assert list(statistics.compare_all(gains, [])) == list(table)


# --- many comparisons --------------------------------------------------------------------------------------------


def test_holm_by_hand():
    # ascending .005 x 4, .01 x 3, .03 x 2, .04 x 1, then never below the one before
    assert holm(np.array([0.01, 0.04, 0.03, 0.005])) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_holm_stops_at_one_and_leaves_a_single_comparison_alone():
    assert holm(np.array([0.6, 0.7])).tolist() == [1, 1]
    assert holm(np.array([0.03])).tolist() == [0.03]
    assert holm(np.array([])).tolist() == []


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_never_lowers_a_p_value_nor_changes_their_order(values):
    p = np.array(values)
    adjusted = holm(p)
    assert (adjusted >= p).all() and (adjusted <= 1).all()
    assert (np.diff(adjusted[p.argsort(kind="stable")]) >= 0).all()
    assert (adjusted <= np.minimum(1, p * len(p))).all()  # never harsher than Bonferroni


def test_the_smallest_difference_told_is_found_in_four_of_five_samples():
    """Of a normal estimate: with the true difference at `smallest`, 80 % of the intervals exclude 0."""
    error = 0.013
    smallest = statistics.smallest_told(-1.959964 * error, 1.959964 * error)
    found = np.random.default_rng(0).normal(smallest, error, 100_000) > 1.959964 * error
    assert found.mean() == pytest.approx(0.8, abs=0.005)
