"""Gzip files of a record a line, read in blocks of whole lines, so that memory does not grow with the file.

PyArrow inflates, and parses the few fields that are used out of a block at once; only a block that holds anything else
than such records is gone through line by line. Polars and DuckDB are about as fast on these files (within a fifth,
inflating included), but told to go on after a line that is no JSON, Polars stops all the same and DuckDB makes a row of
nulls of it without a word; and pyarrow is here already.
"""

import ast
import json
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from pyarrow import csv as arrow_csv
from pyarrow import json as arrow_json

from mmrec.data.cleaning.rows import SourceError, must_exist

LONGEST = 1 << 20  # bytes of a line, and of a block but for its first line


def blocks(path: Path) -> Iterator[tuple[int, bytes]]:
    """The number of a block's first line, and its lines, each ended by a newline; one that is too long is empty.

    Raises:
        SourceError: no such file, or it is cut off, damaged or not compressed.
    """
    must_exist(path)
    number, begun = 1, b""  # the line that is not yet whole
    try:
        with (
            pa.input_stream(str(path), compression="gzip", buffer_size=LONGEST) as file,
            ThreadPoolExecutor(max_workers=1) as beside,  # inflates the next piece while this one is worked on
        ):
            coming = beside.submit(file.read, LONGEST)
            while piece := coming.result():
                coming = beside.submit(file.read, LONGEST)
                end = piece.rfind(b"\n") + 1
                if end:
                    block = _shortened(begun + piece[:end])
                    yield number, block
                    number, begun = number + _count(block), piece[end:]
                else:
                    begun = (begun + piece)[: LONGEST + 1]  # enough to know that it is too long
    except OSError as error:
        problem = f"cannot be read ({error.strerror})" if error.errno else "is no whole gzip file"
        raise SourceError(f"{path.name} {problem}: place it in {path.parent} as it was provided") from None
    if begun:
        yield number, (begun if len(begun) <= LONGEST else b"") + b"\n"


def _count(block: bytes) -> int:
    """Of lines; `block.count(b"\\n")` would take a fifth of the time of parsing."""
    return np.count_nonzero(np.frombuffer(block, np.uint8) == ord("\n"))


def _shortened(block: bytes) -> bytes:
    first = block.index(b"\n")
    return block if first < LONGEST else block[first:]


def records(
    numbered: Iterable[tuple[int, bytes]],
    at_once: Callable[[bytes], pa.Table | None],
    one_by_one: Callable[[bytes], dict[str, Any] | None],
) -> Iterator[tuple[pa.Table | list[dict[str, Any]], np.ndarray, np.ndarray]]:
    """Block after block: its records, the lines that they stand on, and the lines that are malformed.

    Args:
        at_once: a block's table with a row a line, or None.
        one_by_one: a line's record with fields of any type, or None where it is malformed; asked where there is no
            table, and then the records are a list.
    """
    for first, block in numbered:
        if (table := at_once(block)) is not None:
            yield table, np.arange(first, first + table.num_rows), np.empty(0, np.int64)
        else:
            found = [one_by_one(line) for line in block.split(b"\n")[:-1]]
            is_good = np.array([record is not None for record in found])
            good = [record for record in found if record is not None]
            yield good, first + np.flatnonzero(is_good), first + np.flatnonzero(~is_good)


def by_reason(reasons: np.ndarray, lines: np.ndarray, malformed: np.ndarray) -> dict[str, np.ndarray]:
    """The lines left out, of records whose reason is not "" and of those that are malformed."""
    found = {str(reason): lines[reasons == reason] for reason in np.unique(reasons) if reason}
    return found | ({"malformed line": malformed} if len(malformed) else {})


def json_records(path: Path, schema: pa.Schema) -> Iterator[tuple[pa.Table | list, np.ndarray, np.ndarray]]:
    """`records` of a JSON object a line, of which the fields of `schema` are used."""

    def one_by_one(line: bytes) -> dict[str, Any] | None:
        try:
            record = json.loads(line.decode(), parse_int=float)  # there is no limit to the digits of a float
        except RecursionError:  # the other parser has no such limit, and no line is judged by its neighbours
            table = json_table(line + b"\n", schema)
            return None if table is None else table.to_pylist()[0]
        except ValueError:
            return None
        return record if isinstance(record, dict) else None

    return records(blocks(path), lambda block: json_table(block, schema), one_by_one)


def json_table(block: bytes, schema: pa.Schema) -> pa.Table | None:
    """A row a line; None unless every line is one object, each field of `schema` of its type, null or absent."""
    # The parser does not mind where lines end, and looks at the encoding of no field.
    content = np.frombuffer(block, np.uint8)
    newlines = np.flatnonzero(content == ord("\n"))
    begins, ends = content[np.append(0, newlines[:-1] + 1)], content[newlines - 1]
    if not ((begins == ord("{")).all() and (ends == ord("}")).all() and _is_utf8(block)):
        return None
    read = arrow_json.ReadOptions(use_threads=False, block_size=len(block))
    parse = arrow_json.ParseOptions(explicit_schema=schema, unexpected_field_behavior="ignore")
    try:
        table = arrow_json.read_json(pa.BufferReader(block), read, parse)
    except pa.ArrowInvalid:
        return None
    return table if table.num_rows == len(newlines) else None


def _is_utf8(block: bytes) -> bool:
    try:
        return block.isascii() or bool(block.decode())
    except UnicodeDecodeError:
        return False


def literal_records(
    path: Path, at_a_glance: Callable[[bytes], dict[str, Any] | None]
) -> Iterator[tuple[list, np.ndarray, np.ndarray]]:
    """`records` of a Python literal a line. `at_a_glance` may know all that is to be known of a line unparsed."""

    def one_by_one(line: bytes) -> dict[str, Any] | None:
        if (seen := at_a_glance(line)) is not None:
            return seen
        try:
            record = ast.literal_eval(line.decode())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            return None
        return record if isinstance(record, dict) else None

    return records(blocks(path), lambda block: None, one_by_one)


def csv_records(path: Path, schema: pa.Schema) -> Iterator[tuple[pa.Table | list, np.ndarray, np.ndarray]]:
    """`records` of comma-separated fields, none of them quoted, below a header that names those of `schema`.

    Raises:
        SourceError: another header; and what `blocks` raises.
    """
    convert = arrow_csv.ConvertOptions(column_types=schema, strings_can_be_null=False)
    parse = arrow_csv.ParseOptions(quote_char=False, ignore_empty_lines=False)

    def at_once(block: bytes) -> pa.Table | None:
        if block.startswith(b"\n") or b"\n\n" in block:  # which the parser takes for a row of empty fields
            return None
        read = arrow_csv.ReadOptions(use_threads=False, block_size=len(block), column_names=schema.names)
        try:
            table = arrow_csv.read_csv(pa.BufferReader(block), read, parse, convert)
        except pa.ArrowInvalid:
            return None
        return table if table.num_rows == _count(block) else None

    def one_by_one(line: bytes) -> dict[str, Any] | None:
        try:
            fields = line.decode().split(",")
        except UnicodeDecodeError:
            return None
        return dict(zip(schema.names, fields, strict=True)) if len(fields) == len(schema) else None

    return records(_below_header(path, schema.names), at_once, one_by_one)


def _below_header(path: Path, names: list[str]) -> Iterator[tuple[int, bytes]]:
    for first, block in blocks(path):
        if first == 1:
            header, _, block = block.partition(b"\n")
            if header.rstrip() != ",".join(names).encode():
                raise SourceError(f"{path.name}:1: the header must be {','.join(names)} (it is {header[:80]!r})")
            first = 2
        if block:
            yield first, block
