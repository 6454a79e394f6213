"""Users' item lists -> Sequences under leave-one-out; here, where the scripts beside it find it too."""

import torch

from mmrec.data.sequences import Sequences


def left_one_out(users: list[list[int]], negatives: list[list[int]], n_items: int) -> Sequences:
    """Users of fewer than three items are not asked; `negatives` holds each user's, as many for all."""
    offsets = torch.tensor([0, *map(len, users)]).cumsum(0)
    long, end = offsets.diff() >= 3, offsets[1:]
    return Sequences(
        items=torch.tensor([item for user in users for item in user]),
        offsets=offsets,
        train_end=torch.where(long, end - 2, end),
        valid=torch.where(long, end - 2, -1),
        test=torch.where(long, end - 1, -1),
        negatives=torch.tensor(negatives),
        n_items=n_items,
    )
