import math
from copy import deepcopy
from functools import partial

import pytest
import torch
import torch.nn.functional as F

from mmrec import losses
from mmrec.losses import softmax
from mmrec.models.modalities import ModalityEncoder

ITEMS, LONGEST = 20, 8  # of the models that conftest makes
MODALITIES = ("image", "text", "category")
NO_WEIGHTS = {"image_weight": 0.0, "text_weight": 0.0, "category_weight": 0.0}


@pytest.fixture(scope="module")
def make_maf(make):
    return partial(make, "maf-sum-stream")


# --- with everything off it is SASRec ----------------------------------------------------------------------------


@pytest.mark.parametrize("start", ["oldest", "latest"])
@pytest.mark.parametrize("train", [False, True])
def test_without_modalities_and_heads_it_is_sasrec(make_maf, make, as_sasrec, train, start, random_items):
    maf = make_maf(modalities=(), position="added", positions_from=start, **NO_WEIGHTS, dropout=0.5).train(train)
    sasrec = make("sasrec", seed=1, dropout=0.5, positions_from=start).train(train)
    sasrec.load_state_dict(as_sasrec(maf.state_dict()), strict=True)
    items, targets = random_items(0), random_items(1)
    found = []
    for model in (maf, sasrec):
        torch.manual_seed(0)  # of dropout
        loss = model.loss(items, targets, softmax)["total"]
        found.append((loss, *torch.autograd.grad(loss, list(model.parameters()))))
    assert all(torch.equal(a, b) for a, b in zip(*found, strict=True))


def test_they_begin_with_the_same_weights(make_maf, make, as_sasrec):
    maf = make_maf(seed=3, spread=0, modalities=(), position="added", **NO_WEIGHTS)
    sasrec = make("sasrec", seed=3, spread=0)
    for name, ours in as_sasrec(maf.state_dict()).items():
        assert torch.equal(ours, sasrec.state_dict()[name]), name


# --- with the category stream alone it is DIF-SR -------------------------------------------------------------------


def dif_sr(weights, fusion, items, features, present, latest=False, layers=2, heads=2):
    """States of DIF-SR (Xie et al. 2022, section 4.2) from MAF's weights, one sequence and one head at a time.

    Per layer and source R_s (ids, positions, attribute) S_s = R_s W_Q (R_s W_K)^T; the fused S / sqrt(d), masked,
    softmaxed, moves R_id W_V alone. Positions are not added to the input; they and the attribute are the same in every
    layer. The one difference: the future is gone before the fusion too.
    """

    def linear(x, name):
        return x @ weights[f"{name}.weight"].T + weights[f"{name}.bias"]

    def norm(x, name):
        x = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + 1e-5).sqrt()
        return x * weights[f"{name}.weight"] + weights[f"{name}.bias"]

    def fused(scores, name):
        if fusion == "sum":
            return sum(scores)
        if fusion == "concat":
            return linear(torch.cat(scores, 1), f"{name}.mix")
        energies = [linear(linear(score, f"{name}.energy_in").relu(), f"{name}.energy_out") for score in scores]
        shares = torch.cat(energies, 1).softmax(1)  # (T, S)
        return sum(shares[:, [s]] * score for s, score in enumerate(scores))

    states = []
    for sequence in items:
        time = len(sequence)
        positions = weights["position.weight"][-time:] if latest else weights["position.weight"][:time]
        category = norm(linear(features[sequence], "encoders.category.project"), "encoders.category.norm")
        category[~present[sequence]] = weights["encoders.category.missing"]
        x = norm(weights["item.weight"][sequence], "norm")
        for layer in range(layers):
            name = f"body.blocks.{layer}.attention"
            moved = []
            for head in range(heads):
                scores = []
                for s, source in enumerate((x, positions, category)):
                    query = linear(source, f"{name}.query.{s}").chunk(heads, 1)[head]
                    key = linear(source, f"{name}.key.{s}").chunk(heads, 1)[head]
                    scores.append((query @ key.T).tril())
                value = linear(x, f"{name}.value").chunk(heads, 1)[head]
                score = fused(scores, f"{name}.fusion") / math.sqrt(value.shape[1])
                score = score + torch.full((time, time), -math.inf).triu(1)
                moved.append(score.softmax(1) @ value)
            x = norm(x + linear(torch.cat(moved, 1), f"{name}.out"), f"body.blocks.{layer}.attention_norm")
            inner = linear(
                F.gelu(linear(x, f"body.blocks.{layer}.feed_forward.0")), f"body.blocks.{layer}.feed_forward.2"
            )
            x = norm(x + inner, f"body.blocks.{layer}.feed_forward_norm")
        states.append(x)
    return torch.stack(states)


