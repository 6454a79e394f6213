"""How much of a bare encoder's throughput is left when it encodes a catalogue, and what half precision changes.

    python benchmarks/features.py [encoder] [pictures]

The encoder alone and the whole extraction (reading, decoding, hashing, caching) are measured in turns on the same
machine state, so the ratio holds where the seconds do not. Half precision is tried on what came out, and on the
features of all data sets in data/processed.
"""

import os
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from mmrec import config, runtime
from mmrec.features import extract, image, store

ROUNDS = 3
QUERIES, NEIGHBOURS = 2000, 10
SIZE = (224, 336)  # of shop pictures as catalogues ship them: short side 224


def generate(folder: Path, count: int) -> list[Path]:
    """JPEGs with as much detail as photographs have: coarse noise, enlarged."""
    generator = np.random.default_rng(0)
    paths = [folder / f"{index}.jpg" for index in range(count)]
    for path in paths:
        coarse = generator.integers(0, 256, (56, 40, 3), dtype=np.uint8)
        Image.fromarray(coarse).resize(SIZE, Image.Resampling.BICUBIC).save(path, quality=90)
    return paths


def bare(encoder: image.ImageEncoder, count: int) -> None:
    """The network on pictures that are in memory and prepared, in batches as the extraction makes them."""
    batch = torch.randn(encoder.batch_size, 3, image.SIZE, image.SIZE)
    for begin in range(0, count, encoder.batch_size):
        encoder(batch[: count - begin])


def seconds(work: Callable[..., object], *arguments: object) -> np.ndarray:
    """Seconds by the clock, and seconds of processor time, which other programs on the machine disturb less."""
    before = time.perf_counter(), time.process_time()
    work(*arguments)
    return np.array([time.perf_counter(), time.process_time()]) - before


def half_precision(features: store.Features, folder: Path) -> str:
    """Size on disk, errors after standardisation, and how many neighbours by cosine stay.

    A column whose spread is near nothing is lost in half precision, and standardisation makes much of it.
    """
    sizes, matrices = {}, {}
    for precision in ("float32", "float16"):
        store.save(folder / precision, replace(features, meta={"stored": precision}))
        sizes[precision] = (folder / precision).stat().st_size
        matrices[precision] = store.standardise(store.load(folder / precision))
    error = (matrices["float32"] - matrices["float16"])[features.mask].abs()
    asked = features.mask.nonzero().squeeze(1)[:QUERIES]
    near = [neighbours(matrix, asked) for matrix in matrices.values()]
    same = np.mean([len(set(one) & set(other)) for one, other in zip(*near, strict=True)]) / NEIGHBOURS
    return (
        f"float16 takes {sizes['float16'] / sizes['float32']:.0%} of {sizes['float32'] / 1e6:.1f} MB; off by "
        f"{error.mean():.1e} standard deviations of a column (by more than 0.1 in {(error.amax(0) > 0.1).sum()} of "
        f"{error.shape[1]}), {error.max():.1e} at most; {same:.2%} of {NEIGHBOURS} nearest neighbours stay"
    )


def neighbours(matrix: torch.Tensor, asked: torch.Tensor) -> list[list[int]]:
    directions = F.normalize(matrix, dim=1)
    return (directions[asked] @ directions.T).topk(1 + NEIGHBOURS).indices[:, 1:].tolist()


def main(name: str = "efficientnet_lite0", count: str = "256") -> None:
    paths, settings = config.project()
    device = runtime.prepare(settings.runtime)
    encoder = image.build(settings.encoders[name], paths.root, device)
    os.environ.setdefault("MMREC_PROGRESS", os.devnull)
    with tempfile.TemporaryDirectory() as folder:
        pictures = generate(Path(folder), int(count))
        bare(encoder, 2 * encoder.batch_size)  # warm
        ratios = []
        for turn in range(ROUNDS):
            alone = seconds(bare, encoder, len(pictures))
            whole = seconds(extract.extract_images, encoder, pictures, Path(folder, f"cache{turn}"))  # nothing cached
            ratios.append(alone / whole)
            each = 1000 / len(pictures)
            print(f"bare {alone[0] * each:.1f} ms, from file to matrix {whole[0] * each:.1f} ms a picture")
        matrix, mask, _ = extract.extract_images(encoder, pictures, Path(folder, "cache0"))
        clock, processor = np.median(ratios, axis=0)
        print(
            f"{name} on {device}: extraction keeps {clock:.0%} of the bare encoder's throughput "
            f"({processor:.0%} by processor time)"
        )
        print(f"{len(pictures)} generated pictures: {half_precision(store.Features(matrix, mask, {}), Path(folder))}")
        for path in sorted(paths.root.glob("data/processed/*/features/*.safetensors")):
            print(f"{path.parts[-3]} {path.stem}: {half_precision(store.load(path), Path(folder))}")


if __name__ == "__main__":
    main(*sys.argv[1:])
