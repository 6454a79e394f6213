"""Controls of the instruments: generated shops whose effects are known, judged by the rules of the claims.

    nothing    items and shoppers of the shop's own; the demo's features in random order: nothing is to be found
    content    the demo's items; the next one looks like the last: features tell the item, so the item vector is to gain
    attention  the demo's items and reasons; pictures and texts in random order: categories tell which earlier item
               counts, and no feature tells the next one's looks, so attention is to gain

Shoppers are drawn as the demo's are, from another seed a shop.
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
SHOPPERS = 500  # of a content shop: with few choices of an item, ids alone cannot tell what it looks like
PERMUTED = {"nothing": ("image", "text", "category"), "content": (), "attention": ("image", "text")}


def judge(
    paths: Paths, settings: Config, device: torch.device, kind: str, shops: int, names: tuple[str, ...]
) -> pd.DataFrame:
    """Verdicts on "`names` improve on SASRec" in each shop of a kind, by the rule of claims.

    Returns:
        kind, shop, experiment, difference (NDCG@10, full_unseen, test), ci_low, ci_high, base (SASRec's NDCG@10),
        p_holm (over experiments), verdict.
    """
    work = partial(_shop, paths, settings, device, kind, names)
    found = engine.run_parallel(work, list(range(shops)), settings.runtime_of(DATASET), device)
    return pd.concat(found, ignore_index=True)


def _shop(
    paths: Paths, settings: Config, device: torch.device, kind: str, names: tuple[str, ...], shop: int
) -> pd.DataFrame:
    about, processed = settings.datasets[DATASET], paths.processed(DATASET)
    pool, ids = (
        engine.data_once(processed, about.modalities, device),
        preprocessing.read_ids(processed / "items.parquet"),
    )
    data = draw(pool, ids, settings, kind, shop)
    experiments = {one.name: one for one in settings.resolve(DATASET, "main", "readings", "channels")}
    gained = {}
    for name in (BASELINE, *names):
        folders = [
            run.run(experiments[name], seed, data, settings, paths.runs, f"{kind} {shop} {name} seed {seed}")
            for seed in settings.seeds_of(DATASET)
        ]
        ranks = (store.read(folder).ranks.query("split == 'test'").sort_values("user") for folder in folders)
        gained[name] = np.stack([gains(of["full_unseen"].to_numpy(), "ndcg", 10) for of in ranks])
    table = compare_all(gained, [(name, BASELINE) for name in names]).assign(kind=kind, shop=shop, experiment=names)
    table["p_holm"], table["base"] = holm(table["p_value"]), gained[BASELINE].mean()
    table["verdict"] = [verdict_of(row.ci_low, row.ci_high, row.base, row.p_holm) for row in table.itertuples()]
    return table[["kind", "shop", "experiment", "difference", "ci_low", "ci_high", "base", "p_holm", "verdict"]]


def draw(pool: inputs.Data, ids: list[str], settings: Config, kind: str, shop: int) -> inputs.Data:
    """A shop's sequences, and features from the pool, that of its items or in random order.

    Args:
        pool: the demo's data. ids: of its items 1..V.
    """
    about = settings.datasets[DATASET]
    source = replace(about.source, seed=about.source.seed + 1 + shop)
    catalogue = draw_catalogue(source if kind == "nothing" else about.source)
    if kind == "content":  # one department: a choice goes with the last item
        strengths = {"image": 0.95, "text": 0.0, "category": 0.0, "popularity": 0.0, "noise": 0.05}
        source = replace(source, shoppers=min(SHOPPERS, source.shoppers), **strengths)
        catalogue = replace(catalogue, type=np.zeros_like(catalogue.type))
    shopper, item, time = interactions(source, catalogue)
    named = {"user_id": [f"{u:05d}" for u in shopper], "item_id": [f"item-{i:04d}" for i in item], "timestamp": time}
    built = preprocessing.build(pd.DataFrame(named), about, settings.protocol)
    n_items = built.sequences.n_items
    random = np.random.default_rng(source.seed).permutation(pool.sequences.n_items) + 1
    own = pd.Index(ids).get_indexer(built.item_ids) + 1  # 0, no features: not an item of the demo
    features = {}
    for name, (matrix, present) in pool.features.items():
        row = np.resize(random, n_items) if name in PERMUTED[kind] else own
        rows = torch.from_numpy(np.concatenate([[0], row]))
        features[name] = matrix[rows], present[rows]
    # The pool's digests cover the demo's settings, which a null and an attention shop share.
    name, own_settings = ("null" if kind == "nothing" else kind), f" {source}" * (kind == "content")
    digests = {part: f"{name} shop {shop}{own_settings} of {digest}" for part, digest in pool.digests.items()}
    return inputs.Data(built.sequences.to(pool.sequences.items.device), features, digests)


def rate(found: pd.DataFrame) -> tuple[float, float, float]:
    """Share of verdicts "supported", and its exact 95 % interval (Clopper and Pearson)."""
    supported = int((found["verdict"] == "supported").sum())
    interval = stats.binomtest(supported, len(found)).proportion_ci(1 - LEVEL)
    return supported / len(found), interval.low, interval.high


def overview(found: pd.DataFrame) -> pd.DataFrame:
    """For each kind and experiment: shops, verdicts "supported", mean gain over SASRec as a share of its NDCG@10."""
    table = found.assign(supported=found["verdict"] == "supported", gain=found["difference"] / found["base"])
    return table.groupby(["kind", "experiment"], sort=False).agg(
        shops=("shop", "size"), supported=("supported", "sum"), mean_gain=("gain", "mean")
    )
