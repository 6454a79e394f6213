import importlib.util
import io
import urllib.error
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from PIL import Image
from torch import nn
from torchvision.models import VGG, vgg16

from mmrec import config
from mmrec.features import FeatureError, image

CONV5 = config.VGG16(kind="vgg16", layer="conv5", weights="vgg.safetensors")


def reopened(picture, **options):
    """The picture as a file has it."""
    file = io.BytesIO()
    picture.save(file, **options)
    return Image.open(file)


def shade(tensor):
    """RGB of a prepared picture in 0..255, averaged: (3,) integers."""
    std, mean = torch.tensor(image.IMAGENET.std), torch.tensor(image.IMAGENET.mean)
    return (tensor.mean((1, 2)) * std + mean).round().int().tolist()


# --- pictures ----------------------------------------------------------------------------------------------------


def test_prepare_normalises_by_channel():
    prepared = image.IMAGENET(Image.new("RGB", (30, 50), (255, 0, 128)))
    assert prepared.shape == (3, 224, 224)
    assert prepared.dtype == torch.float32
    expected = [(1 - 0.485) / 0.229, (0 - 0.456) / 0.224, (128 / 255 - 0.406) / 0.225]
    torch.testing.assert_close(prepared.mean((1, 2)), torch.tensor(expected))


def test_lite_normalisation():
    prepared = image.CENTRED(Image.new("RGB", (224, 224), (255, 127, 0)))
    assert prepared[:, 7, 7].tolist() == [1.0, 0.0, -127 / 128]


def test_the_whole_picture_is_squeezed_with_antialiasing():
    stripes = np.zeros((100, 2240, 3), dtype=np.uint8)
    stripes[:, ::2] = 255  # finer than a pixel of the result: must come out grey
    prepared = image.IMAGENET(Image.fromarray(stripes))
    grey = (0.5 - 0.485) / 0.229
    assert (prepared[0] - grey).abs().max() < 0.15
    halves = np.zeros((100, 300, 3), dtype=np.uint8)
    halves[:, 150:] = 255
    left, right = image.IMAGENET(Image.fromarray(halves)).split(112, dim=2)
    assert left[0, :, :100].mean() < -2
    assert right[0, :, -100:].mean() > 2


MODES = {
    "grey": (lambda: reopened(Image.new("L", (9, 9), 100), format="JPEG"), [100] * 3),
    "grey, 16 bit": (lambda: reopened(Image.fromarray(np.full((9, 9), 100 * 257, np.uint16)), format="PNG"), [100] * 3),
    "black and white": (lambda: reopened(Image.new("1", (9, 9), 1), format="PNG"), [255] * 3),
    "cmyk": (lambda: reopened(Image.new("CMYK", (9, 9), (0, 255, 255, 0)), format="JPEG"), [254, 0, 0]),
    "palette": (lambda: reopened(Image.new("RGB", (9, 9), (10, 20, 30)).quantize(4), format="GIF"), [10, 20, 30]),
    "see-through": (lambda: reopened(Image.new("RGBA", (9, 9), (0, 0, 0, 0)), format="PNG"), [255] * 3),
    "half see-through": (lambda: reopened(Image.new("RGBA", (9, 9), (200, 0, 0, 51)), format="PNG"), [244, 204, 204]),
    "see-through grey": (lambda: reopened(Image.new("LA", (9, 9), (0, 0)), format="PNG"), [255] * 3),
    "palette, one colour see-through": (
        lambda: reopened(Image.new("P", (9, 9), 0), format="PNG", transparency=0),
        [255] * 3,
    ),
    "rgb, one colour see-through": (
        lambda: reopened(Image.new("RGB", (9, 9), (1, 2, 3)), format="PNG", transparency=(1, 2, 3)),
        [255] * 3,
    ),
}


@pytest.mark.parametrize("mode", MODES)
def test_picture_modes_become_rgb(mode):
    make, expected = MODES[mode]
    found = shade(image.IMAGENET(make()))
    assert np.abs(np.subtract(found, expected)).max() <= 1


def test_exif_orientation_is_applied():
    halves = Image.fromarray(np.repeat(np.uint8([[[255] * 3], [[0] * 3]]), [20, 20], axis=0).repeat(40, axis=1))
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    plain, turned = (image.IMAGENET(reopened(halves, format="PNG", **options)) for options in ({}, {"exif": exif}))
    assert plain[0, 50].mean() > 2 > -2 > plain[0, -50].mean()
    torch.testing.assert_close(turned, plain.flip(1), atol=1e-5, rtol=0)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF")
def test_broken_exif_is_ignored():
    picture = Image.new("RGB", (9, 9), (10, 20, 30))
    broken = reopened(picture, format="PNG", exif=b"Exif\0\0MM\0*\0\0\0\xff broken")
    assert shade(image.IMAGENET(broken)) == [10, 20, 30]


