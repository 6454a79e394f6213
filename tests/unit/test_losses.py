import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from mmrec import losses

N, V, D = 7, 11, 4


def problem(seed=0, n=N, dtype=torch.double):
    generator = torch.Generator().manual_seed(seed)
    hidden = torch.randn(n, D, generator=generator, dtype=dtype).requires_grad_()
    table = torch.randn(V, D, generator=generator, dtype=dtype).requires_grad_()
    return hidden, table, torch.randint(V, (n,), generator=generator)


# --- the whole catalogue ------------------------------------------------------------------------------------------

ROW = V * 8  # bytes of one row of logits


@pytest.mark.parametrize("chunk", [1, ROW, 2 * ROW, 3 * ROW + 5, N * ROW, 2**25])
@pytest.mark.parametrize("upstream", [1.0, -2.5])
def test_chunked_softmax_equals_cross_entropy_in_value_and_gradients(monkeypatch, chunk, upstream):
    monkeypatch.setitem(losses.CHUNK_BYTES, "cpu", chunk)
    hidden, table, targets = problem()
    expected = F.cross_entropy(hidden @ table.T, targets)
    wanted = torch.autograd.grad(upstream * expected, [hidden, table])
    found = losses.softmax(hidden, table, targets)
    given = torch.autograd.grad(upstream * found, [hidden, table])
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(given, wanted)


def test_softmax_of_one_position():
    hidden, table, targets = problem(n=1)
    torch.testing.assert_close(losses.softmax(hidden, table, targets), F.cross_entropy(hidden @ table.T, targets))


def test_softmax_passes_a_numerical_check_of_its_gradients(monkeypatch):
    monkeypatch.setitem(losses.CHUNK_BYTES, "cpu", 2 * ROW)
    hidden, table, targets = problem()
    assert torch.autograd.gradcheck(lambda h, t: losses.softmax(h, t, targets), (hidden, table))


def test_softmax_of_equal_scores_is_the_logarithm_of_the_catalogue():
    hidden, table = torch.zeros(3, D), torch.randn(V, D)
    assert losses.softmax(hidden, table, torch.tensor([0, 5, 10])).item() == pytest.approx(math.log(V))


