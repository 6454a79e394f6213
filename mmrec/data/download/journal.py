"""The outcome of each address, in an append-only file that survives a killed writer."""

import fcntl
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

from mmrec.data.cleaning.rows import SourceError


@dataclass(frozen=True)
class Outcome:
    """The result of asking one address."""

    image: str = ""  # path of the picture below images/; "" for none
    reason: str = ""  # why there is no picture


class Journal:
    """One JSON line an address. One process at a time holds it; use it as a context manager.

    Raises:
        SourceError: another process holds the file, or a line is damaged.
    """

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._file = path.open("a+b")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self.outcomes = self._read()
        except SourceError:
            self._file.close()
            raise
        except BlockingIOError:
            self._file.close()
            raise SourceError(f"{path} is in use: another process fetches pictures into {path.parent}") from None

    def _read(self) -> dict[str, Outcome]:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        os.ftruncate(self._file.fileno(), whole)  # a half-written line would spoil the next one
        outcomes = {}
        for number, line in enumerate(content[:whole].splitlines(), start=1):
            try:
                entry = json.loads(line)
                url = entry.pop("url")
                outcomes[url] = Outcome(**entry)
            except (ValueError, TypeError, KeyError, AttributeError):
                raise SourceError(f"{self.path.name}:{number} is damaged: remove {self.path} to begin anew") from None
        return outcomes

    def write(self, url: str, outcome: Outcome) -> None:
        """Record a final outcome: later runs do not ask this address again."""
        self._file.write(json.dumps({"url": url, **asdict(outcome)}).encode() + b"\n")
        self._file.flush()

    def __enter__(self) -> "Journal":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()
