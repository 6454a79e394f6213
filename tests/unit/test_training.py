from contextlib import nullcontext
from copy import deepcopy
from dataclasses import fields, replace

import pytest
import torch
from torch import nn

from mmrec import config, losses, training
from mmrec.evaluation import evaluate, gains
from mmrec.models.maf import MAF
from mmrec.models.sasrec import SASRec
from mmrec.training import TrainingError, best_epoch, finished, fit

BUDGET = config.Training(
    loss="softmax",
    negatives=4,
    epochs=4,
    patience=4,
    batch_size=16,
    learning_rate=0.01,
    weight_decay=0.0,
    clip_norm=5.0,
    gradients="summed",
)
SMALL = config.SASRec(dim=8, layers=1, heads=2, dropout=0.3, positions_from="oldest")
LOSSES = ["softmax", "sampled_softmax", "bce"]
LONGEST = 8


class Interrupted(Exception):
    pass


@pytest.fixture
def train(shop, tmp_path):
    """Train a small SASRec with dropout; what was interrupted under the same name goes on."""

    def train(name="run", budget=BUDGET, seed=0, change=lambda model: None, sequences=shop.sequences):
        torch.manual_seed(seed)
        model = SASRec(SMALL, n_items=30, max_length=LONGEST)
        change(model)
        curve = fit(model, sequences, budget, max_length=LONGEST, seed=seed, checkpoint=tmp_path / name)
        return model, curve

    return train


def same_bits(one, other):
    (a, first), (b, second) = one, other
    weights = zip(a.state_dict().items(), b.state_dict().items(), strict=True)
    return first == second and all(m == n and torch.equal(x, y) for (m, x), (n, y) in weights)


def validation(model, shop):
    ranks = evaluate(model.score, shop.sequences, "valid", LONGEST)
    return float(gains(ranks["full_unseen"].to_numpy(), "ndcg", 10).mean())


# --- what training does ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
def test_training_learns(train, shop, loss):
    model, curve = train(budget=replace(BUDGET, loss=loss, epochs=15, patience=15))
    assert curve[-1]["total"] < 0.8 * curve[0]["total"]
    random = sum(1 / torch.log2(torch.tensor(2.0 + place)).item() for place in range(10)) / 30
    assert validation(model, shop) > 2 * random


def test_the_curve_has_a_row_an_epoch(train):
    _, curve = train()
    assert [row["epoch"] for row in curve] == [1, 2, 3, 4]
    assert all(set(row) == {"epoch", "total", "valid_ndcg_10"} for row in curve)


@pytest.mark.parametrize("loss", LOSSES)
def test_the_same_seed_gives_the_same_bits_and_another_seed_others(train, loss):
    budget = replace(BUDGET, loss=loss)
    first = train("a", budget)
    torch.rand(7)  # whatever happened before
    assert same_bits(first, train("b", budget))
    other = train("c", budget, seed=1)
    assert [row["total"] for row in other[1]] != [row["total"] for row in first[1]]


def test_the_model_ends_with_its_best_weights_in_evaluation_mode(train, shop):
    overfitting = replace(BUDGET, epochs=30, patience=30, learning_rate=0.05)
    model, curve = train(budget=overfitting)
    values = [row["valid_ndcg_10"] for row in curve]
    assert best_epoch(curve) < len(curve)  # else last and best are one
    assert not model.training
    assert validation(model, shop) == max(values) > values[-1]


CHANGES = {
    "loss": "bce",
    "negatives": 5,
    "epochs": 13,
    "patience": 1,
    "batch_size": 8,
    "learning_rate": 0.02,
    "weight_decay": 0.1,
    "clip_norm": 0.01,
}


@pytest.mark.parametrize("name", [field.name for field in fields(config.Training) if field.name != "gradients"])
def test_every_setting_of_training_matters(train, name):
    start = replace(BUDGET, learning_rate=0.3, epochs=12, patience=12)  # long enough to become worse once
    for loss in ("sampled_softmax", "bce") if name == "negatives" else ("softmax",):
        start = replace(start, loss=loss)
        changed = replace(start, **{name: CHANGES[name]})
        assert train(f"{loss} a", start)[1] != train(f"{loss} b", changed)[1]


def test_the_number_of_negatives_means_nothing_to_a_loss_that_draws_none(train):
    assert same_bits(train("a"), train("b", replace(BUDGET, negatives=CHANGES["negatives"])))


def test_the_three_losses_train_three_models(train):
    assert len({train(loss, replace(BUDGET, loss=loss))[1][0]["total"] for loss in LOSSES}) == 3


