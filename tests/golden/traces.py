"""Golden traces: the numbers of two epochs of every model and every choice of a model, on a small generated data set.

A trace is a dict from the name of a series to its numbers. `traces.json` holds the committed ones, `write.py` writes
them, `test_traces.py` compares. `VARIANTS` and `PARTS` list them; `trained` alone knows how the project trains.
"""

import functools
import json
import tempfile
from collections.abc import Callable
from datetime import date
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import torch
from left_one_out import left_one_out
from torch import Tensor
from torch.optim.optimizer import register_optimizer_step_pre_hook

from mmrec import config, losses, statistics
from mmrec.data import preprocessing
from mmrec.data.sequences import Sequences
from mmrec.evaluation import PROTOCOLS, evaluate, target_ranks
from mmrec.experiments.build import build
from mmrec.experiments.inputs import Data
from mmrec.features import store, text
from mmrec.features.controls import controlled_features, controlled_histories, rarest
from mmrec.training import fit

FILE = Path(__file__).with_name("traces.json")

# --- tolerances --------------------------------------------------------------------------------------------------

# Relative to the largest number of the series. Last bits (6e-8) differ between processors and grow over the steps.
# Measured with other instruction sets and thread counts: 4e-6 at most. Mutants move a trace by 1e-2 and more.
RELATIVE = 5e-4
# Places, averaged over users. Last bits may swap two items whose scores are all but equal: 0.013 for one user.
RANKS = 0.05
# Absolute. A swap moves the validation NDCG@10 of 70 users by 0.005 at most.
NDCG = 0.01


def moved(name: str, old: list[float], new: list[float]) -> float:
    """How far a series is from the committed one, in tolerances; above 1 is too far."""
    if len(old) != len(new):
        return float("inf")
    before, after = np.array(old, float), np.array(new, float)
    apart = np.abs(after - before)
    if name.startswith("rank"):
        return float(apart.mean() / RANKS)
    if name.startswith("valid_ndcg"):
        return float(apart.max() / NDCG)
    return float(apart.max() / (RELATIVE * max(np.abs(before).max(), 1e-3)))


def compared(old: dict[str, list[float]], new: dict[str, list[float]]) -> dict[str, float]:
    """Series -> tolerances, of two traces; a series that only one of them has is infinitely far."""
    return {name: moved(name, old.get(name, []), new.get(name, [])) for name in {**old, **new}}


def load() -> dict[str, dict[str, list[float]]]:
    """The committed traces."""
    traces = json.loads(FILE.read_text())
    return {name: {key: [*map(float, line.split())] for key, line in trace.items()} for name, trace in traces.items()}


def write(traces: dict[str, dict[str, list[float]]]) -> None:
    """Commit these: a line a series, seven digits a number."""
    lines = {name: {k: " ".join(f"{x:.7g}" for x in row) for k, row in t.items()} for name, t in traces.items()}
    FILE.write_text(json.dumps(lines, indent=0) + "\n")


# --- what is trained ---------------------------------------------------------------------------------------------

SEED = 3
MAX_LENGTH = 10  # shorter than some histories, longer than 8: a batch has two groups of lengths

_attention = {"dim": 8, "layers": 1, "heads": 2, "dropout": 0.2, "positions_from": "oldest"}
_modalities = {"modalities": ["image", "text", "category"]}
_vectors = {**_modalities, "item_vector": "id", "maps": "shared"}
MODELS = {
    "popularity": {},
    "item_knn": {"neighbours": 5, "shrinkage": 1.0, "decay": 0.7},
    "markov_chain": {"backoff": 0.1},
    "gru4rec": {"dim": 8, "hidden": 6, "layers": 1, "dropout": 0.2, **_vectors},
    "caser": {"dim": 8, "window": 4, "vertical": 2, "horizontal": 3, "dropout": 0.2},
    "bert4rec": {**_attention, "mask_share": 0.3},
    "sasrec": _attention,
    "sasrecf": {**_attention, **_modalities},
    "fdsa": {**_attention, **_modalities},
    "unisrec": {
        **_attention,
        **_vectors,
        "item_vector": "features",
        "experts": 3,
        "adaptor_dropout": 0.2,
        "temperature": 0.2,
    },
    "nova": {**_attention, **_modalities, "fusion": "gate"},
    "maf": {
        **_attention,
        **_modalities,
        "attention": True,
        "values": "id",
        "item_vector": "id",
        "maps": "shared",
        "stream_dim": 4,
        "fusion_stage": "scores",
        "score_fusion": "sum",
        "position": "stream",
        "image_weight": 0.5,
        "text_weight": 0.7,
        "category_weight": 0.3,
        "regression": "cosine",
        "weighting": "fixed",
        "modality_dropout": 0.0,
    },
}
TRAINING = {
    "loss": "softmax",
    "negatives": 6,
    "epochs": 2,
    "patience": 2,
    "batch_size": 32,
    "learning_rate": 0.01,
    "weight_decay": 0.0,
    "clip_norm": 100.0,
    "gradients": "summed",
}
DATA = {"features": "own", "draws": "once", "categories": "all", "histories": "ordered"}

