"""The block that every attention model here shares.

Letters: B batch, T time, D width of the id stream, S streams, D_s width of stream s, H heads, L longest sequence.
Sequences are padded on the right, so the causal mask alone keeps padding out of every real position. Attention in both
directions is told what is no padding.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

INITIAL_STD = 0.02


def initialise(module: nn.Module) -> None:
    """Normal weights of standard deviation 0.02, zero biases: BERT's, used by every model through `apply`."""
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=INITIAL_STD)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)


class Dropout(nn.Module):
    """nn.Dropout, whose mask torch draws on a CPU four times as slowly as the numbers that it is made of."""

    def __init__(self, share: float):
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Any shape; in training each element is 0 with chance `share`, else as much larger as keeps its mean."""
        if not self.training or not self.share:
            return x
        return x * torch.rand_like(x).ge_(self.share).div_(1 - self.share)


def causal_mask(length: int, device: torch.device) -> Tensor:
    """(T, T) bool; row i may look at columns 0..i."""
    return torch.ones(length, length, dtype=torch.bool, device=device).tril()


class Positions(nn.Embedding):
    """Learned vectors of places in a sequence.

    Counted from the oldest item shown, which padding on the right means (RecBole's models), or from the latest, which
    padding on the left means (SASRec's authors): the latest item, which matters most, then is always at one place, and
    the state of an earlier item depends on how many come after it, though on nothing else of theirs.
    """

    def __init__(self, longest: int, dim: int, *, start: str):
        super().__init__(longest, dim)
        self.start = start

    def forward(self, items: Tensor) -> Tensor:
        """items (B, T), right-padded with 0 -> (T, D), the same for all; from the latest: (B, T, D).

        Raises:
            IndexError: more items than places, counted from the latest.
        """
        if self.start == "oldest":
            return self.weight[: items.shape[1]]
        before = self.num_embeddings - (items > 0).sum(1, keepdim=True)
        place = before + torch.arange(items.shape[1], device=items.device)
        return super().forward(place.clamp(max=self.num_embeddings - 1))  # of padding: whatever


class ScoreFusion(nn.Module):
    """One attention score from those of S streams, by `concat` or `gate` (DIF-SR, Xie et al. 2022, section 4.2).

    Both read whole score rows, so the future must be gone from the rows before they are read: the original masks
    after fusion, and lets later items reach earlier outputs.
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
    """Self-attention whose scores come from several streams and whose values come from the first alone.

    Each stream s has its own Q_s, K_s. With `sum`, sum_s Q_s K_s^T = [Q_1; Q_2; ..] [K_1; K_2; ..]^T: one fused
    attention over concatenated heads, no score matrix in memory. `explicit=True` computes the same the long way: the
    reference, the way of the other fusions, and the only one that can return weights. Causal, unless told what is
    visible.

    Args:
        cross: all queries come from the first stream; a stream only gives keys.
    """

    def __init__(
        self, *, stream_dims: list[int], heads: int, dropout: float, fusion: str, max_length: int, cross: bool = False
    ):
        super().__init__()
        dim = stream_dims[0]
        self.cross = cross
        self.heads = heads
        self.scale = 1 / math.sqrt(dim // heads)
        self.dropout = Dropout(dropout)
        self.query = nn.ModuleList(nn.Linear(dim if cross else d, d) for d in stream_dims)
        self.key = nn.ModuleList(nn.Linear(d, d) for d in stream_dims)
        self.value = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim)
        self.fusion = ScoreFusion(kind=fusion, streams=len(stream_dims), max_length=max_length)

    def forward(
        self,
        streams: list[Tensor],
        explicit: bool = False,
        visible: Tensor | None = None,
        moved: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """Attend.

        Args:
            streams: S tensors (B, T, D_s); the first, of width D, also gives the values.
            visible: (B, T) bool, what every position may look at, later ones too; None: itself and what is before it.
            moved: (B, T, D) what gives the values instead of the first stream.

        Returns:
            output (B, T, D); and, when explicit, fused weights (B, H, T, T) and each stream's scaled scores
            (B, H, S, T, T).
        """
        asking = streams[:1] * len(streams) if self.cross else streams
        queries = [self._heads(project(x)) for project, x in zip(self.query, asking, strict=True)]
        keys = [self._heads(project(x)) for project, x in zip(self.key, streams, strict=True)]
        values = self._heads(self.value(streams[0] if moved is None else moved))  # (B, H, T, D/H)
        everywhere = None if visible is None else visible[:, None, None]  # (B, 1, 1, T)
        if self.fusion.kind == "sum" and not explicit:
            attended = F.scaled_dot_product_attention(
                torch.cat(queries, -1),
                torch.cat(keys, -1),
                values,
                attn_mask=everywhere,
                dropout_p=self.dropout.share if self.training else 0.0,
                is_causal=everywhere is None,
                scale=self.scale,
            )
            return self._join(attended), None, None
        mask = causal_mask(values.shape[2], values.device) if everywhere is None else everywhere
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

    def __init__(
        self, *, stream_dims: list[int], heads: int, dropout: float, fusion: str, max_length: int, cross: bool = False
    ):
        super().__init__()
        dim = stream_dims[0]
        self.attention = StreamAttention(
            stream_dims=stream_dims, heads=heads, dropout=dropout, fusion=fusion, max_length=max_length, cross=cross
        )
        self.attention_norm = nn.LayerNorm(dim)
        self.feed_forward = nn.Sequential(nn.Linear(dim, 4 * dim), nn.GELU(), nn.Linear(4 * dim, dim))
        self.feed_forward_norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        others: list[Tensor],
        explicit: bool = False,
        visible: Tensor | None = None,
        guide: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None, Tensor | None]:
        """x (B, T, D) the id stream, others (B, T, D_s) -> the new id stream, and what `StreamAttention` shows.

        With a guide (B, T, D), the id stream's queries and keys come from the guide instead.
        """
        asking = x if guide is None else guide
        attended, weights, scores = self.attention([asking, *others], explicit, visible, moved=x)
        x = self.attention_norm(x + self.dropout(attended))
        x = self.feed_forward_norm(x + self.dropout(self.feed_forward(x)))
        return x, weights, scores


class Transformer(nn.Module):
    """Embeddings of a sequence -> states: learned positions, norm, blocks; SASRec less its items."""

    def __init__(self, *, dim: int, layers: int, heads: int, dropout: float, max_length: int, positions_from: str):
        super().__init__()
        self.position = Positions(max_length, dim, start=positions_from)
        self.norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)
        self.blocks = nn.ModuleList(
            Block(stream_dims=[dim], heads=heads, dropout=dropout, fusion="sum", max_length=max_length)
            for _ in range(layers)
        )

    def forward(self, x: Tensor, items: Tensor, visible: Tensor | None = None) -> Tensor:
        """x (B, T, D), embeddings of items (B, T) -> (B, T, D), states that look back.

        Told what is `visible` (B, T), in both directions.
        """
        x = self.dropout(self.norm(x + self.position(items)))
        for block in self.blocks:
            x, _, _ = block(x, [], visible=visible)
        return x
