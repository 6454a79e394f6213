"""From a table of interactions to sequences: filtered, ordered, numbered, split.

Letters: U users, V items, N interactions.
"""

import json
from dataclasses import dataclass
from datetime import UTC, datetime, time
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from mmrec import config
from mmrec.data.cleaning.tables import Tables
from mmrec.data.sequences import Sequences
from mmrec.files import atomic

LATEST_POSITION = 1_000_000  # as a date: 12 January 1970
WARNING = "WARNING: THESE ARE NOT THE DATA THAT NUMBERS ARE PUBLISHED OF"
EXPLANATION = """\
Why this may be: the provider has changed the release since; a download or a placed file is not whole; those who
published filtered otherwise (by pictures, by duplicates, once instead of until nothing changes) and did not say so.
What follows: numbers published of these data are of other users and items. Compare models with each other here, and
with published numbers only in order of magnitude."""


class SequenceError(ValueError):
    """The interactions cannot be turned into sequences; the message says why."""


@dataclass(frozen=True)
class Built:
    """Sequences, the ids behind their numbers, and counts of interactions, users and items."""

    sequences: Sequences
    user_ids: list[str]  # of users 0..U-1
    item_ids: list[str]  # of items 1..V
    report: dict[str, int]

    def write(self, folder: Path) -> None:
        """data/processed/<dataset>: sequences.safetensors, users.parquet, items.parquet, sequences.json."""
        self.sequences.save(folder / "sequences.safetensors")
        for name, ids in (("users", self.user_ids), ("items", self.item_ids)):
            with atomic(folder / f"{name}.parquet") as path:
                pd.DataFrame({"id": ids}).to_parquet(path, index=False)
        with atomic(folder / "sequences.json") as path:
            path.write_text(json.dumps(self.report, indent=1) + "\n")


def read_ids(path: Path) -> list[str]:
    """The ids in users.parquet (user 0 first) or items.parquet (item 1 first)."""
    return pd.read_parquet(path)["id"].tolist()


def k_core(users: np.ndarray, items: np.ndarray, user_core: int, item_core: int) -> np.ndarray:
    """Interactions that stay, (N,) bool, when users and items with too few leave until none has too few.

    `users` and `items` are (N,) numbers from 0.
    """
    keep = np.ones(len(users), bool)
    while True:
        enough_users = np.bincount(users[keep], minlength=users.max(initial=-1) + 1) >= user_core
        enough_items = np.bincount(items[keep], minlength=items.max(initial=-1) + 1) >= item_core
        still = keep & enough_users[users] & enough_items[items]
        if still.sum() == keep.sum():
            return keep
        keep = still


def build(interactions: pd.DataFrame, dataset: config.Dataset, protocol: config.Protocol) -> Built:
    """Filter, order, number and split a table: user_id, item_id (str), timestamp (int64 seconds).

    Users and items are numbered in the order of their ids, which does not depend on the source's order. Within a user
    the order is timestamp, then position in the source; ties are counted.

    Raises SequenceError: nothing is left, or a user has all items.
    """
    users, items = (pd.factorize(interactions[name])[0] for name in ("user_id", "item_id"))
    keep = k_core(users, items, dataset.user_core, dataset.item_core)
    if not keep.any():
        wanted = f"users with {dataset.user_core} and items with {dataset.item_core} interactions"
        mend = "lower user_core or item_core in params.yaml"
        raise SequenceError(f"no interaction is left of {len(keep):,}: no {wanted}; {mend}")
    kept = interactions[keep]
    users, user_ids = pd.factorize(kept["user_id"], sort=True)
    items, item_ids = pd.factorize(kept["item_id"], sort=True)
    times = kept["timestamp"].to_numpy()
    order = np.lexsort((times, users))  # stable: rows of one time keep their order
    users, items, times = users[order], items[order] + 1, times[order]
    offsets = np.concatenate([[0], np.bincount(users).cumsum()])

    train_end, valid, test = _split(dataset, offsets, times)
    negatives = draw_negatives(users, items, len(item_ids), protocol.negatives, protocol.negatives_seed)
    tensors = map(torch.from_numpy, (items, offsets, train_end, valid, test, negatives))
    sequences = Sequences(*tensors, n_items=len(item_ids))
    same_user = users[1:] == users[:-1]
    report = {
        "users": len(user_ids),
        "items": len(item_ids),
        "interactions": len(users),
        "left_by_core": int((~keep).sum()),
        "tied_with_previous": int((same_user & (times[1:] == times[:-1])).sum()),
        "training_interactions": int((train_end - offsets[:-1]).sum()),
        "valid_users": int((valid >= 0).sum()),
        "test_users": int((test >= 0).sum()),
        "negatives": negatives.shape[1],
    }
    if not (report["valid_users"] and report["test_users"]):
        found = f"{report['valid_users']} users to validate, {report['test_users']} to test"
        raise SequenceError(f"the split leaves {found}")
    return Built(sequences, user_ids.tolist(), item_ids.tolist(), report)