@pytest.mark.parametrize("fusion", ["sum", "concat", "gate"])
def test_with_the_category_stream_alone_it_is_dif_sr(make, fusion, random_items):
    model = make(f"maf-{fusion}-stream", modalities=("category",))
    items = random_items(0)  # as long as can be: score rows are as wide as what mixes them
    features, present = model._features("category")
    assert present[items].any() and (~present[items]).any()
    expected = dif_sr(model.state_dict(), fusion, items, features, present)
    torch.testing.assert_close(model(items), expected, rtol=0, atol=1e-5)


def test_with_the_category_stream_alone_it_is_dif_sr_from_the_latest_item_too(make, random_items):
    model = make("maf-sum-stream", modalities=("category",), positions_from="latest")
    items = random_items(0, (5, LONGEST - 3))  # shorter than can be: else the two ends count alike
    expected = dif_sr(model.state_dict(), "sum", items, *model._features("category"), latest=True)
    torch.testing.assert_close(model(items), expected, rtol=0, atol=1e-5)


def test_with_the_category_head_alone_its_loss_is_dif_srs(make, random_items):
    """The next item's cross-entropy + weight x binary cross-entropy of its categories (section 4.3)."""
    model = make("maf-sum-stream", modalities=("category",), **(NO_WEIGHTS | {"category_weight": 0.7}))
    items, targets = random_items(0), random_items(1)
    features, present = model._features("category")
    states = dif_sr(model.state_dict(), "sum", items, features, present).flatten(0, 1)
    following = targets.flatten()
    logits = states @ model.item.weight[1:].T
    having = present[following]
    assert having.any() and not having.all()
    attributes = F.linear(states, model.heads["category"].weight, model.heads["category"].bias).sigmoid()
    expected = F.cross_entropy(logits, following - 1)
    expected += 0.7 * F.binary_cross_entropy(attributes[having], features[following][having])
    torch.testing.assert_close(model.loss(items, targets, softmax)["total"], expected, rtol=1e-5, atol=1e-5)


# --- fast and explicit -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("position", ["stream", "added"])
def test_the_fast_sum_agrees_with_the_explicit_one(make_maf, position, random_items):
    model = make_maf(position=position)
    items = random_items(0)
    x, others = model._streams(items)
    for block in model.body.blocks:
        x, _, _ = block(x, others, need_weights=True)
    torch.testing.assert_close(model(items), x, rtol=0, atol=1e-5)


@pytest.mark.parametrize("fusion", ["sum", "concat", "gate"])
def test_attention_shows_every_layer_and_stream(make_maf, fusion, random_items):
    model = make_maf(score_fusion=fusion)
    weights, scores = model.attention(random_items(0, (3, 5)))
    assert model.streams == ["item", "position", *MODALITIES]
    assert weights.shape == (2, 3, 2, 5, 5)
    assert scores.shape == (2, 3, 2, 5, 5, 5)
    torch.testing.assert_close(weights.sum(-1), torch.ones(2, 3, 2, 5))
    assert (weights.triu(1) == 0).all()


def test_shown_scores_stand_in_the_order_of_the_streams(make_maf, random_items):
    for modality in ("item", "position", *MODALITIES):
        model = make_maf(layers=1)
        number = model.streams.index(modality)
        with torch.no_grad():
            model.body.blocks[0].attention.query[number].weight.zero_()
            model.body.blocks[0].attention.query[number].bias.zero_()
        silent = (model.attention(random_items(0))[1].abs().amax(dim=(0, 1, 2, 4, 5)) == 0).tolist()
        assert [name for name, is_silent in zip(model.streams, silent, strict=True) if is_silent] == [modality]


def test_positions_added_are_no_stream(make_maf):
    assert make_maf(position="added", modalities=("text",)).streams == ["item", "text"]


# --- modalities --------------------------------------------------------------------------------------------------


def with_features(model, modality, matrix):
    other = deepcopy(model)
    other.get_buffer(f"{modality}_features").copy_(matrix)
    return other


@pytest.mark.parametrize("modality", MODALITIES)
def test_what_an_item_lacks_is_never_looked_at(make_maf, modality, random_items):
    model = make_maf()
    features, present = model._features(modality)
    other = with_features(model, modality, torch.where(present[:, None], features, 1 - features))
    items, targets, lengths = random_items(0), random_items(1), torch.full((5,), LONGEST)
    assert (~present[items]).any() and (~present[targets]).any()
    assert torch.equal(other.score(items, lengths), model.score(items, lengths))
    before, after = model.loss(items, targets, softmax), other.loss(items, targets, softmax)
    assert all(torch.equal(after[part], before[part]) for part in before)


@pytest.mark.parametrize("modality", MODALITIES)
def test_what_an_item_has_matters(make_maf, modality, random_items):
    model = make_maf(**NO_WEIGHTS)
    features, present = model._features(modality)
    other = with_features(model, modality, torch.where(present[:, None], 1 - features, features))
    lengths = torch.full((5,), LONGEST)
    change = (other.score(random_items(0), lengths) - model.score(random_items(0), lengths)).abs().amax(1)
    assert (change > 1e-4).all()