_no_losses = {"image_weight": 0.0, "text_weight": 0.0, "category_weight": 0.0}

# Family, a slash, and a name -> what differs from the defaults above.
VARIANTS = {
    **{family: {} for family in MODELS},
    "bert4rec/latest": {"positions_from": "latest"},
    "sasrec/two layers": {"layers": 2},
    "sasrec/latest": {"positions_from": "latest"},
    "sasrec/no dropout": {"dropout": 0.0},
    "sasrec/sampled_softmax": {"loss": "sampled_softmax"},
    "sasrec/bce": {"loss": "bce"},
    "sasrec/clipped": {"clip_norm": 0.05},
    "sasrec/weight_decay": {"weight_decay": 0.3},
    "sasrec/shuffled": {"histories": "shuffled"},
    "sasrec/stops early": {"learning_rate": 0.1, "epochs": 6, "patience": 1},
    "sasrecf/latest": {"positions_from": "latest"},
    "fdsa/latest": {"positions_from": "latest"},
    "nova/latest": {"positions_from": "latest"},
    "nova/sum": {"fusion": "sum"},
    "nova/concat": {"fusion": "concat"},
    "maf/two layers gate": {"layers": 2, "score_fusion": "gate"},
    "maf/no dropout": {"dropout": 0.0},
    "maf/concat": {"score_fusion": "concat"},
    "maf/gate": {"score_fusion": "gate"},
    "maf/cross": {"fusion_stage": "cross"},
    "maf/cross gate": {"fusion_stage": "cross", "score_fusion": "gate"},
    "maf/joint": {"fusion_stage": "joint"},
    "maf/early_concat": {"fusion_stage": "early_concat"},
    "maf/early_sum": {"fusion_stage": "early_sum", "stream_dim": 8},
    "maf/late": {"fusion_stage": "late", "stream_dim": 8, "position": "added"},
    "maf/values": {"values": "concatenated"},
    "maf/values alone": {"values": "concatenated", "attention": False, **_no_losses},
    "maf/values added gate": {"values": "concatenated", "position": "added", "score_fusion": "gate"},
    "maf/item vector": {"item_vector": "id_and_features", "attention": False, "position": "added", **_no_losses},
    "maf/item vector apart": {"item_vector": "id_and_features", "maps": "apart"},
    "maf/features": {"item_vector": "features", "attention": False},
    "maf/item vector projected": {"item_vector": "id_and_features", "gradients": "projected"},
    "maf/item vector sampled_softmax": {"item_vector": "id_and_features", "loss": "sampled_softmax"},
    "gru4rec/item vector": {"item_vector": "id_and_features"},
    "gru4rec/item vector apart": {"item_vector": "id_and_features", "maps": "apart"},
    "gru4rec/features": {"item_vector": "features"},
    "unisrec/ids": {"item_vector": "id_and_features"},
    "unisrec/id": {"item_vector": "id"},
    "unisrec/apart": {"maps": "apart"},
    "unisrec/latest": {"positions_from": "latest"},
    "maf/added": {"position": "added"},
    "maf/latest": {"positions_from": "latest"},
    "maf/added latest": {"position": "added", "positions_from": "latest"},
    "maf/image": {"modalities": ["image"], "text_weight": 0.0, "category_weight": 0.0},
    "maf/losses alone": {"modalities": []},
    "maf/attention alone": {"image_weight": 0.0, "text_weight": 0.0, "category_weight": 0.0},
    "maf/mse": {"regression": "mse"},
    "maf/contrastive": {"regression": "contrastive"},
    "maf/uncertainty": {"weighting": "uncertainty"},
    "maf/watched": {"gradients": "watched"},
    "maf/projected": {"gradients": "projected"},
    "maf/projected uncertainty": {"gradients": "projected", "weighting": "uncertainty"},
    "maf/modality_dropout": {"modality_dropout": 0.3},
    "maf/permuted": {"features": "permuted"},
    "maf/permuted each seed": {"features": "permuted", "draws": "each_seed"},
    "maf/random": {"features": "random"},
    "maf/rarest": {"categories": "rarest"},
    "maf/none": {"features": "none", "modalities": [], "image_weight": 0.0, "text_weight": 0.0, "category_weight": 0.0},
    "maf/shuffled": {"histories": "shuffled"},
    "maf/sampled_softmax": {"loss": "sampled_softmax"},
}


