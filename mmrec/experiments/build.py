"""From the settings of a model to the model."""

import inspect
from typing import Protocol

import torch
from torch import Tensor

from mmrec import config
from mmrec.experiments.inputs import Data
from mmrec.models.bert4rec import BERT4Rec
from mmrec.models.caser import Caser
from mmrec.models.fdsa import FDSA
from mmrec.models.gru4rec import GRU4Rec
from mmrec.models.item_knn import ItemKNN
from mmrec.models.maf import MAF
from mmrec.models.markov import MarkovChain
from mmrec.models.nova import NOVA
from mmrec.models.popularity import Popularity
from mmrec.models.sasrec import SASRec
from mmrec.models.sasrecf import SASRecF
from mmrec.models.unisrec import UniSRec

_EVERY = (Popularity, ItemKNN, MarkovChain, GRU4Rec, Caser, BERT4Rec, SASRec, SASRecF, FDSA, UniSRec, NOVA, MAF)
MODELS = {getattr(config, model.__name__): model for model in _EVERY}  # a model has the class name of its settings


class Recommender(Protocol):
    """A source of scores."""

    def score(self, items: Tensor, lengths: Tensor) -> Tensor:
        """items (B, T), lengths (B,) -> (B, V), column j for item j + 1."""


def build(options: config.Model, data: Data, max_length: int) -> Recommender:
    """A model with fresh weights from torch's global generator, on the data's device.

    Parameters of its constructor name the settings and the parts of the data that it receives.
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
