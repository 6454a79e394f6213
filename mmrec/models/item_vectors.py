"""Vectors of items: the id's embedding, learned maps of the item's features, or their sum.

    e_i = id_i + sum_m (W_m f_i,m, or a learned vector u_m where item i lacks modality m)

A model reads e_i as its input and scores items by their product with e_i. Without maps the table is nn.Embedding's.

Letters: B batch, T time, D width, V items, F feature width.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from mmrec.config import models as config

Features = dict[str, tuple[Tensor, Tensor]]
"""Modality -> (standardised features (V + 1, F) float32, presence (V + 1,) bool); row 0 is padding."""

BOTH, INPUT, SCORES = "both", "input", "scores"  # what a set of maps serves


class FeatureMap(nn.Module):
    """W_m of one modality, without bias. Its last column is u_m, the vector of items that lack the modality.

    Features are divided by the root of their rows' mean squared length. Otherwise a step of Adam, which moves each of
    W's F columns by the learning rate, would move a vector F times as far as an id's own embedding.
    """

    def __init__(self, features: Tensor, present: Tensor, dim: int):
        super().__init__()
        lacking = (~present)[:, None].float()
        # One product instead of a choice between two tables, which would take longer.
        self.register_buffer("features", torch.cat([features * (1 - lacking), lacking], 1), persistent=False)
        length = features[present].double().square().sum(1)
        scale = 1 / math.sqrt(length.mean()) if length.sum() else 1.0
        # Saved with the weights, so that noisy or missing features do not change it.
        self.register_buffer("scale", torch.tensor([scale], dtype=torch.float32))
        self.project = nn.Linear(features.shape[1] + 1, dim, bias=False)

    def forward(self) -> Tensor:
        """(V + 1, D)."""
        return F.linear(self.features, self.project.weight * self.scale)


class ItemVectors(nn.Embedding):
    """The table of item vectors (V + 1, D), row 0 padding; `weight` holds the ids' part.

    The whole table is computed at once, so that a row's bits do not depend on which items a batch holds.

    Args:
        settings: of the model; `item_vector` says what a vector is made of, `maps` whether input and scores share maps.
        feature_map: makes the map of one modality.
    """

    def __init__(
        self,
        settings: config.ItemVectors,
        *,
        n_items: int,
        features: Features,
        feature_map: Callable[[Tensor, Tensor, int], FeatureMap] = FeatureMap,
    ):
        super().__init__(n_items + 1, settings.dim, padding_idx=0)
        self.with_ids = settings.item_vector != "features"
        if not self.with_ids:
            self.weight = nn.Parameter(self.weight.new_empty(0, settings.dim), requires_grad=False)
        sides = (BOTH,) if settings.maps == "shared" else (INPUT, SCORES)
        mapped = () if settings.item_vector == "id" else settings.modalities
        self.maps = nn.ModuleDict()
        if mapped:
            for side in sides:
                self.maps[side] = nn.ModuleDict({m: feature_map(*features[m], settings.dim) for m in mapped})
        self._leaves: dict[str, Tensor] = {}
        self._kept: tuple[object, dict[str, Tensor]] = (None, {})

    def forward(self, items: Tensor) -> Tensor:
        """items (B, T) -> their vectors as input (B, T, D)."""
        return F.embedding(items, self.table(INPUT), padding_idx=0)

    def table(self, side: str) -> Tensor:
        """(V + 1, D) for the side `INPUT` or `SCORES`."""
        if not self.maps:
            return self.weight
        side = BOTH if BOTH in self.maps else side
        if self._leaves:
            return self._leaves[side]
        if not torch.is_inference_mode_enabled():
            return self._computed(side)
        # Scoring asks batch after batch: the table is kept until a weight or feature changes, or `train` is called, for
        # the steps of a fused optimiser leave versions as they are.
        state = [(id(tensor), tensor._version) for tensor in (*self.parameters(), *self.buffers())]
        if self._kept[0] != state:
            self._kept = (state, {side: self._computed(side) for side in self.maps})
        return self._kept[1][side]

    def train(self, mode: bool = True) -> "ItemVectors":
        """As nn.Module's; forgets the kept table."""
        self._kept = (None, {})
        return super().train(mode)

    def _computed(self, side: str) -> Tensor:
        mapped = sum(feature_map() for feature_map in self.maps[side].values())
        return self.weight + mapped if self.with_ids else mapped

    @contextmanager
    def once(self) -> Iterator[None]:
        """Compute the table once for several losses whose gradients are summed by `backward` inside.

        Inside, the table is a leaf that collects their gradients; at the end they go on to ids and maps.
        """
        tables = {side: self._computed(side) for side in self.maps}
        self._leaves = {side: table.detach().requires_grad_() for side, table in tables.items()}
        try:
            yield
            for side, leaf in self._leaves.items():
                if leaf.grad is not None:
                    tables[side].backward(leaf.grad)
        finally:
            self._leaves = {}
