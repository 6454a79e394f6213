"""Prove that the golden traces notice faults: one fault at a time in a copy of mmrec, then a table of what moved.

    python tests/golden/mutants.py [WORD]   # all mutants, or those whose name holds WORD; two at a time, some minutes

A mutant is a text that stands once in mmrec and what replaces it. It names no file, so that code can be moved.
"""

import multiprocessing
import os
import shutil
import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

import pandas  # noqa: F401
import scipy.stats  # noqa: F401
import torch
from transformers import AutoTokenizer, BertModel  # noqa: F401

ROOT = Path(__file__).resolve().parents[2]

# Traces that are asked: one of each kind, half of the time of all.
ASKED = [
    *("popularity", "item_knn", "markov_chain", "gru4rec", "caser", "bert4rec", "sasrec", "sasrecf", "fdsa", "nova"),
    *("sasrec/latest", "sasrec/sampled_softmax", "sasrec/bce", "sasrec/clipped", "sasrec/weight_decay"),
    *("sasrec/stops early", "maf", "maf/gate", "maf/concat", "maf/joint", "maf/uncertainty", "maf/projected"),
    *("maf/contrastive", "maf/modality_dropout", "maf/permuted", "maf/rarest"),
    *("maf/values", "maf/item vector", "gru4rec/item vector", "unisrec", "unisrec/ids"),
    *("losses", "evaluation", "features", "pooling", "preprocessing", "statistics"),
]