def closing_line(tables: Tables, built: Built) -> str:
    """Counts of rows read, kept and left out by reason, and of users, items, usable pictures and texts kept."""
    rows, report = tables.quality["interactions"], built.report
    left_out = rows["dropped"] | ({"k-core": report["left_by_core"]} if report["left_by_core"] else {})
    reasons = [f"{count:,} {reason} ({count / rows['read']:.1%})" for reason, count in left_out.items()]
    items = tables.items[tables.items["item_id"].isin(built.item_ids)]
    texts = ((items["text"] != "") | (items["title"] != "")).sum()
    counts = {"users": report["users"], "items": report["items"], "usable pictures": items["image"].notna().sum()}
    counts |= {"texts": texts, "negatives a user": report["negatives"]}
    if report["left_by_core"] > rows["read"] / 2:
        reasons[-1] += ": more than half, so lower user_core and item_core in params.yaml"
    parts = [
        f"{rows['read']:,} interactions read, {report['interactions']:,} kept",
        f"left out: {', '.join(reasons) or 'none'}",
        ", ".join(f"{count:,} {name}" for name, count in counts.items()),
    ]
    no_dates = tables.interactions["timestamp"].max() < LATEST_POSITION
    positions = "timestamps are positions in each user's history, no dates" if no_dates else None
    return "; ".join([*parts, *filter(None, [tables.quality.get("times") or positions])])


def verdict(report: dict[str, int], expected: config.Statistics | None) -> str:
    """The counts after filtering (`Built.report`) beside those published. A difference gives a framed warning.

    Raises SequenceError: a count differs, and `expected` does not say that a warning is enough.
    """
    if expected is None:
        return "no statistics of these data are published"
    names = ("users", "items", "interactions")
    published = {name: count for name in names if (count := getattr(expected, name)) is not None}
    lines = [
        f"{name}: {report[name]:,} here, {count:,} published ({report[name] / count - 1:+.1%})"
        for name, count in published.items()
    ]
    different = {name: report[name] for name, count in published.items() if report[name] != count}
    if different and expected.on_mismatch == "raise":
        raise SequenceError(
            f"{different} after filtering, but {published} are published: the raw files are not whole or of another "
            "release; if that is meant, change `expected` of the data set in params.yaml"
        )
    return "\n".join(["!" * 100, WARNING, *lines, EXPLANATION, "!" * 100] if different else lines)


def _split(dataset: config.Dataset, offsets: np.ndarray, times: np.ndarray) -> tuple[np.ndarray, ...]:
    """Index of each user's end of training, validation target and test target (-1: none)."""
    begin, end = offsets[:-1], offsets[1:]
    if isinstance(dataset.split, config.LeaveOneOut):
        # With fewer than three interactions nothing is left to learn from: such a user only trains.
        long = end - begin >= 3
        return np.where(long, end - 2, end), np.where(long, end - 2, -1), np.where(long, end - 1, -1)
    cuts = (dataset.split.valid, dataset.split.test)
    first_valid, first_test = (datetime.combine(day, time(), UTC).timestamp() for day in cuts)
    user = np.repeat(np.arange(len(begin)), end - begin)
    train_end = begin + np.bincount(user, times < first_valid, len(begin)).astype(np.int64)
    test = begin + np.bincount(user, times < first_test, len(begin)).astype(np.int64)
    # The first choice after each cut, for users who had a past by then.
    valid = np.where((train_end > begin) & (train_end < test), train_end, -1)
    return train_end, valid, np.where((test > begin) & (test < end), test, -1)


def draw_negatives(users: np.ndarray, items: np.ndarray, n_items: int, count: int, seed: int) -> np.ndarray:
    """For each user n different items that the user never touched, drawn uniformly: (U, n) int64.

    n is `count`, or the number of items that the user with most items never touched, if that is smaller.

    Args:
        users: (N,) 0..U-1, all present. items: (N,) 1..V; a user may have an item twice.

    Raises SequenceError: a user has touched all items.
    """
    known = np.unique(users * (n_items + 1) + items)
    touched = np.bincount(known // (n_items + 1))
    count = min(count, n_items - touched.max())
    if not count:
        mend = "leave the user out, or list more items"
        raise SequenceError(f"a user has all {n_items} items: no other is left to rank; {mend}")
    generator = np.random.default_rng(seed)
    drawn = generator.integers(1, n_items + 1, (len(touched), count))
    rows = np.arange(len(drawn))
    while len(rows):
        # Redraw what the user knows and what stands earlier in the same row, until nothing is wrong.
        part = drawn[rows]
        rank = np.argsort(part, axis=1, kind="stable")
        ordered = np.take_along_axis(part, rank, axis=1)
        wrong = np.zeros(part.shape, bool)
        np.put_along_axis(wrong, rank[:, 1:], ordered[:, 1:] == ordered[:, :-1], axis=1)
        key = rows[:, None] * (n_items + 1) + part
        place = np.searchsorted(known, key).clip(max=len(known) - 1)
        wrong |= known[place] == key
        part[wrong] = generator.integers(1, n_items + 1, wrong.sum())
        drawn[rows] = part
        rows = rows[wrong.any(1)]
    return drawn
