"""Laws of features that hold for every model that feeds on them as it feeds on ids; MAF's are in test_maf.py."""

from copy import deepcopy

import pytest
import torch

from mmrec.models.modalities import disguised

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


# --- controls ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["permuted", "random"])
def test_disguised_features_keep_their_size_and_who_has_them(make_features, how):
    features = make_features(30)
    changed = disguised(features, how)
    again = disguised(features, how)
    for modality, (matrix, present) in features.items():
        assert torch.equal(changed[modality][1], present)
        assert changed[modality][0].shape == matrix.shape and changed[modality][0].dtype == matrix.dtype
        assert torch.equal(changed[modality][0][~present], matrix[~present])
        assert not torch.equal(changed[modality][0], matrix)
        assert torch.equal(changed[modality][0], again[modality][0])


def test_permuted_features_are_those_of_other_items(make_features):
    features = make_features(30)
    for modality, (matrix, present) in disguised(features, "permuted").items():
        rows = sorted(map(tuple, features[modality][0][present].tolist()))
        assert sorted(map(tuple, matrix[present].tolist())) == rows


def test_each_modality_is_permuted_by_itself(make_features):
    one = make_features(30)["image"]
    changed = disguised({"image": one, "text": one}, "permuted")
    assert not torch.equal(changed["image"][0], changed["text"][0])


def test_random_categories_are_as_many_as_the_item_has(make_features):
    matrix, present = make_features(30)["category"]
    changed = disguised({"category": (matrix, present)}, "random")["category"][0]
    assert torch.equal(changed.sum(1), matrix.sum(1)) and set(changed.unique().tolist()) <= {0, 1}


def test_own_features_are_left_alone(make_features):
    features = make_features(30)
    assert disguised(features, "own") is features
    before = {modality: matrix.clone() for modality, (matrix, _) in features.items()}
    disguised(features, "random")
    assert all(torch.equal(features[modality][0], matrix) for modality, matrix in before.items())
