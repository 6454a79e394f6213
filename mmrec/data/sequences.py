"""From a table of interactions to what models eat: filtered, ordered, split, numbered, batched.

Every user's items lie one after the other in one flat array; `offsets[u]:offsets[u + 1]` are user u's. Items are
numbered from 1, so that 0 is free for padding. Letters: U users, V items, N interactions, B batch, T time.
"""

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, time
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from mmrec import config
from mmrec.files import atomic

GROUPS = [8, 16, 32, 64, 128, 256, 512]  # lengths up to each of these are padded together


class SequenceError(ValueError):
    """The interactions cannot be turned into sequences; the message says why."""


@dataclass(frozen=True)
class Sequences:
    """Everything a model may know of behaviour. All tensors int64, on one device.

    Attributes:
        items: (N,) item numbers 1..V, by user, then time, then position in the source.
        offsets: (U + 1,) where each user begins.
        train_end: (U,) index into `items` where user u's training part ends.
        valid: (U,) index of the item to be predicted in validation; -1: none.
        test: (U,) likewise for test.
        negatives: (U, n) items the user never touched, drawn once, for the sampled protocol.
        n_items: V.
    """

    items: Tensor
    offsets: Tensor
    train_end: Tensor
    valid: Tensor
    test: Tensor
    negatives: Tensor
    n_items: int

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
        """Histories in random order, a control: what is shown before the item of `valid` (all of training) or `test`.

        Items to be predicted stay where they are. Only those of `valid` may be trained on: in the others, the item of
        validation is somewhere among the earlier ones.
        """
        end = self.train_end if split == "valid" else self.test.where(self.test >= 0, self.train_end)
        end = end.cpu()
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


@dataclass(frozen=True)
class Built:
    """Sequences with the ids behind the numbers, and counts of what happened on the way."""

    sequences: Sequences
    user_ids: list[str]  # of users 0..U-1
    item_ids: list[str]  # of items 1..V
    report: dict[str, int]

    def write(self, folder: Path) -> None:
        """data/processed/<dataset>: sequences.safetensors, users.parquet, items.parquet, sequences.json."""
        self.sequences.save(folder / "sequences.safetensors")
        for name, ids in (("users", self.user_ids), ("items", self.item_ids)):
            with atomic(folder / f"{name}.parquet") as path:
                pd.DataFrame({"id": ids}).to_parquet(path, index=False)
        with atomic(folder / "sequences.json") as path:
            path.write_text(json.dumps(self.report, indent=1) + "\n")


def read_ids(path: Path) -> list[str]:
    """Of users.parquet (user 0 first) or items.parquet (item 1 first)."""
    return pd.read_parquet(path)["id"].tolist()


# --- building ----------------------------------------------------------------------------------------------------


def k_core(users: np.ndarray, items: np.ndarray, user_core: int, item_core: int) -> np.ndarray:
    """Which interactions survive when users with too few and items with too few leave until none has too few.

    Args:
        users, items: (N,) numbers from 0.

    Returns:
        (N,) bool.
    """
    keep = np.ones(len(users), bool)
    while True:
        enough_users = np.bincount(users[keep], minlength=users.max(initial=-1) + 1) >= user_core
        enough_items = np.bincount(items[keep], minlength=items.max(initial=-1) + 1) >= item_core
        still = keep & enough_users[users] & enough_items[items]
        if still.sum() == keep.sum():
            return keep
        keep = still


