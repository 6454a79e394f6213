"""Files of trained weights: verify and load."""

from pathlib import Path

import safetensors.torch
import torch
from torch import Tensor

from mmrec.features import FeatureError
from mmrec.files import sha256


def verify(path: Path, expected: str | None) -> str:
    """The file's SHA-256.

    Raises:
        FeatureError: it differs from `expected`.
    """
    found = sha256(path)
    if expected is not None and found != expected:
        raise FeatureError(f"{path.name} has SHA-256 {found}, expected {expected}: another file, or a broken download")
    return found


def load(path: Path) -> dict[str, Tensor]:
    """Tensors by name, on the CPU, from .safetensors or from a .pth with tensors only.

    Raises:
        FeatureError: the file is neither.
    """
    try:
        if path.suffix == ".safetensors":
            return safetensors.torch.load_file(path)
        return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch and safetensors raise many kinds for a broken file
        raise FeatureError(f"{path.name} holds no weights that can be read: {' '.join(str(error).split())}") from error
