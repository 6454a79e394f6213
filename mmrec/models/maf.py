"""MAF, multimodal attention fusion: the paper's model as far as its abstract tells (arXiv 2405.17959).

Item ids, positions, images, texts and categories each attend on their own; the scores are fused; the fused weights
move values of the id stream alone (the reading of DIF-SR, Xie et al. 2022). Heads predict the next item and its image
feature, text feature and categories; total = id + w_image image + w_text text + w_category category.
"""

import torch
from torch import Tensor, nn

from mmrec import losses
from mmrec.losses import Criterion
from mmrec.models.layers import Block, Dropout, initialise
from mmrec.models.modalities import Features, MultimodalModel, encoders


class MAF(MultimodalModel):
    """Letters: B batch, T time, D width of the id stream, D_s of the others, V items, F feature width.

    Args:
        features: see `Features`.
        modalities: those that feed a stream. A head needs the features alone, not the stream.
        position: `stream` (attends on its own) or `added` to the id embedding. With no modality and `added`, this is
            SASRec, parameter for parameter.
        image_weight, text_weight, category_weight: of the auxiliary losses; 0: no head.
    """

    def __init__(
        self,
        *,
        n_items: int,
        max_length: int,
        features: Features,
        dim: int,
        stream_dim: int,
        layers: int,
        heads: int,
        dropout: float,
        modalities: tuple[str, ...],
        fusion: str,
        position: str,
        image_weight: float,
        text_weight: float,
        category_weight: float,
        regression: str,
    ):
        super().__init__()
        self.item = nn.Embedding(n_items + 1, dim, padding_idx=0)
        self.position = nn.Embedding(max_length, dim if position == "added" else stream_dim)
        self.position_added = position == "added"
        self.norm = nn.LayerNorm(dim)
        self.dropout = Dropout(dropout)
        self.regression = regression
        weights = {"image": image_weight, "text": text_weight, "category": category_weight}
        self.weights = {m: w for m, w in weights.items() if w > 0 and m in features}
        self.keep(features, sorted({*modalities, *self.weights}))
        self.encoders = encoders(features, modalities, stream_dim)
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
        self.heads = nn.ModuleDict({m: nn.Linear(dim, features[m][0].shape[1]) for m in self.weights})
        self.apply(initialise)

    def forward(self, items: Tensor) -> Tensor:
        """items (B, T), right-padded with 0 -> states (B, T, D)."""
        x, others = self._streams(items)
        for block in self.blocks:
            x, _, _ = block(x, others)
        return x

    def _streams(self, items: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The id stream (B, T, D) and the others (B, T, D_s), which every layer uses anew."""
        x, positions = self.item(items), self.position.weight[: items.shape[1]]
        others = self.encoded(items)
        if self.position_added:
            x = x + positions
        else:
            others.insert(0, positions.expand(len(items), -1, -1))
        return self.dropout(self.norm(x)), others

    def loss(self, items: Tensor, targets: Tensor, criterion: Criterion) -> dict[str, Tensor]:
        """items, targets (B, T) -> `total` and its parts, unweighted: `id`, `image`, `text`, `category`."""
        real = targets > 0
        hidden, targets = self(items)[real], targets[real]
        parts = {"id": criterion(hidden, self.table(), targets - 1)}
        for modality, head in self.heads.items():
            target, present = (tensor[targets] for tensor in self._features(modality))
            if modality == "category":
                parts[modality] = losses.multi_label(head(hidden), target, present)
            else:
                parts[modality] = losses.regression(head(hidden), target, present, self.regression)
        total = parts["id"] + sum(weight * parts[modality] for modality, weight in self.weights.items())
        return {"total": total, **parts}

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
