"""Padded batches of sequences: of training, and of questions about held-out items. (B batch, T time.)"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from mmrec.data.sequences import Sequences

GROUPS = [8, 16, 32, 64, 128, 256, 512]  # lengths up to each of these are padded together


def take(flat: Tensor, begin: Tensor, length: Tensor) -> Tensor:
    """Pieces of `flat` (N,) side by side, padded with 0 on the right: (B, T), for `begin`, `length` (B,)."""
    step = torch.arange(int(length.max()), device=flat.device)  # (T,)
    inside = step < length[:, None]  # (B, T)
    return torch.where(inside, flat[(begin[:, None] + step).where(inside, 0)], 0)


def training_batches(
    sequences: Sequences, max_length: int, batch_size: int, generator: torch.Generator
) -> Iterator[list[tuple[Tensor, Tensor, float]]]:
    """One epoch: each user's latest training items and, shifted by one, the targets at each of them.

    Users come in random order; `generator`, on the CPU, is the only source of chance. Batches of similar length would
    pad little, but teach one kind of user at a time (on Amazon Beauty, validation NDCG@10 after ten epochs was an
    eighth lower). So a batch is random, and its users are grouped by length afterwards.

    Yields a batch: groups of items, targets (B, T) int64, padded with 0 on the right, and the group's share of the
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
        positions, batch = int(on_host[rows].sum()), []
        for number in group[rows].unique().tolist():
            few = rows[group[rows] == number]
            items = take(sequences.items, begin[few], length[few])
            targets = take(sequences.items, begin[few] + 1, length[few])
            batch.append((items, targets, int(on_host[few].sum()) / positions))
        yield batch


@dataclass(frozen=True)
class Question:
    """Users of one split, and the items to be predicted for them. All tensors int64."""

    users: Tensor  # (B,)
    items: Tensor  # (B, T) latest items before the target, padded with 0 on the right
    lengths: Tensor  # (B,) of `items`
    targets: Tensor  # (B,)
    seen: Tensor  # (M,) all items before the target, user after user
    seen_row: Tensor  # (M,) their rows, 0..B-1


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
    """`count` histories, (1, T) items each: those of the first users whose number of items is nearest to `length`."""
    asked = list(questions(sequences, split, max_length, batch_size=1))
    asked.sort(key=lambda question: (abs(question.items.shape[1] - length), question.users.item()))
    return [question.items for question in asked[:count]]