def build(interactions: pd.DataFrame, dataset: config.Dataset, protocol: config.Protocol) -> Built:
    """Filter, order, number and split a table of interactions.

    Users and items are numbered in the order of their ids, so that the numbering does not depend on the source's
    order. Within a user the order is timestamp, then position in the source; ties are counted.

    Args:
        interactions: user_id, item_id (strings), timestamp (int64 seconds), no user-item pair twice.

    Raises:
        SequenceError: nothing is left, or too few items for the sampled protocol.
    """
    users, user_ids = pd.factorize(interactions["user_id"], sort=True)
    items, item_ids = pd.factorize(interactions["item_id"], sort=True)
    keep = k_core(users, items, dataset.user_core, dataset.item_core)
    if not keep.any():
        raise SequenceError(
            f"no interaction is left of {len(keep):,}: no users with {dataset.user_core} and items with "
            f"{dataset.item_core} interactions; lower user_core or item_core in params.yaml"
        )
    users, user_ids = _renumber(users[keep], user_ids)
    items, item_ids = _renumber(items[keep], item_ids)
    times = interactions["timestamp"].to_numpy()[keep]
    order = np.lexsort((np.arange(len(users)), times, users))
    users, items, times = users[order], items[order] + 1, times[order]
    offsets = np.concatenate([[0], np.bincount(users).cumsum()])

    train_end, valid, test = _split(dataset, offsets, times)
    sequences = Sequences(
        items=torch.from_numpy(items),
        offsets=torch.from_numpy(offsets),
        train_end=torch.from_numpy(train_end),
        valid=torch.from_numpy(valid),
        test=torch.from_numpy(test),
        negatives=torch.from_numpy(
            draw_negatives(users, items, len(item_ids), protocol.negatives, protocol.negatives_seed)
        ),
        n_items=len(item_ids),
    )
    same_user = users[1:] == users[:-1]
    report = {
        "users": len(user_ids),
        "items": len(item_ids),
        "interactions": len(users),
        "left_by_core": int((~keep).sum()),
        "tied_with_previous": int((same_user & (times[1:] == times[:-1])).sum()),
        "training_interactions": int((train_end - offsets[:-1]).sum()),
        "valid_users": int((valid >= 0).sum()),
        "test_users": int((test >= 0).sum()),
    }
    if not (report["valid_users"] and report["test_users"]):
        left = f"{report['valid_users']} users to validate, {report['test_users']} to test"
        raise SequenceError(f"the split leaves {left}")
    return Built(sequences, user_ids, item_ids, report)


def check_statistics(report: dict[str, int], expected: config.Statistics | None) -> None:
    """Hold what came out of the filter against what is published of the data set.

    Raises:
        SequenceError: a count differs.
    """
    if expected is None:
        return
    published = {"users": expected.users, "items": expected.items, "interactions": expected.interactions}
    if different := {name: report[name] for name, count in published.items() if report[name] != count}:
        raise SequenceError(
            f"{different} after filtering, but {published} are published: the raw files are not whole or of another "
            "release; if that is meant, change `expected` of the data set in params.yaml"
        )


def _renumber(codes: np.ndarray, ids: pd.Index) -> tuple[np.ndarray, list[str]]:
    present, dense = np.unique(codes, return_inverse=True)
    return dense.astype(np.int64), [str(name) for name in ids[present]]


def _split(dataset: config.Dataset, offsets: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, ...]:
    """Index of each user's end of training, validation target and test target (-1: none)."""
    begin, end = offsets[:-1], offsets[1:]
    if isinstance(dataset.split, config.LeaveOneOut):
        # With fewer than three interactions nothing is left to learn from: such a user only trains.
        long = end - begin >= 3
        return np.where(long, end - 2, end), np.where(long, end - 2, -1), np.where(long, end - 1, -1)
    first_valid, first_test = _seconds(dataset.split.valid), _seconds(dataset.split.test)
    user = np.repeat(np.arange(len(begin)), end - begin)
    train_end = begin + np.bincount(user, times < first_valid, len(begin)).astype(np.int64)
    test = begin + np.bincount(user, times < first_test, len(begin)).astype(np.int64)
    # The first choice after each cut, for users who had a past by then.
    valid = np.where((train_end > begin) & (train_end < test), train_end, -1)
    return train_end, valid, np.where((test > begin) & (test < end), test, -1)


def _seconds(day: date) -> int:
    return int(datetime.combine(day, time(), UTC).timestamp())


