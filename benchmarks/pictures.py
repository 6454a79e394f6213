"""What fetching pictures costs beside its two parts: bare downloading, and bare decoding, resizing and encoding.

    python benchmarks/pictures.py [PICTURES]

Generated pictures of 500 x 500, as large as a provider's, come from a server in a process of its own. Absolute times
are noise on a shared machine: of each the best of several interleaved repetitions is taken, and ratios are printed.
"""

import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp
import numpy as np
import pandas as pd
from PIL import Image

from mmrec.data.cleaning.images import thumbnail
from mmrec.data.download import web
from mmrec.data.download.pictures import fetch_pictures

SERVER = Path(__file__).parents[1] / "tests" / "servers.py"
REPETITIONS = 3
CONNECTIONS = 16


def draw(folder: Path, count: int) -> list[Path]:
    """Pictures with shapes, shades and grain: about 40 kB each."""
    generator = np.random.default_rng(0)
    paths = []
    for number in range(count):
        coarse = Image.fromarray(generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)).resize((500, 500))
        grain = generator.normal(0, 4, (500, 500, 1))
        pixels = np.clip(np.asarray(coarse, dtype=np.float32) + grain, 0, 255).astype(np.uint8)
        paths.append(folder / f"{number}.jpg")
        Image.fromarray(pixels).save(paths[-1], quality=85)
    return paths


async def download(urls: list[str]) -> None:
    """Every body, and nothing is done with it."""
    waiting = iter(urls)
    async with web.session(aiohttp.ClientTimeout(total=30)) as client:

        async def work() -> None:
            for url in waiting:
                async with client.get(url) as response:
                    await response.read()

        await asyncio.gather(*(work() for _ in range(CONNECTIONS)))


def decode(contents: list[bytes]) -> None:
    """As fetch_pictures does, on all cores."""
    with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        list(pool.map(thumbnail, contents))


def fetch(urls: list[str], address: str, folder: Path) -> None:
    """Into a new folder."""
    candidates = pd.DataFrame({"item_id": urls, "urls": [[url] for url in urls]})
    new = Path(tempfile.mkdtemp(dir=folder))
    table = fetch_pictures(candidates, new, per_host=CONNECTIONS, trusted=[address])
    assert (table["image"] != "").all()


def costs(work: dict[str, Callable[[], object]]) -> dict[str, tuple[float, float]]:
    """Least time and least processor time of each, taken in turns so that a busy moment does not fall on one alone."""
    measured = {name: [] for name in work}
    for _ in range(REPETITIONS):
        for name, do in work.items():
            begun, used = time.perf_counter(), time.process_time()
            do()
            measured[name].append((time.perf_counter() - begun, time.process_time() - used))
    return {name: tuple(map(min, zip(*of, strict=True))) for name, of in measured.items()}


def main(count: int) -> None:
    """Print pictures a second, processor time, and both as ratios to those of the parts."""
    with tempfile.TemporaryDirectory() as folder:
        paths = draw(Path(folder), count)
        contents = [path.read_bytes() for path in paths]
        server = subprocess.Popen([sys.executable, SERVER, folder], stdout=subprocess.PIPE, text=True)
        try:
            address = server.stdout.readline().strip()
            urls = [f"http://{address}/{path.name}" for path in paths]
            measured = costs(
                {
                    "bare downloading": lambda: asyncio.run(download(urls)),
                    "bare decoding, resizing, encoding": lambda: decode(contents),
                    "fetch_pictures": lambda: fetch(urls, address, Path(folder)),
                }
            )
        finally:
            server.kill()
    print(f"{count} pictures of {sum(map(len, contents)) / count / 1e3:.0f} kB, {len(os.sched_getaffinity(0))} cores")
    for name, (elapsed, used) in measured.items():
        print(f"{name:36} {count / elapsed:6.0f} pictures/s   {1e3 * used / count:5.2f} ms of processor time a picture")
    whole, *parts = (np.array(measured[name]) for name in reversed(measured))
    elapsed, used = whole / sum(parts)
    print(f"fetch_pictures against both parts in turn: {elapsed:.2f} x the time, {used:.2f} x the processor time")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 400)
