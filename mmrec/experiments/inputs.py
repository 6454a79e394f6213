"""A prepared data set on a device: the input of models and of evaluation."""

from dataclasses import dataclass, replace
from pathlib import Path

import torch

from mmrec import config
from mmrec.data.sequences import Sequences
from mmrec.features import store
from mmrec.features.controls import Features, controlled_features, controlled_histories
from mmrec.files import sha256


@dataclass(frozen=True)
class Data:
    """A prepared data set on a device, and the digests that name it."""

    sequences: Sequences
    features: Features  # standardised
    digests: dict[str, str]  # "sequences" and each modality -> SHA-256 of the file


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
    return Data(sequences=sequences, features=features, digests={name: sha256(path) for name, path in files.items()})


def shown_to(experiment: config.Experiment, data: Data, seed: int, split: str = "valid") -> Data:
    """The data after the experiment's controls: the only place that applies them.

    Args:
        seed: of the run; histories are shuffled by it.
        split: histories before the items of `valid`, which training sees too, or of `test`.
    """
    return replace(
        data,
        sequences=controlled_histories(data.sequences, experiment.data, split, seed),
        features=controlled_features(data.features, experiment.data),
    )