# Name -> pairs of a text and its replacement.
MUTANTS = {
    "mask: fused attention sees the future": [("is_causal=mask is None", "is_causal=False")],
    "mask: explicit attention sees the future": [
        ("dtype=torch.bool, device=device).tril()", "dtype=torch.bool, device=device)")
    ],
    "mask: future left in score rows before fusion": [
        ("scores = scores.where(mask.unsqueeze(-3), 0)", "scores = scores + 0")
    ],
    "mask: padding attended": [("key_mask=items > 0)", "key_mask=items >= 0)")],
    "scale: 1 / sqrt(d) dropped": [("self.scale = 1 / math.sqrt(dim // heads)", "self.scale = 1.0")],
    "dropout: share inverted": [(".ge_(self.share)", ".ge_(1 - self.share)")],
    "dropout: not rescaled": [(".div_(1 - self.share)", "")],
    "dropout: none on fused weights": [("dropout_p=self.dropout.share if self.training else 0.0", "dropout_p=0.0")],
    "dropout: of modalities inverted": [("device=items.device) >= dropped", "device=items.device) < dropped")],
    "log-Q: sign flipped": [("-self.correction[drawn]", "self.correction[drawn]")],
    "log-Q: number of draws left out": [("np.log(negatives * self.q.numpy())", "np.log(self.q.numpy())")],
    "negative draw: uniform": [("np.sqrt(counts.cpu().numpy() + 1.0)", "(counts.cpu().numpy() + 1.0) ** 0")],
    "negative draw: target not left out": [
        ("left_out = drawn == targets[:, None]", "left_out = (drawn == targets[:, None]) & False")
    ],
    "negative draw: target among those of bce": [("drawn + (drawn >= targets[:, None])", "drawn")],
    "clipping: of gradients dropped": [("training.clip_norm)", "1e9)")],
    "clipping: oldest items shown, not latest": [
        ("take(sequences.items, end - lengths, lengths)", "take(sequences.items, begin, lengths)")
    ],
    "clipping: one training item fewer": [("sequences.train_end - max_length - 1", "sequences.train_end - max_length")],
    "shift: targets are the inputs": [
        ("take(sequences.items, begin[few] + 1, length[few])", "take(sequences.items, begin[few], length[few])")
    ],
    "padding: left as it lies": [("self(left_align(items))", "self(items)")],
    "padding: state of the last column": [("device=hidden.device), lengths - 1]", "device=hidden.device), -1]")],
    "padding: part of the loss": [
        (
            "criterion(self(items)[real], self.output_embedding(), targets[real] - 1)",
            "criterion(self(items).flatten(0, 1), self.output_embedding(), targets.clamp(min=1).flatten() - 1)",
        )
    ],
    "padding: positions from the latest ignore length": [
        (
            "before = self.num_embeddings - (items > 0).sum(1, keepdim=True)",
            "before = self.num_embeddings - (items >= 0).sum(1, keepdim=True)",
        )
    ],
    "pooling: mean over padding too": [
        ("mask[:, :, None].to(states.dtype)", "torch.ones_like(mask[:, :, None]).to(states.dtype)")
    ],
    "pooling: last token for cls": [("return states[:, 0]", "return states[:, -1]")],
    "tie: counted for the target": [
        (
            "torch.ge(scores, own, out=torch.empty_like(scores, dtype=torch.float32)).sum(1).long()",
            "torch.gt(scores, own).sum(1) + 1",
        ),
        ("scores[seen_row, seen - 1] >= own[seen_row, 0]", "scores[seen_row, seen - 1] > own[seen_row, 0]"),
        ("(scores.gather(1, negatives - 1) >= own)", "(scores.gather(1, negatives - 1) > own)"),
    ],
    "tie: sampled protocol alone": [
        ("(scores.gather(1, negatives - 1) >= own)", "(scores.gather(1, negatives - 1) > own)")
    ],
    "share of a group of lengths dropped": [('(parts["total"] * share).backward()', 'parts["total"].backward()')],
    "best weights not restored": [("model.load_state_dict(best)", "pass")],
    "weight of an auxiliary loss ignored": [("self.weights.get(name, 1.0) * value", "value")],
    "weight decay ignored": [("weight_decay=training.weight_decay", "weight_decay=0.0")],
    "vector of a missing modality not used": [(".where(present[items, None], self.missing)", "")],
    "missing targets part of the loss": [("return each.where(present, 0).sum()", "return each.sum()")],
    "uncertainty: s / 2 dropped": [("* tasks[name] + s / 2", "* tasks[name]")],
    "PCGrad: sign of the projection": [("gradient - against /", "gradient + against /")],
    "PCGrad: projected where tasks agree": [("and against < 0:", "and against > 0:")],
    "contrastive: temperature dropped": [("logits / TEMPERATURE", "logits")],
    "gate: weights of streams not normalised": [
        ("self.energy_out(energy.relu()).softmax(dim=2)", "self.energy_out(energy.relu())")
    ],
    "gate: of embeddings left out": [("self.gate(stacked).sigmoid() * stacked", "stacked")],
    "values come from the fused input": [("x if moved is None else moved\n", "moved\n")],
    "values: ids alone": [
        ("moved = torch.cat([x, *carried], -1)", "moved = torch.cat([x, *map(torch.zeros_like, carried)], -1)")
    ],
    "item vector: ids left out": [("return self.weight + mapped if self.with_ids else mapped", "return mapped")],
    "item vector: input without features": [
        ("F.embedding(items, self.table(INPUT), padding_idx=0)", "F.embedding(items, self.weight, padding_idx=0)")
    ],
    "item vector: scores without features": [("self.item.table(SCORES) if", "self.item.weight if")],
    "item vector: items without features have none": [
        ("torch.cat([features * (1 - lacking), lacking], 1)", "torch.cat([features, 0 * lacking], 1)")
    ],
    "item vector: table kept over training": [("self._kept = (None, {})\n        return", "return")],
    "item vector: maps get no gradient": [("tables[side].backward(leaf.grad)", "pass")],
    "unisrec: no noise": [("if self.training:\n            energy", "if False:\n            energy")],
    "unisrec: no whitening": [("project(x - shift)", "project(x)")],
    "unisrec: temperature dropped": [("items), dim=-1) / self.temperature", "items), dim=-1)")],
    "bert4rec: last item never hidden alone": [("LAST_ALONE = 1 / 11", "LAST_ALONE = 0.0")],
    "caser: window shifted by one": [("self.window - 1, 0))", "self.window, 0))[:, :-1]")],
    "gru4rec: dropout left out": [("self.gru(self.dropout(self.item(items)))", "self.gru(self.item(items))")],
    "fdsa: features not weighted": [("(self.energy(streams).softmax(2) * streams).sum(2)", "streams.mean(2)")],
    "sasrecf: ids not normalised": [("self.item_norm(self.item(items))", "self.item(items)")],
    "item_knn: shrinkage ignored": [("norm[column] + shrinkage", "norm[column]")],
    "item_knn: all items alike old": [("steps.clamp(min=0)", "steps * 0")],
    "markov_chain: no back-off": [("backoff * popularity /", "0 * popularity /")],
    "popularity: validation counted": [
        ("device=self.items.device) < self.train_end[owner]", "device=self.items.device) <= self.train_end[owner]")
    ],
    "features: reversed for permuted": [("rows[torch.randperm(len(rows), generator=generator)]", "rows.flip(0)")],
    "features: commonest category for rarest": [
        ("matrix.sum(0).argsort(stable=True)", "(-matrix.sum(0)).argsort(stable=True)")
    ],
    "features: standard deviation of a sample": [("present.std(0, correction=0)", "present.std(0)")],
    "preprocessing: core of users alone": [("enough_users[users] & enough_items[items]", "enough_users[users]")],
    "preprocessing: negatives the user knows": [("wrong |= known[place] == key", "pass")],
    "statistics: seeds not scaled": [("np.sqrt(seeds / max(1, seeds - 1))", "1.0")],
    "statistics: Holm without the running maximum": [
        ("np.minimum(1, np.maximum.accumulate(scaled))", "np.minimum(1, scaled)")
    ],
}


