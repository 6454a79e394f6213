"""What an epoch and an evaluation cost, as ratios measured in one run.

    python benchmarks/training.py hm

It starts itself again with the arithmetic that params.yaml gives the data set. Absolute times are noise on a shared
machine; of each the best of several interleaved repetitions is taken.
"""

import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from mmrec import config, evaluation, losses, runtime, training
from mmrec.data import batches
from mmrec.experiments import build, inputs

REPETITIONS = 3


def epoch_of(experiment: config.Experiment, data: inputs.Data, max_length: int) -> Callable[[], object]:
    """A function that trains one epoch of a fresh model with the whole catalogue in its loss."""
    torch.manual_seed(0)
    model = build.build(experiment.model, data, max_length)
    optimiser = torch.optim.Adam(model.parameters(), fused=True)
    generator = torch.Generator().manual_seed(0)
    return lambda: training._epoch(
        model, losses.softmax, optimiser, data.sequences, experiment.training, max_length, generator
    )


def products_of(experiment: config.Experiment, data: inputs.Data, max_length: int) -> Callable[[], object]:
    """A function that does the matrix products of SASRec's epoch alone, forward and backward, at real positions."""
    dim, device = experiment.model.dim, data.sequences.items.device
    table = torch.randn(data.sequences.n_items, dim, device=device)
    widths = [(dim, dim)] * 4 + [(dim, 4 * dim), (4 * dim, dim)]  # query, key, value, out, feed-forward
    weights = [torch.randn(shape, device=device) for shape in widths * experiment.model.layers]
    generator = torch.Generator().manual_seed(0)
    size = experiment.training.batch_size
    groups = [
        int((targets > 0).sum())
        for batch in batches.training_batches(data.sequences, max_length, size, generator)
        for _, targets, _ in batch
    ]
    states = {width: torch.randn(max(groups), width, device=device) for width in (dim, 4 * dim)}
    rows = losses.rows_at_once(table)

    def products() -> None:
        for count in groups:
            for weight in weights:
                x, gradient = states[weight.shape[0]][:count], states[weight.shape[1]][:count]
                x @ weight, gradient @ weight.T, x.T @ gradient
            for part in states[dim][:count].split(rows):
                logits = part @ table.T
                logits @ table, logits.T @ part

    return products


def seconds(work: dict[str, Callable[[], object]], clock: Callable[[], float] = time.perf_counter) -> dict[str, float]:
    """Best time of each, taken in turns so that a busy moment does not fall on one alone."""
    best = dict.fromkeys(work, float("inf"))
    for repetition in range(REPETITIONS + 1):
        for name, do in work.items():
            begun = clock()
            do()
            if repetition:  # the first is for warming up
                best[name] = min(best[name], clock() - begun)
    return best


def bare_ranking(states: Tensor, table: Tensor, k: int, rows: int = evaluation.BATCH) -> None:
    """Scores of all items and the best k, nothing else."""
    for part in states.split(rows):
        (part @ table.T).topk(k)


def main(dataset: str) -> None:
    """Print each epoch's time beside SASRec's and its bare products, and evaluation's beside bare scores and top-k."""
    paths, settings = config.project()
    arithmetic, before = settings.runtime_of(dataset), dict(os.environ)
    runtime.enter(arithmetic)
    if os.environ != before:  # libraries read it when they are loaded
        os.execv(sys.executable, [sys.executable, *sys.argv])
    device = runtime.prepare(arithmetic, arithmetic.encoder_threads)
    data = inputs.load_data(paths.processed(dataset), settings.datasets[dataset].modalities, device)
    max_length = settings.protocol_of(dataset).max_length
    main_group = {experiment.name: experiment for experiment in settings.resolve(dataset, "main", tuned=False)}
    sasrec, maf = main_group["sasrec"], main_group["maf"]
    model = build.build(sasrec.model, data, max_length).eval()
    states, table = torch.randn(len(data.sequences.train_end), sasrec.model.dim), model.item.weight.detach()[1:]
    bases = {"epoch": "SASRec's products alone", "evaluation": "bare scores + top-k"}
    work = {
        bases["epoch"]: products_of(sasrec, data, max_length),
        "SASRec epoch": epoch_of(sasrec, data, max_length),
    }
    for fusion in ("sum", "concat", "gate"):
        fused = replace(maf, model=replace(maf.model, score_fusion=fusion))
        work[f"MAF {fusion} epoch"] = epoch_of(fused, data, max_length)
    work[bases["evaluation"]] = lambda: bare_ranking(states.to(device), table, max(settings.protocol.ks))
    work["SASRec evaluation, three protocols"] = lambda: evaluation.evaluate(
        model.score, data.sequences, "test", max_length
    )
    best = seconds(work)
    print(
        f"{dataset}, dim {sasrec.model.dim}, {torch.get_num_threads()} threads, {device}, "
        f"instruction set {arithmetic.instruction_set}"
    )
    for name, value in best.items():
        base = bases["epoch" if "epoch" in name or name == bases["epoch"] else "evaluation"]
        against = f"   {value / best['SASRec epoch']:5.2f} x SASRec epoch" if name.startswith("MAF") else ""
        print(f"{name:36} {value:8.3f} s   {value / best[base]:5.2f} x {base}{against}")
    print(f"peak memory of all this: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.2f} GB")


if __name__ == "__main__":
    main(*sys.argv[1:])
