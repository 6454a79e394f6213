"""One modality's features on disk: a matrix by item index, a presence mask, and the encoder's identity."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import safetensors.torch
import torch
from torch import Tensor

from mmrec.features import FeatureError
from mmrec.files import atomic


@dataclass(frozen=True)
class Features:
    """Row i belongs to item i of the catalogue; row 0 is padding. Items that lack the modality have a row of zeros.

    Parts that do not fit together raise FeatureError.
    """

    matrix: Tensor  # (n_items + 1, d) float32
    mask: Tensor  # (n_items + 1,) bool: this item has the modality
    meta: dict[str, Any]  # JSON: the encoder's identity, counts, a category's name for each column

    def __post_init__(self) -> None:
        matrix, mask = self.matrix, self.mask
        if matrix.dtype != torch.float32 or mask.dtype != torch.bool:
            raise FeatureError(f"matrix is {matrix.dtype} and mask {mask.dtype}, not float32 and bool")
        if matrix.ndim != 2 or len(matrix) == 0 or mask.shape != matrix.shape[:1]:
            raise FeatureError(f"matrix {tuple(matrix.shape)} and mask {tuple(mask.shape)} do not fit")
        if not matrix.isfinite().all():
            raise FeatureError("matrix holds a value that is not finite")
        if mask[0]:
            raise FeatureError("row 0 is padding, and the mask says it is an item")
        if matrix[~mask].any():
            raise FeatureError("an item without the modality, or the padding, has a row that is not zero")


def save(path: Path, features: Features) -> None:
    """Write a safetensors file, whole or not at all. Equal features give equal bytes.

    `meta["stored"] == "float16"` halves the file and keeps three digits. Larger values raise FeatureError.
    """
    matrix = features.matrix.half() if features.meta.get("stored") == "float16" else features.matrix
    if not matrix.isfinite().all():
        raise FeatureError(f"{path.name}: a feature is larger than float16 can hold: store float32")
    # One key: safetensors writes several in an order that changes from run to run.
    meta = {"meta": json.dumps(features.meta, sort_keys=True, ensure_ascii=False)}
    tensors = {"matrix": matrix.contiguous(), "mask": features.mask.contiguous()}
    with atomic(path) as beside:
        safetensors.torch.save_file(tensors, beside, metadata=meta)


def load(path: Path) -> Features:
    """Read a file of `save`, as float32. A missing, damaged or inconsistent file raises FeatureError."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            meta = json.loads(file.metadata()["meta"])
            matrix = file.get_tensor("matrix")
            return Features(matrix.float() if matrix.dtype == torch.float16 else matrix, file.get_tensor("mask"), meta)
    except FileNotFoundError:
        raise FeatureError(f"{path} does not exist: run the stage `features` first") from None
    except (safetensors.SafetensorError, OSError, TypeError, KeyError, ValueError) as error:
        raise FeatureError(f"{path} is no whole features file ({error}): run the stage `features` again") from error
    except FeatureError as error:
        raise FeatureError(f"{path}: {error}") from error


def standardise(features: Features, like: Features | None = None) -> Tensor:
    """Columns as z-scores over the items that have the modality: (n_items + 1, d) float32.

    Interactions play no part, so that validation and test cannot leak. Constant columns, padding and items that lack
    the modality become 0. With `like`, its items give mean and standard deviation.
    """
    scaled, like = torch.zeros_like(features.matrix), like or features
    present = like.matrix[like.mask].double()  # sums of thousands of rows
    if len(present) == 0:
        return scaled
    varies = present.amax(0) > present.amin(0)  # exact; the standard deviation of equal values may be 1e-17
    spread = torch.where(varies, present.std(0, correction=0), 1.0)
    rows = present if like is features else features.matrix[features.mask].double()
    scaled[features.mask] = torch.where(varies, (rows - present.mean(0)) / spread, 0.0).float()
    return scaled


def overview(encoded: dict[str, Features]) -> pd.DataFrame:
    """Each modality's encoder, its items, and the reasons for missing ones, as a table for readers."""
    rows = {}
    for modality, features in encoded.items():
        identity, counts = features.meta["encoder"], features.meta["counts"]
        rows[modality] = {
            "encoder": identity["name"],
            "from": identity.get("origin", ""),
            "layer": identity.get("layer", ""),
            "weights": identity.get("sha256", "")[:12],
            "width": features.matrix.shape[1],
            "items with it": counts["present"],
            "items without": counts["items"] - counts["present"],
            "of those, unreadable": ", ".join(f"{n} {reason}" for reason, n in counts["misses"].items()),
        }
        if any("unknown" in one.meta["counts"] for one in encoded.values()):
            rows[modality]["vectors of other items"] = counts.get("unknown", "")
    return pd.DataFrame.from_dict(rows, orient="index")