def place(old: str) -> Path:
    """The file of mmrec that a mutant's text stands in.

    Raises:
        ValueError: it does not stand exactly once.
    """
    places = [path for path in (ROOT / "mmrec").rglob("*.py") for _ in range(path.read_text().count(old))]
    if len(places) != 1:
        raise ValueError(f"a mutant's text stands {len(places)} times in mmrec, not once: {old!r}; write it anew")
    return places[0].relative_to(ROOT)


def mutated(folder: Path, changes: list[tuple[str, str]]) -> None:
    """Copy mmrec to `folder` with these changes."""
    shutil.copytree(ROOT / "mmrec", folder / "mmrec", ignore=shutil.ignore_patterns("__pycache__"))
    for old, new in changes:
        file = folder / place(old)
        file.write_text(file.read_text().replace(old, new))


def noticed(changes: list[tuple[str, str]]) -> dict[str, float]:
    """Trace -> how far its series moved at most, in tolerances, for those that notice the mutant.

    Imports the copy of mmrec, so that each mutant needs a process of its own.
    """
    with tempfile.TemporaryDirectory() as folder:
        mutated(Path(folder), changes)
        sys.path.insert(0, folder)
        with open(os.devnull, "w") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
            try:
                import write

                moved = {name: max(series.values()) for name, series in write.compare(ASKED).items()}
            except Exception:
                return {"every trace, for mmrec does not start": float("inf")}
    return dict(sorted(((n, m) for n, m in moved.items() if m > 1), key=lambda pair: -pair[1]))


def row(name: str, found: dict[str, float]) -> str:
    """A line of the table: the mutant, how many traces notice it, the three that move most and the least that moves."""
    most = ", ".join(f"{trace} ({times:,.0f})" for trace, times in list(found.items())[:3])
    least = min(found.values(), default=0)
    return f"| {name} | {len(found)} | {most or 'none'} | {least:,.0f} |"


if __name__ == "__main__":
    torch.set_num_threads(1)
    wanted = {name: changes for name, changes in MUTANTS.items() if (sys.argv[1:] or [""])[0] in name}
    print(f"| mutant | notice it, of {len(ASKED)} traces | by most tolerances | by fewest |\n|---|---|---|---|")
    for old, _ in (change for changes in wanted.values() for change in changes):
        place(old)
    missed = []
    # Forked from a process that has loaded the libraries, and nothing of mmrec: half of the time.
    with multiprocessing.get_context("fork").Pool(2, maxtasksperchild=1) as pool:
        for name, found in zip(wanted, pool.imap(noticed, wanted.values()), strict=True):
            print(row(name, found), flush=True)
            missed += [] if found else [name]
    if missed:
        raise SystemExit(f"no trace notices: {'; '.join(missed)}")
