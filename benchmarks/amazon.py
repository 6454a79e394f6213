"""What reading a shop of Amazon 2018 costs: beside only inflating and parsing its two files, in time and in memory.

    python benchmarks/amazon.py [--reviews 12900000] [--items 960000] [--rounds 1] [--folder FOLDER]

The files are generated once, in FOLDER. Each measurement is a process of its own, so that its peak of memory is, too.
"""

import argparse
import resource
import subprocess
import sys
import tempfile
import time
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).parents[1]
CATEGORY = "Sports_and_Outdoors"


def alone(folder: Path) -> int:
    """Inflate and parse every line; nothing is checked or kept."""
    from mmrec.data.sources import amazon
    from mmrec.data.sources.amazon.lines import numbered_lines, record

    lines = chain(*(numbered_lines(path) for path in amazon.files(folder, 2018, CATEGORY)))
    return sum(record(line) is not None for _, line in lines)


def read(folder: Path) -> int:
    """The tables that everything after works on."""
    from mmrec.data.sources import amazon

    tables = amazon.read(folder, 2018, CATEGORY)
    return tables.quality["interactions"]["read"] + tables.quality["items"]["read"]


def generate(folder: Path, reviews: int, items: int) -> int:
    """Both files, where they are not there yet."""
    sys.path.insert(0, str(ROOT / "tests" / "helpers"))
    import amazon_files

    if not (folder / f"meta_{CATEGORY}.json.gz").exists():
        amazon_files.write(folder, CATEGORY, reviews, items)
    return reviews + items


def measured(work: str, *arguments: object) -> tuple[float, float, int]:
    """Seconds by the clock, seconds of processor time, and peak bytes of a process that does the work."""
    command = [sys.executable, __file__, "--only", work, *map(str, arguments)]
    clock, processor, peak = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()
    return float(clock), float(processor), int(peak)


def only(work: str, arguments: list[str]) -> None:
    """In a process of its own."""
    folder, *numbers = arguments
    begin = time.perf_counter()
    {"alone": alone, "read": read, "generate": generate}[work](Path(folder), *map(int, numbers))
    used = resource.getrusage(resource.RUSAGE_SELF)
    print(time.perf_counter() - begin, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


def main(folder: Path, reviews: int, items: int, rounds: int) -> None:
    clock, _, peak = measured("generate", folder, reviews, items)
    size = sum(path.stat().st_size for path in folder.iterdir())
    print(f"{reviews:,} reviews and {items:,} products: {size / 1e9:.2f} GB, generated in {clock:.0f} s")
    results = {"alone": [], "read": []}
    for _ in range(rounds):  # in turns, on the same state of the machine
        for work, found in results.items():
            clock, processor, peak = measured(work, folder)
            found.append((clock, processor, peak))
            print(
                f"{work:5}: {clock:.1f} s ({processor:.1f} s of processor time), at most {peak / 1e9:.2f} GB",
                flush=True,
            )
    ratios = [min(one[n] for one in results["alone"]) / min(one[n] for one in results["read"]) for n in (0, 1)]
    print(
        f"amazon.read keeps {ratios[0]:.0%} of the speed of inflating and parsing alone "
        f"({ratios[1]:.0%} by processor time), in {max(one[2] for one in results['read']) / 1e9:.2f} GB"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["--only"]:
        only(sys.argv[2], sys.argv[3:])
        sys.exit()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reviews", type=int, default=12_900_000)
    parser.add_argument("--items", type=int, default=960_000)
    parser.add_argument("--rounds", type=int, default=1, help="the fastest of each counts")
    parser.add_argument("--folder", type=Path, help="default: a temporary one")
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        main(chosen.folder or Path(temporary), chosen.reviews, chosen.items, chosen.rounds)