def draw_negatives(users: np.ndarray, items: np.ndarray, n_items: int, count: int, seed: int) -> np.ndarray:
    """For each user `count` different items that the user never touched, uniformly.

    Args:
        users: (N,) 0..U-1, all present. items: (N,) 1..V.

    Returns:
        (U, count) int64.

    Raises:
        SequenceError: some user has fewer untouched items.
    """
    touched = np.bincount(users)
    if n_items - touched.max() < count:
        raise SequenceError(
            f"protocol.negatives is {count}, but a user has touched {touched.max()} of {n_items} items; lower it"
        )
    generator = np.random.default_rng(seed)
    known = np.unique(users * (n_items + 1) + items)
    drawn = generator.integers(1, n_items + 1, (len(touched), count))
    while True:
        # Redraw what the user knows and what stands earlier in the same row, until nothing is wrong.
        rank = np.argsort(drawn, axis=1, kind="stable")
        ordered = np.take_along_axis(drawn, rank, axis=1)
        wrong = np.zeros(drawn.shape, bool)
        np.put_along_axis(wrong, rank[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
        key = np.arange(len(drawn))[:, None] * (n_items + 1) + drawn
        place = np.searchsorted(known, key).clip(max=len(known) - 1)
        wrong |= known[place] == key
        if not wrong.any():
            return drawn
        drawn[wrong] = generator.integers(1, n_items + 1, wrong.sum())


# --- batches -----------------------------------------------------------------------------------------------------


def take(flat: Tensor, begin: Tensor, length: Tensor) -> Tensor:
    """Pieces of a flat array side by side, padded with 0 on the right.

    Args:
        flat: (N,). begin, length: (B,).

    Returns:
        (B, T) with T the greatest length.
    """
    step = torch.arange(int(length.max()), device=flat.device)  # (T,)
    inside = step < length[:, None]  # (B, T)
    return torch.where(inside, flat[(begin[:, None] + step).where(inside, 0)], 0)


def training_batches(
    sequences: Sequences, max_length: int, batch_size: int, generator: torch.Generator
) -> Iterator[list[tuple[Tensor, Tensor, float]]]:
    """One epoch: each user's latest training items and, shifted by one, what to predict at each of them.

    Users come in random order. Batches of users of similar length would pad little, but teach one kind of user at a
    time (on Amazon Beauty, validation NDCG@10 after ten epochs was an eighth lower). So a batch is random, and its
    users are grouped by length afterwards: the gradient is the batch's, the padding little.

    Args:
        generator: on the CPU; the only source of chance.

    Yields:
        A batch: groups of items, targets (B, T) int64, padded with 0 on the right, and the group's share of the
        positions of the batch.
    """
    begin = torch.maximum(sequences.offsets[:-1], sequences.train_end - max_length - 1)
    length = sequences.train_end - begin - 1
    users = (length > 0).nonzero().squeeze(1)
    if not len(users):  # of which `split` would make one empty batch
        return
    begin, length = begin[users], length[users]
    on_host = length.cpu()  # so that no step waits for the device
    group = torch.bucketize(on_host, torch.tensor(GROUPS))
    for rows in torch.randperm(len(users), generator=generator).split(batch_size):
        positions = int(on_host[rows].sum())
        members = [rows[group[rows] == number] for number in group[rows].unique().tolist()]
        yield [
            (
                take(sequences.items, begin[few], length[few]),
                take(sequences.items, begin[few] + 1, length[few]),
                int(on_host[few].sum()) / positions,
            )
            for few in members
        ]


@dataclass(frozen=True)
class Question:
    """Users of one split, and what they are asked.

    Attributes:
        users: (B,). items: (B, T) latest items before the target, right-padded. lengths: (B,). targets: (B,).
        seen: (M,) all items before the target, user after user, not only the latest. seen_row: (M,) whose, 0..B-1.
    """

    users: Tensor
    items: Tensor
    lengths: Tensor
    targets: Tensor
    seen: Tensor
    seen_row: Tensor


def questions(sequences: Sequences, split: str, max_length: int, batch_size: int) -> Iterator[Question]:
    """The users of `valid` or `test`, by length of history so that little is padded."""
    target = {"valid": sequences.valid, "test": sequences.test}[split]
    users = (target >= 0).nonzero().squeeze(1)
    history = target[users] - sequences.offsets[users]
    users = users[history.argsort(stable=True)]
    for rows in users.split(batch_size):
        begin, end = sequences.offsets[rows], target[rows]
        lengths = (end - begin).clamp(max=max_length)
        whole = take(sequences.items, begin, end - begin)
        seen_row, column = whole.nonzero(as_tuple=True)
        yield Question(
            users=rows,
            items=take(sequences.items, end - lengths, lengths),
            lengths=lengths,
            targets=sequences.items[end],
            seen=whole[seen_row, column],
            seen_row=seen_row,
        )


def examples(sequences: Sequences, split: str, max_length: int, count: int, length: int = 8) -> list[Tensor]:
    """Histories to look at: those of the first users whose number of items is nearest to `length`.

    Returns:
        `count` tensors (1, T) of items, oldest first; fewer if there are fewer users.
    """
    asked = list(questions(sequences, split, max_length, batch_size=1))
    asked.sort(key=lambda question: (abs(question.items.shape[1] - length), question.users.item()))
    return [question.items for question in asked[:count]]
