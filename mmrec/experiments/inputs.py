"""A prepared data set on a device: the input of models and evaluation."""

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
    file, features = folder / "sequences.safetensors", {}
    sequences, digests = Sequences.load(file).to(device), {"sequences": sha256(file)}
    for modality in modalities:
        path = folder / "features" / f"{modality}.safetensors"
        loaded, digests[modality] = store.load(path), sha256(path)
        if (items := len(loaded.matrix) - 1) != sequences.n_items:
            raise StaleFeatures(f"{path} has {items:,} items, {file} {sequences.n_items:,}: extract the features anew")
        matrix = loaded.matrix if modality == "category" else store.standardise(loaded)
        features[modality] = (matrix.to(device), loaded.mask.to(device))
    return Data(sequences, features, digests)


def shown_to(experiment: config.Experiment, data: Data, seed: int, split: str = "valid") -> Data:
    """The data after the experiment's controls: the only place that applies them.

    Args:
        seed: of the run; controls draw from it.
        split: histories before the items of `valid`, which training sees too, or of `test`.
    """
    sequences = controlled_histories(data.sequences, experiment.data, split, seed)
    return replace(data, sequences=sequences, features=controlled_features(data.features, experiment.data, seed))