def test_softmax_survives_scores_far_from_zero():
    hidden = torch.tensor([[1000.0], [-1000.0]], requires_grad=True)
    table = torch.tensor([[1.0], [0.0], [-1.0]], requires_grad=True)
    loss = losses.softmax(hidden, table, torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() == pytest.approx(1000)  # 0 for the right answer, 2000 for the wrong one
    assert hidden.grad.isfinite().all() and table.grad.isfinite().all()


@given(st.integers(0, 1000))
def test_moving_all_scores_of_a_position_changes_nothing(seed):
    hidden, table, targets = problem(seed)
    shifted = torch.cat([table, torch.ones(V, 1, dtype=torch.double)], 1)  # one more column adds the same to all items
    more = torch.cat([hidden, torch.full((N, 1), 3.0, dtype=torch.double)], 1)
    torch.testing.assert_close(losses.softmax(more, shifted, targets), losses.softmax(hidden, table, targets))


class _Largest(torch.utils._python_dispatch.TorchDispatchMode):
    """Notes the largest tensor that any operation makes."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else [result]:
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return result


def test_softmax_never_holds_all_logits(monkeypatch):
    n, v = 400, 300
    monkeypatch.setitem(losses.CHUNK_BYTES, "cpu", 20 * v * 4)
    hidden, table = torch.randn(n, 2, requires_grad=True), torch.randn(v, 2, requires_grad=True)
    targets = torch.randint(v, (n,))
    with _Largest() as largest:
        losses.softmax(hidden, table, targets).backward()
    assert largest.elements == 20 * v
    with _Largest() as largest:
        F.cross_entropy(hidden @ table.T, targets).backward()
    assert largest.elements == n * v  # what the measuring sees where they are held


@pytest.mark.parametrize(("items", "rows"), [(12_101, 43), (32_768, 16), (32_800, 64), (1_000_000, 64)])
def test_a_chunk_of_a_large_catalogue_has_rows_enough(items, rows):
    assert losses.rows_at_once(torch.empty(items, 1)) == rows


def test_softmax_keeps_nothing_of_the_size_of_the_logits_for_the_backward_pass():
    kept = []
    hidden, table, targets = problem()
    with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.numel()) or x, lambda x: x):
        losses.softmax(hidden, table, targets)
    assert sorted(kept) == sorted([N * D, V * D])


# --- a sample of it ----------------------------------------------------------------------------------------------

# With one more, the squares of 1..11: items are drawn with chances 1/66, 2/66, .., 11/66.
SKEWED = torch.tensor([0, 3, 8, 15, 24, 35, 48, 63, 80, 99, 120])
CHANCE = torch.arange(1, 12, dtype=torch.double) / 66


def drawing(seed=0):
    return torch.Generator().manual_seed(seed)


def sampled(negatives, counts=SKEWED, seed=0):
    return losses.SampledSoftmax(negatives=negatives, counts=counts, generator=drawing(seed))


@pytest.fixture
def drawn(monkeypatch):
    """Make the next draws come out as told; what was asked for is noted."""

    def drawn(function, *results):
        results, asked = list(results), []

        def draw(*given, **named):
            asked.append((given, named))
            return torch.tensor(results.pop(0))

        monkeypatch.setattr(torch, function, draw)
        return asked

    return drawn


def test_sampled_softmax_draws_by_the_square_root_of_one_more_than_the_count(drawn):
    criterion = sampled(3)
    asked = drawn("multinomial", [0, 1, 2])
    criterion(*problem())
    [((chance, number), named)] = asked  # once for all positions
    torch.testing.assert_close(chance, CHANCE)
    assert number == 3 and named["replacement"] and named["generator"] is criterion.generator


def test_sampled_softmax_by_hand(drawn):
    # Chances of 3, 0, 8 and 0 seen before: 2, 1, 3 and 1 of 7. Scores of the items: log 1, log 2, log 3, log 4.
    criterion = sampled(3, counts=torch.tensor([3, 0, 8, 0]))
    hidden, table = torch.ones(2, 1), torch.tensor([1.0, 2.0, 3.0, 4.0]).log()[:, None]
    targets = torch.tensor([1, 0])
    # Of target 1 (score 2): item 0 stands for 1 / (3 * 2/7) = 7/6, item 2 for 3 / (3 * 3/7) = 7/3.
    # Of target 0 (score 1): itself drawn is left out, item 2 for 7/3, item 3 for 4 / (3 * 1/7) = 28/3.
    drawn("multinomial", [0, 0, 2])
    first = math.log((2 + 7 / 6 + 7 / 6 + 7 / 3) / 2)
    assert criterion(hidden[:1], table, targets[:1]).item() == pytest.approx(first)
    drawn("multinomial", [0, 2, 3])
    first, second = math.log((2 + 7 / 6 + 7 / 3 + 28 / 3) / 2), math.log((1 + 7 / 3 + 28 / 3) / 1)
    assert criterion(hidden, table, targets).item() == pytest.approx((first + second) / 2)


def test_where_only_the_target_is_drawn_nothing_is_asked(drawn):
    hidden, table, _ = problem(n=1)
    drawn("multinomial", [4, 4])
    value = sampled(2)(hidden, table, torch.tensor([4]))
    value.backward()
    assert value.item() == 0
    assert (hidden.grad == 0).all() and (table.grad == 0).all()


@pytest.mark.parametrize("target", [0, 5, 10])
def test_the_sum_over_a_sample_is_on_average_that_over_the_catalogue(drawn, target):
    # One negative: the mean over what may be drawn is the sum over items, each with its chance.
    hidden, table, _ = problem(n=1)
    scores = (hidden @ table.T)[0]
    criterion = sampled(1)
    drawn("multinomial", *([item] for item in range(V)))
    values = torch.stack([criterion(hidden, table, torch.tensor([target])) for _ in range(V)])
    torch.testing.assert_close(CHANCE @ (values + scores[target]).exp(), scores.exp().sum(), rtol=1e-6, atol=0)


@pytest.mark.parametrize("counts", [SKEWED, SKEWED.flip(0), torch.zeros(V)], ids=["skewed", "flipped", "equal"])
@pytest.mark.parametrize("target", [0, 10])
def test_the_mean_over_many_samples_is_the_sum_over_the_catalogue(counts, target):
    hidden, table, _ = problem(n=1)
    hidden, table = hidden.detach(), table.detach()
    scores = (hidden @ table.T)[0]
    criterion = sampled(5, counts)
    values = torch.stack([criterion(hidden, table, torch.tensor([target])) for _ in range(4000)])
    sums = (values + scores[target]).exp()
    error = sums.std() / 4000**0.5
    assert error < 0.02 * scores.exp().sum()
    assert (sums.mean() - scores.exp().sum()).abs() < 4 * error


def test_with_very_many_draws_sampled_softmax_is_softmax():
    hidden, table, targets = problem()
    expected, found = losses.softmax(hidden, table, targets), sampled(200_000)(hidden, table, targets)
    torch.testing.assert_close(found, expected, rtol=0.01, atol=0)
    wanted, given = (torch.autograd.grad(value, [hidden, table]) for value in (expected, found))
    torch.testing.assert_close(given, wanted, rtol=0, atol=0.01)


def test_sampled_softmax_has_the_gradients_of_its_formula(drawn):
    hidden, table, targets = problem()
    items = [9, 3, 3, 10, 0, 7]
    drawn("multinomial", items)
    found = sampled(6)(hidden, table, targets)
    each = []
    for state, target in zip(hidden, targets.tolist(), strict=True):
        own = state @ table[target]
        others = [(state @ table[item]).exp() / (6 * CHANCE[item]) for item in items if item != target]
        each.append((own.exp() + sum(others)).log() - own)
    expected = sum(each) / N
    assert set(items) & set(targets.tolist())  # some are left out
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    given, wanted = (torch.autograd.grad(value, [hidden, table]) for value in (found, expected))
    torch.testing.assert_close(given, wanted, rtol=1e-5, atol=1e-8)


# --- yes or no ---------------------------------------------------------------------------------------------------


def binary(negatives, seed=0):
    return losses.BinaryCrossEntropy(negatives=negatives, generator=drawing(seed))


def test_binary_cross_entropy_by_hand(drawn):
    # Chances of items 0..3 to be liked: 1/2, 3/4, 1/4, 2/3.
    table = torch.tensor([1.0, 3.0, 1 / 3, 2.0]).log()[:, None]
    asked = drawn("randint", [[0, 2], [0, 1]])
    value = binary(2)(torch.ones(2, 1), table, torch.tensor([1, 0]))
    # The draws count the items other than the target: of target 1 they are 0 and 3, of target 0 they are 1 and 2.
    first = -math.log(3 / 4) - math.log(1 - 1 / 2) - math.log(1 - 2 / 3)
    second = -math.log(1 / 2) - math.log(1 - 3 / 4) - math.log(1 - 1 / 4)
    assert value.item() == pytest.approx((first + second) / 2)
    [((ends, shape), _)] = asked
    assert (ends, shape) == (3, (2, 2))


@pytest.mark.parametrize("negatives", [1, 2, 5])
def test_of_two_items_the_other_is_drawn_every_time(negatives):
    hidden, table = torch.tensor([[1.0], [1.0]]), torch.tensor([[3.0], [1 / 3]]).log()
    value = binary(negatives)(hidden, table, torch.tensor([0, 1]))
    first = -math.log(3 / 4) - negatives * math.log(1 - 1 / 4)
    second = -math.log(1 / 4) - negatives * math.log(1 - 3 / 4)
    assert value.item() == pytest.approx((first + second) / 2)


def times_drawn(negatives, target, positions, seed=0):
    """How often each item was drawn, read off the gradient: at score 0 a draw adds 1/2, the target -1/2."""
    table = torch.zeros(V, 1, dtype=torch.double, requires_grad=True)
    targets = torch.full((positions,), target)
    binary(negatives, seed)(torch.ones(positions, 1, dtype=torch.double), table, targets).backward()
    counts = 2 * positions * table.grad[:, 0]
    counts[target] += positions
    return counts


@pytest.mark.parametrize("negatives", [1, 3])
@pytest.mark.parametrize("target", [0, 5, 10])
def test_every_item_but_the_target_is_drawn_equally_often(target, negatives):
    counts = times_drawn(negatives, target, positions=1000)
    others = torch.cat([counts[:target], counts[target + 1 :]])
    assert counts[target].item() == pytest.approx(0, abs=1e-6)
    assert others.sum().item() == pytest.approx(1000 * negatives)
    mean = 1000 * negatives / 10
    assert ((others - mean).abs() < 4 * (0.9 * mean) ** 0.5).all()  # four standard deviations


def test_binary_cross_entropy_has_the_gradients_of_its_formula(drawn):
    hidden, table, targets = problem(n=3)
    targets = torch.tensor([0, 4, 10])
    drawn("randint", [[0, 9], [3, 4], [9, 9]])
    others = [(1, 10), (3, 5), (9, 9)]
    found = binary(2)(hidden, table, targets)
    like = (hidden @ table.T).sigmoid()
    each = [
        -like[row, targets[row]].log() - sum((1 - like[row, item]).log() for item in items)
        for row, items in enumerate(others)
    ]
    expected = sum(each) / 3
    torch.testing.assert_close(found, expected)
    given, wanted = (torch.autograd.grad(value, [hidden, table]) for value in (found, expected))
    torch.testing.assert_close(given, wanted)


# --- both that draw ----------------------------------------------------------------------------------------------

DRAWING = {"sampled_softmax": sampled, "bce": binary}


@pytest.fixture(params=DRAWING)
def draws(request):
    """A maker of each criterion that draws, from a number of negatives and a seed."""
    return DRAWING[request.param]


def test_the_state_of_the_generator_decides_all_draws(draws):
    hidden, table, targets = problem()
    criterion = draws(4, seed=1)
    first = [criterion(hidden, table, targets) for _ in range(3)]
    assert len({value.item() for value in first}) == 3  # drawn anew each time
    torch.rand(5)  # whatever happens elsewhere
    before = torch.get_rng_state()
    again = draws(4, seed=1)
    assert [again(hidden, table, targets).item() for _ in range(3)] == [value.item() for value in first]
    assert torch.equal(torch.get_rng_state(), before)
    assert draws(4, seed=2)(hidden, table, targets).item() != first[0].item()


def test_draws_go_on_from_a_stored_state(draws):
    hidden, table, targets = problem()
    criterion = draws(4)
    criterion(hidden, table, targets)
    state = criterion.generator.get_state()
    expected = criterion(hidden, table, targets)
    other = draws(4, seed=9)
    other.generator.set_state(state)
    assert torch.equal(other(hidden, table, targets), expected)


def test_of_drawn_items_gradients_pass_a_numerical_check(draws):
    hidden, table, targets = problem()
    assert torch.autograd.gradcheck(lambda h, t: draws(4)(h, t, targets), (hidden, table))


def test_drawn_items_with_scores_far_from_zero_give_numbers(draws):
    hidden = torch.tensor([[1000.0], [-1000.0]], requires_grad=True)
    table = torch.tensor([[1.0], [0.0], [-1.0]], requires_grad=True)
    criterion = losses.SampledSoftmax if draws is sampled else losses.BinaryCrossEntropy
    counts = {"counts": torch.zeros(3)} if draws is sampled else {}
    loss = criterion(negatives=8, generator=drawing(), **counts)(hidden, table, torch.tensor([0, 0]))
    loss.backward()
    assert loss.item() > 100  # 0 for the right answer, at least 1000 for the wrong one
    assert loss.isfinite() and hidden.grad.isfinite().all() and table.grad.isfinite().all()


# --- regression --------------------------------------------------------------------------------------------------

PREDICTED = torch.tensor([[3.0, 4.0], [1.0, 0.0], [1.0, 1.0]])
TARGET = torch.tensor([[4.0, 3.0], [-2.0, 0.0], [0.0, 0.0]])


def test_cosine_by_hand():
    # (12 + 12) / 25 = 0.96 -> 0.04; opposite -> 2
    assert losses.regression(PREDICTED[:1], TARGET[:1], torch.tensor([True]), "cosine").item() == pytest.approx(0.04)
    both = losses.regression(PREDICTED, TARGET, torch.tensor([True, True, False]), "cosine")
    assert both.item() == pytest.approx((0.04 + 2) / 2)


def test_mse_by_hand():
    # (1 + 1) / 2 = 1; (9 + 0) / 2 = 4.5; (1 + 1) / 2 = 1
    each = [losses.regression(PREDICTED[[i]], TARGET[[i]], torch.tensor([True]), "mse").item() for i in range(3)]
    assert each == pytest.approx([1, 4.5, 1])
    assert losses.regression(PREDICTED, TARGET, torch.tensor([True, True, False]), "mse").item() == pytest.approx(2.75)


def test_cosine_looks_at_directions_alone():
    present = torch.tensor([True, True, False])
    near, far = (losses.regression(PREDICTED * size, TARGET, present, "cosine") for size in (1, 100))
    torch.testing.assert_close(near, far)


# --- categories --------------------------------------------------------------------------------------------------


def test_multi_label_by_hand():
    logits = torch.tensor([[0.0, math.log(3)], [-math.log(3), 0.0]])  # chances 1/2, 3/4; 1/4, 1/2
    target = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    first = (math.log(2) + math.log(4)) / 2
    second = (math.log(4) + math.log(2)) / 2
    one = losses.multi_label(logits, target, torch.tensor([True, False]))
    both = losses.multi_label(logits, target, torch.tensor([True, True]))
    assert one.item() == pytest.approx(first)
    assert both.item() == pytest.approx((first + second) / 2)


# --- what is missing contributes nothing -------------------------------------------------------------------------

AUXILIARY = {
    "cosine": lambda p, t, present: losses.regression(p, t, present, "cosine"),
    "mse": lambda p, t, present: losses.regression(p, t, present, "mse"),
    "multi_label": losses.multi_label,
}


@pytest.fixture(params=AUXILIARY)
def auxiliary(request):
    return AUXILIARY[request.param]


@given(present=st.lists(st.booleans(), min_size=6, max_size=6).filter(any), seed=st.integers(0, 100))
@pytest.mark.parametrize("loss", AUXILIARY.values(), ids=AUXILIARY.keys())
def test_missing_targets_are_as_if_they_were_not_there(loss, present, seed):
    generator = torch.Generator().manual_seed(seed)
    predicted = torch.randn(6, 3, generator=generator, dtype=torch.double).requires_grad_()
    target = torch.randint(2, (6, 3), generator=generator).double()
    target[:, 0] = 1  # a direction
    present = torch.tensor(present)
    value = loss(predicted, target.where(present[:, None], 0), present)
    [gradient] = torch.autograd.grad(value, predicted)
    alone = predicted.detach()[present].requires_grad_()
    expected = loss(alone, target[present], torch.ones(len(alone), dtype=torch.bool))
    [wanted] = torch.autograd.grad(expected, alone)
    torch.testing.assert_close(value, expected)
    torch.testing.assert_close(gradient[present], wanted)
    assert (gradient[~present] == 0).all()


def test_where_nothing_is_present_the_loss_is_0_and_moves_nothing(auxiliary):
    predicted = torch.randn(4, 3, requires_grad=True)
    value = auxiliary(predicted, torch.zeros(4, 3), torch.zeros(4, dtype=torch.bool))
    value.backward()
    assert value.item() == 0
    assert (predicted.grad == 0).all()


def test_a_prediction_of_zeros_has_finite_gradients(auxiliary):
    predicted = torch.zeros(2, 3, requires_grad=True)
    auxiliary(predicted, torch.eye(2, 3), torch.tensor([True, False])).backward()
    assert predicted.grad.isfinite().all()


# --- features of the next item among those of others -------------------------------------------------------------


def catalogue():
    generator = torch.Generator().manual_seed(0)
    features = torch.randn(6, D, generator=generator, dtype=torch.double)
    return features, torch.tensor([False, True, True, True, False, True])


def test_contrastive_by_hand():
    features, present = catalogue()
    predicted = torch.randn(4, D, dtype=torch.double, generator=torch.Generator().manual_seed(1))
    items = torch.tensor([3, 1, 3, 4])  # one twice, one without features
    logits = F.normalize(predicted[:3], dim=1) @ F.normalize(features[[1, 3]], dim=1).T / losses.TEMPERATURE
    expected = F.cross_entropy(logits, torch.tensor([1, 0, 1]))
    torch.testing.assert_close(losses.contrastive(predicted, items, features, present), expected)


def test_contrastive_loss_depends_on_direction_and_not_on_length():
    features, present = catalogue()
    items = torch.tensor([1, 2, 5])
    right = losses.contrastive(0.1 * features[items], items, features, present)
    wrong = losses.contrastive(0.1 * features[items.roll(1)], items, features, present)
    assert right < wrong
    torch.testing.assert_close(losses.contrastive(7 * features[items], items, features, present), right)


def test_contrastive_of_nothing_is_zero_and_can_be_differentiated():
    features, present = catalogue()
    predicted = torch.randn(2, D, dtype=torch.double, requires_grad=True)
    loss = losses.contrastive(predicted, torch.tensor([4, 4]), features, present)
    loss.backward()
    assert loss.item() == 0 and not predicted.grad.any()
