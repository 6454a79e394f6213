"""Every attention model of the library, small."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from mmrec.models.maf import MAF
from mmrec.models.sasrec import SASRec

ITEMS, LONGEST = 20, 8
SMALL = {"n_items": ITEMS, "max_length": LONGEST, "dim": 8, "layers": 2, "heads": 2, "dropout": 0.0}
EACH_MODEL = {"sasrec": None} | {
    f"maf-{fusion}-{position}": (fusion, position)
    for fusion in ("sum", "concat", "gate")
    for position in ("stream", "added")
}


@pytest.fixture(scope="session")
def make_maf(make_features) -> Callable[..., MAF]:
    def make(seed: int = 0, spread: float = 1.0, **changes) -> MAF:
        torch.manual_seed(seed)
        settings = SMALL | {
            "features": make_features(ITEMS),
            "stream_dim": 6,
            "modalities": ("image", "text", "category"),
            "fusion": "sum",
            "position": "stream",
            "weights": {"image": 1.0, "text": 1.0, "category": 1.0},
            "regression": "cosine",
        }
        return _roughened(MAF(**(settings | changes)), spread)

    return make


@pytest.fixture(scope="session")
def make_sasrec() -> Callable[..., SASRec]:
    def make(seed: int = 0, spread: float = 1.0, **changes) -> SASRec:
        torch.manual_seed(seed)
        return _roughened(SASRec(**(SMALL | changes)), spread)

    return make


def _roughened(model: nn.Module, spread: float) -> nn.Module:
    """Fresh weights are so small that attention is nearly flat and biases are 0: laws would hold for want of effect."""
    if spread:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += spread * 0.3 * torch.randn(parameter.shape)
    return model.eval()


@pytest.fixture(params=EACH_MODEL)
def make_model(request, make_maf, make_sasrec) -> Callable[..., nn.Module]:
    """A maker of each model in turn."""
    if request.param == "sasrec":
        return make_sasrec
    fusion, position = EACH_MODEL[request.param]
    return lambda **changes: make_maf(fusion=fusion, position=position, **changes)


@pytest.fixture
def model(make_model) -> nn.Module:
    """Each model in turn, in evaluation mode."""
    return make_model()
