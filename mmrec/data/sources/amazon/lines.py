"""Gzip files with one record a line, read line by line.

PyArrow's JSON parser takes three quarters of the processor time, but stops at a malformed line.
"""

import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmrec.data.cleaning.rows import SourceError, must_exist

LONGEST = 1 << 20  # bytes of a line
JSON = json.JSONDecoder(parse_int=float)  # a float may have any number of digits


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Every line without its newline, and its number, from 1. A line longer than `LONGEST` bytes comes out empty.

    Memory does not grow with the file. PyArrow inflates: Python's gzip overlooks zeros behind the content.

    Raises SourceError: the file is missing, cut off, damaged or not compressed.
    """
    must_exist(path)
    number = 0
    try:
        with pa.input_stream(str(path), compression="gzip") as raw, io.BufferedReader(raw, 1 << 20) as file:
            while line := file.readline(LONGEST + 1):
                number += 1
                is_too_long = len(line) > LONGEST
                while len(line) > LONGEST and not line.endswith(b"\n"):
                    line = file.readline(LONGEST + 1)
                yield number, b"" if is_too_long else line.removesuffix(b"\n")
    except OSError as error:
        problem = f"cannot be read ({error.strerror})" if error.errno else "is no whole gzip file"
        raise SourceError(f"{path.name} {problem}: place it in {path.parent} as it was provided") from None


def record(line: bytes, parse: Callable[[str], Any] = JSON.decode) -> dict[str, Any] | None:
    """The object of a line, by default JSON with all numbers as floats; None if the line is malformed."""
    try:
        found = parse(line.decode())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return found if isinstance(found, dict) else None
