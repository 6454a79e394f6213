"""UniSRec (Hou et al., KDD 2022, arXiv 2206.05941) without its pre-training: items are adapted texts, scored by cosine.

An adaptor with G experts maps an item's features x (equations 1 to 3):

    v = sum_g a_g (x - b_g) W_g,   a = softmax(x W_a + noise softplus(x W_n))     noise: standard normal, in training

Sequences of v, or of id + v, go through SASRec's transformer; a score is cosine(state, item) / temperature.
"""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrec.config import models as config
from mmrec.models.item_vectors import FeatureMap, Features, ItemVectors
from mmrec.models.layers import Dropout, Transformer, initialise
from mmrec.models.next_item import NextItemModel


class Adaptor(FeatureMap):
    """Parametric whitening by G experts, mixed by a noisy gate. That an item lacks the modality is a feature too."""

    def __init__(self, features: Tensor, present: Tensor, dim: int, *, experts: int, dropout: float):
        super().__init__(features, present, dim)
        width = self.project.in_features
        self.shift = nn.Parameter(torch.zeros(experts, width))  # b
        self.project = nn.ModuleList(nn.Linear(width, dim, bias=False) for _ in range(experts))  # W
        self.gate = nn.Linear(width, experts, bias=False)
        self.noise = nn.Linear(width, experts, bias=False)
        self.dropout = Dropout(dropout)

    def forward(self) -> Tensor:
        """(V + 1, D)."""
        x = self.dropout(self.features * self.scale)
        energy = self.gate(x)  # (V + 1, G)
        if self.training:
            energy = energy + torch.randn_like(energy) * F.softplus(self.noise(x))
        experts = [project(x - shift) for project, shift in zip(self.project, self.shift, strict=True)]
        return (energy.softmax(1)[..., None] * torch.stack(experts, 1)).sum(1)


class UniSRec(NextItemModel):
    """Letters: B batch, T time, D width, V items, G experts."""

    def __init__(self, settings: config.UniSRec, *, n_items: int, max_length: int, features: Features):
        super().__init__()
        self.temperature = settings.temperature
        adaptor = partial(Adaptor, experts=settings.experts, dropout=settings.adaptor_dropout)
        self.item = ItemVectors(settings, n_items=n_items, features=features, feature_map=adaptor)
        self.transformer = Transformer(settings, max_length)
        self.apply(initialise)

    def forward(self, items: Tensor) -> Tensor:
        """items (B, T), right-padded with 0 -> states (B, T, D) of length 1 / temperature."""
        return F.normalize(self.transformer(self.item(items), items), dim=-1) / self.temperature

    def output_embedding(self) -> Tensor:
        """(V, D) of length 1."""
        return F.normalize(super().output_embedding(), dim=-1)
