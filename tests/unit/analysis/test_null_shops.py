from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import torch

from mmrec import config
from mmrec.analysis import null_shops

ROOT = Path(__file__).parents[3]


@pytest.fixture
def demo():
    """The demo with fewer shoppers."""
    settings = config.load(ROOT / "params.yaml")
    about = settings.datasets["demo"]
    small = replace(about, source=replace(about.source, shoppers=100, items=60))
    return replace(settings, datasets=settings.datasets | {"demo": small})


def test_a_null_shop_has_shoppers_of_its_own_and_features_of_other_items(demo, shop, make_features):
    pool = replace(shop, features=make_features(30))
    first, again, other = (null_shops.null(pool, demo, number) for number in (0, 0, 1))
    assert torch.equal(first.sequences.items, again.sequences.items) and first.digests == again.digests
    assert first.digests != other.digests and first.sequences.items.tolist() != other.sequences.items.tolist()
    for modality, (matrix, present) in first.features.items():
        source, has = pool.features[modality]
        assert matrix.shape == (first.sequences.n_items + 1, source.shape[1]) and not present[0]
        assert torch.equal(matrix, again.features[modality][0])
        assert not torch.equal(matrix, other.features[modality][0][: len(matrix)])
        known = {tuple(row) for row in source[has].tolist()}
        assert {tuple(row) for row in matrix[present].tolist()} <= known


def test_the_rate_counts_supported_verdicts_with_an_exact_interval():
    found = pd.DataFrame({"verdict": ["supported"] + ["inconclusive"] * 9 + ["not supported"] * 10})
    share, low, high = null_shops.rate(found)
    assert share == 0.05 and (low, high) == pytest.approx((0.00127, 0.24873), abs=1e-4)
    nothing = null_shops.rate(found[1:])
    assert nothing[:2] == (0, 0) and 0 < nothing[2] < 0.2
