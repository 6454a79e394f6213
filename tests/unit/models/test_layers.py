import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from mmrec.models.layers import Block, Dropout, ScoreFusion, StreamAttention, causal_mask, initialise

B, T, D, H = 3, 6, 8, 2
FUSIONS = ("sum", "concat", "gate")


def attention(dims=(D, 6, 4), fusion="sum", dropout=0.0, max_length=T, seed=0):
    torch.manual_seed(seed)
    module = StreamAttention(stream_dims=list(dims), heads=H, dropout=dropout, fusion=fusion, max_length=max_length)
    streams = [torch.randn(B, T, dim) for dim in dims]
    return module.eval(), streams


# --- attention ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("need_weights", [False, True])
def test_one_stream_is_pytorchs_own_attention(need_weights):
    module, [x] = attention(dims=(D,))
    reference = nn.MultiheadAttention(D, H, batch_first=True).eval()
    with torch.no_grad():
        parts = [module.query[0], module.key[0], module.value]
        reference.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        reference.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        reference.out_proj.load_state_dict(module.out.state_dict())
    expected, weights = reference(x, x, x, attn_mask=~causal_mask(T, x.device), average_attn_weights=False)
    found, shown, _ = module([x], need_weights=need_weights)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    if need_weights:
        torch.testing.assert_close(shown, weights, rtol=1e-5, atol=1e-6)


def test_the_fast_sum_is_the_explicit_sum():
    module, streams = attention()
    fast, slow = module(streams)[0], module(streams, need_weights=True)[0]
    torch.testing.assert_close(fast, slow, rtol=0, atol=1e-5)
    [gradients, reference] = (torch.autograd.grad(y.square().sum(), list(module.parameters())) for y in (fast, slow))
    torch.testing.assert_close(gradients, reference, rtol=1e-3, atol=1e-5)


