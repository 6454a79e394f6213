from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F

from mmrec.losses import softmax
from mmrec.models.item_vectors import INPUT, SCORES

ITEMS = 20  # of the models that conftest makes
NO_LOSSES = {"image_weight": 0.0, "text_weight": 0.0, "category_weight": 0.0}


@pytest.fixture
def model(make):
    return make("maf-item_vector", **NO_LOSSES)


def gradients(model, items, targets, criterion=softmax):
    loss = model.loss(items, targets, criterion)["total"]
    return [loss, *torch.autograd.grad(loss, [p for p in model.parameters() if p.requires_grad])]


def test_a_vector_is_the_id_plus_maps_of_features_or_the_learned_vector_of_a_missing_one(model, make_features):
    features, weights = make_features(ITEMS), model.state_dict()
    for item in (1, 7, ITEMS):
        expected = weights["item.weight"][item].clone()
        for modality, (matrix, present) in features.items():
            name = f"item.maps.both.{modality}"
            maps = weights[f"{name}.project.weight"] / matrix[present].square().sum(1).mean().sqrt()
            expected += maps[:, :-1] @ matrix[item] if present[item] else maps[:, -1]
        torch.testing.assert_close(model.item(torch.tensor([item]))[0], expected)
        torch.testing.assert_close(model.output_embedding()[item - 1], expected)


@pytest.mark.parametrize("train", [False, True])
@pytest.mark.parametrize("start", ["oldest", "latest"])
def test_with_maps_of_zero_it_is_sasrec_bit_for_bit(make, as_sasrec, random_items, train, start):
    model = make("maf-item_vector", **NO_LOSSES, dropout=0.5, positions_from=start).train(train)
    sasrec = make("sasrec", seed=1, dropout=0.5, positions_from=start).train(train)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "maps" in name:
                parameter.zero_()
    weights = {name: value for name, value in model.state_dict().items() if "maps" not in name}
    sasrec.load_state_dict(as_sasrec(weights), strict=True)
    found = []
    for one in (model, sasrec):
        torch.manual_seed(0)  # of dropout
        loss = one.loss(random_items(0), random_items(1), softmax)["total"]
        shared = [p for name, p in one.named_parameters() if "maps" not in name]
        found.append([loss, *torch.autograd.grad(loss, shared)])
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_with_every_channel_off_it_is_sasrec_bit_for_bit(make, as_sasrec, random_items):
    model, sasrec = make("maf-sum-added", attention=False, **NO_LOSSES), make("sasrec", seed=1)
    sasrec.load_state_dict(as_sasrec(model.state_dict()), strict=True)
    found = [gradients(one, random_items(0), random_items(1)) for one in (model, sasrec)]
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


@pytest.mark.parametrize("name", ["maf-item_vector", "maf-apart", "maf-features", "gru4rec-item_vector"])
def test_the_chunked_softmax_carries_gradients_to_the_maps(make, random_items, name):
    model = make(name)

    def plain(hidden, table, targets):
        return F.cross_entropy(hidden @ table.T, targets)

    found = [gradients(model, random_items(0), random_items(1), loss) for loss in (softmax, plain)]
    for ours, expected in zip(*found, strict=True):
        torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("name", ["maf-item_vector", "maf-apart", "maf-features", "gru4rec-item_vector", "unisrec-ids"])
def test_losses_that_share_a_table_have_the_gradients_of_their_sum(make, random_items, name):
    shared = make(name)
    apart = deepcopy(shared)
    pairs = [(random_items(0), random_items(1)), (random_items(2, (3, 4)), random_items(3, (3, 4)))]
    with shared.shared():
        for items, targets in pairs:
            shared.loss(items, targets, softmax)["total"].backward()
    sum(apart.loss(items, targets, softmax)["total"] for items, targets in pairs).backward()
    expected = {name: weight.grad for name, weight in apart.named_parameters() if weight.grad is not None}
    found = {name: weight.grad for name, weight in shared.named_parameters() if weight.grad is not None}
    assert any("maps" in name for name in found)
    torch.testing.assert_close(found, expected)


def test_a_table_is_shared_no_longer_after_an_error(model, random_items):
    with pytest.raises(KeyError), model.shared():
        raise KeyError
    assert gradients(model, random_items(0), random_items(1))


def test_apart_gives_input_and_scores_maps_of_their_own(make):
    model = make("maf-apart")
    assert not torch.equal(model.item.table(INPUT), model.item.table(SCORES))
    difference = model.item.table(INPUT) - model.item.table(SCORES)
    with torch.no_grad():
        model.item.weight += 1
    torch.testing.assert_close(model.item.table(INPUT) - model.item.table(SCORES), difference)


def test_features_alone_tell_apart_no_two_items_with_the_same(make, make_features):
    features = make_features(ITEMS)
    for matrix, present in features.values():
        matrix[5], present[5] = matrix[9], present[9]
    table = make("maf-features", features=features).output_embedding()
    assert torch.equal(table[4], table[8]) and not torch.equal(table[4], table[5])


@pytest.mark.parametrize("change", ["weight", "features", "load"])
def test_scores_follow_a_change_of_weights_or_features(model, random_items, change):
    items, lengths = random_items(0), torch.full((5,), 8)
    before = model.score(items, lengths)
    assert torch.equal(model.score(items, lengths), before)
    kept = deepcopy(model.state_dict())
    with torch.no_grad():
        if change == "features":
            model.item.maps["both"]["text"].features += 1
        else:
            model.item.maps["both"]["text"].project.weight += 1
    after = model.score(items, lengths)
    assert not torch.isclose(after, before).all()
    if change == "load":
        model.load_state_dict(kept)
        assert torch.equal(model.score(items, lengths), before)


def test_scores_follow_a_step_of_training(model, random_items):
    items, lengths = random_items(0), torch.full((5,), 8)
    model.score(items, lengths)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1, fused=True)  # leaves versions of tensors as they are
    model.train().loss(items, random_items(1), softmax)["total"].backward()
    optimiser.step()
    found = model.eval().score(items, lengths)
    assert torch.equal(found, deepcopy(model).train().eval().score(items, lengths))
    torch.testing.assert_close(found, model(items)[:, -1] @ model.output_embedding().T)


def test_scoring_computes_the_table_once(model, random_items, monkeypatch):
    computed = []
    monkeypatch.setattr(type(model.item), "_computed", lambda self, side: computed.append(side) or self.weight)
    for seed in range(3):
        model.score(random_items(seed), torch.full((5,), 8))
    assert computed == ["both"]


def test_the_scale_of_features_is_that_of_training(model, make, make_features):
    features = {m: (10 * matrix, present) for m, (matrix, present) in make_features(ITEMS).items()}
    other = make("maf-item_vector", seed=5, features=features, **NO_LOSSES)
    other.load_state_dict(model.state_dict())
    mapped = [one.output_embedding() - one.item.weight[1:] for one in (model, other)]
    present = torch.stack([p for _, p in features.values()]).all(0)[1:]
    torch.testing.assert_close(10 * mapped[0][present], mapped[1][present])