def family(name: str) -> str:
    """Of a variant: the key of its model in `config.MODELS`."""
    return name.partition("/")[0]


def chosen(name: str) -> tuple[dict, dict, dict]:
    """Every setting of a variant: of its model, its training, its data."""
    defaults = MODELS[family(name)], TRAINING, DATA
    unknown = set(VARIANTS[name]) - {key for part in defaults for key in part}
    assert not unknown, f"{name}: no such setting: {unknown}"
    return tuple({key: VARIANTS[name].get(key, value) for key, value in part.items()} for part in defaults)


@functools.cache
def walks() -> list[list[int]]:
    """80 users' items of 40, mostly along a circle; 1 to 24 items a user, none twice.

    RandomState: the one generator of NumPy whose numbers stay the same in every release.
    """
    random = np.random.RandomState(19)
    users = []
    for number in range(80):
        walk = [int(random.randint(40))]
        for _ in range(number % 3 if number < 6 else min(23, 2 + random.geometric(0.12))):
            ahead = [(walk[-1] + step) % 40 for step in range(1, 40) if (walk[-1] + step) % 40 not in walk]
            walk.append(ahead[0] if random.rand() < 0.6 else int(random.choice(ahead)))
        users.append([item + 1 for item in walk])
    return users


def features() -> dict[str, tuple[Tensor, Tensor]]:
    """Modality -> standardised (41, F), presence (41,); a quarter of the items lack a modality, item 1 all of them."""
    random = np.random.RandomState(20)
    found = {}
    for modality, width in (("image", 5), ("text", 4), ("category", 6)):
        present = torch.from_numpy(random.rand(41) > 0.25)
        present[:2] = False
        matrix = torch.from_numpy(random.standard_normal((41, width))).float()
        if modality == "category":
            matrix = (matrix > 0).float().index_fill_(1, torch.tensor([0]), 1)
        found[modality] = (matrix.where(present[:, None], 0), present)
    return found


def sequences() -> Sequences:
    """The walks, left one out; users of one or two items are not asked, a user of one item does not train either."""
    users = walks()
    random = np.random.RandomState(21)
    strange = [random.permutation([i for i in range(1, 41) if i not in user])[:10].tolist() for user in users]
    return left_one_out(users, strange, 40)


def trained(name: str) -> dict[str, list[float]]:
    """The trace of a variant: parts of the loss an epoch, gradient norms a step, ranks and scores afterwards.

    Gradient norms are those that the optimiser sees, after clipping; `clip_norm` is out of reach but in one variant.
    """
    options, budget, control = chosen(name)
    training, controls = config.Training(**budget), config.DataControls(**control)
    of_items = controlled_features(features(), controls, SEED)
    data = Data(sequences=controlled_histories(sequences(), controls, "valid", SEED), features=of_items, digests={})
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in options.items()}
    torch.manual_seed(SEED)
    model = build(config.MODELS[family(name)](**options), data, MAX_LENGTH)
    trace, norms = {}, []
    if isinstance(model, torch.nn.Module):
        _sharpen(model)
        handle = register_optimizer_step_pre_hook(lambda optimiser, *_: norms.append(_norm(optimiser)))
        with tempfile.TemporaryDirectory() as folder:
            curve = fit(
                model, data.sequences, training, max_length=MAX_LENGTH, seed=SEED, checkpoint=Path(folder, "checkpoint")
            )
        handle.remove()
        trace = {part: [row[part] for row in curve] for part in curve[0]} | {"gradient_norm": norms}
    for split in ("valid", "test"):
        asked = controlled_histories(sequences(), controls, split, SEED)
        ranks = evaluate(model.score, asked, split, MAX_LENGTH)
        trace |= {f"rank_{split}_{protocol}": ranks[protocol].tolist() for protocol in PROTOCOLS}
    lengths = [2, 5, MAX_LENGTH]
    long = [walk for walk in walks() if len(walk) >= MAX_LENGTH]
    padded = [[0] * (MAX_LENGTH - n) + walk[:n] for n, walk in zip(lengths, long, strict=False)]  # on the left
    scores = model.score(torch.tensor(padded), torch.tensor(lengths))
    return trace | {"scores": scores[:, ::5].flatten().tolist()}


