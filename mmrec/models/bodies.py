"""Bodies of MAF: streams of vectors -> one stream of states. They differ in the stage at which streams are fused.

The paper's body is `ScoreFused`. The others see the same streams and have as many layers.

Letters: B batch, T time, D width of the id stream, S streams, D_s width of the others.
"""

import torch
from torch import Tensor, nn

from mmrec.config import models as config
from mmrec.models.layers import Block, blocks


class ScoreFused(nn.Module):
    """Streams are fused in the attention scores of every layer.

    `scores`: each stream has queries and keys. `cross`: queries come from the id stream, keys from each stream.
    `attention: false`: streams of features have neither.
    `values: id`: values come from the id stream alone (as in DIF-SR). `concatenated`: from all streams side by side.

    Args:
        widths: of each stream, the id stream first.
    """

    def __init__(self, settings: config.MAF, widths: list[int], max_length: int):
        super().__init__()
        shape = {"heads": settings.heads, "dropout": settings.dropout, "max_length": max_length}
        shape |= {"fusion": settings.score_fusion, "cross": settings.fusion_stage == "cross"}
        before = 1 if settings.position == "added" else 2  # the streams of ids and positions come before the features
        self.steering = slice(None if settings.attention else before - 1)  # of the streams behind the ids
        self.carrying = slice(before - 1, None) if settings.values == "concatenated" else slice(0)
        shape |= {"value_dim": widths[0] + sum(widths[1:][self.carrying])}
        stream_dims = [widths[0], *widths[1:][self.steering]]
        self.blocks = nn.ModuleList(Block(stream_dims=stream_dims, **shape) for _ in range(settings.layers))

    def forward(self, x: Tensor, others: list[Tensor]) -> Tensor:
        """x (B, T, D) the id stream, others (B, T, D_s) -> states (B, T, D)."""
        for block in self.blocks:
            x, _, _ = self._layer(block, x, others)
        return x

    def _layer(
        self, block: Block, x: Tensor, others: list[Tensor], need_weights: bool = False
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        carried = others[self.carrying]
        moved = torch.cat([x, *carried], -1) if carried else None
        return block(x, others[self.steering], need_weights, moved=moved)

    def attention(self, x: Tensor, others: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Weights (layers, B, H, T, T), and scores of each stream before fusion (layers, B, H, S, T, T)."""
        shown = []
        for block in self.blocks:
            x, weights, scores = self._layer(block, x, others, need_weights=True)
            shown.append((weights, scores))
        return torch.stack([w for w, _ in shown]), torch.stack([s for _, s in shown])


class Joint(nn.Module):
    """One attention in every layer with queries and keys from all streams, concatenated; values as above."""

    def __init__(self, settings: config.MAF, widths: list[int], max_length: int):
        super().__init__()
        self.guides = nn.ModuleList(nn.Linear(sum(widths), widths[0]) for _ in range(settings.layers))
        self.blocks = blocks(settings, max_length, widths[0])

    def forward(self, x: Tensor, others: list[Tensor]) -> Tensor:
        """As `ScoreFused`."""
        for guide, block in zip(self.guides, self.blocks, strict=True):
            x, _, _ = block(x, [], guide=guide(torch.cat([x, *others], -1)))
        return x


class Early(nn.Module):
    """Streams are fused before the first layer.

    `early_concat`: a linear map. `early_sum`: learned scalar weights; all streams have one width.
    """

    def __init__(self, settings: config.MAF, widths: list[int], max_length: int):
        super().__init__()
        self.concat = settings.fusion_stage == "early_concat"
        if self.concat:
            self.mix = nn.Linear(sum(widths), widths[0])
        else:
            self.preference = nn.Parameter(torch.zeros(len(widths)))
        self.blocks = blocks(settings, max_length, widths[0])

    def forward(self, x: Tensor, others: list[Tensor]) -> Tensor:
        """As `ScoreFused`."""
        if self.concat:
            x = self.mix(torch.cat([x, *others], -1))
        else:
            x = (torch.stack([x, *others], -1) * self.preference.softmax(0)).sum(-1)
        return _through(self.blocks, x)


class Late(nn.Module):
    """Each stream, all of one width, has layers of its own; their scores of the catalogue are averaged.

    Scores are products with one output embedding, so the average of scores is the score of the average state.
    """

    def __init__(self, settings: config.MAF, widths: list[int], max_length: int):
        super().__init__()
        self.towers = nn.ModuleList(blocks(settings, max_length, width) for width in widths)

    def forward(self, x: Tensor, others: list[Tensor]) -> Tensor:
        """As `ScoreFused`."""
        states = [_through(tower, stream) for tower, stream in zip(self.towers, [x, *others], strict=True)]
        return torch.stack(states).mean(0)


def _through(blocks: nn.ModuleList, x: Tensor) -> Tensor:
    for block in blocks:
        x, _, _ = block(x, [])
    return x


BODIES = {
    "scores": ScoreFused,
    "cross": ScoreFused,
    "joint": Joint,
    "early_concat": Early,
    "early_sum": Early,
    "late": Late,
}  # by MAF's `fusion_stage`
