"""The block that every attention model here shares.

Letters: B batch, T time, D width of the id stream, S streams, D_s width of stream s, H heads, L longest sequence.
Sequences are padded on the right, so the causal mask alone keeps padding out of every real position. Attention in both
directions needs a key mask.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrec.config import models as config

INITIAL_STD = 0.02


def initialise(module: nn.Module) -> None:
    """BERT's initial weights: normal with standard deviation 0.02, biases 0. Every model calls it through `apply`."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


class Dropout(nn.Module):
    """nn.Dropout with a faster CPU mask: torch's own draws bits four times more slowly than floats."""

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Any shape. In training each element is 0 with chance `share`, else divided by 1 - share."""
        if not self.training or not self.share:
            return x
        return x * torch.rand_like(x).ge_(self.share).div_(1 - self.share)


def causal_mask(length: int, device: torch.device) -> Tensor:
    """(T, T) bool: row i attends to columns 0..i."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


class Positions(nn.Embedding):
    """Learned position embeddings.

    `oldest`: the oldest item gets the first position, as padding on the right implies (RecBole's models). `latest`: the
    newest item always gets the last position, as padding on the left implies (SASRec's authors). Earlier states then
    depend on how many items follow, not on which.
    """

    def __init__(self, longest: int, dim: int, *, start: str):
        super().__init__(longest, dim)
        self.start = start

    def forward(self, items: Tensor) -> Tensor:
        """items (B, T), right-padded with 0 -> (T, D) from the oldest, (B, T, D) from the latest.

        Raises:
            IndexError: more items than positions, counted from the latest.
        """
        if self.start == "oldest":
            return self.weight[: items.shape[1]]
        before = self.num_embeddings - (items > 0).sum(1, keepdim=True)
        place = before + torch.arange(items.shape[1], device=items.device)
        return super().forward(place.clamp(max=self.num_embeddings - 1))  # padding gets any


class ScoreFusion(nn.Module):
    """Fuses the attention scores of S streams: `sum`, `concat` or `gate` (DIF-SR, Xie et al. 2022, section 4.2).

    The last two read whole score rows, so the future must be masked before. The original masks after fusion, which lets
    later items reach earlier outputs.
    """

    def __init__(self, *, kind: str, streams: int, max_length: int):
        super().__init__()
        self.kind = kind
        if kind == "concat":
            self.mix = nn.Linear(streams * max_length, max_length)
        elif kind == "gate":
            self.energy_in = nn.Linear(max_length, max_length)
            self.energy_out = nn.Linear(max_length, 1)

    def forward(self, scores: Tensor) -> Tensor:
        """(B, H, S, T, T) causal score rows, 0 in the future -> (B, H, T, T)."""
        if self.kind == "sum":
            return scores.sum(2)
        streams, length = scores.shape[2], scores.shape[-1]
        if self.kind == "concat":
            longest = self.mix.out_features
            weight = self.mix.weight.view(longest, streams, longest)[:length, :, :length]
            return torch.einsum("bhsij,ksj->bhik", scores, weight) + self.mix.bias[:length]
        energy = F.linear(scores, self.energy_in.weight[:, :length], self.energy_in.bias)
        gate = self.energy_out(energy.relu()).softmax(dim=2)  # (B, H, S, T, 1)
        return (gate * scores).sum(2)


