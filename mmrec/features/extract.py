"""Encoders run over a catalogue; an interrupted run resumes and ends with the same bits.

A unit is a distinct input: a picture's bytes or a text. Units are ordered by content and cut into shards of a few
batches. The cache keeps each finished shard under the hash of its units.
"""

import contextlib
import hashlib
import io
import json
import os
import warnings
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import PIL
import safetensors.torch
import torch
import transformers
from PIL import Image
from torch import Tensor

from mmrec.config import Config, Modality
from mmrec.data.sources import given
from mmrec.features import FeatureError, image, text
from mmrec.features.store import Features
from mmrec.files import atomic, sha256
from mmrec.progress import Progress, report

BATCHES_PER_SHARD = 8  # a killed run repeats at most one shard
BATCHES_AHEAD = 2  # decoded while the network computes
DECODERS = min(16, os.cpu_count() or 1)  # threads; PIL decodes without the interpreter's lock

# Faults of a picture's bytes; a shard stores positions in this list.
REASONS = ("", "truncated", "not decodable", "too large")

Encoded = tuple[Tensor, Tensor, dict[str, int]]  # matrix, presence mask, items without a usable input by reason


def build_features(
    config: Config,
    dataset: str,
    items: pd.DataFrame,
    images: Path,
    *,
    root: Path,
    cache: Path,
    device: torch.device | str,
    unbought: bool = False,
) -> dict[Modality, Features]:
    """Features of every modality that params.yaml switches on for a data set.

    Args:
        items: columns title, text, categories, image; row i is the item with index i + 1. The text of an item is its
            `text`, or its `title` if that is empty.
        images: the folder that paths in column `image` start from; given features lie beside it.
        root: where relative paths in params.yaml start from.
        cache: survives interrupted runs; may be deleted at any time.
        unbought: these are further items of the catalogue, none of which need have a modality.

    Raises FeatureError: an encoder cannot be had, or no item at all has the modality.
    """
    spec = config.datasets[dataset]
    features: dict[Modality, Features] = {}
    paths = [images / path if isinstance(path, str) and path else None for path in items["image"]]
    texts = [body.strip() or title.strip() for body, title in zip(items["text"], items["title"], strict=True)]
    for modality, build, run, inputs in (
        ("image", image.build, extract_images, paths),
        ("text", text.build, extract_texts, texts),
    ):
        name = getattr(spec, modality)
        if name == given.GIVEN:
            features[modality] = _given(given.path_of(images.parent, modality), pd.Index(items["item_id"]), unbought)
        elif name is not None:
            encoder = build(config.encoders[name], root, device)
            stored = config.encoders[name].stored
            meta = {"stored": stored} if stored != "float32" else {}  # for `store.save`
            features[modality] = _features(encoder.identity, *run(encoder, inputs, cache), **meta)
    if spec.category:
        matrix, vocabulary = multi_hot(items["categories"].tolist())
        features["category"] = _features({"name": "multi_hot"}, matrix, matrix.any(1), {}, vocabulary=vocabulary)
    for modality, one in features.items():
        if not unbought and not one.mask.any():
            off = "false" if modality == "category" else "null"
            raise FeatureError(f"no item of {dataset} has {modality}: set datasets.{dataset}.{modality}: {off}")
    return features


def _given(path: Path, items: pd.Index, unbought: bool) -> Features:
    """Features from a file of `data.sources.given`; `unknown` counts rows of items that the sequences do not hold."""
    ids, rows = given.read(path, None if unbought else items)
    place = ids.get_indexer(items)
    others = len(ids) - int((place >= 0).sum())
    if others and not unbought:
        report(f"{path.name}: {others:,} of {len(ids):,} rows are of items that the sequences do not hold; left out")
    mask = torch.nn.functional.pad(torch.from_numpy(place >= 0), (1, 0))
    matrix = torch.zeros(len(mask), rows.shape[1])
    matrix[mask] = torch.from_numpy(rows[place[place >= 0]])
    features = _features({"name": given.GIVEN, "origin": path.name, "sha256": sha256(path)}, matrix, mask, {})
    features.meta["counts"]["unknown"] = others
    return features


def _features(identity: dict[str, str], matrix: Tensor, mask: Tensor, misses: dict[str, int], **meta: Any) -> Features:
    counts = {"items": len(mask) - 1, "present": int(mask.sum()), "misses": misses}
    return Features(matrix, mask, {"encoder": identity, "counts": counts} | meta)