def test_the_criterion_is_the_one_asked_for(make_sequences):
    # In training: item 1 twice, items 2 and 3 once; items 4 and 5 are for validation and test alone.
    found = make_sequences([[1, 2, 4, 5], [3, 1, 4, 5]], n_items=6, negatives=1)
    generator = torch.Generator()

    def criterion(loss):
        return training.criterion(replace(BUDGET, loss=loss, negatives=7), found, generator)

    assert criterion("softmax") is losses.softmax
    sampled, binary = criterion("sampled_softmax"), criterion("bce")
    assert isinstance(sampled, losses.SampledSoftmax) and isinstance(binary, losses.BinaryCrossEntropy)
    assert sampled.negatives == binary.negatives == 7
    assert sampled.generator is generator and binary.generator is generator
    weight = torch.tensor([3, 2, 2, 1, 1, 1], dtype=torch.double).sqrt()
    torch.testing.assert_close(sampled.q, weight / weight.sum())


class Scripted(nn.Module):
    """Reaches the validation values it is told, epoch by epoch; notes in which mode it is asked."""

    def __init__(self, targets_first: list[bool]):
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.script, self.epoch, self.modes = targets_first, -1, []
        self.register_buffer("trained_epochs", torch.zeros(()))

    def shared(self):
        return nullcontext()

    def loss(self, items, targets, criterion):
        self.modes.append(("loss", self.training))
        return {"total": (self.weight - 1) ** 2, "id": self.weight * 0 + 2}

    def score(self, items, lengths):
        self.modes.append(("score", self.training))
        self.epoch += 1
        self.trained_epochs += 1
        # The circle's next item is mostly the target: either that one stands first, or the one before.
        last = items[torch.arange(len(items)), lengths - 1]
        step = 0 if self.script[self.epoch] else -2
        return torch.eye(30)[(last + step) % 30]


def run_script(shop, tmp_path, script, **budget):
    model = Scripted(script)
    chosen = replace(BUDGET, batch_size=1000, **budget)
    return model, fit(model, shop.sequences, chosen, max_length=LONGEST, seed=0, checkpoint=tmp_path / "run")


@pytest.mark.parametrize(
    "script, epochs, patience, length, best",
    [
        ([False, True, False, False, False, False], 6, 2, 4, 2),  # two worse ones end it
        ([False, False, False, True, True, True], 6, 2, 3, 1),  # .. too soon for the fourth; equal is no better
        ([True, True, True, True, True, True], 6, 3, 4, 1),
        ([False, True, False, False, False, False], 3, 2, 3, 2),  # the budget ends it
        ([True, True], 1, 5, 1, 1),
    ],
)
def test_training_stops_when_patience_or_budget_is_spent(shop, tmp_path, script, epochs, patience, length, best):
    model, curve = run_script(shop, tmp_path, script, epochs=epochs, patience=patience)
    assert (len(curve), best_epoch(curve)) == (length, best)
    assert model.trained_epochs == best


def test_the_model_learns_in_training_mode_and_is_asked_in_evaluation_mode(shop, tmp_path):
    model, _ = run_script(shop, tmp_path, [True] * 3, epochs=2)
    assert model.modes == [("loss", True), ("score", False)] * 2


def test_every_part_of_the_loss_is_in_the_curve(shop, tmp_path):
    _, curve = run_script(shop, tmp_path, [True] * 3, epochs=2)
    assert [row["id"] for row in curve] == [2, 2]
    assert curve[0]["total"] == 1


def test_a_part_of_the_loss_is_the_mean_over_steps(train, shop):
    seen = []

    def note(model):
        original = model.loss

        def loss(items, targets, criterion):
            parts = original(items, targets, criterion)
            seen.append(parts["total"].item())
            return parts

        model.loss = loss

    _, curve = train(budget=replace(BUDGET, epochs=1), change=note)
    assert len(seen) == 4
    assert curve[0]["total"] == pytest.approx(sum(seen) / 4)


def test_gradients_are_clipped(train, monkeypatch):
    norms = []
    step = torch.optim.Adam.step

    def noting(self, *given, **named):
        parameters = [p for group in self.param_groups for p in group["params"]]
        norms.append(torch.stack([p.grad.norm() for p in parameters]).norm().item())
        return step(self, *given, **named)

    monkeypatch.setattr(torch.optim.Adam, "step", noting)
    train(budget=replace(BUDGET, clip_norm=0.05))
    assert max(norms) <= 0.05 * (1 + 1e-5)
    assert len(norms) == 16


# --- what can go wrong -------------------------------------------------------------------------------------------