# --- VGG16 -------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Random convolution weights under torchvision's names."""
    folder = tmp_path_factory.mktemp("weights")
    torch.manual_seed(0)
    with torch.device("meta"):
        shapes = {key: value.shape for key, value in vgg16().state_dict().items() if key.startswith("features")}
    state = {
        key: torch.randn(shape) * (2 / shape[1:].numel()) ** 0.5 if len(shape) > 1 else torch.zeros(shape)
        for key, shape in shapes.items()
    }
    safetensors.torch.save_file(state, folder / "vgg.safetensors")
    return folder


def test_conv5_is_the_mean_of_features(folder):
    encoder = image.build(CONV5, folder, "cpu")
    with torch.device("meta"):
        reference = vgg16()
    state = safetensors.torch.load_file(folder / "vgg.safetensors")
    reference.load_state_dict(state, strict=False, assign=True)
    batch = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        expected = reference.features(batch).mean((2, 3))
    found = encoder(batch)
    assert found.shape == (2, 512) == (2, encoder.dim)
    assert found.dtype == torch.float32
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)


def test_fc7_is_torchvisions_forward_up_to_the_last_layer():
    torch.manual_seed(0)
    with torch.device("meta"):  # every layer in its place, at a width a test can afford
        network = VGG(nn.Sequential(), init_weights=False)
    network.features = nn.Sequential(nn.Conv2d(3, 4, 3, stride=16), nn.ReLU())
    sizes = iter([nn.Linear(4 * 49, 16), nn.Linear(16, 8), nn.Linear(8, 5)])
    network.classifier = nn.Sequential(
        *(next(sizes) if isinstance(layer, nn.Linear) else layer for layer in network.classifier)
    )
    network.eval()
    seen = []
    network.classifier[-1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    batch = torch.randn(2, 3, 224, 224)
    with torch.inference_mode():
        network(batch)
        found = image.cut(network, "fc7")(batch)
    assert torch.equal(found, seen[0])
    assert (found == 0).any() and (found > 0).any()  # behind its ReLU


def test_fc7_width():
    with torch.device("meta"):
        assert image.cut(vgg16(), "fc7")(torch.empty(1, 3, 224, 224)).shape == (1, 4096)


def test_identity_tells_encoders_apart(folder):
    identity = image.build(CONV5, folder, "cpu").identity
    assert all(isinstance(value, str) for value in identity.values())
    assert identity["layer"] == "conv5"
    assert identity["origin"] == "vgg.safetensors"
    assert len(identity["sha256"]) == 64
    assert image.build(config.VGG16(**vars(CONV5) | {"batch_size": 7}), folder, "cpu").identity != identity


def test_wrong_sha256(folder, monkeypatch):
    monkeypatch.setattr(image, "load", lambda path: pytest.fail("read before it was verified"))
    spec = config.VGG16(**vars(CONV5) | {"sha256": "0" * 64})
    with pytest.raises(FeatureError, match="vgg.safetensors has SHA-256 .* expected 000"):
        image.build(spec, folder, "cpu")


def test_missing_file_says_what_to_do(tmp_path):
    with pytest.raises(FeatureError) as error:
        image.build(CONV5, tmp_path, "cpu")
    assert "vgg.safetensors do not exist" in str(error.value)
    assert "params.yaml under encoders.<name>.weights" in str(error.value)
    assert "\n" not in str(error.value)


def test_weights_of_convolutions_alone_give_no_fc7(folder):
    spec = config.VGG16(**vars(CONV5) | {"layer": "fc7"})
    with pytest.raises(FeatureError, match=r"vgg.safetensors lacks classifier.0.weight .*\(4 such tensors\)"):
        image.build(spec, folder, "cpu")


@pytest.mark.parametrize("change", ["halved", "another shape"])
def test_weights_of_another_dtype_or_shape(folder, tmp_path, change):
    state = safetensors.torch.load_file(folder / "vgg.safetensors")
    if change == "halved":
        state = {key: value.half() for key, value in state.items()}
    else:
        state["features.28.bias"] = torch.zeros(256)
    safetensors.torch.save_file(state, tmp_path / "vgg.safetensors")
    if change == "halved":
        assert image.build(CONV5, tmp_path, "cpu")(torch.randn(1, 3, 224, 224)).isfinite().all()
    else:
        with pytest.raises(FeatureError, match=r"features.28.bias or has it in another shape \(1 such"):
            image.build(CONV5, tmp_path, "cpu")


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """An empty folder of torchvision's downloads, and no network."""
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))

    def offline(url, path, *, hash_prefix, progress):
        assert hash_prefix == "397923af"  # else a broken download would stay there
        assert not progress
        raise urllib.error.URLError("no network")

    monkeypatch.setattr(torch.hub, "download_url_to_file", offline)
    return tmp_path / "checkpoints" / "vgg16-397923af.pth"


