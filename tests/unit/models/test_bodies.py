from dataclasses import replace

import pytest
import torch

from mmrec import config
from mmrec.models.bodies import BODIES
from mmrec.models.layers import Block

B, T, LAYERS = 3, 5, 2
SETTINGS = config.MAF(
    **{"dim": 8, "stream_dim": 8, "layers": LAYERS, "heads": 2, "dropout": 0.0, "positions_from": "oldest"},
    **{"modalities": (), "fusion_stage": "scores", "score_fusion": "sum", "position": "added"},
    **{"image_weight": 0.0, "text_weight": 0.0, "category_weight": 0.0, "regression": "cosine"},
    **{"weighting": "fixed", "modality_dropout": 0.0},
)


def made(stage, widths=(8, 8, 8), seed=0):
    torch.manual_seed(seed)
    found = BODIES[stage](replace(SETTINGS, fusion_stage=stage), list(widths), T).eval()
    streams = [torch.randn(B, T, width) for width in widths]
    return found, streams[0], streams[1:]


def through(blocks, x):
    for block in blocks:
        x, _, _ = block(x, [])
    return x


def test_late_is_the_average_of_towers_that_know_nothing_of_each_other():
    late, x, others = made("late")
    expected = sum(through(tower, stream) for tower, stream in zip(late.towers, [x, *others], strict=True)) / 3
    torch.testing.assert_close(late(x, others), expected)
    assert sum(isinstance(part, Block) for part in late.modules()) == 3 * LAYERS


def test_late_states_average_the_scores():
    late, x, others = made("late")
    table = torch.randn(20, 8)
    scores = [through(tower, stream) @ table.T for tower, stream in zip(late.towers, [x, *others], strict=True)]
    torch.testing.assert_close(late(x, others) @ table.T, torch.stack(scores).mean(0))


def test_early_concat_maps_what_stands_side_by_side():
    early, x, others = made("early_concat", (8, 6, 4))
    mixed = torch.cat([x, *others], 2) @ early.mix.weight.T + early.mix.bias
    torch.testing.assert_close(early(x, others), through(early.blocks, mixed))


def test_early_sum_begins_with_the_mean_and_learns_whom_to_prefer():
    early, x, others = made("early_sum")
    torch.testing.assert_close(early(x, others), through(early.blocks, (x + others[0] + others[1]) / 3))
    with torch.no_grad():
        early.preference.copy_(torch.tensor([-50.0, 50.0, -50.0]))
    torch.testing.assert_close(early(x, others), through(early.blocks, others[0]))


def test_joint_guides_queries_and_keys_by_all_streams_and_moves_the_id_stream():
    joint, x, others = made("joint", (8, 6, 4))
    expected = x
    for guide, block in zip(joint.guides, joint.blocks, strict=True):
        expected, _, _ = block(expected, [], guide=guide(torch.cat([expected, *others], 2)))
    torch.testing.assert_close(joint(x, others), expected)


def test_cross_asks_with_the_id_stream_alone():
    """Scores of stream s are Q_s(x) K_s(stream): one user's scores change with a stream's keys, never its queries."""
    cross, x, others = made("cross", (8, 6))
    attention = cross.blocks[0].attention
    assert [tuple(query.weight.shape) for query in attention.query] == [(8, 8), (6, 8)]
    _, scores = cross.attention(x, others)  # (layers, B, H, S, T, T)
    query, key = attention.query[1](x), attention.key[1](others[0])
    head = query[..., :3] @ key[..., :3].transpose(1, 2) * attention.scale
    torch.testing.assert_close(scores[0, :, 0, 1], head.tril())


def test_scores_ask_each_stream_by_itself():
    own, x, others = made("scores", (8, 6))
    attention = own.blocks[0].attention
    _, scores = own.attention(x, others)
    query, key = attention.query[1](others[0]), attention.key[1](others[0])
    head = query[..., :3] @ key[..., :3].transpose(1, 2) * attention.scale
    torch.testing.assert_close(scores[0, :, 0, 1], head.tril())


@pytest.mark.parametrize("stage", ["early_sum", "late"])
def test_streams_that_are_added_have_one_width(stage):
    with pytest.raises(ValueError, match="adds streams: stream_dim must be dim, 8, not 6"):
        replace(SETTINGS, fusion_stage=stage, stream_dim=6)


@pytest.mark.parametrize("stage", BODIES)
def test_every_stream_matters_and_so_does_every_layer(stage):
    found, x, others = made(stage)
    before = found(x, others)
    for number in range(2):
        changed = [torch.randn_like(s) if place == number else s for place, s in enumerate(others)]
        assert (found(x, changed) - before).abs().max() > 1e-3
    assert (found(torch.randn_like(x), others) - before).abs().max() > 1e-3
