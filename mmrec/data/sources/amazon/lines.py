"""Gzip files with one record a line, read line by line.

PyArrow's parser saves a quarter of the processor time. It stops at a line that is no JSON, so that a second parser
would be needed.
"""

import ast
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa

from mmrec.data.cleaning.rows import SourceError, must_exist

LONGEST = 1 << 20  # bytes of a line
JSON = json.JSONDecoder(parse_int=float)  # a float may have any number of digits


def numbered_lines(path: Path) -> Iterator[tuple[int, bytes]]:
    """Every line without its newline, and its number, from 1. A line longer than `LONGEST` bytes comes out empty.

    Memory does not grow with the file. PyArrow inflates: Python's gzip overlooks zeros behind the content.

    Raises:
        SourceError: the file is missing, cut off, damaged or not compressed.
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


def json_record(line: bytes) -> dict[str, Any] | None:
    """The JSON object of a line; None if the line is malformed. All numbers are floats."""
    try:
        record = JSON.decode(line.decode())
    except (ValueError, RecursionError):
        return None
    return record if isinstance(record, dict) else None


def literal_record(line: bytes) -> dict[str, Any] | None:
    """The Python dict literal of a line; None if the line is malformed. Nothing is executed."""
    try:
        record = ast.literal_eval(line.decode())
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None
    return record if isinstance(record, dict) else None
