"""Users' items in order, as flat tensors.

Items of a user lie one after the other; `offsets[u]:offsets[u + 1]` are those of user u. Items are numbered from 1, so
that 0 is free for padding. Letters: U users, V items, N interactions.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmrec.files import atomic


@dataclass(frozen=True)
class Sequences:
    """Everything a model may know of behaviour. All tensors int64, on one device."""

    items: Tensor  # (N,) item numbers 1..V, by user, then time, then position in the source
    offsets: Tensor  # (U + 1,) index into `items` where each user begins
    train_end: Tensor  # (U,) index into `items` where the user's training part ends
    valid: Tensor  # (U,) index of the item to be predicted in validation; -1: none
    test: Tensor  # (U,) index of the item to be predicted in the test; -1: none
    negatives: Tensor  # (U, n) items that the user never touched, drawn once, for the sampled protocol
    n_items: int  # V

    def to(self, device: torch.device | str) -> "Sequences":
        """The same on another device."""
        return replace(self, **{key: value.to(device) for key, value in self._tensors().items()})

    def _tensors(self) -> dict[str, Tensor]:
        return {key: value for key, value in vars(self).items() if isinstance(value, Tensor)}

    def training_items(self) -> Tensor:
        """(M,) the items of all training parts, user after user."""
        owner = torch.repeat_interleave(self.offsets.diff())
        return self.items[torch.arange(len(self.items), device=self.items.device) < self.train_end[owner]]

    def shuffled(self, split: str, seed: int) -> "Sequences":
        """A control: each history before the item of `split` ("valid" or "test") in random order; that item stays.

        Train on those of "valid" only: in those of "test", the item of validation is among the earlier ones.
        """
        end = (self.train_end if split == "valid" else self.test.where(self.test >= 0, self.train_end)).cpu()
        owner = torch.repeat_interleave(self.offsets.cpu().diff())
        place = torch.arange(len(owner))
        draw = torch.rand(len(owner), generator=torch.Generator().manual_seed(seed), dtype=torch.double)
        key = draw.where(place < end[owner], 1.0 + place)
        order = key.argsort(stable=True)
        order = order[owner[order].argsort(stable=True)]
        return replace(self, items=self.items[order.to(self.items.device)])

    def item_counts(self) -> Tensor:
        """(V,) how often each item occurs in training."""
        return self.training_items().bincount(minlength=self.n_items + 1)[1:]

    def save(self, path: Path) -> None:
        """Write a safetensors file, whole or not at all."""
        with atomic(path) as beside:
            save_file(self._tensors() | {"n_items": torch.tensor(self.n_items)}, beside)

    @classmethod
    def load(cls, path: Path) -> "Sequences":
        """Read what `save` wrote."""
        tensors = load_file(path)
        return cls(n_items=int(tensors.pop("n_items")), **tensors)
