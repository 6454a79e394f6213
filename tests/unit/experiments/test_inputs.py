import hashlib
import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file

from mmrec import config
from mmrec.experiments import inputs, run
from mmrec.features import controls, store

CPU = torch.device("cpu")


def test_data_comes_with_features_standardised_and_categories_as_they_are(shop, paths):
    data = inputs.load_data(paths.processed("shop"), ("image", "category"), CPU)
    assert set(data.features) == {"image", "category"}
    assert torch.equal(data.sequences.items, shop.sequences.items)
    raw, present = shop.features["image"]
    matrix, mask = data.features["image"]
    assert torch.equal(mask, present)
    assert torch.equal(matrix, store.standardise(store.Features(raw, present, {})))
    assert matrix[mask].mean(0).abs().max() < 1e-6
    assert torch.equal(data.features["category"][0], shop.features["category"][0])


def test_data_is_named_by_the_content_of_its_files(shop, paths):
    folder = paths.processed("shop")
    data = inputs.load_data(folder, ("text",), CPU)
    assert data.digests == {
        "sequences": hashlib.sha256((folder / "sequences.safetensors").read_bytes()).hexdigest(),
        "text": hashlib.sha256((folder / "features" / "text.safetensors").read_bytes()).hexdigest(),
    }


@pytest.mark.parametrize("items", [29, 31])
def test_features_of_another_number_of_items_are_refused(paths, make_features, items):
    folder = paths.processed("shop")
    matrix, present = make_features(items)["text"]
    store.save(folder / "features" / "text.safetensors", store.Features(matrix, present, {}))
    inputs.load_data(folder, ("image", "category"), CPU)
    with pytest.raises(inputs.StaleFeatures, match=f"text.safetensors has {items} items, .* 30: extract .* anew"):
        inputs.load_data(folder, ("image", "text", "category"), CPU)


def test_an_experiment_with_the_rarest_category_is_shown_no_other(shop, settings, choose, made, tmp_path):
    maf = choose("maf")
    rarest = replace(maf, data=config.DataControls(categories="rarest"))
    assert inputs.shown_to(maf, shop, 0) == shop
    shown = inputs.shown_to(rarest, shop, 0)
    matrix, present = shown.features["category"]
    torch.testing.assert_close(matrix, controls.rarest(shop.features["category"][0]))
    assert matrix.sum() < shop.features["category"][0].sum()  # some of the shop's items are in two
    torch.testing.assert_close(present, shop.features["category"][1])
    assert shown.features["image"] is shop.features["image"]
    folders = [made("maf"), run.run(rarest, 0, shop, settings, tmp_path)]
    weights = [load_file(folder / "model.safetensors") for folder in folders]
    assert weights[0].keys() == weights[1].keys()  # of the same size, learned from other targets
    assert any((weights[0][name] != weights[1][name]).any() for name in weights[0])
    keys = [json.loads((folder / "run.json").read_text())["key"] for folder in folders]
    assert {name for name in keys[1] if keys[1][name] != keys[0][name]} == {"controls"}
