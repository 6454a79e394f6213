"""MAF, multimodal attention fusion: the paper's model as far as its abstract describes it (arXiv 2405.17959).

Features act through four channels, each a switch:

- attention: item ids, positions, images, texts and categories each attend on their own; their scores are fused.
- values: the fused weights move values of the id stream alone (reading A: DIF-SR, Xie et al. 2022), or of the id stream
  and all features concatenated (reading B).
- item vector: an item, as input and in the scores, is its id's embedding plus maps of its features, see `ItemVectors`.
- losses: heads predict the next item's image feature, text feature and categories;
  total = id + w_image image + w_text text + w_category category.

In each layer softmax(f(Q_1 K_1^T, .., Q_S K_S^T) / sqrt(d)) V under a causal mask, with Q_s = R_s W_Q^s and
K_s = R_s W_K^s of every stream R_s; V = R_id W_V, in reading B V = [R_id; R_image; R_text; R_category] W_V. f is a sum,
a linear map of the score rows side by side or a gate (DIF-SR, section 4.2; `layers.ScoreFusion`).

Every choice that the abstract leaves open is a setting, see `config.models.MAF`.
"""

import torch
from torch import Tensor, nn

from mmrec import losses
from mmrec.config import models as config
from mmrec.losses import Criterion
from mmrec.models.bodies import BODIES
from mmrec.models.item_vectors import Features, ItemVectors
from mmrec.models.layers import Dropout, Positions, initialise
from mmrec.models.modalities import MultimodalModel, encoders


class MAF(MultimodalModel):
    """Letters: B batch, T time, D width of the id stream, D_s of the others, V items, F feature width.

    With every channel off and `position: added` it is SASRec, parameter for parameter. A head needs the features of
    its modality, not the stream. Score fusions that read whole rows count positions from the oldest.

    With `weighting: uncertainty` each loss L becomes exp(-s) L + s / 2 after its fixed weight. s is learned, the
    logarithm of a variance (Kendall et al., CVPR 2018, equation 10).
    """

    def __init__(self, settings: config.MAF, *, n_items: int, max_length: int, features: Features):
        super().__init__()
        dim = settings.dim
        modalities = settings.modalities if settings.attention or settings.values == "concatenated" else ()
        self.settings = settings
        self.item = ItemVectors(settings, n_items=n_items, features=features)
        self.position_added = settings.position == "added"
        start = settings.positions_from
        self.position = Positions(max_length, dim if self.position_added else settings.stream_dim, start=start)
        self.norm = nn.LayerNorm(dim)
        self.dropout = Dropout(settings.dropout)
        weights = {modality: getattr(settings, f"{modality}_weight") for modality in ("image", "text", "category")}
        self.weights = {m: w for m, w in weights.items() if w > 0 and m in features}
        self.keep(features, sorted({*modalities, *self.weights}))
        self.encoders = encoders(features, modalities, settings.stream_dim)
        self.streams = ["item", *([] if self.position_added else ["position"]), *modalities]
        widths = [dim] + [settings.stream_dim] * (len(self.streams) - 1)
        self.body = BODIES[settings.fusion_stage](settings, widths, max_length)
        self.heads = nn.ModuleDict({m: nn.Linear(dim, features[m][0].shape[1]) for m in self.weights})
        self.apply(initialise)
        self.uncertain = ["id", *self.weights] if settings.weighting == "uncertainty" else []
        self.log_variance = nn.Parameter(torch.zeros(len(self.uncertain))) if self.uncertain else None

    def forward(self, items: Tensor) -> Tensor:
        """items (B, T), right-padded with 0 -> states (B, T, D)."""
        return self.body(*self._streams(items))

    def _streams(self, items: Tensor) -> tuple[Tensor, list[Tensor]]:
        """The id stream (B, T, D) and the others (B, T, D_s), which every layer uses anew."""
        x, positions = self.item(items), self.position(items)
        others = self.encoded(items)
        dropped = self.settings.modality_dropout
        if self.training and dropped:
            missing = [encoder.missing for encoder in self.encoders.values()]
            kept = torch.rand(len(others), *items.shape, 1, device=items.device) >= dropped
            others = [stream.where(k, m) for stream, k, m in zip(others, kept, missing, strict=True)]
        if self.position_added:
            x = x + positions
            if self.settings.fusion_stage == "late":  # without the id stream, a stream needs positions of its own
                others = [stream + positions for stream in others]
        else:
            others.insert(0, positions.expand(len(items), -1, -1))
        return self.dropout(self.norm(x)), others

    def loss(self, items: Tensor, targets: Tensor, criterion: Criterion) -> dict[str, Tensor]:
        """items, targets (B, T) -> `total` and its parts, unweighted: `id`, `image`, `text`, `category`."""
        real = targets > 0
        hidden, targets = self(items)[real], targets[real]
        parts = {"id": criterion(hidden, self.output_embedding(), targets - 1)}
        regression = self.settings.regression
        for modality, head in self.heads.items():
            features, present = self._features(modality)
            if modality == "category":
                parts[modality] = losses.multi_label(head(hidden), features[targets], present[targets])
            elif regression == "contrastive":
                parts[modality] = losses.contrastive(head(hidden), targets, features, present)
            else:
                parts[modality] = losses.regression(head(hidden), features[targets], present[targets], regression)
        return {"total": sum(self.tasks(parts).values()), **parts}

    def tasks(self, parts: dict[str, Tensor]) -> dict[str, Tensor]:
        """The parts of a loss as they enter its total."""
        tasks = {name: self.weights.get(name, 1.0) * value for name, value in parts.items() if name != "total"}
        for number, name in enumerate(self.uncertain):
            s = self.log_variance[number]
            tasks[name] = (-s).exp() * tasks[name] + s / 2
        return tasks

    @torch.inference_mode()
    def attention(self, items: Tensor) -> tuple[Tensor, Tensor]:
        """Attention of each layer, for figures.

        Returns:
            weights (layers, B, H, T, T), and scores of each stream before fusion (layers, B, H, S, T, T), in the
            order of `streams`.
        """
        return self.body.attention(*self._streams(items))
