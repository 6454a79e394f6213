"""MAF, multimodal attention fusion: the paper's model as far as its abstract tells (arXiv 2405.17959).

Item ids, positions, images, texts and categories each attend on their own; the scores are fused; the fused weights
move values of the id stream alone (the reading of DIF-SR, Xie et al. 2022). Heads predict the next item and its image
feature, text feature and categories; total = id + w_image image + w_text text + w_category category.
"""

import torch
from torch import Tensor, nn

from mmrec import losses
from mmrec.models.layers import Block, initialise, last


class ModalityEncoder(nn.Module):
    """Frozen features of items -> a stream: linear, norm. Items that lack the modality share one learned vector."""

    def __init__(self, feature_dim: int, dim: int):
        super().__init__()
        self.project = nn.Linear(feature_dim, dim)
        self.norm = nn.LayerNorm(dim)
        self.missing = nn.Parameter(torch.randn(dim))  # on the scale that the norm gives the others

    def forward(self, items: Tensor, features: Tensor, present: Tensor) -> Tensor:
        """items (B, T), features (V + 1, F), present (V + 1,) -> (B, T, D_s).

        Every position is projected, repeated items too: were each different item projected once, the size of the
        product, and with it the last bits of earlier positions, would depend on later items.
        """
        return self.norm(self.project(features[items])).where(present[items, None], self.missing)


class MAF(nn.Module):
    """Letters: B batch, T time, D width of the id stream, D_s of the others, V items, F feature width.

    Args:
        features: modality -> (standardised features (V + 1, F) float32, presence (V + 1,) bool); row 0 is padding.
        modalities: those that feed a stream. A head needs the features alone, not the stream.
        position: `stream` (attends on its own) or `added` to the id embedding. With no modality and `added`, this is
            SASRec, parameter for parameter.
        weights: modality -> weight of its auxiliary loss; 0: no head.
    """

    def __init__(
        self,
        *,
        n_items: int,
        max_length: int,
        features: dict[str, tuple[Tensor, Tensor]],
        dim: int,
        stream_dim: int,
        layers: int,
        heads: int,
        dropout: float,
        modalities: tuple[str, ...],
        fusion: str,
        position: str,
        weights: dict[str, float],
        regression: str,
    ):
        super().__init__()
        self.item = nn.Embedding(n_items + 1, dim, padding_idx=0)
        self.position = nn.Embedding(max_length, dim if position == "added" else stream_dim)
        self.position_added = position == "added"
        self.norm = nn.LayerNorm(dim)
        self.dropout = nn.Dropout(dropout)
        self.regression = regression
        self.weights = {m: w for m, w in weights.items() if w > 0 and m in features}
        for modality in sorted({*modalities, *self.weights}):
            # They belong to the data set: neither trained nor saved with the weights.
            for name, tensor in zip(("features", "present"), features[modality], strict=True):
                self.register_buffer(f"{modality}_{name}", tensor, persistent=False)
        width = {modality: matrix.shape[1] for modality, (matrix, _) in features.items()}
        self.encoders = nn.ModuleDict({m: ModalityEncoder(width[m], stream_dim) for m in modalities})
        self.streams = ["item", *([] if self.position_added else ["position"]), *modalities]
        self.blocks = nn.ModuleList(
            Block(
                stream_dims=[dim] + [stream_dim] * (len(self.streams) - 1),
                heads=heads,
                dropout=dropout,
                fusion=fusion,
                max_length=max_length,
            )
            for _ in range(layers)
        )
        self.heads = nn.ModuleDict({m: nn.Linear(dim, width[m]) for m in self.weights})
        self.apply(initialise)

    def forward(self, items: Tensor) -> Tensor:
        """items (B, T), right-padded with 0 -> states (B, T, D)."""
        x, others = self._streams(items)
        for block in self.blocks:
            x, _, _ = block(x, others)
        return x

    def _features(self, modality: str) -> tuple[Tensor, Tensor]:
        return self.get_buffer(f"{modality}_features"), self.get_buffer(f"{modality}_present")

    def _streams(self, items: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The id stream (B, T, D) and the others (B, T, D_s), which every layer uses anew."""
        x, positions = self.item(items), self.position.weight[: items.shape[1]]
        others = [encoder(items, *self._features(m)) for m, encoder in self.encoders.items()]
        if self.position_added:
            x = x + positions
        else:
            others.insert(0, positions.expand(len(items), -1, -1))
        return self.dropout(self.norm(x)), others

    def loss(self, items: Tensor, targets: Tensor) -> dict[str, Tensor]:
        """items, targets (B, T) -> `total` and its parts, unweighted: `id`, `image`, `text`, `category`."""
        real = targets > 0
        hidden, targets = self(items)[real], targets[real]
        parts = {"id": losses.next_item(hidden, self.item.weight[1:], targets - 1)}
        for modality, head in self.heads.items():
            target, present = (tensor[targets] for tensor in self._features(modality))
            if modality == "category":
                parts[modality] = losses.multi_label(head(hidden), target, present)
            else:
                parts[modality] = losses.regression(head(hidden), target, present, self.regression)
        total = parts["id"] + sum(weight * parts[modality] for modality, weight in self.weights.items())
        return {"total": total, **parts}

    @torch.inference_mode()
    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """items (B, T), lengths (B,) -> how likely each item comes next, (B, V); column j is item j + 1."""
        return last(self(items), lengths) @ self.item.weight[1:].T

    @torch.inference_mode()
    def attention(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """What each layer looks at, for pictures.

        Returns:
            weights (layers, B, H, T, T), and scores of each stream before fusion (layers, B, H, S, T, T), in the
            order of `streams`.
        """
        x, others = self._streams(items)
        shown = []
        for block in self.blocks:
            x, weights, scores = block(x, others, explicit=True)
            shown.append((weights, scores))
        return torch.stack([w for w, _ in shown]), torch.stack([s for _, s in shown])
