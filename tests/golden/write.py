"""Write the golden traces anew, or compare without writing.

python tests/golden/write.py             # after a change of numbers that is meant
python tests/golden/write.py --compare   # JSON: trace -> series -> how far it moved, in tolerances
    python tests/golden/write.py --compare --threads  # with as many threads as OMP_NUM_THREADS says
"""

import json
import sys

import torch
import traces


def _moved(name: str, committed: dict) -> dict[str, float]:
    try:
        return traces.compared(committed[name], traces.trace(name))
    except Exception as error:  # a mutant may break more than numbers
        return {type(error).__name__: float("inf")}


def compare(names: list[str]) -> dict[str, dict[str, float]]:
    """Trace -> series -> how far it moved from the committed one, in tolerances."""
    committed = traces.load()
    return {name: _moved(name, committed) for name in names}


if __name__ == "__main__":
    if "--threads" not in sys.argv:
        torch.set_num_threads(1)
    if "--compare" in sys.argv:
        print(json.dumps(compare(traces.NAMES)))
    else:
        traces.write({name: traces.trace(name) for name in traces.NAMES})
