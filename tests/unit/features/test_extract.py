"""The machinery around an encoder, on an encoder that averages colours (or counts letters)."""

import dataclasses
import io
import threading
import warnings
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import nn

from mmrec.data.sources import given
from mmrec.features import FeatureError, extract, image, store

CPU = torch.device("cpu")


class Killed(BaseException):
    """As a signal would: nothing on the way may swallow it."""


class Average(nn.Module):
    """(B, 3, 8, 8) -> (B, 3). Keeps count; dies in the batch after `lives`."""

    def __init__(self, lives=10**9):
        super().__init__()
        self.batches, self.lives = [], lives

    def forward(self, batch):
        if len(self.batches) == self.lives:
            raise Killed
        self.batches.append(len(batch))
        return (
            batch.mean((2, 3)) + 100 * batch.mean()
        )  # the rest of the batch matters, as in the last bits of a real one


def small(picture):
    """A preprocessing that costs a test nothing."""
    pixels = np.asarray(image.to_rgb(picture).resize((8, 8)), dtype=np.float32)
    return torch.from_numpy(pixels.transpose(2, 0, 1) / 255)


def averaging(lives=10**9, name="average"):
    """An image encoder with batches of 2, so shards of 16."""
    return image.ImageEncoder(
        identity={"name": name}, dim=3, batch_size=2, prepare=small, network=Average(lives), device=CPU
    )


class Letters:
    """A text encoder: length and number of the letter a."""

    identity, dim, batch_size, device = {"name": "letters"}, 2, 2, CPU

    def __init__(self):
        self.seen = []

    def __call__(self, texts):
        self.seen += texts
        return torch.tensor([[len(text), text.count("a")] for text in texts], dtype=torch.float32)


def jpeg(shade):
    file = io.BytesIO()
    pixels = np.full((20, 20, 3), shade, dtype=np.uint8)
    pixels[: shade % 19] = 255 - shade
    Image.fromarray(pixels).save(file, format="JPEG")
    return file.getvalue()


