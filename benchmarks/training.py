"""What an epoch and an evaluation cost, as ratios measured in one run.

    python -m mmrec.runtime python benchmarks/training.py hm

Absolute times are noise on a shared machine; of each the best of several interleaved repetitions is taken.
"""

import sys
import time
from collections.abc import Callable
from dataclasses import replace

import torch

from mmrec import config, evaluation, experiments, runtime, training

REPETITIONS = 5


def epoch_of(experiment: config.Experiment, data: experiments.Data, max_length: int) -> Callable[[], object]:
    """A function that trains one epoch of a fresh model."""
    torch.manual_seed(0)
    model = experiments.build(experiment.model, data, max_length)
    optimiser = torch.optim.Adam(model.parameters())
    generator = torch.Generator().manual_seed(0)
    return lambda: training._epoch(model, optimiser, data.sequences, experiment.training, max_length, generator)


def seconds(work: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Best time of each, taken in turns so that a busy moment does not fall on one alone."""
    best = dict.fromkeys(work, float("inf"))
    for repetition in range(REPETITIONS + 1):
        for name, do in work.items():
            begun = time.perf_counter()
            do()
            if repetition:  # the first is for warming up
                best[name] = min(best[name], time.perf_counter() - begun)
    return best


def main(dataset: str) -> None:
    """Print each epoch's time beside SASRec's, and evaluation's beside the score products alone."""
    paths, settings = config.project()
    device = runtime.prepare(settings.runtime, settings.runtime.encoder_threads)
    data = experiments.load_data(paths.processed(dataset), settings.datasets[dataset].modalities, device)
    max_length = settings.protocol.max_length
    main_group = {experiment.name: experiment for experiment in settings.resolve(dataset, "main")}
    sasrec, maf = main_group["sasrec"], main_group["maf"]
    work = {"SASRec epoch": epoch_of(sasrec, data, max_length)}
    for fusion in ("sum", "concat", "gate"):
        fused = replace(maf, model=replace(maf.model, fusion=fusion))
        work[f"MAF {fusion} epoch"] = epoch_of(fused, data, max_length)
    model = experiments.build(sasrec.model, data, max_length).eval()
    states = torch.randn(len(data.sequences.train_end), sasrec.model.dim, device=device)
    table = model.item.weight.detach()
    work["bare score product + top-k"] = lambda: [
        (part @ table.T).topk(max(settings.protocol.ks)) for part in states.split(evaluation.BATCH)
    ]
    work["SASRec evaluation, three protocols"] = lambda: evaluation.evaluate(
        model.score, data.sequences, "test", max_length
    )
    best = seconds(work)
    print(f"{dataset}, dim {sasrec.model.dim}, {torch.get_num_threads()} threads, {device}")
    for name, value in best.items():
        base = "SASRec epoch" if "epoch" in name else "bare score product + top-k"
        print(f"{name:36} {value:8.3f} s   {value / best[base]:5.2f} x {base}")


if __name__ == "__main__":
    main(*sys.argv[1:])
