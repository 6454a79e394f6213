from dataclasses import replace

import pytest
import torch

from mmrec import robustness
from mmrec.evaluation import evaluate, gains


@pytest.fixture
def feature():
    generator = torch.Generator().manual_seed(0)
    present = torch.arange(201) % 4 != 0
    matrix = torch.randn(201, 3, generator=generator) * torch.tensor([1.0, 10.0, 0.1])
    return matrix.where(present[:, None], 0), present


@pytest.mark.parametrize("share", [0.0, 0.1, 0.5, 1.0])
def test_so_many_lose_it(feature, share):
    matrix, present = robustness.missing(feature, share)
    assert (feature[1] & ~present).sum() == round(share * 150)
    assert not (present & ~feature[1]).any()
    assert torch.equal(matrix, feature[0])


def test_less_is_part_of_more(feature):
    few, many = (robustness.missing(feature, share)[1] for share in (0.3, 0.5))
    assert not (many & ~few).any()
    assert not torch.equal(robustness.missing(feature, 0.3, seed=1)[1], few)


@pytest.mark.parametrize("strength", [0.25, 2.0])
def test_noise_is_measured_in_deviations_of_each_column(feature, strength):
    matrix, present = robustness.noisy(feature, strength)
    change = (matrix - feature[0])[present]
    of_column = feature[0][present].std(0)
    assert (change.std(0) / of_column).tolist() == pytest.approx([strength] * 3, rel=0.2)
    assert change.mean(0).abs().max() < 0.3 * (strength * of_column).max()
    assert torch.equal(matrix[~present], feature[0][~present]) and torch.equal(present, feature[1])
    assert torch.equal(robustness.noisy(feature, strength)[0], matrix)


def test_nothing_is_changed_in_place(feature):
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


def test_every_kind_modality_and_level_is_asked(shop):
    table = robustness.robustness(lambda data: [Alike(data), Alike(data)], shop, 8)
    assert list(table) == ["kind", "modality", "level", "model", "ndcg_10"]
    assert len(table) == 2 * 4 * 5 * 2 and not table.duplicated(["kind", "modality", "level", "model"]).any()
    whole = gains(evaluate(Alike(shop).score, shop.sequences, "test", 8)["full_unseen"].to_numpy(), "ndcg", 10).mean()
    assert (table["ndcg_10"][table["level"] == 0] == whole).all()
    by_image = table[table["modality"].isin(["image", "all"]) & (table["level"] > 0)]
    other = table[~table["modality"].isin(["image", "all"])]
    assert (by_image["ndcg_10"] != whole).all() and (other["ndcg_10"] == whole).all()


def test_without_any_image_all_items_tie_and_ties_count_against(shop):
    table = robustness.robustness(lambda data: [Alike(data)], shop, 8)
    gone = table[(table["kind"] == "missing") & (table["modality"] == "image") & (table["level"] == 1)]
    assert gone["ndcg_10"].tolist() == [0]


def test_one_kind_alone(shop):
    table = robustness.robustness(lambda data: [Alike(data)], shop, 8, ["missing"])
    both = robustness.robustness(lambda data: [Alike(data)], shop, 8)
    assert table.equals(both[both["kind"] == "missing"])


@pytest.mark.parametrize("name, group", [("maf", "main"), ("dropped", "probes")])
def test_a_model_of_every_seed_from_the_group_that_has_it(paths, shop, settings, monkeypatch, name, group):
    given = []
    monkeypatch.setattr(robustness.experiments, "trained_model", lambda *args: given.append(args) or args[5])
    several = settings.experiments | {"probes": {"dropped": settings.experiments["main"]["maf"]}}
    settings = replace(settings, experiments=several)
    seeds = settings.seeds_of("shop")
    assert robustness.trained(paths, settings, "shop", name, replace(shop)) == list(seeds)
    assert [args[3:5] for args in given] == [(group, name)] * len(seeds)
