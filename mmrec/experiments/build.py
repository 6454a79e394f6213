"""From the settings of a model to the model."""

import inspect
from typing import Protocol

import torch
from torch import Tensor

from mmrec import config
from mmrec.experiments.inputs import Data
from mmrec.models import (
    bert4rec,
    caser,
    fdsa,
    gru4rec,
    item_knn,
    maf,
    markov,
    nova,
    popularity,
    sasrec,
    sasrecf,
)


class Recommender(Protocol):
    """A source of scores."""

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """items (B, T), lengths (B,) -> (B, V), column j for item j + 1."""


MODELS = {
    config.Popularity: popularity.Popularity,
    config.ItemKNN: item_knn.ItemKNN,
    config.MarkovChain: markov.MarkovChain,
    config.GRU4Rec: gru4rec.GRU4Rec,
    config.Caser: caser.Caser,
    config.BERT4Rec: bert4rec.BERT4Rec,
    config.SASRec: sasrec.SASRec,
    config.SASRecF: sasrecf.SASRecF,
    config.FDSA: fdsa.FDSA,
    config.NOVA: nova.NOVA,
    config.MAF: maf.MAF,
}


def build(options: config.Model, data: Data, max_length: int) -> Recommender:
    """A model with fresh weights from torch's global generator, on the data's device.

    Its constructor asks by name for its settings and for parts of the data.
    """
    model = MODELS[type(options)]
    offered = {
        "settings": options,
        "n_items": data.sequences.n_items,
        "max_length": max_length,
        "features": data.features,
        "sequences": data.sequences,
    }
    asked = inspect.signature(model).parameters
    built = model(**{name: value for name, value in offered.items() if name in asked})
    return built.to(data.sequences.items.device) if isinstance(built, torch.nn.Module) else built
