import pytest
import torch

ITEMS, LONGEST = 20, 8  # of the models that conftest makes
MODALITIES = ("image", "text", "category")


def pass_through(model, items, features):
    """Set the last layer to `items` times the item state plus `features` times the feature state."""
    with torch.no_grad():
        model.fuse.weight.copy_(torch.cat([items * torch.eye(8), features * torch.eye(8)], 1))
        model.fuse.bias.zero_()
    return model


@torch.no_grad()
def test_the_item_transformer_alone_is_sasrec(make, random_items):
    model, sasrec = pass_through(make("fdsa"), 1, 0), make("sasrec", seed=1)
    sasrec.transformer.load_state_dict(model.item_transformer.state_dict())
    sasrec.item.load_state_dict(model.item.state_dict())
    assert torch.equal(model(random_items(0)), sasrec(random_items(0)))


@pytest.mark.parametrize("modality", MODALITIES)
@torch.no_grad()
def test_the_feature_transformer_alone_is_sasrec_on_a_modality(make, modality, random_items):
    model, sasrec = pass_through(make("fdsa", modalities=(modality,)), 0, 1), make("sasrec", seed=1)
    everything = torch.arange(ITEMS + 1)[None]
    [table] = model.encoded(everything)  # (1, V + 1, D)
    sasrec.transformer.load_state_dict(model.feature_transformer.state_dict())
    sasrec.item.weight.copy_(table[0])
    torch.testing.assert_close(model(random_items(0)), sasrec(random_items(0)), rtol=0, atol=1e-5)


@torch.no_grad()
def test_states_meet_in_the_last_layer_alone(make, random_items):
    both, items, features = (pass_through(make("fdsa"), *which) for which in ((1, 1), (1, 0), (0, 1)))
    asked = random_items(0)
    torch.testing.assert_close(both(asked), items(asked) + features(asked))


@torch.no_grad()
def test_vanilla_attention_by_hand(make, random_items):
    model = make("fdsa")
    items = random_items(0)
    streams, found = model.encoded(items), model._combined(items)
    for row in range(5):
        for place in range(LONGEST):
            own = [stream[row, place] for stream in streams]
            share = torch.stack([torch.exp(model.energy.weight[0] @ x) for x in own])
            expected = sum(weight * x for weight, x in zip(share / share.sum(), own, strict=True))
            torch.testing.assert_close(found[row, place], expected, rtol=1e-5, atol=1e-5)
