"""Write the golden traces anew, or compare without writing.

python tests/golden/write.py             # after a change of numbers that is meant
python tests/golden/write.py --compare   # JSON: trace -> series -> how far it moved, in tolerances
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


if __name__ == "__main__":
    torch.set_num_threads(int(torch.get_num_threads() if "--threads" in sys.argv else 1))
    if "--compare" in sys.argv:
        committed = traces.load()
        print(json.dumps({name: _moved(name, committed) for name in traces.NAMES}))
    else:
        traces.write({name: traces.trace(name) for name in traces.NAMES})
