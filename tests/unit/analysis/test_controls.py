from dataclasses import replace
from pathlib import Path
from unittest import mock

import numpy as np
import pandas as pd
import pytest
import torch

from mmrec import config
from mmrec.analysis import controls
from mmrec.data import preprocessing
from mmrec.data.sources.demo import catalogue

ROOT = Path(__file__).parents[3]


@pytest.fixture
def demo():
    """The demo with fewer shoppers."""
    settings = config.load(ROOT / "params.yaml")
    about = settings.datasets["demo"]
    small = replace(about, source=replace(about.source, shoppers=500, items=100, mean_length=5.0))
    return replace(settings, datasets=settings.datasets | {"demo": small})


@pytest.fixture
def pool(shop, make_features):
    """Features of 30 items, of which every one is known by the first numbers of the demo."""
    return replace(shop, features=make_features(30)), [f"item-{number:04d}" for number in range(30)]


def test_a_null_shop_has_shoppers_of_its_own_and_features_of_other_items(demo, pool):
    first, again, other = (controls.draw(*pool, demo, "nothing", number) for number in (0, 0, 1))
    assert torch.equal(first.sequences.items, again.sequences.items) and first.digests == again.digests
    assert first.digests != other.digests and first.sequences.items.tolist() != other.sequences.items.tolist()
    for modality, (matrix, present) in first.features.items():
        source, has = pool[0].features[modality]
        assert matrix.shape == (first.sequences.n_items + 1, source.shape[1]) and not present[0]
        assert torch.equal(matrix, again.features[modality][0])
        assert not torch.equal(matrix, other.features[modality][0][: len(matrix)])
        known = {tuple(row) for row in source[has].tolist()}
        assert {tuple(row) for row in matrix[present].tolist()} <= known


@pytest.fixture
def drawn(demo, pool):
    """The data of shop 0 of a kind, and its choices as they were drawn."""

    def draw(kind):
        with mock.patch.object(controls.preprocessing, "build", wraps=preprocessing.build) as build:
            return controls.draw(*pool, demo, kind, 0), *build.call_args.args

    return draw


@pytest.mark.parametrize(("kind", "own"), [("content", {"image", "text", "category"}), ("attention", {"category"})])
def test_a_planted_shop_keeps_the_features_of_its_channel(pool, drawn, kind, own):
    known, ids = pool
    data, *asked = drawn(kind)
    places = [ids.index(name) + 1 if name in ids else 0 for name in preprocessing.build(*asked).item_ids]
    assert 0 in places and max(places) > 0
    kept = [name for name, (of, _) in data.features.items() if torch.equal(of[1:], known.features[name][0][places])]
    assert set(kept) == own


def test_in_a_content_shop_the_next_item_looks_like_the_last(demo, drawn):
    look, shares = catalogue.draw_catalogue(demo.datasets["demo"].source).look, []
    for kind in ("content", "attention"):
        ordered = drawn(kind)[1].sort_values(["user_id", "timestamp"], kind="stable")
        style = look[ordered["item_id"].str[-4:].astype(int)]
        follows = ordered["user_id"].eq(ordered["user_id"].shift())
        shares.append((style == np.roll(style, 1))[follows].mean())
    assert shares[0] > 1.5 * shares[1], shares


def test_the_rate_counts_supported_verdicts_with_an_exact_interval():
    found = pd.DataFrame({"verdict": ["supported"] + ["inconclusive"] * 9 + ["not supported"] * 10})
    share, low, high = controls.rate(found)
    assert share == 0.05 and (low, high) == pytest.approx((0.00127, 0.24873), abs=1e-4)
    nothing = controls.rate(found[1:])
    assert nothing[:2] == (0, 0) and 0 < nothing[2] < 0.2


def test_the_overview_counts_each_kind_and_experiment_apart():
    found = pd.DataFrame(
        {
            "kind": ["nothing", "nothing", "content"],
            "experiment": ["maf"] * 3,
            "difference": [0.01, -0.01, 0.03],
            "base": [0.1, 0.1, 0.1],
            "verdict": ["inconclusive", "not supported", "supported"],
            "shop": [0, 1, 0],
        }
    )
    table = controls.overview(found)
    assert table["supported"].tolist() == [0, 1] and table["shops"].tolist() == [2, 1]
    assert table["mean_gain"].tolist() == pytest.approx([0, 0.3])
