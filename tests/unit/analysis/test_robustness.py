import numpy as np
import pytest
import torch

from mmrec.analysis import robustness
from mmrec.evaluation import evaluate, gains


@pytest.fixture
def feature():
    generator = torch.Generator().manual_seed(0)
    present = torch.arange(201) % 4 != 0
    matrix = torch.randn(201, 3, generator=generator) * torch.tensor([1.0, 10.0, 0.1])
    return matrix.where(present[:, None], 0), present


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_missing_removes_the_share_of_items(feature, share):
    matrix, present = robustness.missing(feature, share)
    assert (feature[1] & ~present).sum() == round(share * 150)
    assert not (present & ~feature[1]).any()
    assert torch.equal(matrix, feature[0])


def test_a_smaller_missing_share_is_part_of_a_larger_one(feature, monkeypatch):
    few, many = (robustness.missing(feature, share)[1] for share in (0.3, 0.5))
    assert not (many & ~few).any()
    monkeypatch.setattr(robustness, "SEED", 1)
    assert not torch.equal(robustness.missing(feature, 0.3)[1], few)


@pytest.mark.parametrize("strength", [0.25, 2.0])
def test_noise_is_measured_in_deviations_of_each_column(feature, strength):
    matrix, present = robustness.noisy(feature, strength)
    change = (matrix - feature[0])[present]
    of_column = feature[0][present].std(0)
    assert (change.std(0) / of_column).tolist() == pytest.approx([strength] * 3, rel=0.2)
    assert change.mean(0).abs().max() < 0.3 * (strength * of_column).max()
    assert torch.equal(matrix[~present], feature[0][~present]) and torch.equal(present, feature[1])
    assert torch.equal(robustness.noisy(feature, strength)[0], matrix)


def test_disturbances_leave_their_input_alone(feature):
    before = [x.clone() for x in feature]
    robustness.missing(feature, 1.0)
    robustness.noisy(feature, 1.0)
    assert all(torch.equal(x, y) for x, y in zip(before, feature, strict=True))


class Alike:
    """Recommends what has the image most like the last item's."""

    def __init__(self, data):
        matrix, present = data.features["image"]
        self.matrix = matrix * present[:, None]

    def score(self, items, lengths):
        last = items[torch.arange(len(items)), lengths - 1]
        return self.matrix[last] @ self.matrix[1:].T


def alike(data, seeds):
    return [Alike(data) for _ in seeds]


def test_each_seed_has_draws_of_its_own(shop):
    first, second = robustness.disturbed(alike, shop, 8, [0, 1])["missing", "image", 0.5]
    assert (first != second).any()
    alone = robustness.disturbed(alike, shop, 8, [1], ["missing"])["missing", "image", 0.5]
    assert (alone[0] == second).all()


def test_gains_of_every_kind_modality_level_model_and_user(shop):
    found = robustness.disturbed(alike, shop, 8, [0, 1])
    names = [*shop.features, "all"]
    assert list(found) == [
        (kind, modality, level)
        for kind, levels in (("missing", robustness.MISSING), ("noise", robustness.NOISE))
        for modality in names
        for level in (0.0, *levels)
    ]
    whole = gains(evaluate(Alike(shop).score, shop.sequences, "test", 8)["full_unseen"].to_numpy(), "ndcg", 10)
    for (_, modality, level), gained in found.items():
        assert gained.shape == (2, len(whole))
        assert (gained == whole).all() == (level == 0 or modality not in ("image", "all"))


def test_items_without_images_tie_and_ties_count_against(shop):
    found = robustness.disturbed(alike, shop, 8, [0])
    assert not found["missing", "image", 1.0].any()


def test_one_kind_of_disturbance_alone(shop):
    some = robustness.disturbed(alike, shop, 8, [0], ["missing"])
    both = robustness.disturbed(alike, shop, 8, [0])
    assert list(some) == [key for key in both if key[0] == "missing"]
    assert all((some[key] == both[key]).all() for key in some)


def gained(*by_level, modality="image"):
    return {("missing", modality, level): np.array(rows, float) for level, rows in by_level}


def test_losses_are_of_the_same_model_and_the_same_users():
    # Seeds and users differ by ten times what is lost: 0.1 by every user and model.
    whole = np.random.default_rng(0).normal(0, 1, (3, 50))
    image = gained((0.0, whole), (0.5, whole - 0.1), (1.0, whole - 0.1 - 0.01 * whole))
    other_kind = {("noise", "image", level): gain for (_, _, level), gain in image.items()}
    table = robustness.losses_table(image | gained((0.0, whole), (0.5, whole), modality="text") | other_kind)
    noise = table[table["kind"] == "noise"].set_index("level")
    assert noise["loss"][0.5] == pytest.approx(0.1) and noise["p_holm"][0.5] == noise["p_value"][0.5]
    table = table[table["kind"] == "missing"]
    assert list(table) == [
        *("kind", "modality", "level", "ndcg_10", "loss", "ci_low", "ci_high", "p_value", "p_holm", "users", "seeds"),
    ]
    rows = table.set_index(["modality", "level"])
    assert rows["loss"].tolist() == pytest.approx([0, 0.1, 0.1 + 0.01 * whole.mean(), 0, 0])
    assert rows["ndcg_10"]["image", 0.5] == pytest.approx(whole.mean() - 0.1)
    exact, spread = rows.loc[("image", 0.5)], rows.loc[("image", 1.0)]
    assert exact["ci_low"] == pytest.approx(0.1) and exact["ci_high"] == pytest.approx(0.1)
    assert 0.09 < spread["ci_low"] < spread["loss"] < spread["ci_high"] < 0.11
    # Two modalities are disturbed at level 0.5, one at 1.
    assert exact["p_holm"] == pytest.approx(2 * exact["p_value"]) and spread["p_holm"] == spread["p_value"]
    assert rows["p_value"]["text", 0.5] == 1
    assert (table["users"] == 50).all() and (table["seeds"] == 3).all()


def test_modality_dropout_is_a_difference_between_two_models():
    base = np.random.default_rng(0).random((2, 80))
    without = gained((0.0, base), (1.0, base - 0.5))
    with_dropout = gained((0.0, base - 0.1), (1.0, base - 0.1))
    table = robustness.modality_dropout_table(without, with_dropout).set_index("level")
    assert table["ndcg_10"].tolist() == pytest.approx([base.mean() - 0.1] * 2)
    assert table["without"].tolist() == pytest.approx([base.mean(), base.mean() - 0.5])
    assert table["difference"].tolist() == pytest.approx([-0.1, 0.4])
    assert table["ci_low"][1.0] > 0 > table["ci_high"][0.0]
    assert table["extra"].tolist() == pytest.approx([0, 0.5])  # dropout costs 0.1 where nothing is missing
    assert table["extra_low"][1.0] == pytest.approx(0.5) == table["extra_high"][1.0]  # of every user
