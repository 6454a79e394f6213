"""The data of the site's explorer: reports/<dataset>/explorer.json, of test users drawn once.

A user has a number (its place in the sequences), no id. Only generated data sets show pictures.
Letters: K items of a list, L layers, S streams, T time.
"""

import base64
import io
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from mmrec.analysis.robustness import missing
from mmrec.config import UNTRAINED, Config, Paths
from mmrec.data import sources
from mmrec.data.batches import questions
from mmrec.data.sequences import Sequences
from mmrec.evaluation import BATCH, PROTOCOLS, target_ranks
from mmrec.experiments import grid
from mmrec.files import atomic
from mmrec.models.maf import MAF
from mmrec.recommend import Recommender, best
from mmrec.report import figures

USERS, K = 200, 10
LATEST = 30  # items of a history that are shown
SIDE, COLOURS = 64, 32  # of a picture
LIMIT = 2_000_000  # bytes of the file
DRAW = 20240527  # seed of the draw of users


def save(paths: Paths, settings: Config, dataset: str) -> str:
    """Write explorer.json, a line an item and a line a user, and return what it holds.

    Raises:
        ValueError: the file would have `LIMIT` bytes or more.
    """
    found, path = collect(paths, settings, dataset), paths.reports(dataset) / "explorer.json"
    text = "{\n" + ",\n".join(f'"{name}":{_json(part)}' for name, part in found.items()) + "\n}\n"
    if (size := len(text.encode())) >= LIMIT:
        raise ValueError(f"{path} would have {size:,} bytes, {LIMIT:,} or more: show fewer users")
    with atomic(path) as beside:
        beside.write_text(text, encoding="utf-8")
    return f"{len(found['users'])} users, {len(found['items'])} items, models {', '.join(found['models'])}"


def _json(part: Any) -> str:
    dump = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode
    rows = isinstance(part, list) and part and not isinstance(part[0], str)
    return "[\n" + ",\n".join(map(dump, part)) + "\n]" if rows else dump(part)


def collect(paths: Paths, settings: Config, dataset: str) -> dict[str, Any]:
    """Everything that the explorer shows of a data set. Weights that the store lacks are trained first.

    Returns:
        dataset, seed (of every model), catalogue (number of items), protocols, models, modalities, streams;
        items: title, picture (a data URI or null), referred to by place; users: user (number), history (the latest
        `LATEST`, oldest first), length (of the whole history), target (the held-out item), answers (`answered`, by
        model), without (`without_features`, by model), and MAF's attention: weights, scores (`attended`).
    """
    groups = [group for group in settings.datasets[dataset].groups if group in ("main", "readings")]
    names = [one.name for one in settings.resolve(dataset, *groups)]
    models = {name: Recommender(paths, settings, dataset, name, bought_only=True) for name in names}
    maf = models["maf"]
    users, sequences = drawn(maf.data.sequences)
    answers = {name: answered(one.model, sequences, one.max_length) for name, one in models.items()}
    without = {name: without_features(one, sequences) for name, one in models.items()}
    attention, rows = attended(maf.model, sequences, maf.max_length), []
    for user in users:
        begin, end = int(sequences.offsets[user]), int(sequences.test[user])
        row = {"user": user, "history": sequences.items[max(begin, end - LATEST) : end].tolist(), "length": end - begin}
        row |= {"target": int(sequences.items[end]), "answers": {name: of[user] for name, of in answers.items()}}
        rows.append(row | {"without": {name: of[user] for name, of in without.items() if of}} | attention[user])
    negatives = json.loads((paths.processed(dataset) / "sequences.json").read_text())["negatives"]
    return {
        "dataset": dataset,
        "seed": maf.seed,
        "catalogue": sequences.n_items,
        "protocols": [*PROTOCOLS[:-1], f"sampled_{negatives}"],
        "models": names,
        "modalities": list(maf.data.features),
        "streams": list(maf.model.streams),
        "items": _shown(rows, maf, paths, settings),
        "users": rows,
    }


def drawn(sequences: Sequences) -> tuple[list[int], Sequences]:
    """`USERS` test users in order, and the sequences with no other test user."""
    every = (sequences.test >= 0).nonzero().squeeze(1)
    order = torch.randperm(len(every), generator=torch.Generator().manual_seed(DRAW))[:USERS]
    users = every[order.to(every.device)].sort().values
    test = torch.full_like(sequences.test, -1).index_put_((users,), sequences.test[users])
    return users.tolist(), replace(sequences, test=test)


