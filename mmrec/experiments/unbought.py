"""Catalogue items that the sequences do not hold, as candidates of a model that scores items by their content."""

from dataclasses import replace

import pandas as pd
import torch
from torch import Tensor

from mmrec.config import Config, DataControls, Experiment, Paths
from mmrec.data import sources
from mmrec.experiments.inputs import Data
from mmrec.features import extract, store
from mmrec.progress import report


def scores_by_content(experiment: Experiment) -> bool:
    """Whether maps of an item's own features are part of its vector, see `ItemVectors`."""
    model = experiment.model
    return getattr(model, "item_vector", "id") != "id" and bool(model.modalities) and experiment.data == DataControls()


def admit(
    paths: Paths, settings: Config, experiment: Experiment, data: Data, items: pd.DataFrame
) -> tuple[Data, pd.Index]:
    """The data with unbought items behind the others, and the ids of those items.

    Their features are on the scale of the other items. A category that no other item has is left out.

    Args:
        items: rows of items.parquet that the sequences do not hold. Those without any modality of the item vectors
            stay outside, and all of them if the model does not score by content.

    Raises:
        FeatureError: an encoder cannot be had.
    """
    dataset, device = experiment.dataset, data.sequences.items.device
    if items.empty or not scores_by_content(experiment):
        return data, items["item_id"].iloc[:0]
    report(f"{dataset}: encoding {len(items):,} items that too few users bought (--bought-only leaves them out)")
    encoded = extract.build_features(
        settings,
        dataset,
        items.fillna({"image": ""}),
        sources.images(settings.datasets[dataset].source, paths.raw(dataset)),
        root=paths.root,
        cache=paths.runs / "features",
        device=device,
        unbought=True,
    )
    folder = paths.processed(dataset) / "features"
    scaled = {m: _scaled(m, one, store.load(folder / f"{m}.safetensors")) for m, one in encoded.items()}
    known = torch.stack([scaled[m][1] for m in experiment.model.modalities]).any(0)
    features = {
        m: (torch.cat([matrix, scaled[m][0][known].to(device)]), torch.cat([mask, scaled[m][1][known].to(device)]))
        for m, (matrix, mask) in data.features.items()
    }
    sequences = replace(data.sequences, n_items=data.sequences.n_items + int(known.sum()))
    return replace(data, sequences=sequences, features=features), items["item_id"][known[1:].numpy()]


def _scaled(modality: str, one: store.Features, like: store.Features) -> tuple[Tensor, Tensor]:
    """Features (N + 1, F) float32 as `load_data` scales those of `like`, and presence (N + 1,) bool."""
    if modality != "category":
        return store.standardise(one, like), one.mask
    columns = pd.Index(one.meta["vocabulary"]).get_indexer(like.meta["vocabulary"])  # -1: no unbought item has it
    matrix = torch.nn.functional.pad(one.matrix, (0, 1))[:, columns]
    return matrix, matrix.any(1)
