import math
from copy import deepcopy

import pytest
import torch

from mmrec.models.nova import EmbeddingFusion

ITEMS, LONGEST = 20, 8  # of the models that conftest makes
MODALITIES = ("image", "text", "category")
FUSIONS = ("sum", "concat", "gate")


# --- known models --------------------------------------------------------------------------------------------------


def without_positions(model):
    """Positions as they are, multiplied by 0."""
    with torch.no_grad():
        model.position.weight.zero_()
        if hasattr(model, "position_norm"):
            model.position_norm.bias.zero_()
    return model


@torch.no_grad()
def test_without_modalities_and_positions_it_is_sasrec_without_positions(make, as_sasrec, random_items):
    nova, sasrec = without_positions(make("nova-sum", modalities=())), make("sasrec", seed=1)
    weights = {name: value for name, value in nova.state_dict().items() if not name.startswith("position_norm")}
    sasrec.load_state_dict(as_sasrec(weights), strict=True)
    assert torch.equal(nova(random_items(0)), sasrec(random_items(0)))


@torch.no_grad()
def test_concat_that_adds_is_sum(make, random_items):
    added, mixed = make("nova-sum"), make("nova-concat")
    mixed.load_state_dict(added.state_dict(), strict=False)
    for fusion in mixed.fusions:
        fusion.mix.weight.copy_(torch.eye(8).repeat(1, 5))
        fusion.mix.bias.zero_()
    torch.testing.assert_close(mixed(random_items(0)), added(random_items(0)), rtol=0, atol=1e-5)


# --- values come from ids alone ------------------------------------------------------------------------------------


@pytest.mark.parametrize("fusion", FUSIONS)
@torch.no_grad()
def test_where_no_query_asks_neither_features_nor_positions_matter(make, fusion, random_items):
    model = make(f"nova-{fusion}")
    for block in model.blocks:
        block.attention.query[0].weight.zero_()
        block.attention.query[0].bias.zero_()
    other = deepcopy(model)
    for modality in MODALITIES:
        features = other.get_buffer(f"{modality}_features")
        features.copy_(1 - features)
        other.encoders[modality].missing.mul_(-1)
    other.position.weight.mul_(-1)
    assert torch.equal(other(random_items(0)), model(random_items(0)))
    other.item.weight.mul_(-1)
    assert not torch.allclose(other(random_items(0)), model(random_items(0)), atol=1e-2)


@pytest.mark.parametrize("fusion", FUSIONS)
@torch.no_grad()
def test_the_first_state_is_the_items_own(make, fusion, random_items):
    """One item can only look at itself: whatever guides attention, its weight is 1, and its value is its id's."""
    model = make(f"nova-{fusion}")
    other = deepcopy(model)
    for modality in MODALITIES:
        features = other.get_buffer(f"{modality}_features")
        features.copy_(1 - features)
    change = (other(random_items(0)) - model(random_items(0))).abs().amax(2)
    assert (change[:, 0] == 0).all()
    assert (change[:, -1] > 1e-4).all()


# --- equations -----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_fusions_by_hand():
    torch.manual_seed(0)
    streams = [torch.randn(2, 3, 4) for _ in range(3)]
    fusions = {kind: EmbeddingFusion(kind=kind, streams=3, dim=4) for kind in FUSIONS}
    for row in range(2):
        for place in range(3):
            own = [stream[row, place] for stream in streams]
            gates = [1 / (1 + math.exp(-(fusions["gate"].gate.weight[0] @ f))) for f in own]
            expected = {
                "sum": own[0] + own[1] + own[2],
                "concat": fusions["concat"].mix.weight @ torch.cat(own) + fusions["concat"].mix.bias,
                "gate": sum(gate * f for gate, f in zip(gates, own, strict=True)),
            }
            for kind, fusion in fusions.items():
                torch.testing.assert_close(fusion(streams)[row, place], expected[kind], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
@torch.no_grad()
def test_every_layer_by_hand(make, fusion, random_items):
    """softmax(Q K^T / sqrt(d_k)) V with Q, K from what is fused, V from ids; each layer fuses anew."""
    model = make(f"nova-{fusion}", heads=1)
    items = random_items(0)
    x = model.norm(model.item(items))
    side = [model.position_norm(model.position.weight).expand(5, -1, -1), *model.encoded(items)]
    future = torch.ones(LONGEST, LONGEST).triu(1).bool()
    for fuse, block in zip(model.fusions, model.blocks, strict=True):
        guide, attention = fuse([x, *side]), block.attention
        scores = attention.query[0](guide) @ attention.key[0](guide).transpose(1, 2) / math.sqrt(8)
        moved = scores.masked_fill(future, -math.inf).softmax(-1) @ attention.value(x)
        x = block.attention_norm(x + attention.out(moved))
        x = block.feed_forward_norm(x + block.feed_forward(x))
    torch.testing.assert_close(model(items), x, rtol=0, atol=1e-5)
    assert model.fusions[0] is not model.fusions[1]


@torch.no_grad()
def test_a_guided_block_shows_what_it_does(make):
    block = make("nova-sum").blocks[0]
    x, guide = torch.randn(2, 5, 4, 8)
    fast, slow = block(x, [], guide=guide)[0], block(x, [], need_weights=True, guide=guide)[0]
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-5)
