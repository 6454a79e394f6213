"""Laws that hold for every neural model: those of conftest's MODELS."""

from copy import deepcopy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from mmrec.losses import BinaryCrossEntropy, SampledSoftmax, softmax
from mmrec.models.layers import ScoreFusion

ITEMS, LONGEST = 20, 8  # of the models that conftest makes


def loss(model, items, targets, criterion=softmax):
    """Parts of the loss, whatever is drawn drawn alike."""
    torch.manual_seed(0)
    return model.loss(items, targets, criterion)


# --- causality ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kept", range(1, LONGEST))
@torch.no_grad()
def test_the_future_changes_no_bit_of_the_past(causal, random_items, kept):
    items = random_items(0)
    before = causal(items)[:, :kept]
    for seed in range(1, 6):
        changed = torch.cat([items[:, :kept], random_items(seed)[:, kept:]], 1)
        assert torch.equal(causal(changed)[:, :kept], before)


@torch.no_grad()
def test_the_past_does_change_the_future(model, random_items):
    items = random_items(0)
    before = model(items)
    changed = items.clone()
    changed[:, 0] = items[:, 0] % ITEMS + 1
    assert ((model(changed) - before).abs().amax(2) > 1e-4).all()


@torch.no_grad()
def test_order_matters(model, random_items):
    items = random_items(0)
    turned = torch.cat([items[:, :-1].flip(1), items[:, -1:]], 1)
    assert ((model(turned) - model(items))[:, -1].abs().amax(1) > 1e-4).all()


# --- padding and batches -----------------------------------------------------------------------------------------


@torch.no_grad()
def test_more_padding_leaves_real_positions_as_they_are(model, random_items):
    items = random_items(0, (5, 4))
    padded = F.pad(items, (0, 3))
    torch.testing.assert_close(model(padded)[:, :4], model(items), rtol=0, atol=1e-5)


@torch.no_grad()
def test_scores_do_not_depend_on_the_side_of_the_padding(model, random_items):
    lengths = torch.tensor([1, 3, 8, 5, 2])
    items = random_items(0).where(torch.arange(LONGEST) < lengths[:, None], 0)
    left = torch.stack([row.roll(LONGEST - n) for row, n in zip(items, lengths.tolist(), strict=True)])
    assert (left[:, -1] > 0).all() and not torch.equal(left, items)
    assert torch.equal(model.score(left, lengths), model.score(items, lengths))


