"""Training one model: epochs, validation, early stopping, and a checkpoint that resumes to the same bits."""

import math
import time
from contextlib import nullcontext
from copy import deepcopy
from pathlib import Path

import torch
from torch import nn

from mmrec import losses
from mmrec.config import Training
from mmrec.data.batches import training_batches
from mmrec.data.sequences import Sequences
from mmrec.evaluation import evaluate, gains
from mmrec.files import atomic
from mmrec.multitask import TaskGradients
from mmrec.progress import report

SELECTION = ("full_unseen", "ndcg", 10)  # the validation metric of early stopping


class TrainingError(RuntimeError):
    """Training cannot continue; the message names the place."""


def criterion(training: Training, sequences: Sequences, generator: torch.Generator) -> losses.Criterion:
    """The loss of the next item; `generator` draws its negatives."""
    if training.loss == "sampled_softmax":
        return losses.SampledSoftmax(negatives=training.negatives, counts=sequences.item_counts(), generator=generator)
    if training.loss == "bce":
        return losses.BinaryCrossEntropy(negatives=training.negatives, generator=generator)
    return losses.softmax


def fit(
    model: nn.Module,
    sequences: Sequences,
    training: Training,
    *,
    max_length: int,
    seed: int,
    checkpoint: Path,
    label: str = "",
) -> list[dict[str, float]]:
    """Train until validation NDCG@10 has not risen for `patience` epochs; the model ends with its best weights.

    Every epoch ends with a checkpoint of the whole state. Training resumed from a checkpoint ends with the bits of
    uninterrupted training.

    Args:
        model: on the device of `sequences`, built after `torch.manual_seed(seed)`; dropout continues its stream.
        seed: of the order of batches and of negatives.
        checkpoint: a file. label: start of progress lines.

    Returns:
        The curve, a row an epoch: `epoch`, the mean of each part of the loss, `valid_ndcg_10`. With gradients `watched`
        or `projected` also the mean cosines of `TaskGradients`.

    Raises:
        TrainingError: the loss is NaN or infinite.
    """
    # fused: torch's other Adam takes MKL's square root, whose bits depend on the processor; fused is also faster.
    optimiser = torch.optim.Adam(
        model.parameters(), lr=training.learning_rate, weight_decay=training.weight_decay, fused=True
    )
    generator = torch.Generator().manual_seed(seed)
    generators = {"explicit": generator, "cpu": torch.default_generator}
    if sequences.items.is_cuda:
        generators["cuda"] = torch.cuda.default_generators[torch.cuda.current_device()]
    next_item = criterion(training, sequences, generator)
    curve: list[dict[str, float]] = []
    best = deepcopy(model.state_dict())
    if checkpoint.exists():
        state = torch.load(checkpoint, map_location=sequences.items.device, weights_only=True)
        model.load_state_dict(state["model"])
        optimiser.load_state_dict(state["optimiser"])
        for name, one in generators.items():
            one.set_state(state["generators"][name].cpu())
        best, curve = state["best"], state["curve"]
    begun, begun_at = time.monotonic(), len(curve)
    while not finished(curve, training):
        means = _epoch(model, next_item, optimiser, sequences, training, max_length, generator)
        row = {"epoch": len(curve) + 1.0} | means
        if not math.isfinite(row["total"]):
            raise TrainingError(f"{label}: the loss is {row['total']} in epoch {len(curve) + 1}; lower learning_rate")
        model.eval()
        protocol, metric, k = SELECTION
        ranks = evaluate(model.score, sequences, "valid", max_length)
        row["valid_ndcg_10"] = float(gains(ranks[protocol].to_numpy(), metric, k).mean())
        curve.append(row)
        if best_epoch(curve) == len(curve):
            best = deepcopy(model.state_dict())
        state = {
            "model": model.state_dict(),
            "optimiser": optimiser.state_dict(),
            "generators": {name: one.get_state() for name, one in generators.items()},
            "best": best,
            "curve": curve,
        }
        with atomic(checkpoint) as path:
            torch.save(state, path)
        pace = (time.monotonic() - begun) / (len(curve) - begun_at)
        left = pace * min(training.epochs - len(curve), training.patience - (len(curve) - best_epoch(curve)))
        report(
            f"{label}: epoch {len(curve)}, loss {row['total']:.4f}, validation ndcg@10 {row['valid_ndcg_10']:.4f}, "
            f"best in epoch {best_epoch(curve)}; {pace:.1f} s an epoch, stops in {left:.0f} s unless it improves"
        )
    model.load_state_dict(best)
    model.eval()
    return curve


def best_epoch(curve: list[dict[str, float]]) -> int:
    """The first epoch (from 1) with the highest validation NDCG@10."""
    values = [row["valid_ndcg_10"] for row in curve]
    return values.index(max(values)) + 1


def finished(curve: list[dict[str, float]], training: Training) -> bool:
    """Whether epochs or patience are used up."""
    return bool(curve) and (len(curve) >= training.epochs or len(curve) - best_epoch(curve) >= training.patience)


def _epoch(
    model: nn.Module,
    next_item: losses.Criterion,
    optimiser: torch.optim.Optimizer,
    sequences: Sequences,
    training: Training,
    max_length: int,
    generator: torch.Generator,
) -> dict[str, float]:
    """One pass over the training parts -> the mean over steps of each part of the loss.

    A step's gradient is that of the mean over all positions of its batch, group by group. Parts that average over fewer
    positions (auxiliary losses, masked items) are weighted by all positions of their group.
    """
    model.train()
    apart = None
    if training.gradients != "summed":
        apart = TaskGradients(model, project=training.gradients == "projected", generator=generator)
    sums: dict[str, torch.Tensor | float] = {}
    steps = 0
    for batch in training_batches(sequences, max_length, training.batch_size, generator):
        optimiser.zero_grad()
        with nullcontext() if apart else model.shared():
            for items, targets, share in batch:
                parts = model.loss(items, targets, next_item)
                if apart:
                    apart.add({name: task * share for name, task in model.tasks(parts).items()})
                else:
                    (parts["total"] * share).backward()
                for name, value in parts.items():  # summed on the device: reading a number would make every step wait
                    sums[name] = sums.get(name, 0) + value.detach() * share
        if apart:
            sums |= {name: sums.get(name, 0.0) + value for name, value in apart.settle().items()}
        nn.utils.clip_grad_norm_(model.parameters(), training.clip_norm)
        optimiser.step()
        steps += 1
    if not steps:
        raise TrainingError("no user has two training interactions: there is nothing to learn from")
    return {name: float(value) / steps for name, value in sums.items()}