@pytest.fixture
def pictures(tmp_path):
    """40 different pictures: two whole shards and a half."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    paths = [folder / f"{index}.jpg" for index in range(40)]
    for index, path in enumerate(paths):
        path.write_bytes(jpeg(6 * index))
    return paths


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


@pytest.fixture(autouse=True)
def quiet(monkeypatch, tmp_path):
    monkeypatch.setenv("MMREC_PROGRESS", str(tmp_path / "progress"))


def shards(cache):
    return sorted(cache.glob("*/*.safetensors"))


def images(encoder, paths, cache):
    """Matrix and mask without the row of padding, and counts of misses."""
    return _of_items(*extract.extract_images(encoder, paths, cache))


def texts_of(encoder, texts, cache):
    return _of_items(*extract.extract_texts(encoder, texts, cache))


def _of_items(matrix, mask, misses):
    assert not matrix[0].any() and not mask[0]
    return matrix[1:], mask[1:], misses


# --- joining -----------------------------------------------------------------------------------------------------


def test_rows_follow_their_item_whatever_the_order(pictures, tmp_path):
    order = np.random.default_rng(0).permutation(len(pictures))
    straight, present, _ = images(averaging(), pictures, tmp_path / "a")
    permuted, _, _ = images(averaging(), [pictures[i] for i in order], tmp_path / "b")
    assert present.all()
    assert len(straight.unique(dim=0)) == len(pictures)
    assert torch.equal(permuted, straight[torch.from_numpy(order)])


def test_texts_follow_their_item_whatever_the_order(cache, tmp_path):
    texts = ["banana", "a", "", "bread", "aa", "salad"]
    encoder, other = Letters(), Letters()
    found, present, misses = texts_of(encoder, texts, cache)
    assert found.tolist() == [[6, 3], [1, 1], [0, 0], [5, 1], [2, 2], [5, 2]]
    assert present.tolist() == [True, True, False, True, True, True]
    assert misses == {}
    permuted, _, _ = texts_of(other, texts[::-1], tmp_path / "b")
    assert torch.equal(permuted, found.flip(0))
    assert encoder.seen == other.seen  # in the same company, so that a real encoder gives the same bits


def test_a_row_is_the_encoders_output_for_its_picture(pictures, cache):
    matrix, _, _ = images(averaging(), pictures[7:8], cache)
    batch = small(Image.open(pictures[7]))[None]
    assert torch.equal(matrix, averaging()(batch))


def test_an_item_without_a_path_is_absent_and_no_miss(pictures, cache):
    matrix, present, misses = images(averaging(), [None, pictures[0], None], cache)
    assert present.tolist() == [False, True, False]
    assert matrix[[0, 2]].tolist() == [[0, 0, 0]] * 2
    assert misses == {}


def test_no_pictures_and_no_texts(cache):
    matrix, present, misses = images(averaging(), [None, None], cache)
    assert matrix.shape == (2, 3) and not present.any() and misses == {}
    assert texts_of(Letters(), [], cache)[0].shape == (0, 2)


# --- once each ---------------------------------------------------------------------------------------------------


def test_equal_bytes_are_encoded_once(pictures, cache, tmp_path):
    copy = tmp_path / "copy.jpg"
    copy.write_bytes(pictures[0].read_bytes())
    encoder = averaging()
    matrix, present, _ = images(encoder, [pictures[0], pictures[1], copy, pictures[0]], cache)
    assert sum(encoder.network.batches) == 2
    assert present.all()
    assert torch.equal(matrix[0], matrix[2]) and torch.equal(matrix[0], matrix[3])


def test_equal_texts_are_encoded_once(cache):
    encoder = Letters()
    texts_of(encoder, ["banana", "bread", "banana"], cache)
    assert sorted(encoder.seen) == ["banana", "bread"]


def test_every_picture_is_decoded_once(pictures, cache, monkeypatch):
    opened = []
    monkeypatch.setattr(extract.Image, "open", lambda file, really=Image.open: opened.append(1) or really(file))
    images(averaging(), pictures, cache)
    assert len(opened) == len(pictures)


def test_few_decoded_pictures_wait_for_the_encoder(pictures, cache, monkeypatch):
    """Decoded at most a few batches ahead of the encoder."""
    decoded, most = [], []
    prepare = lambda picture: decoded.append(1) or small(picture)  # noqa: E731
    encoder = dataclasses.replace(averaging(), prepare=prepare)
    encoder.network.register_forward_pre_hook(lambda *_: most.append(len(decoded) - sum(encoder.network.batches)))
    images(encoder, pictures, cache)
    assert 2 <= max(most) <= (extract.BATCHES_AHEAD + 1) * encoder.batch_size


# --- interrupted -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("lives", [0, 3, 8, 11, 19])
def test_a_killed_run_continues_and_ends_with_the_same_bits(pictures, cache, tmp_path, lives):
    expected, _, _ = images(averaging(), pictures, tmp_path / "uninterrupted")
    with pytest.raises(Killed):
        images(averaging(lives), pictures, cache)
    again = averaging()
    found, present, _ = images(again, pictures, cache)
    assert torch.equal(found, expected) and present.all()
    finished_shards = lives // extract.BATCHES_PER_SHARD
    assert len(again.network.batches) == 20 - finished_shards * extract.BATCHES_PER_SHARD
    last = averaging()
    assert torch.equal(images(last, pictures, cache)[0], expected)
    assert last.network.batches == []


@pytest.mark.parametrize("damage", ["empty", "cut short", "one bit"])
def test_a_damaged_shard_is_computed_again(pictures, cache, damage):
    expected, _, _ = images(averaging(), pictures, cache)
    assert len(shards(cache)) == 3
    victim = max(shards(cache), key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[-40] ^= 1
    victim.write_bytes({"empty": b"", "cut short": data[:-9], "one bit": data}[damage])
    again = averaging()
    assert torch.equal(images(again, pictures, cache)[0], expected)
    assert len(again.network.batches) == extract.BATCHES_PER_SHARD
    last = averaging()
    images(last, pictures, cache)
    assert last.network.batches == []


def test_another_encoder_has_its_own_shards(pictures, cache):
    images(averaging(), pictures, cache)
    other = averaging(name="other")
    images(other, pictures, cache)
    assert len(other.network.batches) == 20


ARITHMETIC = {
    "oneDNN": lambda patch: patch.setenv("ONEDNN_MAX_CPU_ISA", "other"),
    "MKL": lambda patch: patch.setenv("MKL_CBWR", "other"),
    "torch": lambda patch: patch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "other"),
    "version": lambda patch: patch.setattr(torch, "__version__", "other"),
    "threads": lambda patch: patch.setattr(torch, "get_num_threads", lambda: 77),
}


@pytest.mark.parametrize("what", ARITHMETIC)
def test_another_arithmetic_has_its_own_shards(pictures, cache, monkeypatch, what):
    images(averaging(), pictures, cache)
    ARITHMETIC[what](monkeypatch)
    again = averaging()
    images(again, pictures, cache)
    assert len(again.network.batches) == 20


def test_a_changed_picture_is_encoded_again(pictures, cache, tmp_path):
    images(averaging(), pictures, cache)
    for path in pictures[5:15]:
        path.write_bytes(path.read_bytes() + b"another comment")
    after, _, _ = images(averaging(), pictures, cache)
    assert torch.equal(after, images(averaging(), pictures, tmp_path / "fresh")[0])


def test_a_killed_run_leaves_no_threads(pictures, cache):
    before = threading.active_count()
    with pytest.raises(Killed):
        images(averaging(lives=3), pictures, cache)
    assert threading.active_count() == before


def test_progress_includes_cached_shards(pictures, cache, tmp_path):
    with pytest.raises(Killed):
        images(averaging(lives=8), pictures, cache)
    images(averaging(), pictures, cache)
    assert (tmp_path / "progress").read_text().splitlines()[-1].startswith("images: 40/40, ")


# --- broken pictures ---------------------------------------------------------------------------------------------


def test_broken_pictures_are_counted_by_reason(pictures, cache, tmp_path, monkeypatch, capfd):
    whole = pictures[3].read_bytes()
    contents = {
        0: whole[: len(whole) * 2 // 3],
        2: b"<html>not found</html>",
        4: b"",
        5: whole[:2],
        7: jpeg(9)[:-100],
    }
    for index, content in contents.items():
        pictures[index].write_bytes(content)
    file = io.BytesIO()
    Image.new("1", (400, 400)).save(file, format="PNG")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 60_000)
    pictures[8].write_bytes(file.getvalue())
    pictures[9].unlink()
    rows = [*pictures[:10], pictures[0]]
    for encoder in (averaging(), averaging()):  # computed, then from the cache
        matrix, present, misses = images(encoder, rows, cache)
        assert misses == {"truncated": 3, "not decodable": 3, "too large": 1, "no such file": 1}
        assert present.nonzero().squeeze(1).tolist() == [1, 3, 6]
        assert not matrix[~present].any() and matrix[present].any(1).all()
    assert encoder.network.batches == []
    assert capfd.readouterr() == ("", "")


def test_truncated_png(cache, tmp_path):
    path = tmp_path / "a.png"
    noise = np.random.default_rng(0).integers(0, 256, (50, 50, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[:-500])
    assert images(averaging(), [path], cache)[2] == {"truncated": 1}


def test_odd_pictures_give_no_warnings(pictures, cache, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)  # PIL warns of 20 x 20, and refuses none
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert images(averaging(), pictures, cache)[1].all()


def test_an_unreadable_file_raises_and_is_not_cached_as_broken(tmp_path):
    with pytest.raises(OSError):
        extract.decode(tmp_path / "gone.jpg", small)


# --- the whole catalogue -----------------------------------------------------------------------------------------


@pytest.fixture
def catalogue():
    return pd.DataFrame(
        {
            "item_id": ["x", "y", "z"],
            "title": ["bread", " salad ", " "],
            "text": ["banana", "", ""],
            "categories": [["food", "fruit"], [], ["food"]],
            "image": ["0.jpg", "", "1.jpg"],
        }
    )


def build(catalogue, pictures, cache, monkeypatch, stored="float32", **on):
    monkeypatch.setattr(extract.image, "build", lambda spec, root, device: averaging())
    monkeypatch.setattr(extract.text, "build", lambda spec, root, device: Letters())
    spec = SimpleNamespace(**{"image": "lite", "text": "minilm", "category": True} | on)
    encoders = {"lite": SimpleNamespace(stored=stored), "minilm": SimpleNamespace(stored="float32")}
    config = SimpleNamespace(datasets={"shop": spec}, encoders=encoders)
    folder = pictures[0].parent
    return extract.build_features(config, "shop", catalogue, folder, root=Path(), cache=cache, device="cpu")


def test_given_features_are_joined_by_id_and_other_rows_counted(catalogue, pictures, cache, monkeypatch):
    said = []
    monkeypatch.setattr(extract, "report", said.append)
    catalogue = catalogue.assign(item_id=["x", "y", "z"])
    frame = pd.DataFrame([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0]], index=["z", "other", "x"])
    given.save(frame, given.path_of(pictures[0].parent.parent, "text"))
    features = build(catalogue, pictures, cache, monkeypatch, image=None, text="given")["text"]
    assert features.matrix.tolist() == [[0, 0], [5, 6], [0, 0], [1, 2]]
    assert features.mask.tolist() == [False, True, False, True]
    assert features.meta["encoder"]["name"] == "given" and len(features.meta["encoder"]["sha256"]) == 64
    assert features.meta["counts"] == {"items": 3, "present": 2, "misses": {}, "unknown": 1}
    assert store.overview({"text": features}).loc["text", "vectors of other items"] == 1
    assert said == ["text.parquet: 1 of 3 rows are of items that the sequences do not hold; left out"]


def test_build_features(catalogue, pictures, cache, monkeypatch):
    pictures[1].write_bytes(b"no picture")
    features = build(catalogue, pictures, cache, monkeypatch)
    assert list(features) == ["image", "text", "category"]
    assert {name: one.mask.tolist() for name, one in features.items()} == {
        "image": [False, True, False, False],
        "text": [False, True, True, False],
        "category": [False, True, False, True],
    }
    assert features["text"].matrix.tolist() == [[0, 0], [6, 3], [5, 2], [0, 0]]  # banana; no text: its title, salad
    assert features["category"].matrix.tolist() == [[0, 0], [1, 1], [0, 0], [1, 0]]
    assert features["category"].meta["vocabulary"] == ["food", "fruit"]
    assert features["image"].meta == {
        "encoder": {"name": "average"},
        "counts": {"items": 3, "present": 1, "misses": {"not decodable": 1}},
    }


def test_the_encoder_sets_the_stored_precision(catalogue, pictures, cache, monkeypatch, tmp_path):
    features = build(catalogue, pictures, cache, monkeypatch, stored="float16")
    kinds = {}
    for name, one in features.items():
        store.save(tmp_path / name, one)
        kinds[name] = load_file(tmp_path / name)["matrix"].dtype
    assert kinds == {"image": torch.float16, "text": torch.float32, "category": torch.float32}


def test_a_modality_that_is_off_is_not_built(catalogue, pictures, cache, monkeypatch):
    assert list(build(catalogue, pictures, cache, monkeypatch, image=None, text=None)) == ["category"]
    assert list(build(catalogue, pictures, cache, monkeypatch, category=False, text=None)) == ["image"]


def test_a_modality_without_items_is_refused(catalogue, pictures, cache, monkeypatch):
    catalogue["image"] = None
    with pytest.raises(FeatureError, match=r"no item of shop has image: set datasets\.shop\.image: null"):
        build(catalogue, pictures, cache, monkeypatch)