def test_items_that_lack_a_modality_share_one_learned_vector():
    torch.manual_seed(0)
    encoder = ModalityEncoder(3, 4)
    features, present = torch.randn(5, 3), torch.tensor([False, True, False, True, False])
    found = encoder(torch.tensor([[1, 2, 0], [3, 4, 1]]), features, present)
    lacking = torch.tensor([[False, True, True], [False, True, False]])
    assert (found[lacking] == encoder.missing).all()
    assert (found[~lacking] != encoder.missing).all()
    assert encoder.missing.requires_grad and encoder.missing.abs().min() > 0


def test_an_item_is_encoded_by_its_own_features_wherever_it_stands():
    torch.manual_seed(0)
    encoder = ModalityEncoder(3, 4)
    features, present = torch.randn(7, 3), torch.ones(7, dtype=torch.bool)
    items = torch.tensor([[6, 2, 2], [5, 1, 6]])
    each = torch.stack([torch.stack([encoder.norm(encoder.project(features[i])) for i in row]) for row in items])
    torch.testing.assert_close(encoder(items, features, present), each)


def test_a_modality_without_a_stream_may_still_have_a_head(make_maf, random_items):
    model = make_maf(modalities=(), **(NO_WEIGHTS | {"text_weight": 1.0}))
    assert (list(model.encoders), list(model.heads)) == ([], ["text"])
    assert set(model.loss(random_items(0), random_items(1), softmax)) == {"total", "id", "text"}


def test_a_modality_that_the_data_set_lacks_has_no_head(make_maf, make_features, random_items):
    features = {"text": make_features(ITEMS)["text"]}
    model = make_maf(features=features, modalities=("text",))
    assert list(model.heads) == ["text"]
    assert torch.isfinite(model.loss(random_items(0), random_items(1), softmax)["total"])


# --- the loss ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("regression", ["cosine", "mse"])
def test_the_total_is_the_weighted_sum_of_its_parts(make_maf, regression, random_items):
    weights = {"image": 0.5, "text": 2.0, "category": 3.0}
    model = make_maf(image_weight=0.5, text_weight=2.0, category_weight=3.0, regression=regression)
    parts = model.loss(random_items(0), random_items(1), softmax)
    total = parts["id"] + sum(weight * parts[modality] for modality, weight in weights.items())
    torch.testing.assert_close(parts["total"], total)
    assert set(parts) == {"total", "id", *MODALITIES}


def test_a_weight_scales_its_part_of_the_gradient(make_maf, random_items):
    models = [make_maf(**(NO_WEIGHTS | {"image_weight": weight})) for weight in (1.0, 3.0)]
    gradients = []
    for model in models:
        loss = model.loss(random_items(0), random_items(1), softmax)["total"]
        gradients.append(torch.autograd.grad(loss, model.heads["image"].weight)[0])
    torch.testing.assert_close(gradients[1], 3 * gradients[0])


@pytest.mark.parametrize("regression", ["cosine", "mse"])
def test_heads_predict_the_features_of_the_next_item(make_maf, regression, random_items):
    model = make_maf(regression=regression)
    items, targets = random_items(0, (2, 3)), random_items(1, (2, 3))
    targets[0, 0] = 3  # an item that lacks images and has text
    hidden, following = model(items).flatten(0, 1), targets.flatten()
    parts = model.loss(items, targets, softmax)
    for modality in ("image", "text"):
        features, present = model._features(modality)
        predicted, wanted = model.heads[modality](hidden), features[following]
        if regression == "cosine":
            each = 1 - F.cosine_similarity(predicted, wanted)
        else:
            each = (predicted - wanted).square().mean(1)
        torch.testing.assert_close(parts[modality], each[present[following]].mean())
    features, present = model._features("category")
    chosen = present[following]
    expected = F.binary_cross_entropy_with_logits(model.heads["category"](hidden)[chosen], features[following][chosen])
    torch.testing.assert_close(parts["category"], expected)


@pytest.mark.parametrize("modality", MODALITIES)
def test_a_next_item_that_lacks_a_modality_adds_nothing_to_its_loss(make_maf, modality, random_items):
    model = make_maf()
    _, present = model._features(modality)
    has, lacks = [torch.tensor([i for i in range(1, ITEMS + 1) if present[i] == on]) for on in (True, False)]
    items, targets = random_items(0, (1, 4)), has[:4][None].clone()
    alone = model.loss(items[:, :2], targets[:, :2], softmax)[modality]
    targets[0, 2:] = lacks[:2]
    torch.testing.assert_close(model.loss(items, targets, softmax)[modality], alone)