def test_the_sum_by_hand():
    """softmax((sum_s Q_s K_s^T) / sqrt(D / H)) V, one head at a time."""
    module, streams = attention()
    values = module.value(streams[0])
    heads = []
    for head in range(H):
        score = torch.zeros(B, T, T)
        for query, key, x in zip(module.query, module.key, streams, strict=True):
            width = x.shape[-1] // H
            part = slice(head * width, (head + 1) * width)
            score += query(x)[..., part] @ key(x)[..., part].transpose(1, 2)
        score = (score / math.sqrt(D / H)).masked_fill(torch.ones(T, T).triu(1).bool(), -math.inf)
        heads.append(score.softmax(-1) @ values[..., head * D // H : (head + 1) * D // H])
    torch.testing.assert_close(module(streams)[0], module.out(torch.cat(heads, -1)), rtol=1e-5, atol=1e-6)


REAL = torch.arange(T) < torch.tensor([[6], [4], [1]])  # (B, T)


@pytest.mark.parametrize("need_weights", [False, True])
def test_with_a_key_mask_it_is_pytorchs_own_attention_in_both_directions(need_weights):
    module, [x] = attention(dims=(D,))
    reference = nn.MultiheadAttention(D, H, batch_first=True).eval()
    with torch.no_grad():
        parts = [module.query[0], module.key[0], module.value]
        reference.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        reference.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
        reference.out_proj.load_state_dict(module.out.state_dict())
    expected, weights = reference(x, x, x, key_padding_mask=~REAL, average_attn_weights=False)
    found, shown, _ = module([x], need_weights, REAL)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    if need_weights:
        torch.testing.assert_close(shown, weights, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_masked_keys_change_nothing(fusion):
    module, streams = attention(fusion=fusion)
    changed = [torch.where(REAL[..., None], x, torch.randn_like(x)) for x in streams]
    (before, weights, scores), after = module(streams, True, REAL), module(changed, True, REAL)[0]
    assert torch.equal(after[REAL], before[REAL])
    hidden = ~REAL[:, None, None].expand(B, H, T, T)
    assert (weights[hidden] == 0).all() and (weights[~hidden] > 0).all()
    assert (scores.movedim(2, 0)[:, hidden] == 0).all()


@pytest.mark.parametrize("fusion", FUSIONS)
def test_weights_are_causal_and_sum_to_one(fusion):
    module, streams = attention(fusion=fusion)
    _, weights, scores = module(streams, need_weights=True)
    assert weights.shape == (B, H, T, T)
    assert scores.shape == (B, H, 3, T, T)
    torch.testing.assert_close(weights.sum(-1), torch.ones(B, H, T))
    assert (weights.triu(1) == 0).all() and (scores.triu(1) == 0).all()
    assert (weights.tril() > 0).sum() == B * H * T * (T + 1) / 2


def test_for_sum_the_shown_scores_are_those_that_make_the_weights():
    module, streams = attention()
    _, weights, scores = module(streams, need_weights=True)
    again = scores.sum(2).masked_fill(~causal_mask(T, scores.device), -math.inf).softmax(-1)
    torch.testing.assert_close(again, weights)


@pytest.mark.parametrize("fusion", FUSIONS)
def test_values_come_from_the_first_stream_alone(fusion):
    module, streams = attention(fusion=fusion)
    with torch.no_grad():
        for query in module.query:
            query.weight.zero_()
            query.bias.zero_()  # scores are then all 0: the other streams steer nothing
    changed = [streams[0], *(torch.randn_like(x) for x in streams[1:])]
    assert torch.equal(module(streams)[0], module(changed)[0])


@pytest.mark.parametrize("fusion", FUSIONS)
def test_every_stream_steers_attention(fusion):
    module, streams = attention(fusion=fusion)
    for changed in range(3):
        other = [torch.randn_like(x) if number == changed else x for number, x in enumerate(streams)]
        assert (module(streams)[0] - module(other)[0]).abs().max() > 1e-3


@pytest.mark.parametrize("need_weights", [False, True])
def test_dropout_of_weights_happens_in_training_only(need_weights):
    module, streams = attention(dropout=0.5)
    assert torch.equal(module(streams, need_weights)[0], module(streams, need_weights)[0])
    module.train()
    assert not torch.equal(module(streams, need_weights)[0], module(streams, need_weights)[0])


def test_dropout_keeps_the_mean_and_loses_its_share():
    torch.manual_seed(0)
    drop, x = Dropout(0.3), torch.full((1000, 100), 7.0)
    dropped = drop(x)
    assert ((dropped == 0) | torch.isclose(dropped, x / 0.7)).all()
    assert (dropped == 0).float().mean().item() == pytest.approx(0.3, abs=0.01)
    assert dropped.mean().item() == pytest.approx(7, rel=0.01)
    assert torch.equal(drop.eval()(x), x)


def test_dropout_of_nothing_draws_nothing():
    state = torch.get_rng_state()
    x = torch.ones(3)
    assert Dropout(0.0)(x) is x
    assert torch.equal(torch.get_rng_state(), state)


def test_dropout_passes_the_gradient_of_what_it_keeps():
    x = torch.ones(1000, requires_grad=True)
    dropped = Dropout(0.5)(x)
    dropped.sum().backward()
    assert torch.equal(x.grad, dropped.detach())


# --- fusion ------------------------------------------------------------------------------------------------------


def scores_of(streams=3, length=T):
    return torch.randn(B, H, streams, length, length, generator=torch.Generator().manual_seed(0)).tril()


def test_sum_adds():
    one, two, three = scores_of().unbind(2)
    fused = ScoreFusion(kind="sum", streams=3, max_length=T)(scores_of())
    torch.testing.assert_close(fused, one + two + three)


@pytest.mark.parametrize("length", [T, 4])
def test_concat_with_identities_side_by_side_is_the_sum(length):
    fusion = ScoreFusion(kind="concat", streams=3, max_length=T)
    with torch.no_grad():
        fusion.mix.weight.copy_(torch.eye(T).repeat(1, 3))
        fusion.mix.bias.zero_()
    torch.testing.assert_close(fusion(scores_of(length=length)), scores_of(length=length).sum(2))


@pytest.mark.parametrize("length", [T, 4])
def test_concat_is_one_linear_map_of_the_rows_side_by_side(length):
    torch.manual_seed(0)
    fusion = ScoreFusion(kind="concat", streams=3, max_length=T)
    scores = scores_of(length=length)
    rows = F.pad(scores, (0, T - length)).transpose(2, 3).flatten(3)  # (B, H, T, S * L)
    torch.testing.assert_close(fusion(scores), fusion.mix(rows)[..., :length])


def test_a_gate_of_equal_energies_is_the_mean():
    fusion = ScoreFusion(kind="gate", streams=3, max_length=T)
    with torch.no_grad():
        fusion.energy_out.weight.zero_()
    torch.testing.assert_close(fusion(scores_of()), scores_of().mean(2))


@pytest.mark.parametrize("length", [T, 4])
def test_a_gate_weighs_streams_by_softmax_of_their_energies(length):
    torch.manual_seed(0)
    fusion = ScoreFusion(kind="gate", streams=3, max_length=T)
    scores = scores_of(length=length)
    energy = fusion.energy_out(fusion.energy_in(F.pad(scores, (0, T - length))).relu())  # (B, H, S, T, 1)
    share = energy.exp() / energy.exp().sum(2, keepdim=True)
    torch.testing.assert_close(fusion(scores), (share * scores).sum(2))
    assert share.std() > 1e-3


# --- block -------------------------------------------------------------------------------------------------------


def test_a_block_is_attention_then_feed_forward_each_with_residual_and_norm_after():
    torch.manual_seed(0)
    block = Block(stream_dims=[D, 4], heads=H, dropout=0.3, fusion="sum", max_length=T).eval()
    x, other = torch.randn(B, T, D), torch.randn(B, T, 4)
    middle = F.layer_norm(x + block.attention([x, other])[0], (D,))
    inner, _, outer = block.feed_forward
    assert inner.out_features == 4 * D
    expected = F.layer_norm(middle + outer(F.gelu(inner(middle))), (D,))
    torch.testing.assert_close(block(x, [other])[0], expected)


def test_a_block_of_one_stream_is_pytorchs_own_encoder_layer():
    torch.manual_seed(0)
    block = Block(stream_dims=[D], heads=H, dropout=0.0, fusion="sum", max_length=T)
    reference = nn.TransformerEncoderLayer(D, H, 4 * D, dropout=0.0, activation="gelu", batch_first=True)
    inner, _, outer = block.feed_forward
    parts = [block.attention.query[0], block.attention.key[0], block.attention.value]
    with torch.no_grad():
        for norm in (block.attention_norm, block.feed_forward_norm):
            norm.weight.normal_()
            norm.bias.normal_()
        reference.self_attn.in_proj_weight.copy_(torch.cat([part.weight for part in parts]))
        reference.self_attn.in_proj_bias.copy_(torch.cat([part.bias for part in parts]))
    for theirs, ours in (
        (reference.self_attn.out_proj, block.attention.out),
        (reference.norm1, block.attention_norm),
        (reference.linear1, inner),
        (reference.linear2, outer),
        (reference.norm2, block.feed_forward_norm),
    ):
        theirs.load_state_dict(ours.state_dict())
    x = torch.randn(B, T, D)
    expected = reference(x, src_mask=~causal_mask(T, x.device), is_causal=True)
    torch.testing.assert_close(block(x, [])[0], expected, rtol=1e-5, atol=1e-5)


# --- small parts -------------------------------------------------------------------------------------------------


def test_the_mask_lets_a_row_look_at_itself_and_before():
    assert causal_mask(3, torch.device("cpu")).tolist() == [[True, False, False], [True, True, False], [True] * 3]


def test_weights_begin_small_and_biases_at_zero():
    torch.manual_seed(0)
    layer, table, norm = nn.Linear(100, 100), nn.Embedding(100, 100), nn.LayerNorm(4)
    for module in (layer, table, norm):
        initialise(module)
    assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert table.weight.std().item() == pytest.approx(0.02, rel=0.05)
    assert (layer.bias == 0).all()
    assert (norm.weight == 1).all()
