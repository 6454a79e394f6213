"""A prepared data set on a device, as models are built from it and asked about it."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from mmrec import config
from mmrec.data.sequences import Sequences
from mmrec.features import category, store
from mmrec.files import sha256


@dataclass(frozen=True)
class Data:
    """A prepared data set on a device, and the digests that name it."""

    sequences: Sequences
    features: dict[str, tuple[Tensor, Tensor]]  # modality -> standardised (V + 1, F), presence (V + 1,)
    digests: dict[str, str]  # "sequences" and each modality -> SHA-256 of the file, or of what `shown_to` made of it


class StaleFeatures(ValueError):
    """Features and sequences on disk do not belong together."""


def load_data(folder: Path, modalities: tuple[str, ...], device: torch.device) -> Data:
    """Read data/processed/<dataset>.

    Raises:
        StaleFeatures: features of other items than those of the sequences.
    """
    files = {"sequences": folder / "sequences.safetensors"}
    files |= {modality: folder / "features" / f"{modality}.safetensors" for modality in modalities}
    sequences = Sequences.load(files["sequences"]).to(device)
    features = {}
    for modality in modalities:
        loaded = store.load(files[modality])
        if len(loaded.matrix) != sequences.n_items + 1:
            raise StaleFeatures(
                f"{files[modality]} has {len(loaded.matrix) - 1:,} items, {files['sequences']} {sequences.n_items:,}: "
                "extract the features anew"
            )
        matrix = loaded.matrix if modality == "category" else store.standardise(loaded)
        features[modality] = (matrix.to(device), loaded.mask.to(device))
    return Data(
        sequences=sequences,
        features=features,
        digests={name: sha256(path) for name, path in files.items()},
    )


def shown_to(experiment: config.Experiment, data: Data) -> Data:
    """The data as an experiment asks for them: with all of an item's categories, or its rarest alone."""
    if experiment.categories == "all":
        return data
    matrix, present = data.features["category"]
    reduced = category.rarest(matrix)
    content = hashlib.sha256(reduced.cpu().numpy().tobytes()).hexdigest()
    return replace(
        data,
        features=data.features | {"category": (reduced, present)},
        digests=data.digests | {"category": content},
    )