@pytest.mark.parametrize("modality", MODALITIES)
def test_where_no_next_item_has_a_modality_its_loss_is_0_and_all_gradients_finite(make_maf, modality, random_items):
    model = make_maf()
    _, present = model._features(modality)
    lacks = torch.tensor([i for i in range(1, ITEMS + 1) if not present[i]])
    parts = model.loss(random_items(0, (1, 4)), lacks[:4][None], softmax)
    assert parts[modality].item() == 0
    parts["total"].backward()
    assert all(parameter.grad.isfinite().all() for parameter in model.parameters() if parameter.grad is not None)
    assert (model.heads[modality].weight.grad == 0).all()


# --- streams -----------------------------------------------------------------------------------------------------


def test_the_other_streams_are_made_anew_from_items_and_not_from_layers(make_maf, random_items):
    """Every layer sees the same other streams: with the id stream's attention cut off, layers cannot tell apart."""
    model = make_maf()
    _, others = model._streams(random_items(0))
    seen = []
    for block in model.body.blocks:
        block.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    model(random_items(0))
    assert len(seen) == 2
    for streams in seen:
        assert all(torch.equal(a, b) for a, b in zip(streams, others, strict=True))


def test_widths_of_streams_may_differ(make_maf, random_items):
    model = make_maf(dim=8, stream_dim=2)
    assert model(random_items(0)).shape == (5, LONGEST, 8)
    assert model.position.weight.shape == (LONGEST, 2)


# --- weights of the losses ---------------------------------------------------------------------------------------


def test_tasks_add_up_to_the_total(make, random_items):
    for name in ("maf-sum-added", "maf-uncertain", "maf-contrastive"):
        model = make(name)
        parts = model.loss(random_items(0), random_items(1), losses.softmax)
        torch.testing.assert_close(sum(model.tasks(parts).values()), parts["total"])


def test_uncertainty_weighs_by_a_learned_variance(make, random_items):
    model = make("maf-uncertain")
    parts = model.loss(random_items(0), random_items(1), losses.softmax)
    with torch.no_grad():
        model.log_variance.copy_(torch.tensor([0.0, 1.0, -1.0, 2.0]))  # id, image, text, category
    tasks = model.tasks(parts)
    assert tasks["id"].item() == pytest.approx(parts["id"].item())
    assert tasks["image"].item() == pytest.approx(parts["image"].item() / math.e + 0.5, rel=1e-5)
    assert tasks["text"].item() == pytest.approx(parts["text"].item() * math.e - 0.5, rel=1e-5)
    assert tasks["category"].item() == pytest.approx(parts["category"].item() / math.e**2 + 1, rel=1e-5)


def test_uncertainty_begins_with_the_fixed_weights(make, random_items):
    fixed, learned = (make(f"maf-{name}", spread=0.0) for name in ("sum-added", "uncertain"))
    given = [model.loss(random_items(0), random_items(1), losses.softmax)["total"] for model in (fixed, learned)]
    torch.testing.assert_close(*given)


# --- features that go missing in training ------------------------------------------------------------------------


def test_modality_dropout_is_for_training_alone(make, random_items):
    model = make("maf-sum-added", modality_dropout=0.5)
    items = random_items(0)
    assert torch.equal(model(items), make("maf-sum-added")(items))
    model.train()
    assert not torch.equal(model(items), model(items))


def test_what_is_dropped_is_what_is_missing(make, random_items):
    model = make("maf-sum-added", modality_dropout=0.999999).train()
    _, others = model._streams(random_items(0))
    for stream, encoder in zip(others, model.encoders.values(), strict=True):
        assert torch.equal(stream, encoder.missing.expand_as(stream))


def test_modality_dropout_drops_its_share_of_each_modality_by_itself(make, random_items):
    model = make("maf-sum-added", modality_dropout=0.3).train()
    items = random_items(0, (500, 8))
    whole = model.encoded(items)
    _, others = model._streams(items)
    gone = torch.stack([(stream != before).any(2) for stream, before in zip(others, whole, strict=True)]).float()
    had = torch.stack([model._features(modality)[1][items] for modality in model.encoders])
    shares = [gone[number][had[number]].mean().item() for number in range(3)]
    assert shares == pytest.approx([0.3] * 3, abs=0.03)
    both = had[0] & had[1]
    assert (gone[0] * gone[1])[both].mean().item() == pytest.approx(0.09, abs=0.03)


# --- late --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_late_streams_know_what_came_when(make):
    """Two items in either order: without positions, each tower would see the same set at the second of them."""
    model = make("maf-late-added")
    items = torch.tensor([[4, 9, 7], [9, 4, 7]])
    _, others = model._streams(items)
    for stream in others:
        assert not torch.allclose(stream[0, [1, 0]], stream[1, :2])
