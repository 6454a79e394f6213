"""What stands in for causality where states may see what comes later: what is asked for is nowhere in the input."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F

from mmrec.losses import softmax
from mmrec.models import bert4rec

ITEMS, LONGEST = 20, 8  # of the models that conftest makes
MASK = ITEMS + 1


@pytest.fixture
def make_bert(make):
    return partial(make, "bert4rec")


@pytest.fixture
def last_alone(monkeypatch):
    """Sets the share of sequences that hide their last item alone."""
    return lambda share: monkeypatch.setattr(bert4rec, "LAST_ALONE", share)


class Watched:
    """A criterion that notes what it is given; and what the model's input was."""

    def __init__(self, model):
        self.inputs, self.states, self.targets = [], [], []
        model.register_forward_pre_hook(lambda _, given: self.inputs.append(given[0]))

    def __call__(self, hidden, table, targets):
        self.states.append(hidden)
        self.targets.append(targets)
        return softmax(hidden, table, targets)


def shifted(whole):
    """Right-padded sequences (B, T + 1) -> items, targets (B, T), as training batches give them."""
    targets = whole[:, 1:]
    return whole[:, :-1].where(targets > 0, 0), targets


def batch(random_items, lengths, seed=0):
    lengths = torch.tensor(lengths)
    whole = random_items(seed, (len(lengths), int(lengths.max())))
    return whole.where(torch.arange(whole.shape[1]) < lengths[:, None], 0)


# --- nothing of the target is seen -------------------------------------------------------------------------------


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_what_is_asked_for_is_masked_and_everything_else_is_shown(make_bert, random_items, last_alone, share):
    last_alone(share)
    model = make_bert().train()
    whole = batch(random_items, [8, 3, 2, 5] * 20)
    watched = Watched(model)
    model.loss(*shifted(whole), watched)
    [shown], [targets] = watched.inputs, watched.targets
    masked = shown == MASK
    assert torch.equal(targets, whole[masked] - 1)
    assert torch.equal(shown[~masked], whole[~masked])
    assert masked.any(1).all() and not masked[whole == 0].any()


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_what_a_masked_item_is_changes_no_bit_of_any_state(make_bert, random_items, last_alone, share):
    last_alone(share)
    model = make_bert()
    whole = batch(random_items, [8, 3, 2, 5])
    first = Watched(model)
    torch.manual_seed(3)
    model.loss(*shifted(whole), first)
    masked = first.inputs[0] == MASK
    others = whole.where(~masked, whole % ITEMS + 1)
    second = Watched(model)
    torch.manual_seed(3)
    model.loss(*shifted(others), second)
    assert torch.equal(second.inputs[0], first.inputs[0])
    assert torch.equal(second.states[0], first.states[0])
    assert (second.targets[0] != first.targets[0]).all()


@torch.no_grad()
def test_states_see_what_comes_later(make_bert, random_items):
    model, items = make_bert(), random_items(0)
    changed = items.clone()
    changed[:, -1] = items[:, -1] % ITEMS + 1
    assert ((model(changed) - model(items))[:, :-1].abs().amax(2) > 1e-4).all()


@torch.no_grad()
def test_what_lies_in_padding_is_not_seen(make_bert, random_items):
    model, items = make_bert(), batch(random_items, [8, 3, 5])
    with_noise = make_bert()
    with_noise.item.weight[0] += 7
    assert torch.equal(with_noise(items)[items > 0], model(items)[items > 0])


# --- masking -----------------------------------------------------------------------------------------------------


def draws(model, whole, seed=0):
    torch.manual_seed(seed)
    return model._hidden(whole)


def test_each_item_is_masked_with_the_chance_asked_for(make_bert, last_alone):
    last_alone(0.0)
    model, whole = make_bert(mask_share=0.3), torch.ones(20000, 8, dtype=torch.long)
    share = draws(model, whole).float().mean(0)
    # One more where none is drawn, which happens to 0.7^8 of sequences and hits one of eight positions.
    assert share.tolist() == pytest.approx([0.3 + 0.7**8 / 8] * 8, abs=0.015)