def poison(model):
    with torch.no_grad():
        model.item.weight[1] = float("nan")


def test_a_loss_that_is_not_a_number_stops_training(train, tmp_path):
    with pytest.raises(TrainingError, match="the loss is nan in epoch 1; lower learning_rate"):
        train(change=poison)
    assert not (tmp_path / "run").exists()


def test_training_that_diverges_fails_loudly(train):
    with pytest.raises((TrainingError, ValueError), match="nan|inf|NaN"):
        train(budget=replace(BUDGET, learning_rate=1e30))


def test_the_checkpoint_before_a_failure_is_kept(train, monkeypatch, tmp_path):
    original, calls = SASRec.loss, []

    def loss(self, items, targets, criterion):
        calls.append(1)
        parts = original(self, items, targets, criterion)
        return {"total": parts["total"] * (float("inf") if len(calls) > 8 else 1)}

    monkeypatch.setattr(SASRec, "loss", loss)
    with pytest.raises(TrainingError, match="epoch 3"):
        train()
    assert len(torch.load(tmp_path / "run", weights_only=True)["curve"]) == 2


def test_users_too_short_to_learn_from_are_named(make_sequences, tmp_path):
    short = make_sequences([[1, 2, 3], [4]], n_items=9)
    model = SASRec(SMALL, n_items=9, max_length=LONGEST)
    with pytest.raises(TrainingError, match="no user has two training interactions"):
        fit(model, short, BUDGET, max_length=LONGEST, seed=0, checkpoint=tmp_path / "run")


# --- going on ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("epoch", [1, 2, 3, 4])
def test_training_interrupted_after_an_epoch_ends_with_the_same_bits(train, monkeypatch, epoch, loss):
    budget = replace(BUDGET, loss=loss)
    whole = train("whole", budget)

    def stop(line):
        if f"epoch {epoch}," in line:
            raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(training, "report", stop)
        with pytest.raises(Interrupted):
            train("parts", budget)
    torch.rand(3)
    assert same_bits(train("parts", budget), whole)


@pytest.mark.parametrize("loss", LOSSES)
@pytest.mark.parametrize("step", range(0, 16, 3))
def test_training_interrupted_at_a_step_ends_with_the_same_bits(train, step, loss):
    budget = replace(BUDGET, loss=loss)
    whole, steps = train("whole", budget), []

    def interrupt(model):
        original = model.loss

        def loss(items, targets, criterion):
            if len(steps) == step:
                raise Interrupted
            steps.append(1)
            return original(items, targets, criterion)

        model.loss = loss

    with pytest.raises(Interrupted):
        train("parts", budget, change=interrupt)
    assert same_bits(train("parts", budget), whole)


@pytest.mark.parametrize("loss", ["sampled_softmax", "bce"])
def test_without_the_state_of_its_draws_another_run_would_follow(train, tmp_path, monkeypatch, loss):
    budget = replace(BUDGET, loss=loss)
    whole = train("whole", budget)
    train("parts", replace(budget, epochs=2))
    state = torch.load(tmp_path / "parts", weights_only=True)
    state["generators"]["explicit"] = torch.Generator().manual_seed(0).get_state()
    torch.save(state, tmp_path / "other")
    assert same_bits(train("parts", budget), whole)
    assert not same_bits(train("other", budget), whole)


def test_training_interrupted_repeatedly_ends_with_the_same_bits(train, monkeypatch):
    def stop(line):
        raise Interrupted

    whole = train("whole")
    with monkeypatch.context() as patch:
        patch.setattr(training, "report", stop)
        for _ in range(4):
            with pytest.raises(Interrupted):
                train("parts")
    assert same_bits(train("parts"), whole)


def test_an_interrupted_checkpoint_leaves_the_one_before(train, monkeypatch):
    whole, save, calls = train("whole"), torch.save, []

    def half(state, path):
        calls.append(1)
        save(state, path)
        if len(calls) == 3:
            path.write_bytes(path.read_bytes()[:100])
            raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(torch, "save", half)
        with pytest.raises(Interrupted):
            train("parts")
    assert same_bits(train("parts"), whole)


def test_a_finished_run_trains_no_more(train, monkeypatch):
    whole = deepcopy(train("run"))
    monkeypatch.setattr(SASRec, "loss", None)
    assert same_bits(train("run"), whole)


def test_progress_tells_the_epoch_the_loss_and_the_best(train, monkeypatch):
    lines = []
    monkeypatch.setattr(training, "report", lines.append)
    _, curve = train()
    assert len(lines) == 4
    assert f"epoch 4, loss {curve[3]['total']:.4f}, validation ndcg@10 {curve[3]['valid_ndcg_10']:.4f}" in lines[3]
    assert f"best in epoch {best_epoch(curve)}" in lines[3]


