import os
import subprocess
import sys

import pytest
import safetensors.torch
import torch

from mmrec.features import FeatureError
from mmrec.features.store import Features, load, overview, save, standardise


def by_item(rows, present, meta):
    """Features with the padding row put in front of the items' rows."""
    return Features(torch.cat([torch.zeros(1, rows.shape[1]), rows]), torch.cat([_mask(0), present]), meta)


@pytest.fixture
def features():
    rows = torch.tensor([[1.0, 2.0], [0.0, 0.0], [3.0, 2.0]])
    meta = {"encoder": {"name": "någon", "layer": "fc"}, "counts": {"items": 3, "present": 2, "misses": {}}}
    return by_item(rows, torch.tensor([True, False, True]), meta)


def test_round_trip(features, tmp_path):
    path = tmp_path / "not_yet" / "image.safetensors"
    save(path, features)
    found = load(path)
    assert torch.equal(found.matrix, features.matrix)
    assert torch.equal(found.mask, features.mask)
    assert found.meta == features.meta
    assert os.listdir(path.parent) == [path.name]


def test_half_precision_on_disk_is_single_precision_in_memory(tmp_path):
    rows = torch.randn(50, 20, generator=torch.Generator().manual_seed(0))
    wide = by_item(rows, torch.ones(50, dtype=torch.bool), {"stored": "float32"})
    save(tmp_path / "half", by_item(rows, torch.ones(50, dtype=torch.bool), {"stored": "float16"}))
    save(tmp_path / "single", wide)
    found = load(tmp_path / "half")
    assert found.matrix.dtype == torch.float32 and torch.equal(found.matrix[1:], rows.half().float())
    assert (found.matrix[1:] / rows - 1).abs().max() <= 2**-10  # ten digits of the eleven that half precision has
    sizes = [(tmp_path / name).stat().st_size for name in ("half", "single")]
    assert sizes[1] - sizes[0] == wide.matrix.numel() * 2


def test_values_beyond_half_precision_are_refused(features, tmp_path):
    features.matrix[1, 0] = 70000
    features.meta["stored"] = "float16"
    with pytest.raises(FeatureError, match="image.safetensors: .* store float32"):
        save(tmp_path / "image.safetensors", features)
    assert not list(tmp_path.iterdir())


def test_equal_features_give_equal_bytes(features, tmp_path):
    save(tmp_path / "here", features)
    # Another process has another hash seed; another dict has another order.
    shuffled = dict(reversed(features.meta.items()))
    code = (
        "import torch, pathlib; from mmrec.features.store import *;"
        f"matrix = torch.tensor([[0., 0.], [1., 2.], [0., 0.], [3., 2.]]); mask = matrix.any(1);"
        f"save(pathlib.Path({str(tmp_path / 'there')!r}), Features(matrix, mask, {shuffled!r}))"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"PYTHONHASHSEED": "1"})
    assert (tmp_path / "here").read_bytes() == (tmp_path / "there").read_bytes()


def test_killed_while_writing_leaves_the_old_file(features, tmp_path, monkeypatch):
    path = tmp_path / "image.safetensors"
    save(path, features)

    def killed(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "replace", killed)
    with pytest.raises(KeyboardInterrupt):
        save(path, by_item(torch.ones(1, 2), torch.tensor([True]), {}))
    assert torch.equal(load(path).matrix, features.matrix)


@pytest.mark.parametrize("length", [0, 5, 60, -1])
def test_a_cut_file_is_refused(features, tmp_path, length):
    path = tmp_path / "image.safetensors"
    save(path, features)
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(FeatureError, match=r"image\.safetensors is no whole features file"):
        load(path)


def test_a_file_without_meta_is_refused(tmp_path):
    path = tmp_path / "image.safetensors"
    safetensors.torch.save_file({"matrix": torch.zeros(1, 2), "mask": torch.zeros(1, dtype=torch.bool)}, path)
    with pytest.raises(FeatureError, match="no whole features file"):
        load(path)


def test_missing_file_names_the_stage(tmp_path):
    with pytest.raises(FeatureError, match="does not exist: run the stage `features`"):
        load(tmp_path / "image.safetensors")


def _mask(*values):
    return torch.tensor(values, dtype=torch.bool)


INCONSISTENT = {
    "not finite": (torch.tensor([[0.0], [float("nan")]]), _mask(0, 1)),
    "padding, and the mask": (torch.tensor([[0.0], [1.0]]), _mask(1, 1)),
    "row that is not zero": (torch.tensor([[0.0], [1.0]]), _mask(0, 0)),
    "or the padding, has a row": (torch.tensor([[1.0], [1.0]]), _mask(0, 1)),
    "do not fit": (torch.tensor([[0.0], [1.0]]), _mask(0, 1, 1)),
    "and mask .* do not fit": (torch.tensor([0.0, 1.0]), _mask(0, 1)),
    "do not fit$": (torch.zeros(0, 1), _mask()),
    "not float32": (torch.tensor([[0.0], [1.0]]).double(), _mask(0, 1)),
    "and bool": (torch.tensor([[0.0], [1.0]]), torch.tensor([0, 1])),
}


@pytest.mark.parametrize("message", INCONSISTENT)
def test_inconsistent_parts_are_refused(message, tmp_path):
    matrix, mask = INCONSISTENT[message]
    with pytest.raises(FeatureError, match=message):
        Features(matrix, mask, {})
    path = tmp_path / "image.safetensors"
    safetensors.torch.save_file({"matrix": matrix, "mask": mask}, path, {"meta": "{}"})
    with pytest.raises(FeatureError, match=r"image\.safetensors: .*" + message):
        load(path)


def test_standardise_by_hand():
    # Present rows of column 0: 1, 3, 5: mean 3, population deviation sqrt(8/3). Column 1 is the same everywhere.
    rows = torch.tensor([[1.0, 0.1], [0.0, 0.0], [3.0, 0.1], [5.0, 0.1]])
    scaled = standardise(by_item(rows, _mask(1, 0, 1, 1), {}))
    z = 2 / (8 / 3) ** 0.5
    assert scaled.dtype == torch.float32
    torch.testing.assert_close(scaled, torch.tensor([[0, 0], [-z, 0], [0, 0], [0, 0], [z, 0]]))


def test_standardise_sums_in_double_precision():
    rows = 10_000 + torch.arange(1000.0)[:, None].sqrt()
    expected = (rows.double() - rows.double().mean()) / rows.double().std(correction=0)
    found = standardise(by_item(rows, torch.ones(1000, dtype=torch.bool), {}))[1:]
    torch.testing.assert_close(found, expected.float(), atol=1e-6, rtol=0)


def test_standardise_leaves_its_input_alone(features):
    before = features.matrix.clone()
    standardise(features)
    assert torch.equal(features.matrix, before)


def test_standardise_without_present_items_gives_zeros():
    assert standardise(by_item(torch.zeros(2, 3), _mask(0, 0), {})).tolist() == [[0, 0, 0]] * 3


def test_overview(features):
    features.meta["counts"] = {"items": 3, "present": 1, "misses": {"truncated": 1}}
    counts = {"items": 3, "present": 3, "misses": {}}
    category = by_item(torch.ones(3, 5), _mask(1, 1, 1), {"encoder": {"name": "multi_hot"}, "counts": counts})
    table = overview({"image": features, "category": category})
    columns = ["encoder", "layer", "width", "items with it", "items without", "of those, unreadable"]
    assert table.loc["image", columns].tolist() == ["någon", "fc", 2, 1, 2, "1 truncated"]
    assert table.loc["category", columns].tolist() == ["multi_hot", "", 5, 3, 0, ""]