@torch.no_grad()
def _sharpen(model: torch.nn.Module) -> None:
    """Enlarge fresh weights: those of standard deviation 0.02 leave attention all but even, and its faults unseen."""
    for weight in model.parameters():
        if weight.ndim > 1 and len(weight) and weight.std() < 0.05:
            weight *= 15


def _norm(optimiser: torch.optim.Optimizer) -> float:
    slopes = [p.grad for group in optimiser.param_groups for p in group["params"] if p.grad is not None]
    return torch.cat([slope.flatten() for slope in slopes]).norm().item()


# --- parts that no variant reaches, or not in every case ---------------------------------------------------------


def _random(seed: int, *shape: int) -> Tensor:
    return torch.from_numpy(np.random.RandomState(seed).standard_normal(shape)).float()


def _print(*tensors: Tensor) -> list[float]:
    """Of each tensor its norm, and its product with a fixed wave, which notices order and sign."""
    flat = [tensor.detach().double().flatten() for tensor in tensors]
    return [
        number for x in flat for number in (x.norm().item(), (x * torch.arange(1.0, len(x) + 1).cos()).sum().item())
    ]


def _loss(name: str, criterion: Callable[[Tensor], Tensor], at: Tensor) -> dict[str, list[float]]:
    at = at.clone().requires_grad_()
    value = criterion(at)
    value.backward()
    return {name: [value.item()], f"{name}_gradient": _print(at.grad)}


def of_losses() -> dict[str, list[float]]:
    """Value and gradient of every loss."""
    hidden, table = _random(1, 20, 6), _random(2, 30, 6)
    targets = torch.from_numpy(np.random.RandomState(3).randint(0, 30, 20))
    counts = torch.arange(30) ** 2
    present = torch.arange(31) % 3 != 0

    def drawn(kind: type, **more) -> losses.Criterion:
        return kind(negatives=40, generator=torch.Generator().manual_seed(SEED), **more)

    criteria = {
        "softmax": losses.softmax,
        "sampled_softmax": drawn(losses.SampledSoftmax, counts=counts),
        "bce": drawn(losses.BinaryCrossEntropy),
    }
    trace = {}
    for name, criterion in criteria.items():
        both = torch.cat([hidden, table])
        trace |= _loss(name, lambda x, criterion=criterion: criterion(x[:20], x[20:], targets), both)
    other, having = _random(4, 20, 6), present[targets + 1]
    for kind in ("cosine", "mse"):
        trace |= _loss(kind, lambda x, kind=kind: losses.regression(x, other, having, kind), hidden)
    rows = torch.cat([table[:1] * 0, table])
    trace |= _loss("contrastive", lambda x: losses.contrastive(x, targets + 1, rows, present), hidden)
    return trace | _loss("multi_label", lambda x: losses.multi_label(x, (other > 0).float(), having), hidden)


def of_evaluation() -> dict[str, list[float]]:
    """Ranks among scores of which many are equal."""
    scores = torch.from_numpy(np.random.RandomState(5).randint(0, 4, (6, 20))).float()
    targets = torch.tensor([1, 5, 9, 13, 17, 20])
    negatives = torch.stack([targets % 20 + 1, (targets + 6) % 20 + 1, (targets + 11) % 20 + 1], 1)
    seen, seen_row = torch.tensor([2, 3, 4, 6, 8, 11]), torch.tensor([0, 0, 1, 3, 4, 5])
    ranks = target_ranks(scores, targets, negatives, seen, seen_row)
    return {f"rank_{protocol}": rank.tolist() for protocol, rank in ranks.items()}


