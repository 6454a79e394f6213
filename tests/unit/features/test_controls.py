import pytest
import torch

from mmrec.config import DataControls
from mmrec.features.controls import controlled_features, controlled_histories, disguised, rarest


def test_by_default_the_data_stay_as_they_are(shop):
    assert controlled_features(shop.features, DataControls(), 0) is shop.features
    assert controlled_histories(shop.sequences, DataControls(), "valid", 3) is shop.sequences


def test_features_none_removes_every_modality(shop):
    assert controlled_features(shop.features, DataControls(features="none", categories="rarest"), 0) == {}


@pytest.mark.parametrize("how", ["permuted", "random"])
def test_the_rarest_category_is_chosen_before_features_are_disguised(shop, how):
    matrix, present = shop.features["category"]
    assert (rarest(matrix) != matrix).any()
    expected = disguised(shop.features | {"category": (rarest(matrix), present)}, how)
    found = controlled_features(shop.features, DataControls(features=how, categories="rarest"), 0)
    for modality, tensors in expected.items():
        assert all(torch.equal(*pair) for pair in zip(found[modality], tensors, strict=True))


def test_rarest_changes_categories_alone(shop):
    found = controlled_features(shop.features, DataControls(categories="rarest"), 0)
    assert found["category"][0].sum() < shop.features["category"][0].sum()
    assert found["image"] is shop.features["image"] and found["text"] is shop.features["text"]


@pytest.mark.parametrize("split", ["valid", "test"])
def test_shuffled_histories_depend_on_seed_and_split(shop, split):
    found = controlled_histories(shop.sequences, DataControls(histories="shuffled"), split, 3)
    assert torch.equal(found.items, shop.sequences.shuffled(split, 3).items)
    assert not torch.equal(found.items, shop.sequences.items)


@pytest.mark.parametrize("how", ["permuted", "random"])
def test_disguised_features_keep_shape_and_presence(make_features, how):
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


def test_random_categories_keep_the_number_of_each_item(make_features):
    matrix, present = make_features(30)["category"]
    changed = disguised({"category": (matrix, present)}, "random")["category"][0]
    assert torch.equal(changed.sum(1), matrix.sum(1)) and set(changed.unique().tolist()) <= {0, 1}


def test_features_are_changed_in_a_copy(make_features):
    features = make_features(30)
    before = {modality: matrix.clone() for modality, (matrix, _) in features.items()}
    disguised(features, "random")
    assert all(torch.equal(features[modality][0], matrix) for modality, matrix in before.items())


def test_features_are_drawn_once_or_anew_for_each_seed(shop):
    def drawn(draws, seed):
        return controlled_features(shop.features, DataControls(features="permuted", draws=draws), seed)["text"][0]

    assert torch.equal(drawn("once", 0), drawn("once", 1))
    assert torch.equal(drawn("each_seed", 1), drawn("each_seed", 1))
    several = [drawn("once", 0), *(drawn("each_seed", seed) for seed in range(3))]
    assert len({tuple(one.flatten().tolist()) for one in several}) == 4
