"""How often the rules find an effect where there is none: generated shops whose features are of other items.

Each shop has its own items and shoppers, drawn as the demo's are from another seed, and the demo's encoded features in
random order: pictures, words and categories that have nothing to do with what is bought.
"""

from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import torch
from scipy import stats

from mmrec.analysis.evidence import LEVEL, verdict_of
from mmrec.config import Config, Paths
from mmrec.data import preprocessing
from mmrec.data.sources.demo.catalogue import draw_catalogue, interactions
from mmrec.evaluation import gains
from mmrec.experiments import engine, inputs, run, store
from mmrec.statistics import compare_all, holm

DATASET = "demo"
BASELINE = "sasrec"


def judge(paths: Paths, settings: Config, device: torch.device, shops: int, names: tuple[str, ...]) -> pd.DataFrame:
    """Verdicts on "`names` improve on SASRec" in each shop, by the rule of claims.

    Returns:
        shop, experiment, difference (NDCG@10, full_unseen, test), ci_low, ci_high, p_holm (over experiments), verdict.
    """
    work = partial(_shop, paths, settings, device, names)
    found = engine.run_parallel(work, list(range(shops)), settings.runtime_of(DATASET), device)
    return pd.concat(found, ignore_index=True)


def _shop(paths: Paths, settings: Config, device: torch.device, names: tuple[str, ...], shop: int) -> pd.DataFrame:
    about = settings.datasets[DATASET]
    pool = engine.data_once(paths.processed(DATASET), about.modalities, device)
    data = null(pool, settings, shop)
    experiments = {one.name: one for one in settings.resolve(DATASET, "main", "readings")}
    gained = {}
    for name in (BASELINE, *names):
        folders = [
            run.run(experiments[name], seed, data, settings, paths.runs, f"null shop {shop} {name} seed {seed}")
            for seed in settings.seeds_of(DATASET)
        ]
        ranks = (store.read(folder).ranks.query("split == 'test'").sort_values("user") for folder in folders)
        gained[name] = np.stack([gains(of["full_unseen"].to_numpy(), "ndcg", 10) for of in ranks])
    table = compare_all(gained, [(name, BASELINE) for name in names]).assign(shop=shop, experiment=names)
    table["p_holm"], base = holm(table["p_value"]), gained[BASELINE].mean()
    table["verdict"] = [verdict_of(row.ci_low, row.ci_high, base, row.p_holm) for row in table.itertuples()]
    return table[["shop", "experiment", "difference", "ci_low", "ci_high", "p_holm", "verdict"]]


def null(pool: inputs.Data, settings: Config, shop: int) -> inputs.Data:
    """A shop's sequences, and the pool's features in random order."""
    about = settings.datasets[DATASET]
    source = replace(about.source, seed=about.source.seed + 1 + shop)
    shopper, item, time = interactions(source, draw_catalogue(source))
    named = {"user_id": [f"{u:05d}" for u in shopper], "item_id": [f"{i:04d}" for i in item], "timestamp": time}
    sequences = preprocessing.build(pd.DataFrame(named), about, settings.protocol).sequences
    order = np.random.default_rng(source.seed).permutation(pool.sequences.n_items) + 1
    rows = torch.from_numpy(np.concatenate([[0], np.resize(order, sequences.n_items)]))
    features = {name: (matrix[rows], present[rows]) for name, (matrix, present) in pool.features.items()}
    digests = {name: f"null shop {shop} of {digest}" for name, digest in pool.digests.items()}
    return inputs.Data(sequences.to(pool.sequences.items.device), features, digests)


def rate(found: pd.DataFrame) -> tuple[float, float, float]:
    """Share of verdicts "supported", and its exact 95 % interval (Clopper and Pearson)."""
    false = int((found["verdict"] == "supported").sum())
    interval = stats.binomtest(false, len(found)).proportion_ci(1 - LEVEL)
    return false / len(found), interval.low, interval.high
