"""What recommendations to all users of a data set cost, as ratios measured in one run.

    python benchmarks/recommend.py beauty_2014 [EXPERIMENT ...]

The base is the model's own scores and their top-k, nothing else. A neural model's time is also compared with the bare
product of random states with all items and its top-k, which leaves out the pass through the model. Weights are fresh:
they change no time. Times are those of the processor, which other programs disturb least; of each the best of several
interleaved repetitions is taken.
"""

import os
import resource
import sys
import time
from dataclasses import replace

import torch
import torch.nn.functional as F
from training import bare_ranking, seconds

from mmrec import config, recommend, runtime
from mmrec.data.batches import questions
from mmrec.experiments import build, inputs
from mmrec.models.next_item import NextItemModel

K = 10


def measure(one: recommend.Recommender) -> dict[str, float]:
    """Seconds of recommendations to all users, of scores and top-k, and of bare products and top-k."""
    sequences = one.data.sequences
    whole = replace(sequences, items=F.pad(sequences.items, (0, 1)), test=sequences.offsets[1:])
    asked = list(questions(whole, "test", one.max_length, one.rows))

    def scores() -> None:
        for question in asked:
            one.model.score(question.items, question.lengths).topk(K)

    work = {"recommend": lambda: one.recommend(k=K), "scores": scores}
    if isinstance(one.model, NextItemModel):
        table = one.model.output_embedding().detach()
        states = torch.randn(len(one.user_ids), table.shape[1], device=table.device)
        work["products"] = lambda: bare_ranking(states, table, K, one.rows)
    return seconds(work, time.process_time)


def main(dataset: str, *names: str) -> None:
    """Print each experiment's time, its ratios, and the peak of memory so far."""
    paths, settings = config.project()
    arithmetic, before = settings.runtime_of(dataset), dict(os.environ)
    runtime.enter(arithmetic)
    if os.environ != before:  # libraries read it when they are loaded
        os.execv(sys.executable, [sys.executable, *sys.argv])
    os.environ["MMREC_PROGRESS"] = os.devnull
    print(f"{dataset}, top {K}, {arithmetic.threads} threads, instruction set {arithmetic.instruction_set}")
    for name in names or ("popularity", "sasrec", "maf"):
        one = recommend.Recommender(paths, settings, dataset, name)
        torch.manual_seed(0)
        model = build.build(one.experiment.model, inputs.shown_to(one.experiment, one.data, one.seed), one.max_length)
        one.model = model.eval() if isinstance(model, NextItemModel) else model
        best = measure(one)
        against = f"{best['recommend'] / best['scores']:.2f} x its scores + top-k"
        if "products" in best:
            against += f", {best['recommend'] / best['products']:.2f} x bare product + top-k"
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        print(f"{name:12} {best['recommend']:6.2f} s, {len(one.user_ids)} users: {against}; {peak:.2f} GB", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