def test_no_network_says_what_to_do(hub):
    with pytest.raises(FeatureError) as error:
        image.build(config.VGG16(kind="vgg16", layer="fc7"), hub, "cpu")
    for part in ("vgg16-397923af.pth", "https://download.pytorch.org", "params.yaml under encoders.<name>.weights"):
        assert part in str(error.value)
    assert "\n" not in str(error.value)


def test_torchvisions_file_is_verified_and_used(hub, folder, monkeypatch):
    hub.parent.mkdir()
    state = safetensors.torch.load_file(folder / "vgg.safetensors")
    torch.save(state | {"classifier.0.weight": torch.zeros(1)}, hub)
    spec = config.VGG16(kind="vgg16", layer="conv5")
    with pytest.raises(FeatureError, match="vgg16-397923af.pth has SHA-256 .* expected 397923af"):
        image.build(spec, folder, "cpu")
    monkeypatch.setattr(image, "VGG16_SHA256", image.sha256(hub))
    encoder = image.build(spec, folder, "cpu")
    assert encoder.identity["origin"] == "torchvision IMAGENET1K_V1"
    batch = torch.randn(1, 3, 224, 224)
    assert torch.equal(encoder(batch), image.build(CONV5, folder, "cpu")(batch))


# --- EfficientNet-Lite0 ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lite():
    return image.build(config.EfficientNetLite0(kind="efficientnet_lite0"), None, "cpu")


@pytest.fixture(scope="module")
def whole():
    """The package's own network, classes included."""
    folder = Path(importlib.util.find_spec(image.EFFICIENTNET_PACKAGE).submodule_search_locations[0])
    network = image.EfficientNet.from_name("efficientnet-lite0")
    network.load_state_dict(torch.load(folder / "models" / image.EFFICIENTNET_FILE))
    return network.eval()


def _scene(seed, colour, shift=0):
    """Discs of one colour on a light ground."""
    generator = np.random.default_rng(seed)
    y, x = np.mgrid[:240, :240]
    picture = np.full((240, 240, 3), 230, dtype=np.uint8)
    for centre in generator.integers(40, 200, (5, 2)):
        picture[(y - centre[0]) ** 2 + (x - centre[1] - shift) ** 2 < 900] = colour
    return Image.fromarray(picture)


def test_lite_tells_pictures_apart(lite):
    red, nudged, noise = (
        lite.prepare(picture)
        for picture in (
            _scene(1, (200, 30, 30)),
            _scene(1, (200, 30, 30), shift=3),
            Image.fromarray(np.random.default_rng(0).integers(0, 255, (240, 240, 3), dtype=np.uint8)),
        )
    )
    vectors = lite(torch.stack([red, nudged, noise]))
    assert vectors.shape == (3, 1280) == (3, lite.dim)
    assert vectors.dtype == torch.float32
    cosine = nn.functional.cosine_similarity(vectors[:1], vectors[1:])
    assert cosine[0] > 0.8 > cosine[1] + 0.2


def test_the_package_finds_the_same_classes_from_our_vectors(lite, whole):
    batch = torch.stack([lite.prepare(_scene(2, (20, 120, 60)))])
    with torch.inference_mode():
        torch.testing.assert_close(whole._fc(lite(batch)), whole(batch), atol=1e-4, rtol=1e-4)


def test_blocks_are_the_input_of_the_last_convolution(lite, whole):
    blocks = image.build(config.EfficientNetLite0(kind="efficientnet_lite0", layer="blocks"), None, "cpu")
    assert (blocks.dim, blocks.identity["layer"]) == (320, "blocks") and lite.identity["layer"] == "head"
    batch = torch.stack([lite.prepare(_scene(2, (20, 120, 60))), lite.prepare(_scene(3, (200, 30, 30)))])
    given = []
    whole._conv_head.register_forward_pre_hook(lambda module, inputs: given.append(inputs[0]))
    with torch.inference_mode():
        whole(batch)
    torch.testing.assert_close(blocks(batch), given[0].mean((2, 3)), atol=1e-4, rtol=1e-4)


def test_each_network_has_the_preprocessing_of_its_training(lite, folder):
    assert lite.prepare is image.CENTRED
    assert lite.identity["input"] == image.CENTRED.name
    assert image.build(CONV5, folder, "cpu").prepare is image.IMAGENET


def test_lite_wrong_file(monkeypatch):
    monkeypatch.setattr(image, "EFFICIENTNET_SHA256", "0" * 64)
    with pytest.raises(FeatureError, match="efficientnet-lite0-57934424.pth has SHA-256 5793"):
        image.build(config.EfficientNetLite0(kind="efficientnet_lite0"), None, "cpu")


def test_lite_missing_package(monkeypatch):
    monkeypatch.setattr(image, "EFFICIENTNET_PACKAGE", "no_such_package")
    with pytest.raises(FeatureError, match=r"efficientnet-lite0-57934424.pth are missing.*datasets.<name>.image"):
        image.build(config.EfficientNetLite0(kind="efficientnet_lite0"), None, "cpu")