class StreamAttention(nn.Module):
    """Self-attention with scores from several streams and values from the first alone.

    Each stream s has its own Q_s, K_s. With `sum`, sum_s Q_s K_s^T = [Q_1; Q_2; ..] [K_1; K_2; ..]^T: one fused
    attention over concatenated heads, no score matrix in memory. `need_weights=True` computes the same score by score:
    the reference, the path of the other fusions, and the only one that returns weights. Causal without a key mask.

    Args:
        cross: all queries come from the first stream; the others give keys alone.
        value_dim: width of the values' source, if that is not the first stream.
    """

    def __init__(
        self,
        *,
        stream_dims: list[int],
        heads: int,
        dropout: float,
        max_length: int,
        fusion: str = "sum",
        cross: bool = False,
        value_dim: int | None = None,
    ):
        super().__init__()
        dim = stream_dims[0]
        self.cross = cross
        self.heads = heads
        self.scale = 1 / math.sqrt(dim // heads)
        self.dropout = Dropout(dropout)
        self.query = nn.ModuleList(nn.Linear(dim if cross else d, d) for d in stream_dims)
        self.key = nn.ModuleList(nn.Linear(d, d) for d in stream_dims)
        self.value = nn.Linear(value_dim or dim, dim)
        self.out = nn.Linear(dim, dim)
        self.fusion = ScoreFusion(kind=fusion, streams=len(stream_dims), max_length=max_length)

    def forward(
        self,
        streams: list[Tensor],
        need_weights: bool = False,
        key_mask: Tensor | None = None,
        moved: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Attend.

        Args:
            streams: S tensors (B, T, D_s); the first, of width D, also gives the values.
            key_mask: (B, T) bool, the keys that every position attends to, later ones too; None: causal attention.
            moved: (B, T, `value_dim`), source of the values instead of the first stream.

        Returns:
            output (B, T, D); and, from the explicit path, fused weights (B, H, T, T) and each stream's scaled scores
            (B, H, S, T, T).
        """
        asking = streams[:1] * len(streams) if self.cross else streams
        queries = [self._heads(project(x)) for project, x in zip(self.query, asking, strict=True)]
        keys = [self._heads(project(x)) for project, x in zip(self.key, streams, strict=True)]
        values = self._heads(self.value(streams[0] if moved is None else moved))  # (B, H, T, D/H)
        mask = None if key_mask is None else key_mask[:, None, None]  # (B, 1, 1, T)
        if self.fusion.kind == "sum" and not need_weights:
            attended = F.scaled_dot_product_attention(
                torch.cat(queries, -1),
                torch.cat(keys, -1),
                values,
                attn_mask=mask,
                dropout_p=self.dropout.share if self.training else 0.0,
                is_causal=mask is None,
                scale=self.scale,
            )
            return self._join(attended), None, None
        mask = causal_mask(values.shape[2], values.device) if mask is None else mask
        scores = torch.stack([q @ k.transpose(-1, -2) for q, k in zip(queries, keys, strict=True)], dim=2)
        scores = scores.where(mask.unsqueeze(-3), 0)  # before any fusion that mixes key positions
        fused = (self.fusion(scores) * self.scale).masked_fill(~mask, -math.inf)
        weights = fused.softmax(-1)
        return self._join(self.dropout(weights) @ values), weights, scores * self.scale

    def _heads(self, x: Tensor) -> Tensor:
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)  # (B, T, D) -> (B, H, T, D/H)

    def _join(self, x: Tensor) -> Tensor:
        return self.out(x.transpose(1, 2).flatten(2))  # (B, H, T, D/H) -> (B, T, D)


class Block(nn.Module):
    """Attention and feed-forward, each with dropout, residual and norm after it (post-norm, GELU, inner width 4 D)."""

    def __init__(self, *, stream_dims: list[int], dropout: float, **attention):
        super().__init__()
        dim = stream_dims[0]
        self.attention = StreamAttention(stream_dims=stream_dims, dropout=dropout, **attention)
        self.attention_norm = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        others: list[Tensor],
        need_weights: bool = False,
        key_mask: Tensor | None = None,
        guide: Tensor | None = None,
        moved: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """x (B, T, D) the id stream, others (B, T, D_s) -> the new id stream, weights and scores of `StreamAttention`.

        A guide (B, T, D) gives the id stream's queries and keys in its place; `moved` gives the values in its place.
        """
        asking = x if guide is None else guide
        attended, weights, scores = self.attention(
            [asking, *others], need_weights, key_mask, x if moved is None else moved
        )
        x = self.attention_norm(x + self.dropout(attended))
        x = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return x, weights, scores


def blocks(settings: config.SASRec, max_length: int, dim: int) -> nn.ModuleList:
    """The layers of a model with a single stream of width `dim`."""
    shape = {"stream_dims": [dim], "heads": settings.heads, "dropout": settings.dropout, "max_length": max_length}
    return nn.ModuleList(Block(**shape) for _ in range(settings.layers))


class Transformer(nn.Module):
    """SASRec without its item embeddings: learned positions, norm, blocks."""

    def __init__(self, settings: config.SASRec, max_length: int):
        super().__init__()
        self.position = Positions(max_length, settings.dim, start=settings.positions_from)
        self.norm = nn.LayerNorm(settings.dim)
        self.dropout = Dropout(settings.dropout)
        self.blocks = blocks(settings, max_length, settings.dim)

    def forward(self, x: Tensor, items: Tensor, key_mask: Tensor | None = None) -> Tensor:
        """x (B, T, D), embeddings of items (B, T) -> states (B, T, D), causal without a key mask (B, T)."""
        x = self.dropout(self.norm(x + self.position(items)))
        for block in self.blocks:
            x, _, _ = block(x, [], key_mask=key_mask)
        return x