# --- small parts -------------------------------------------------------------------------------------------------


def curve_of(*values):
    return [{"valid_ndcg_10": value} for value in values]


def test_the_best_epoch_is_the_first_of_equals():
    assert best_epoch(curve_of(0.1, 0.3, 0.2, 0.3)) == 2


def test_training_is_finished_by_hand():
    budget = replace(BUDGET, epochs=4, patience=2)
    assert not finished([], budget)
    assert not finished(curve_of(0.3, 0.2), budget)
    assert finished(curve_of(0.3, 0.2, 0.1), budget)
    assert finished(curve_of(0.3, 0.3, 0.3), budget)
    assert not finished(curve_of(0.1, 0.2, 0.3), budget)
    assert finished(curve_of(0.1, 0.2, 0.3, 0.4), budget)


# --- on a GPU ----------------------------------------------------------------------------------------------------


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("loss", LOSSES)
def test_a_gpu_run_gives_the_same_bits_twice_and_after_an_interruption(shop, tmp_path, loss):
    data, whole_budget = shop.sequences.to("cuda"), replace(BUDGET, loss=loss)

    def trained(name, budget):
        torch.manual_seed(0)
        model = SASRec(SMALL, n_items=30, max_length=LONGEST).to("cuda")
        return model, fit(model, data, budget, max_length=LONGEST, seed=0, checkpoint=tmp_path / name)

    torch.use_deterministic_algorithms(True)
    whole = trained("whole", whole_budget)
    assert same_bits(whole, trained("again", whole_budget))
    trained("stopped", replace(whole_budget, epochs=2))
    assert same_bits(whole, trained("stopped", whole_budget))


# --- gradients of several tasks, histories out of order ----------------------------------------------------------


@pytest.fixture
def train_maf(shop, tmp_path):
    """Train a small MAF with all heads."""
    weights = {"image_weight": 1.0, "text_weight": 1.0, "category_weight": 1.0}
    kind = {"fusion_stage": "scores", "score_fusion": "sum", "position": "added", "modalities": ("image",)}
    kind |= {"regression": "cosine", "weighting": "fixed", "modality_dropout": 0.0}
    size = {"dim": 8, "stream_dim": 8, "layers": 1, "heads": 2, "dropout": 0.0, "positions_from": "oldest"}
    settings = config.MAF(**weights, **kind, **size)

    def train_maf(gradients, seed=0):
        torch.manual_seed(seed)
        model = MAF(settings, n_items=30, max_length=LONGEST, features=shop.features)
        budget = replace(BUDGET, gradients=gradients)
        checkpoint = tmp_path / gradients
        curve = fit(model, shop.sequences, budget, max_length=LONGEST, seed=seed, checkpoint=checkpoint)
        return model, curve

    return train_maf


def test_watching_gradients_trains_the_same_model_and_says_how_they_agree(train_maf):
    (plain, first), (watched, second) = train_maf("summed"), train_maf("watched")
    for one, other in zip(plain.parameters(), watched.parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-4)
    noted = set(second[0]) - set(first[0])
    tasks = ["id", "image", "text", "category"]
    pairs = {f"{a}_{b}" for place, a in enumerate(tasks) for b in tasks[place + 1 :]}
    assert noted == {f"{what}_{pair}" for what in ("cos", "conflict") for pair in pairs}
    for row in second:
        assert all(-1 <= row[f"cos_{pair}"] <= 1 and 0 <= row[f"conflict_{pair}"] <= 1 for pair in pairs)
    assert len({row["cos_id_image"] for row in second}) == len(second)


def test_projected_gradients_train_another_model(train_maf):
    (watched, _), (projected, curve) = train_maf("watched"), train_maf("projected")
    assert max(row["conflict_id_image"] for row in curve) > 0  # else there is nothing to project
    assert not torch.equal(watched.item.weight, projected.item.weight)


def test_one_task_has_nothing_to_agree_with(train):
    plain, watched = train("a"), train("b", replace(BUDGET, gradients="watched"))
    assert same_bits(plain, watched)


def test_the_circle_is_not_learned_from_shuffled_histories(train, shop):
    budget = replace(BUDGET, epochs=15, patience=15)
    ordered, shuffled = train("a", budget), train("b", budget, sequences=shop.sequences.shuffled("valid", 0))
    best = [max(row["valid_ndcg_10"] for row in curve) for _, curve in (ordered, shuffled)]
    assert best[0] > 1.3 * best[1]