def extract_images(encoder: image.ImageEncoder, paths: Sequence[Path | None], cache: Path) -> Encoded:
    """Encode pictures; each distinct file is decoded and encoded once.

    Returns:
        Matrix (n + 1, d) float32, where path i has row i + 1, with zeros in row 0 (padding) and where there is no
        picture; the presence mask, (n + 1,) bool; and the number of items with an unusable picture, by reason. A path
        of None is absent without a reason.
    """
    rows: defaultdict[str, list[int]] = defaultdict(list)  # by digest
    lost = 0
    for row, path in enumerate(paths, start=1):
        try:
            if path is not None:
                rows[sha256(path)].append(row)
        except OSError:
            lost += 1

    def load(unit: str) -> tuple[Tensor | None, int]:
        return decode(paths[rows[unit][-1] - 1], encoder.prepare)

    with warnings.catch_warnings():  # PIL warns about odd files; unusable ones are counted below
        warnings.filterwarnings("ignore", module="PIL")
        matrix, mask, misses = _encode(encoder, sorted(rows), rows, len(paths), load, torch.stack, cache, "images")
    return matrix, mask, misses | ({"no such file": lost} if lost else {})


def extract_texts(encoder: text.TextEncoder, texts: Sequence[str], cache: Path) -> Encoded:
    """Encode texts, each distinct one once. Returns the same as `extract_images`; an empty text is absent."""
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, one in enumerate(texts, start=1):
        if one.strip():
            rows[one].append(row)
    units = sorted(rows, key=lambda one: (len(one), one))  # neighbours have equal lengths: little padding
    return _encode(encoder, units, rows, len(texts), lambda unit: (unit, 0), list, cache, "texts")


def decode(path: Path, prepare: Callable[[Image.Image], Tensor]) -> tuple[Tensor | None, int]:
    """A picture ready for its network and 0, or None and the fault's position in REASONS.

    Raises OSError: the file cannot be read. This is no fault of its bytes.
    """
    data = path.read_bytes()
    try:
        with Image.open(io.BytesIO(data)) as picture:
            return prepare(picture), 0
    except MemoryError:  # no fault of its bytes either
        raise
    except Image.DecompressionBombError:
        return None, REASONS.index("too large")
    except Exception as error:  # PIL raises nearly anything on a broken file
        return None, REASONS.index("truncated" if "truncated" in str(error).lower() else "not decodable")


def multi_hot(categories: Sequence[Iterable[str]]) -> tuple[Tensor, list[str]]:
    """The categories of n items as zeros and ones.

    Returns:
        Matrix (n + 1, c) float32, row 0 padding, and the c categories in alphabetical order, one a column.
    """
    vocabulary = sorted({category for row in categories for category in row})
    column = {category: index for index, category in enumerate(vocabulary)}
    matrix = torch.zeros(1 + len(categories), len(vocabulary))
    for row, chosen in enumerate(categories, start=1):
        matrix[row, [column[category] for category in chosen]] = 1
    return matrix, vocabulary


def _encode(
    encoder: image.ImageEncoder | text.TextEncoder,
    units: list[str],
    rows: dict[str, list[int]],
    count: int,
    load: Callable[[str], tuple[Any, int]],
    collate: Callable[[list[Any]], Any],
    cache: Path,
    label: str,
) -> Encoded:
    """Encode `units`, first cached shards, then others, and put each vector into the `rows` of its items."""
    # The padding row is there from the start: adding it later would hold the matrix twice.
    matrix, mask, misses = torch.zeros(1 + count, encoder.dim), torch.zeros(1 + count, dtype=torch.bool), Counter()

    def join(shard: list[str], vectors: Tensor, problems: Tensor) -> None:  # (m,), (m, d) float32, (m,) uint8
        for unit, vector, problem in zip(shard, vectors, problems.tolist(), strict=True):
            if problem:
                misses[REASONS[problem]] += len(rows[unit])
            else:
                matrix[rows[unit]] = vector
                mask[rows[unit]] = True

    folder = cache / _digest(encoder.identity | _arithmetic(encoder.device))
    missing, done = [], 0
    for shard in _cut(units, BATCHES_PER_SHARD * encoder.batch_size):
        if cached := _read(folder / f"{_digest(shard)}.safetensors", len(shard), encoder.dim):
            done += len(shard)
            join(shard, *cached)
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
            join(shard, vectors, problems)
    return matrix, mask, dict(sorted(misses.items()))


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