def of_features() -> dict[str, list[float]]:
    """Standardised features, and the rarest category."""
    of_items = features()
    meta = {"encoder": {}, "counts": {}}
    scaled = store.standardise(store.Features(*of_items["image"], meta))
    return {"standardised": _print(scaled), "rarest": _print(rarest(of_items["category"][0]))}


def of_pooling() -> dict[str, list[float]]:
    """A text's vector from the states of its tokens, some of them padding."""
    output = SimpleNamespace(last_hidden_state=_random(6, 4, 7, 5), pooler_output=_random(7, 4, 5))
    mask = (torch.arange(7) < torch.tensor([[7], [3], [1], [5]])).long()
    return {pooling: _print(text.pool(output, mask, pooling)) for pooling in ("mean", "cls", "pooler")}


def of_statistics() -> dict[str, list[float]]:
    """A comparison of gains, adjusted p-values, a mean over seeds."""
    random = np.random.RandomState(8)
    ours, theirs = random.rand(3, 50) ** 2, random.rand(2, 50) ** 3
    drawn = statistics.resampled_means(np.concatenate([ours, theirs]), resamples=500)
    found = statistics.compare(ours, theirs, drawn[:, :3], drawn[:, 3:])
    return {
        **{name: [float(value)] for name, value in vars(found).items()},
        "holm": statistics.holm(np.array([0.01, 0.04, 0.02, 0.5, 0.3])).tolist(),
        "mean_interval": list(statistics.mean_interval(ours[:, 0])),
    }


def of_preprocessing() -> dict[str, list[float]]:
    """A table of interactions, ties in time included, filtered, split both ways, with negatives drawn."""
    rows = [
        (f"u{u:02}", f"i{item:02}", 43200 * (place // 2 + u))
        for u, user in enumerate(walks())
        for place, item in enumerate(user)
    ]
    table = pd.DataFrame(rows, columns=["user_id", "item_id", "timestamp"])
    table = table.sample(frac=1, random_state=np.random.RandomState(9))
    splits = {
        "leave_one_out": config.LeaveOneOut(kind="leave_one_out"),
        "global_time": config.GlobalTime(kind="global_time", valid=date(1970, 1, 20), test=date(1970, 1, 30)),
    }
    trace = {}
    for name, split in splits.items():
        dataset = SimpleNamespace(user_core=4, item_core=15, split=split)
        built = preprocessing.build(table, dataset, SimpleNamespace(negatives=8, negatives_seed=0))
        trace[f"{name}_report"] = [float(count) for count in built.report.values()]
        trace[name] = [_sum(x) for x in vars(built.sequences).values() if isinstance(x, Tensor)]
    return trace


def _sum(numbers: Tensor) -> float:
    """A checksum: a number that any change moves by more than the tolerance."""
    flat = numbers.flatten()
    return float((flat * torch.arange(1, len(flat) + 1)).sum() % 997)


# A part -> its trace, and what is to be done where it is meant to move.
PARTS = {
    "losses": (of_losses, "raise `shared` in mmrec/experiments/versions.py"),
    "evaluation": (of_evaluation, "raise `shared` in mmrec/experiments/versions.py"),
    "features": (of_features, "raise `shared` in mmrec/experiments/versions.py"),
    "pooling": (of_pooling, "run the stage `features` of every data set anew"),
    "preprocessing": (of_preprocessing, "run the stage `prepare` of every data set anew"),
    "statistics": (of_statistics, "run the stage `results` of every data set anew"),
}
NAMES = [*VARIANTS, *PARTS]


def trace(name: str) -> dict[str, list[float]]:
    """Compute the trace of a variant or a part."""
    return PARTS[name][0]() if name in PARTS else trained(name)


def remedy(name: str) -> str:
    """What is to be done where this trace is meant to move."""
    if name in PARTS:
        return PARTS[name][1]
    return f"raise `{family(name)}` (or `shared`, when several families moved) in mmrec/experiments/versions.py"