@torch.inference_mode()
def answered(model: Any, sequences: Sequences, max_length: int) -> dict[int, dict[str, list[int]]]:
    """Test user -> ranks of the target (one a protocol), and top: K unseen items, best first.

    The target stands at its full_unseen rank: items of equal score come before it.
    """
    found = {}
    for asked in questions(sequences, "test", max_length, BATCH):
        scores, negatives = model.score(asked.items, asked.lengths), sequences.negatives[asked.users]
        ranks = target_ranks(scores, asked.targets, negatives, asked.seen, asked.seen_row)
        others = scores.index_put((asked.seen_row, asked.seen - 1), scores.new_tensor(-torch.inf))
        top = best(others.scatter(1, asked.targets[:, None] - 1, -torch.inf), K)[1] + 1
        parts = (asked.users, torch.stack([*ranks.values()], 1), top, asked.targets)
        for user, rank, items, target in zip(*map(Tensor.tolist, parts), strict=True):
            items.insert(rank[0] - 1, target)
            found[user] = {"ranks": rank, "top": items[:K]}
    return found


def without_features(one: Recommender, sequences: Sequences) -> dict[int, list[int]]:
    """Test user -> the target's full_unseen rank without each modality, then without all.

    Empty of a model that reads no features: its ranks stay.
    """
    if isinstance(one.experiment.model, UNTRAINED):
        return {}
    ranks, features, dataset = [], one.data.features, one.experiment.dataset
    whole = answered(one.model, sequences, one.max_length)
    for gone in [*([name] for name in features), list(features)]:
        left = {name: missing(of, 1.0) if name in gone else of for name, of in features.items()}
        data = replace(one.data, features=left)
        (model,) = grid.trained_models(one.paths, one.settings, dataset, one.experiment.name, data, [one.seed])
        ranks.append({user: of["ranks"][0] for user, of in answered(model, sequences, one.max_length).items()})
    if all(rank == whole[user]["ranks"][0] for by in ranks for user, rank in by.items()):
        return {}
    return {user: [by[user] for by in ranks] for user in whole}


def attended(model: MAF, sequences: Sequences, max_length: int) -> dict[int, dict[str, list]]:
    """Test user -> attention from the last item, mean of heads, to the latest `LATEST` items.

    weights (L, T) are those after fusion. scores (L, S, T) are each stream's before it, less their mean over the
    history: softmax does not see the mean.
    """
    found = {}
    for asked in questions(sequences, "test", max_length, batch_size=1):
        weights, scores = (part[:, 0, ..., -1, :].mean(1).cpu().numpy() for part in model.attention(asked.items))
        scores = scores - scores.mean(-1, keepdims=True)
        parts = {"weights": weights, "scores": scores}
        # + 0: no -0.0
        found[asked.users.item()] = {
            name: (np.round(part[..., -LATEST:].astype(float), 3) + 0).tolist() for name, part in parts.items()
        }
    return found


def _shown(rows: list[dict], one: Recommender, paths: Paths, settings: Config) -> list[list[str | None]]:
    """Title and picture of each item in `rows`, whose items are numbered anew by place in this list."""
    lists = [of for row in rows for of in (row["history"], *(answer["top"] for answer in row["answers"].values()))]
    kept = sorted({row["target"] for row in rows}.union(*lists))
    place = {item: number for number, item in enumerate(kept)}
    for row in rows:
        row["target"] = place[row["target"]]
    for items in lists:
        items[:] = [place[item] for item in items]
    dataset = one.experiment.dataset
    source = settings.datasets[dataset].source
    shown = sources.read_items(paths.interim(dataset), one.item_ids[np.array(kept) - 1])
    if source.kind != "demo":
        return [[title, None] for title in shown["title"]]
    folder = sources.images(source, paths.raw(dataset))
    return [[title, _picture(folder / name)] for title, name in zip(shown["title"], shown["image"], strict=True)]


def _picture(path: Path) -> str | None:
    """A data URI of the picture; None of a missing or broken one."""
    small, kept = figures.thumbnail(path), io.BytesIO()
    if isinstance(small, str):
        return None
    small = small.resize((SIDE, SIDE), Image.Resampling.BOX).quantize(COLOURS, dither=Image.Dither.NONE)
    small.save(kept, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(kept.getvalue()).decode()
