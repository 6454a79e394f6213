"""Encoders run over a catalogue: resumable, each distinct input once, joined back by row.

The units of work are the distinct inputs (a picture's bytes, a text), ordered by content and cut into shards of a few
batches. The cache keeps each finished shard under the hash of its inputs. An interrupted run therefore resumes and ends
with the same bits.
"""

import contextlib
import hashlib
import io
import json
import os
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import PIL
import safetensors
import safetensors.torch
import torch
import transformers
from PIL import Image
from torch import Tensor

from mmrec.config import Config, Modality
from mmrec.features import FeatureError, image, text
from mmrec.features.store import Features, by_item
from mmrec.files import atomic, sha256
from mmrec.progress import Progress

BATCHES_PER_SHARD = 8  # a killed run repeats at most one shard
BATCHES_AHEAD = 2  # decoded while the network computes
DECODERS = min(16, os.cpu_count() or 1)  # threads; PIL decodes without the interpreter's lock

# Faults of a picture's bytes; a shard stores positions in this list.
REASONS = ("", "truncated", "not decodable", "too large")

Misses = dict[str, list[int]]


def build_features(
    config: Config,
    dataset: str,
    items: pd.DataFrame,
    images: Path,
    *,
    root: Path,
    cache: Path,
    device: torch.device | str,
) -> dict[Modality, Features]:
    """Features of every modality that params.yaml switches on for a data set.

    Args:
        items: columns title, text, categories, image; row i is the item with index i + 1. The text of an item is its
            `text`, or its `title` if that is empty.
        images: the folder that paths in column `image` start from.
        root: where relative paths in params.yaml start from.
        cache: survives interrupted runs; may be deleted at any time.

    Raises:
        FeatureError: an encoder cannot be had, or no item at all has the modality.
    """
    spec = config.datasets[dataset]
    features: dict[Modality, Features] = {}
    paths = [images / path if isinstance(path, str) and path else None for path in items["image"]]
    texts = [body.strip() or title.strip() for body, title in zip(items["text"], items["title"], strict=True)]
    for modality, build, run, inputs in (
        ("image", image.build, extract_images, paths),
        ("text", text.build, extract_texts, texts),
    ):
        if (name := getattr(spec, modality)) is not None:
            encoder = build(config.encoders[name], root, device)
            matrix, mask, misses = run(encoder, inputs, cache)
            meta = _meta(encoder.identity, mask[1:], misses)
            if (stored := config.encoders[name].stored) != "float32":
                meta["stored"] = stored  # for `store.save`
            features[modality] = Features(matrix, mask, meta)
    if spec.category:
        rows, vocabulary = multi_hot(list(items["categories"]))
        present = rows.any(1)
        meta = _meta({"name": "multi_hot"}, present, {}) | {"vocabulary": vocabulary}
        features["category"] = by_item(rows, present, meta)
    for modality, one in features.items():
        if not one.mask.any():
            off = "false" if modality == "category" else "null"
            raise FeatureError(f"no item of {dataset} has {modality}: set datasets.{dataset}.{modality}: {off}")
    return features


def _meta(identity: dict[str, str], present: Tensor, misses: Misses) -> dict[str, Any]:
    missed = {reason: len(rows) for reason, rows in misses.items()}
    counts = {"items": len(present), "present": int(present.sum()), "misses": missed}
    return {"encoder": identity, "counts": counts}


def extract_images(
    encoder: image.ImageEncoder, paths: Sequence[Path | None], cache: Path
) -> tuple[Tensor, Tensor, Misses]:
    """Encode pictures; each distinct file is decoded and encoded once.

    Returns:
        Matrix (n + 1, d) float32, where path i has row i + 1, with zeros in row 0 (padding) and where there is no
        picture; the presence mask, (n + 1,) bool; and the rows of unusable pictures by reason. A path of None is absent
        and has no reason.
    """
    rows: dict[str, list[int]] = {}
    source: dict[str, Path] = {}
    lost = []
    for row, path in enumerate(paths, start=1):
        if path is None:
            continue
        try:
            unit = sha256(path)
        except OSError:
            lost.append(row)
            continue
        rows.setdefault(unit, []).append(row)
        source[unit] = path
    with warnings.catch_warnings():  # PIL warns about odd files; unusable ones are counted below
        warnings.filterwarnings("ignore", module="PIL")
        shards = _encode(
            encoder, sorted(rows), lambda unit: decode(source[unit], encoder.prepare), torch.stack, cache, "images"
        )
        matrix, mask, misses = _join(shards, rows, len(paths), encoder.dim)
    if lost:
        misses["no such file"] = lost
    return matrix, mask, misses


def extract_texts(encoder: text.TextEncoder, texts: Sequence[str], cache: Path) -> tuple[Tensor, Tensor, Misses]:
    """Encode texts, each distinct one once. An empty text is absent. Returns what `extract_images` does."""
    rows: dict[str, list[int]] = {}
    for row, one in enumerate(texts, start=1):
        if one.strip():
            rows.setdefault(one, []).append(row)
    units = sorted(rows, key=lambda one: (len(one), one))  # neighbours of equal length: little padding
    return _join(_encode(encoder, units, lambda unit: (unit, 0), list, cache, "texts"), rows, len(texts), encoder.dim)


