"""Laws of features that hold for every model that feeds on them as it feeds on ids; MAF's are in test_maf.py."""

from copy import deepcopy

import pytest
import torch

ITEMS, LONGEST = 20, 8  # of the models that conftest makes
MODALITIES = ("image", "text", "category")
LENGTHS = torch.full((5,), LONGEST)


@pytest.fixture(params=["sasrecf", "fdsa", "nova-sum", "nova-concat", "nova-gate"])
def model(request, make):
    return make(request.param)


def with_features(model, modality, matrix):
    other = deepcopy(model)
    other.get_buffer(f"{modality}_features").copy_(matrix)
    return other


@pytest.mark.parametrize("modality", MODALITIES)
def test_what_an_item_lacks_is_never_looked_at(model, modality, random_items):
    features, present = model._features(modality)
    other = with_features(model, modality, torch.where(present[:, None], features, 1 - features))
    items = random_items(0)
    assert (~present[items]).any()
    assert torch.equal(other.score(items, LENGTHS), model.score(items, LENGTHS))


@pytest.mark.parametrize("modality", MODALITIES)
def test_what_an_item_has_matters(model, modality, random_items):
    features, present = model._features(modality)
    other = with_features(model, modality, torch.where(present[:, None], 1 - features, features))
    change = (other.score(random_items(0), LENGTHS) - model.score(random_items(0), LENGTHS)).abs().amax(1)
    assert (change > 1e-4).all()


def test_each_modality_has_a_stream_in_the_order_asked_for(model, random_items):
    items = random_items(0)
    for modality, stream in zip(MODALITIES, model.encoded(items), strict=True):
        features, present = model._features(modality)
        expected = model.encoders[modality](items, features, present)
        assert torch.equal(stream, expected)
        assert torch.equal(
            stream[~present[items]], model.encoders[modality].missing.expand((~present[items]).sum(), -1)
        )


def test_items_that_lack_everything_differ_by_their_ids_alone(model, random_items):
    for modality in MODALITIES:
        model.get_buffer(f"{modality}_present")[[3, 7]] = False
    items = random_items(0)
    items[:, 2] = 3
    changed = items.clone()
    changed[:, 2] = 7
    with torch.no_grad():
        assert not torch.allclose(model(changed), model(items), atol=1e-4)
        model.item.weight[7] = model.item.weight[3]
        assert torch.equal(model(changed), model(items))
