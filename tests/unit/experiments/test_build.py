import inspect
from dataclasses import fields, replace

import pytest
import torch

from mmrec import config, losses
from mmrec.experiments import build, run


def test_every_named_model_can_be_built():
    assert set(build.MODELS) == set(config.MODELS.values())
    assert len(set(build.MODELS.values())) == len(build.MODELS)


@pytest.mark.parametrize("name, kind", config.MODELS.items())
def test_every_model_is_built_from_its_settings_and_scores(shop, choose, name, kind):
    experiment = choose(name, "every")
    assert type(experiment.model) is kind
    torch.manual_seed(0)
    model = build.build(experiment.model, shop, 8)
    assert type(model) is build.MODELS[kind]
    assert isinstance(model, torch.nn.Module) is (kind not in config.UNTRAINED)
    if kind not in config.UNTRAINED:
        model.eval()
    scores = model.score(torch.tensor([[1, 2, 3], [4, 0, 0]]), torch.tensor([3, 1]))
    assert scores.shape == (2, 30)
    assert scores.dtype == torch.float32 and scores.isfinite().all()


@pytest.mark.parametrize("kind", config.MODELS.values(), ids=config.MODELS.keys())
def test_constructors_ask_for_settings_and_known_parts_of_the_data(kind):
    asked = set(inspect.signature(build.MODELS[kind]).parameters)
    assert asked <= {"settings", "n_items", "max_length", "features", "sequences"}
    assert ("settings" in asked) is bool(fields(kind))


ATTENTION = {"dim": 4, "layers": 2, "heads": 1, "dropout": 0.1, "positions_from": "latest"}
VECTORS = {"modalities": ("image", "category"), "item_vector": "features", "maps": "apart"}
# Where a change from the shop's own settings would change nothing: maps need item vectors with features.
STARTS = {
    config.GRU4Rec: {"modalities": ("image", "text"), "item_vector": "id_and_features"},
    config.MAF: {"item_vector": "id_and_features"},
}
CHANGES = {
    config.Popularity: {},
    config.ItemKNN: {"neighbours": 2, "shrinkage": 3.0, "decay": 0.9},
    config.MarkovChain: {"backoff": 0.3},
    config.GRU4Rec: VECTORS | {"dim": 4, "hidden": 8, "layers": 2, "dropout": 0.1},
    config.Caser: {"dim": 4, "window": 4, "vertical": 3, "horizontal": 5, "dropout": 0.1},
    config.SASRec: ATTENTION,
    config.BERT4Rec: ATTENTION | {"mask_share": 0.8},
    config.SASRecF: ATTENTION | {"modalities": ("image", "category")},
    config.FDSA: ATTENTION | {"modalities": ("image", "category")},
    config.UniSRec: ATTENTION
    | VECTORS
    | {"item_vector": "id_and_features", "experts": 3, "adaptor_dropout": 0.5, "temperature": 0.5},
    config.NOVA: ATTENTION | {"modalities": ("image", "category"), "fusion": "sum"},
    config.MAF: ATTENTION
    | VECTORS
    | {
        "attention": False,
        "values": "concatenated",
        "stream_dim": 8,
        "score_fusion": "sum",
        "position": "added",
        "image_weight": 0.5,
        "text_weight": 0.0,
        "category_weight": 2.0,
        "regression": "mse",
        "fusion_stage": "joint",
        "weighting": "uncertainty",
        "modality_dropout": 0.5,
    },
}
NAMES = {kind: name for name, kind in config.MODELS.items()}
EACH = [(kind, field.name) for kind in CHANGES for field in fields(kind)]


def behaviour(options, shop):
    """Shapes and the loss in training; of what is not trained, the scores."""
    torch.manual_seed(0)
    model = build.build(options, shop, 8)
    items = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 0]])
    if isinstance(options, config.UNTRAINED):
        return model.score(items, torch.tensor([4, 3])).tolist()
    with torch.no_grad():
        for parameter in model.parameters():  # fresh ones are so small that attention to positions is lost in rounding
            parameter *= 10
    torch.manual_seed(0)
    parts = model.train().loss(items, items.roll(1, 0), losses.softmax)
    shapes = {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}
    return shapes, {name: value.item() for name, value in parts.items()}


@pytest.mark.parametrize("kind, name", EACH, ids=lambda part: getattr(part, "__name__", part))
def test_every_setting_of_a_model_changes_what_it_does_and_its_key(shop, settings, choose, kind, name):
    experiment = choose(NAMES[kind], "every")
    experiment = replace(experiment, model=replace(experiment.model, **STARTS.get(kind, {})))
    changed = replace(experiment, model=replace(experiment.model, **{name: CHANGES[kind][name]}))
    assert behaviour(changed.model, shop) != behaviour(experiment.model, shop)
    key, other = (run.run_key(e, 0, shop, settings) for e in (experiment, changed))
    assert key != other


def test_the_settings_of_every_model_are_among_them():
    assert {kind: set(changes) for kind, changes in CHANGES.items()} == {
        kind: {field.name for field in fields(kind)} for kind in config.MODELS.values()
    }


def test_the_same_seed_builds_the_same_weights(shop, choose):
    models = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        models.append(build.build(choose("maf").model, shop, 8).item.weight)
    assert torch.equal(models[0], models[1]) and not torch.equal(models[0], models[2])