def decode(path: Path, prepare: Callable[[Image.Image], Tensor]) -> tuple[Tensor | None, int]:
    """A picture ready for its network, or None and the reason's position in REASONS.

    Raises:
        OSError: the file cannot be read; nothing is known about its bytes then.
    """
    data = path.read_bytes()
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return prepare(picture), 0
    except MemoryError:  # no fault of the picture
        raise
    except Image.DecompressionBombError:
        return None, REASONS.index("too large")
    except Exception as error:  # PIL raises nearly anything on a broken file
        return None, REASONS.index("truncated" if "truncated" in str(error).lower() else "not decodable")


def multi_hot(categories: Sequence[Iterable[str]]) -> tuple[Tensor, list[str]]:
    """One row an item, one column a category, 1 where the item is in it.

    Returns:
        Matrix (n, c) float32 and the c categories in alphabetical order, one a column. An item without categories
        has a row of zeros.
    """
    vocabulary = sorted({category for row in categories for category in row})
    column = {category: index for index, category in enumerate(vocabulary)}
    matrix = torch.zeros(len(categories), len(vocabulary))
    for row, chosen in enumerate(categories):
        for category in chosen:
            matrix[row, column[category]] = 1
    return matrix, vocabulary


# --- shards ------------------------------------------------------------------------------------------------------

Shard = tuple[list[str], Tensor, Tensor]  # units (m,), vectors (m, d) float32, positions in REASONS (m,) uint8


def _join(shards: Iterable[Shard], rows: dict[str, list[int]], count: int, dim: int) -> tuple[Tensor, Tensor, Misses]:
    # The padding row is there from the start: adding it later would hold the matrix twice.
    matrix, mask = torch.zeros(1 + count, dim), torch.zeros(1 + count, dtype=torch.bool)
    misses: Misses = {}
    for units, vectors, problems in shards:
        for unit, vector, problem in zip(units, vectors, problems.tolist(), strict=True):
            if problem:
                misses.setdefault(REASONS[problem], []).extend(rows[unit])
            else:
                matrix[rows[unit]] = vector
                mask[rows[unit]] = True
    return matrix, mask, {reason: sorted(missed) for reason, missed in sorted(misses.items())}


def _encode(
    encoder: image.ImageEncoder | text.TextEncoder,
    units: list[str],
    load: Callable[[str], tuple[Any, int]],
    collate: Callable[[list[Any]], Any],
    cache: Path,
    label: str,
) -> Iterator[Shard]:
    """Yield every shard: first cached ones, then computed ones."""
    folder = cache / _digest(encoder.identity | _arithmetic(encoder.device))
    missing, done = [], 0
    for shard in _cut(units, BATCHES_PER_SHARD * encoder.batch_size):
        if cached := _read(folder / f"{_digest(shard)}.safetensors", len(shard), encoder.dim):
            done += len(shard)
            yield shard, *cached
        else:
            missing.append(shard)

    progress = Progress(label, len(units), done)
    batches = [batch for shard in missing for batch in _cut(shard, encoder.batch_size)]
    with contextlib.closing(_ahead(load, batches)) as loaded:
        for shard in missing:
            vectors, problems = torch.zeros(len(shard), encoder.dim), torch.zeros(len(shard), dtype=torch.uint8)
            for start in range(0, len(shard), encoder.batch_size):
                batch = next(loaded)
                good = [start + i for i, (_, problem) in enumerate(batch) if not problem]
                if good:
                    vectors[good] = encoder(collate([value for value, problem in batch if not problem]))
                problems[start : start + len(batch)] = torch.tensor([problem for _, problem in batch])
                progress.advance(len(batch))
            with atomic(folder / f"{_digest(shard)}.safetensors") as path:
                tensors, meta = {"vectors": vectors, "problems": problems}, {"sha256": _checksum(vectors, problems)}
                safetensors.torch.save_file(tensors, path, metadata=meta)
            yield shard, vectors, problems


def _cut(units: list[str], size: int) -> list[list[str]]:
    return [units[start : start + size] for start in range(0, len(units), size)]


def _ahead(load: Callable[[str], Any], batches: list[list[str]]) -> Iterator[list[Any]]:
    """Batches loaded by threads, a few in advance."""
    pool = ThreadPoolExecutor(DECODERS)
    waiting: deque = deque()
    try:
        for batch in batches:
            waiting.append([pool.submit(load, unit) for unit in batch])
            if len(waiting) > BATCHES_AHEAD:
                yield [future.result() for future in waiting.popleft()]
        while waiting:
            yield [future.result() for future in waiting.popleft()]
    finally:
        pool.shutdown(cancel_futures=True)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _arithmetic(device: torch.device) -> dict[str, str]:
    """Everything that changes the last bits of an encoder's output: part of a shard's key."""
    return {
        "versions": f"torch {torch.__version__}, transformers {transformers.__version__}, pillow {PIL.__version__}",
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": str(torch.get_num_threads()),
    } | {name: os.environ.get(name, "") for name in ("ONEDNN_MAX_CPU_ISA", "MKL_CBWR")}


def _read(path: Path, count: int, dim: int) -> tuple[Tensor, Tensor] | None:
    """A shard from the cache; None if it is missing or damaged."""
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            vectors, problems = file.get_tensor("vectors"), file.get_tensor("problems")
            whole = (file.metadata() or {}).get("sha256") == _checksum(vectors, problems)
    except (OSError, safetensors.SafetensorError):
        return None
    return (vectors, problems) if whole and vectors.shape == (count, dim) else None


def _checksum(vectors: Tensor, problems: Tensor) -> str:
    return hashlib.sha256(vectors.numpy().tobytes() + problems.numpy().tobytes()).hexdigest()
