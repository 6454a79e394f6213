"""Every neural model of the library, small."""

import inspect
from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import nn

from mmrec import config
from mmrec.models.bert4rec import BERT4Rec
from mmrec.models.caser import Caser
from mmrec.models.fdsa import FDSA
from mmrec.models.gru4rec import GRU4Rec
from mmrec.models.maf import MAF
from mmrec.models.nova import NOVA
from mmrec.models.sasrec import SASRec
from mmrec.models.sasrecf import SASRecF
from mmrec.models.unisrec import UniSRec

ITEMS, LONGEST = 20, 8
SIZE = {"dim": 8, "dropout": 0.0}
ATTENTION = SIZE | {"layers": 2, "heads": 2, "positions_from": "oldest"}
MULTIMODAL = ATTENTION | {"modalities": ("image", "text", "category")}
MULTITASK = {
    **{"stream_dim": 6, "fusion_stage": "scores", "score_fusion": "sum", "position": "added"},
    **{"image_weight": 1.0, "text_weight": 1.0, "category_weight": 1.0, "weighting": "fixed", "regression": "cosine"},
    "modality_dropout": 0.0,
}

# A model comes under all laws by one entry: its class and its settings. No width may be 20, 21 or 22: the laws know
# tensors with a row an item by these lengths.
MODELS = {
    "gru4rec": (GRU4Rec, SIZE | {"hidden": 10, "layers": 2}),
    "caser": (Caser, SIZE | {"window": LONGEST, "vertical": 2, "horizontal": 3}),
    "sasrec": (SASRec, ATTENTION),
    "bert4rec": (BERT4Rec, ATTENTION | {"mask_share": 0.4}),
    "sasrecf": (SASRecF, MULTIMODAL),
    "fdsa": (FDSA, MULTIMODAL),
}
MODELS |= {f"nova-{fusion}": (NOVA, MULTIMODAL | {"fusion": fusion}) for fusion in ("sum", "concat", "gate")}
MODELS |= {
    f"maf-{fusion}-{position}": (MAF, MULTIMODAL | MULTITASK | {"score_fusion": fusion, "position": position})
    for fusion in ("sum", "concat", "gate")
    for position in ("stream", "added")
}
MODELS |= {
    f"maf-{stage}-{position}": (
        MAF,
        MULTIMODAL | MULTITASK | {"fusion_stage": stage, "position": position, "stream_dim": width},
    )
    for stage, width in (("cross", 6), ("joint", 6), ("early_concat", 6), ("early_sum", 8), ("late", 8))
    for position in ("stream", "added")
    if (stage, position) != ("late", "stream")  # refused
}
CHANNELS = MULTIMODAL | MULTITASK
MODELS |= {
    "maf-values": (MAF, CHANNELS | {"values": "concatenated"}),
    "maf-values-alone": (MAF, CHANNELS | {"values": "concatenated", "attention": False, "position": "stream"}),
    "maf-item_vector": (MAF, CHANNELS | {"item_vector": "id_and_features", "attention": False}),
    "maf-apart": (MAF, CHANNELS | {"item_vector": "id_and_features", "maps": "apart", "values": "concatenated"}),
    "maf-features": (MAF, CHANNELS | {"item_vector": "features", "attention": False}),
    "gru4rec-item_vector": (
        GRU4Rec,
        MODELS["gru4rec"][1] | {"modalities": MULTIMODAL["modalities"], "item_vector": "id_and_features"},
    ),
}
for name, vector in (("unisrec", "features"), ("unisrec-ids", "id_and_features")):
    settings = {"experts": 3, "adaptor_dropout": 0.0, "temperature": 0.5, "item_vector": vector}
    MODELS[name] = (UniSRec, MULTIMODAL | settings)
MODELS["maf-uncertain"] = (MAF, MULTIMODAL | MULTITASK | {"weighting": "uncertainty"})
MODELS["maf-contrastive"] = (
    MAF,
    MULTIMODAL | MULTITASK | {"regression": "contrastive", "image_weight": 0.1, "text_weight": 0.1},
)
COUNTED = ["sasrec", "bert4rec", "sasrecf", "fdsa", "nova-gate"]
for name in COUNTED + [
    f"maf-{kind}" for kind in ("sum-added", "sum-stream", "concat-added", "gate-stream", "late-added")
]:
    MODELS[f"{name}-latest"] = (MODELS[name][0], MODELS[name][1] | {"positions_from": "latest"})
# States may depend on later items: what hides the target is tested with the model itself.
BOTH_WAYS = {"bert4rec", "bert4rec-latest"}
CAUSAL = [name for name in MODELS if name not in BOTH_WAYS]


@pytest.fixture(scope="session")
def make(make_features) -> Callable[..., nn.Module]:
    """A model of MODELS by name, in evaluation mode; `changes` are other settings."""

    def make(name: str, seed: int = 0, spread: float = 1.0, features=None, **changes) -> nn.Module:
        torch.manual_seed(seed)
        kind, settings = MODELS[name]
        settings = getattr(config, kind.__name__)(**settings | changes)
        offered = {"n_items": ITEMS, "max_length": LONGEST, "features": features or make_features(ITEMS)}
        asked = inspect.signature(kind).parameters
        return _roughened(kind(settings, **{n: value for n, value in offered.items() if n in asked}), spread)

    return make


@pytest.fixture(scope="session")
def as_sasrec() -> Callable[[dict[str, torch.Tensor]], dict[str, torch.Tensor]]:
    """Weights of a model that has SASRec's parts at its top, under the names that SASRec gives them."""
    return lambda weights: {
        n if n.startswith("item.") else f"transformer.{n.removeprefix('body.')}": w for n, w in weights.items()
    }


def _roughened(model: nn.Module, spread: float) -> nn.Module:
    """Fresh weights are so small that attention is nearly flat and biases are 0: laws would hold for want of effect."""
    if spread:
        with torch.no_grad():
            for parameter in model.parameters():
                parameter += spread * 0.3 * torch.randn(parameter.shape)
    return model.eval()


@pytest.fixture(scope="session")
def names() -> list[str]:
    """Of all models, for a test that takes them together."""
    return list(MODELS)


@pytest.fixture(params=MODELS)
def make_model(request, make) -> Callable[..., nn.Module]:
    """A maker of each model in turn."""
    return partial(make, request.param)


@pytest.fixture(params=[name for name in MODELS if not name.startswith("unisrec")])
def make_quiet(request, make) -> Callable[..., nn.Module]:
    """A maker of each model in turn that draws nothing but dropout."""
    return partial(make, request.param)


@pytest.fixture(params=CAUSAL)
def make_causal(request, make) -> Callable[..., nn.Module]:
    """A maker of each model in turn whose states depend on nothing later."""
    return partial(make, request.param)


@pytest.fixture(params=[name for name in CAUSAL if not name.endswith("-latest")])
def from_oldest(request, make) -> nn.Module:
    """Each model in turn to which it means nothing how many items come later, in evaluation mode."""
    return make(request.param)


@pytest.fixture
def model(make_model) -> nn.Module:
    """Each model in turn, in evaluation mode."""
    return make_model()


@pytest.fixture
def causal(make_causal) -> nn.Module:
    """Each model in turn whose states depend on nothing later, in evaluation mode."""
    return make_causal()


@pytest.fixture(scope="session")
def random_items() -> Callable[..., torch.Tensor]:
    """Sequences without padding."""

    def random_items(seed: int, shape: tuple[int, int] = (5, LONGEST)) -> torch.Tensor:
        return torch.randint(1, ITEMS + 1, shape, generator=torch.Generator().manual_seed(seed))

    return random_items
