"""What the tests share: small data sets, made by hand or from a seed."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import settings
from left_one_out import left_one_out

from mmrec.data.sequences import Sequences
from mmrec.experiments.inputs import Data

# The same examples every time: a test that fails here fails everywhere.
settings.register_profile("repeatable", derandomize=True, deadline=None, max_examples=50)
settings.load_profile("repeatable")
torch.set_num_threads(1)  # models of a few hundred numbers gain nothing from a second one


@pytest.fixture(scope="session")
def make_sequences() -> Callable[..., Sequences]:
    """Users' item lists -> Sequences under leave-one-out; negatives are the first untouched items."""

    def make(users: list[list[int]], n_items: int, negatives: int = 2) -> Sequences:
        untouched = [[i for i in range(1, n_items + 1) if i not in user][:negatives] for user in users]
        return left_one_out(users, untouched, n_items)

    return make


@pytest.fixture(scope="session")
def make_features() -> Callable[..., dict[str, tuple[torch.Tensor, torch.Tensor]]]:
    """Random features of every modality: image 5-d, text 4-d, category 3 columns; every third item lacks one."""

    def make(n_items: int, seed: int = 0) -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
        generator = torch.Generator().manual_seed(seed)
        features = {}
        for number, (modality, width) in enumerate((("image", 5), ("text", 4), ("category", 3))):
            present = (torch.arange(n_items + 1) + number) % 3 != 0
            present[0] = False
            matrix = torch.randn(n_items + 1, width, generator=generator)
            matrix = (matrix > 0).float() if modality == "category" else matrix
            features[modality] = (matrix.where(present[:, None], 0), present)
        return features

    return make


@pytest.fixture(scope="session")
def shop(make_sequences, make_features) -> Data:
    """60 users of 30 items, who mostly choose the next item of a circle: something that can be learned."""
    generator = np.random.default_rng(0)
    users = []
    for _ in range(60):
        walk = [int(generator.integers(30))]
        for _ in range(int(generator.integers(2, 12))):
            ahead = [(walk[-1] + step) % 30 for step in range(1, 30) if (walk[-1] + step) % 30 not in walk]
            walk.append(ahead[0] if generator.random() < 0.8 else int(generator.choice(ahead)))
        users.append([item + 1 for item in walk])
    digests = {name: name for name in ("sequences", "image", "text", "category")}
    return Data(sequences=make_sequences(users, 30, negatives=10), features=make_features(30), digests=digests)