@pytest.mark.parametrize("mask_share", [1e-9, 0.1])
def test_every_sequence_has_a_masked_item_and_no_padding_is_masked(make_bert, random_items, last_alone, mask_share):
    last_alone(0.0)
    whole = batch(random_items, [8, 1, 2, 5] * 100)
    masked = draws(make_bert(mask_share=mask_share), whole)
    assert masked.any(1).all() and not masked[whole == 0].any()
    if mask_share < 0.01:
        assert (masked.sum(1) == 1).all()


def test_one_sequence_in_eleven_hides_its_last_item_alone(make_bert):
    whole = F.pad(torch.ones(20000, 6, dtype=torch.long), (0, 2))
    masked = draws(make_bert(mask_share=1.0), whole)  # the others hide everything
    alone = masked.sum(1) == 1
    assert alone.float().mean().item() == pytest.approx(1 / 11, abs=0.007)
    assert masked[alone, 5].all() and (masked[~alone].sum(1) == 6).all()


def test_masks_are_drawn_anew_each_time_and_repeat_with_the_seed(make_bert, random_items):
    model, whole = make_bert(), batch(random_items, [8] * 50)
    first = draws(model, whole)
    assert not torch.equal(model._hidden(whole), first)
    assert torch.equal(draws(model, whole), first)


# --- loss and scores ---------------------------------------------------------------------------------------------


def test_with_the_last_item_hidden_the_loss_is_cross_entropy_of_the_scores(make_bert, random_items, last_alone):
    last_alone(1.0)
    model, lengths = make_bert(), torch.tensor([8, 3, 2, 5, 9])
    whole = batch(random_items, lengths.tolist())
    last = torch.arange(5), lengths - 1
    history = whole.clone()
    history[last] = 0
    expected = F.cross_entropy(model.score(history, lengths - 1), whole[last] - 1)
    torch.testing.assert_close(model.loss(*shifted(whole), softmax)["total"], expected)


def test_padding_is_no_part_of_the_loss(make_bert, random_items, last_alone):
    last_alone(0.0)
    model, whole = make_bert(mask_share=1.0), random_items(0, (3, 5))  # all masked: nothing is left to chance
    expected = model.loss(*shifted(whole), softmax)["total"]
    torch.testing.assert_close(model.loss(*shifted(F.pad(whole, (0, 3))), softmax)["total"], expected)


def test_of_long_sequences_the_latest_items_are_kept(make_bert, random_items):
    model = make_bert()
    whole = batch(random_items, [9, 3, 8])
    watched = Watched(model)
    model.loss(*shifted(whole), watched)
    shown = watched.inputs[0]
    assert shown.shape == (3, LONGEST)
    expected = torch.stack([whole[0, 1:], whole[1, :8], whole[2, :8]])
    assert torch.equal(shown.where(shown != MASK, expected), expected)


@torch.inference_mode()
def test_a_history_is_scored_with_the_mask_behind_its_latest_items(make_bert, random_items):
    model, lengths = make_bert(), torch.tensor([8, 3, 7])
    items = batch(random_items, lengths.tolist())
    watched = Watched(model)
    scores = model.score(items, lengths)
    [shown] = watched.inputs
    expected = torch.zeros(3, 8, dtype=torch.long)
    for row, kept in enumerate((items[0, 1:8], items[1, :3], items[2, :7])):
        expected[row, : len(kept)], expected[row, len(kept)] = kept, MASK
    assert torch.equal(shown, expected)
    hidden = model.transformer(model.item(shown), shown, key_mask=shown > 0)[torch.arange(3), torch.tensor([7, 3, 7])]
    linear, _, norm = model.head
    head = F.layer_norm(F.gelu(linear(hidden)), (8,), norm.weight, norm.bias)
    torch.testing.assert_close(scores, head @ model.item.weight[1:-1].T + model.bias)


def test_ten_last_items_are_learned_by_heart(make_bert, random_items):
    model = make_bert(seed=1, spread=0.0, dim=16).train()
    items = torch.stack([torch.randperm(ITEMS, generator=torch.Generator().manual_seed(s))[:6] + 1 for s in range(10)])
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(400):
        optimiser.zero_grad()
        model.loss(*shifted(items), softmax)["total"].backward()
        optimiser.step()
    model.eval()
    right = model.score(items[:, :5], torch.full((10,), 5)).argmax(1) + 1 == items[:, 5]
    assert right.float().mean() >= 0.9
