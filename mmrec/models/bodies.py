"""How streams of vectors become one stream of states. The paper's way is `ScoreFused`; the others are what it is
compared with: all see the same streams, have as many layers and differ in where the streams meet.

Letters: B batch, T time, D width of the id stream, S streams, D_s width of the others.
"""

import torch
from torch import Tensor, nn

from mmrec.models.layers import Block


class ScoreFused(nn.Module):
    """Streams meet in the attention scores of every layer; values come from the id stream alone (DIF-SR's way).

    Args:
        widths: of each stream, the id stream first. cross: queries come from the id stream, keys from each stream.
        shape: what else a block asks for.
    """

    def __init__(self, widths: list[int], layers: int, *, fusion: str, cross: bool = False, **shape):
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(stream_dims=widths, fusion=fusion, cross=cross, **shape) for _ in range(layers)
        )

    def forward(self, x: Tensor, others: list[Tensor]) -> Tensor:
        """x (B, T, D) the id stream, others (B, T, D_s) -> states (B, T, D)."""
        for block in self.blocks:
            x, _, _ = block(x, others)
        return x

    def attention(self, x: Tensor, others: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Weights (layers, B, H, T, T), and scores of each stream before fusion (layers, B, H, S, T, T)."""
        shown = []
        for block in self.blocks:
            x, weights, scores = block(x, others, explicit=True)
            shown.append((weights, scores))
        return torch.stack([w for w, _ in shown]), torch.stack([s for _, s in shown])


class Joint(nn.Module):
    """One attention in every layer, whose queries and keys see all streams side by side; values as above."""

    def __init__(self, widths: list[int], layers: int, **shape):
        super().__init__()
        self.guides = nn.ModuleList(nn.Linear(sum(widths), widths[0]) for _ in range(layers))
        self.blocks = _blocks(widths[0], layers, shape)

    def forward(self, x: Tensor, others: list[Tensor]) -> Tensor:
        """As `ScoreFused`."""
        for guide, block in zip(self.guides, self.blocks, strict=True):
            x, _, _ = block(x, [], guide=guide(torch.cat([x, *others], -1)))
        return x


class Early(nn.Module):
    """Streams meet before the first layer, by `concat` (and a linear map) or `sum` (learned scalar weights).

    Raises:
        ValueError: a sum of streams of different widths.
    """

    def __init__(self, widths: list[int], layers: int, *, kind: str, **shape):
        super().__init__()
        self.kind = kind
        if kind == "concat":
            self.mix = nn.Linear(sum(widths), widths[0])
        else:
            _alike(widths)
            self.preference = nn.Parameter(torch.zeros(len(widths)))
        self.blocks = _blocks(widths[0], layers, shape)

    def forward(self, x: Tensor, others: list[Tensor]) -> Tensor:
        """As `ScoreFused`."""
        if self.kind == "concat":
            x = self.mix(torch.cat([x, *others], -1))
        else:
            x = (torch.stack([x, *others], -1) * self.preference.softmax(0)).sum(-1)
        return _through(self.blocks, x)


class Late(nn.Module):
    """Each stream has layers of its own; their scores of the catalogue are averaged.

    Scores are products with one table, so the average of scores is the score of the average state.

    Raises:
        ValueError: streams of different widths.
    """

    def __init__(self, widths: list[int], layers: int, **shape):
        super().__init__()
        _alike(widths)
        self.towers = nn.ModuleList(_blocks(width, layers, shape) for width in widths)

    def forward(self, x: Tensor, others: list[Tensor]) -> Tensor:
        """As `ScoreFused`."""
        states = [_through(tower, stream) for tower, stream in zip(self.towers, [x, *others], strict=True)]
        return torch.stack(states).mean(0)


def _blocks(dim: int, layers: int, shape: dict) -> nn.ModuleList:
    return nn.ModuleList(Block(stream_dims=[dim], fusion="sum", **shape) for _ in range(layers))


def _through(blocks: nn.ModuleList, x: Tensor) -> Tensor:
    for block in blocks:
        x, _, _ = block(x, [])
    return x


def _alike(widths: list[int]) -> None:
    if len(set(widths)) > 1:
        raise ValueError(f"streams that are added must have one width, not {widths}: set stream_dim to dim")


def body(way: str, widths: list[int], layers: int, *, fusion: str, **shape) -> nn.Module:
    """The body that a setting names: `scores`, `cross`, `joint`, `early_concat`, `early_sum` or `late`."""
    if way in ("scores", "cross"):
        return ScoreFused(widths, layers, fusion=fusion, cross=way == "cross", **shape)
    if way.startswith("early_"):
        return Early(widths, layers, kind=way.removeprefix("early_"), **shape)
    return {"joint": Joint, "late": Late}[way](widths, layers, **shape)
