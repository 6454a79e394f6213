"""Progress of long computations, kept out of notebooks.

Executed notebooks are the same in every run, but progress holds times. It goes to the file named by `MMREC_PROGRESS`,
which the pipeline's runner shows, else to stderr. tqdm redraws one line and has no hook for whole lines.
"""

import os
import sys
import time
from collections.abc import Callable
from datetime import timedelta

SECONDS_BETWEEN_LINES = 5.0


def report(line: str) -> None:
    """Append a line to the file named by MMREC_PROGRESS, or print it to stderr."""
    if target := os.environ.get("MMREC_PROGRESS"):
        with open(target, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    else:
        print(line, file=sys.stderr, flush=True)


def megabytes(count: float) -> str:
    """A number of bytes in MB."""
    return f"{count / 1e6:.1f} MB"


class Progress:
    """Counts units towards a total; reports at most every few seconds, and once at the end.

    Args:
        done: units that an earlier run finished; the rate leaves them out.
        show: formats an amount.
    """

    def __init__(self, label: str, total: int, done: int = 0, show: Callable[[float], str] | None = None) -> None:
        self.label, self.total, self.done = label, total, done
        self.show = show or (lambda count: str(count) if isinstance(count, int) else f"{count:.3g}")
        self._skipped = done
        self._start = self._reported = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Add `count` finished units."""
        self.done += count
        now = time.monotonic()
        if self.done >= self.total or now - self._reported >= SECONDS_BETWEEN_LINES:
            self._reported = now
            seconds, left = now - self._start, self.total - self.done
            rate = (self.done - self._skipped) / max(seconds, 1e-9)
            clock = timedelta(seconds=round(left / rate if left > 0 else seconds))
            ending = f"{clock} left" if left > 0 else f"in {clock}"
            done = f"{self.show(self.done)}/{self.show(self.total)}"
            report(f"{self.label}: {done}, {self.show(rate)}/s, {ending}")
