"""How far a long computation is, kept out of notebooks.

Whatever a cell prints stays in its notebook, which must come out the same every time; progress holds times, so it
goes to the file that `MMREC_PROGRESS` names (the pipeline's runner shows it), else to stderr.
"""

import os
import sys
import time
from collections.abc import Callable

SECONDS_BETWEEN_LINES = 5.0


def report(line: str) -> None:
    """Append a line to the file named by MMREC_PROGRESS, or print it to stderr."""
    if target := os.environ.get("MMREC_PROGRESS"):
        with open(target, "a", encoding="utf-8") as file:
            file.write(line + "\n")
    else:
        print(line, file=sys.stderr, flush=True)


def megabytes(count: float) -> str:
    """Of a number of bytes."""
    return f"{count / 1e6:.1f} MB"


def _number(count: float) -> str:
    return str(count) if isinstance(count, int) else f"{count:.3g}"


class Progress:
    """Counts towards a total; reports at most every few seconds, and once at the end.

    `done` is what an earlier run left finished: it counts as done, but not towards the rate. `show` writes an amount.
    """

    def __init__(self, label: str, total: int, done: int = 0, show: Callable[[float], str] = _number) -> None:
        self.label, self.total, self.done, self.show = label, total, done, show
        self._skipped = done
        self._start = self._reported = time.monotonic()

    def advance(self, count: int = 1) -> None:
        """Add `count` finished units."""
        self.done += count
        now = time.monotonic()
        if self.done >= self.total or now - self._reported >= SECONDS_BETWEEN_LINES:
            self._reported = now
            report(self._line(now - self._start))

    def _line(self, seconds: float) -> str:
        rate = (self.done - self._skipped) / max(seconds, 1e-9)
        left = self.total - self.done
        ending = f"{_clock(left / rate)} left" if left > 0 else f"in {_clock(seconds)}"
        return f"{self.label}: {self.show(self.done)}/{self.show(self.total)}, {self.show(rate)}/s, {ending}"


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}"