@torch.no_grad()
def test_a_batch_of_different_lengths_scores_as_one_by_one(model, random_items):
    lengths = torch.tensor([1, 3, 8, 5, 2])
    items = random_items(0).where(torch.arange(LONGEST) < lengths[:, None], 0)
    together = model.score(items, lengths)
    alone = [model.score(items[[row], :n], lengths[[row]]) for row, n in enumerate(lengths.tolist())]
    torch.testing.assert_close(together, torch.cat(alone), rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_scores_have_a_column_an_item_and_do_not_move_by_themselves(model, random_items):
    items, lengths = random_items(0), torch.full((5,), LONGEST)
    scores = model.score(items, lengths)
    assert scores.shape == (5, ITEMS)
    assert torch.equal(scores, model.score(items, lengths))


def test_dropout_moves_the_loss_in_training_and_in_evaluation_it_does_not(make_quiet, random_items):
    model, dry = make_quiet(dropout=0.5), make_quiet(dropout=0.0)
    items, targets = random_items(0), random_items(1)
    expected = loss(dry, items, targets)["total"]
    assert torch.equal(loss(model, items, targets)["total"], expected)
    model.train(), dry.train()
    assert torch.equal(loss(dry, items, targets)["total"], expected)
    assert not torch.isclose(loss(model, items, targets)["total"], expected)


# --- loss --------------------------------------------------------------------------------------------------------


def test_padding_is_no_part_of_the_loss(causal, random_items):
    items, targets = random_items(0, (3, 4)), random_items(1, (3, 4))
    padded = [F.pad(x, (0, 3)) for x in (items, targets)]
    for part, value in loss(causal, items, targets).items():
        torch.testing.assert_close(loss(causal, *padded)[part], value, rtol=1e-5, atol=1e-6)


def test_the_loss_of_the_next_item_is_cross_entropy_of_the_scores(causal, random_items):
    items, targets = random_items(0, (3, 4)), random_items(1, (3, 4))
    scores = causal(items) @ causal.output_embedding().T
    torch.testing.assert_close(scores[:, -1], causal.score(items, torch.full((3,), 4)))
    parts = loss(causal, items, targets)
    expected = F.cross_entropy(scores.flatten(0, 1), targets.flatten() - 1)
    torch.testing.assert_close(parts.get("id", parts["total"]), expected)


@torch.no_grad()
def test_a_state_is_that_of_the_sequence_up_to_it(from_oldest, random_items):
    items = random_items(0, (3, 4))
    scores = torch.stack([from_oldest.score(items[:, : n + 1], torch.full((3,), n + 1)) for n in range(4)], 1)
    torch.testing.assert_close(from_oldest(items) @ from_oldest.output_embedding().T, scores)


def test_every_parameter_learns(make_model, random_items):
    model = make_model(dropout=0.0).train()
    loss(model, random_items(0), random_items(1))["total"].backward()
    size = {
        name: parameter.grad.abs().max().item()
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    idle = {name for name, value in size.items() if value < 1e-7}
    mixing = any(isinstance(part, ScoreFusion) and part.kind != "sum" for part in model.modules())
    # A key bias adds the same to all scores of a row, which softmax takes out again, unless the fusion mixes positions;
    # the gate's last bias adds the same to the energies of all streams.
    expected = [name for name in size if not mixing and ".key." in name and name.endswith("bias")]
    expected += [name for name in size if name.endswith("energy_out.bias")]
    assert idle == set(expected)


def test_ten_sequences_are_learned_by_heart(make_causal):
    model = make_causal(seed=1, spread=0.0).train()
    items = torch.stack([torch.randperm(ITEMS, generator=torch.Generator().manual_seed(s))[:6] + 1 for s in range(10)])
    optimiser = torch.optim.Adam(model.parameters(), lr=2e-2)
    for _ in range(120):
        optimiser.zero_grad()
        model.loss(items[:, :-1], items[:, 1:], softmax)["total"].backward()
        optimiser.step()
    model.eval()
    # From the second item on: what follows one item alone is ambiguous where two sequences begin alike.
    said = (model(items[:, :-1])[:, 1:] @ model.output_embedding().T).argmax(-1) + 1
    assert (said == items[:, 2:]).float().mean() >= 0.95


CRITERIA = {
    "softmax": lambda: softmax,
    "sampled": lambda: SampledSoftmax(negatives=5, counts=torch.ones(ITEMS), generator=torch.Generator()),
    "binary": lambda: BinaryCrossEntropy(negatives=2, generator=torch.Generator()),
}


@pytest.mark.parametrize("criterion", CRITERIA)
def test_every_criterion_can_be_followed_downhill(make_model, random_items, criterion):
    model = make_model()
    items, targets = random_items(0), random_items(1)
    before = loss(model, items, targets, CRITERIA[criterion]())["total"]
    before.backward()
    slopes = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    size = torch.stack([slope.square().sum() for slope in slopes.values()]).sum()
    step = 0.01 * before.item() / size  # so small that the loss should fall by one per cent
    with torch.no_grad():
        for name, slope in slopes.items():
            model.get_parameter(name).sub_(step * slope)
    after = loss(model, items, targets, CRITERIA[criterion]())["total"]
    assert after.item() == pytest.approx(0.99 * before.item(), rel=0.003)


# --- on disk -----------------------------------------------------------------------------------------------------


def test_saved_and_loaded_it_gives_the_same_scores(make_model, random_items, tmp_path):
    model, other = make_model(seed=0), make_model(seed=1)
    items, lengths = random_items(0), torch.full((5,), LONGEST)
    save_file(model.state_dict(), tmp_path / "model.safetensors")
    assert not torch.equal(other.score(items, lengths), model.score(items, lengths))
    other.load_state_dict(load_file(tmp_path / "model.safetensors"))
    assert torch.equal(other.score(items, lengths), model.score(items, lengths))


def test_features_are_not_saved_with_the_weights(model):
    assert not [name for name in model.state_dict() if name.endswith(("_features", "_present"))]


# --- names of items mean nothing ---------------------------------------------------------------------------------


def permuted(model, order):
    """The same model in a shop where item i is called order[i]: every tensor with a row an item is reordered."""
    other = deepcopy(model)
    rows = {ITEMS: order[1:] - 1, ITEMS + 1: order, ITEMS + 2: torch.cat([order, torch.tensor([ITEMS + 1])])}
    pairs = zip([*model.parameters(), *model.buffers()], [*other.parameters(), *other.buffers()], strict=True)
    with torch.no_grad():
        for tensor, copy in pairs:
            if len(tensor) in rows:
                copy[rows[len(tensor)]] = tensor
    return other


@settings(max_examples=10)
@given(st.permutations(range(1, ITEMS + 1)))
def _check_permutation(model, random_items, names):
    order = torch.tensor([0, *names])
    items, targets, lengths = random_items(0), random_items(1), torch.full((5,), LONGEST)
    other = permuted(model, order)
    scores = model.score(items, lengths)
    found = other.score(order[items], lengths)
    torch.testing.assert_close(found[:, order[1:] - 1], scores, rtol=0, atol=1e-5)
    renamed = loss(other, order[items], order[targets])
    for part, value in loss(model, items, targets).items():
        torch.testing.assert_close(renamed[part], value)


def test_calling_items_otherwise_permutes_their_scores(model, random_items):
    _check_permutation(model, random_items)


# --- on a GPU ----------------------------------------------------------------------------------------------------

needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")


@pytest.mark.gpu
@needs_gpu
@torch.no_grad()
def test_a_gpu_gives_the_scores_of_the_cpu(names, make, random_items, monkeypatch):
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)  # as in the pipeline: see runtime.prepare
    items, lengths = random_items(0), torch.full((5,), LONGEST)
    for name in names:
        model = make(name)
        here = model.score(items, lengths)
        there = model.to("cuda").score(items.to("cuda"), lengths.to("cuda")).cpu()
        assert torch.allclose(there, here, rtol=1e-4, atol=1e-4), f"{name}: {(there - here).abs().max()} apart"


@pytest.mark.gpu
@needs_gpu
@pytest.mark.parametrize("criterion", ["softmax", "sampled", "bce"])
def test_a_gpu_gives_the_same_gradients_twice(names, make, random_items, criterion):
    torch.use_deterministic_algorithms(True)
    items, targets = random_items(0).to("cuda"), random_items(1).to("cuda")

    def gradients(name):
        model = make(name, dropout=0.3).to("cuda").train()
        generator = torch.Generator().manual_seed(0)
        asks = {
            "softmax": softmax,
            "sampled": SampledSoftmax(negatives=4, counts=torch.ones(ITEMS, device="cuda"), generator=generator),
            "bce": BinaryCrossEntropy(negatives=2, generator=generator),
        }
        loss(model, items, targets, asks[criterion])["total"].backward()
        return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]

    for name in names:
        first, second = gradients(name), gradients(name)
        assert first and all(torch.equal(one, other) for one, other in zip(first, second, strict=True)), name
