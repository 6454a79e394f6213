"""Text files as rows of strings with their line numbers, and an account of every row that is left out.

Own line numbers: those of pyarrow count rows, which differ from lines below a quoted newline.
"""

import csv
import io
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv as arrow

EXAMPLES = 5  # places shown for each reason
BLOCK = 1 << 24  # bytes parsed at a time; also the longest row


class SourceError(ValueError):
    """A file of a data set cannot be used. The message is one line: the file and the remedy."""


@dataclass(frozen=True)
class Rows:
    """The kept rows of one file, and the lines of the rows that were left out. Every row read is in one of the two."""

    file: str
    frame: pd.DataFrame  # string columns, and `line` (int64), the line where a row begins
    dropped: Mapping[str, Sequence[int] | np.ndarray] = field(default_factory=dict)  # lines by reason

    def assign(self, **columns: Any) -> "Rows":
        """These rows with columns added or replaced, as `DataFrame.assign` does."""
        return replace(self, frame=self.frame.assign(**columns))

    def drop(self, where: pd.Series | np.ndarray, reason: str) -> "Rows":
        """Leave out the rows where `where` (bool, one a row) holds."""
        where = np.asarray(where, dtype=bool)
        if not where.any():
            return self
        lines = np.concatenate([self.dropped.get(reason, np.empty(0, np.int64)), self.frame["line"].to_numpy()[where]])
        return replace(self, frame=self.frame[~where], dropped={**self.dropped, reason: lines})

    def account(self) -> dict:
        """`read`, `kept` and `dropped` by reason; read = kept + all that was dropped."""
        dropped = {reason: len(lines) for reason, lines in self.dropped.items()}
        return {"read": len(self.frame) + sum(dropped.values()), "kept": len(self.frame), "dropped": dropped}

    def examples(self) -> dict[str, list[str]]:
        """The first five places of each reason, as `file:line`."""
        return {reason: self.locate(np.sort(lines)[:EXAMPLES]) for reason, lines in self.dropped.items()}

    def locate(self, lines: Sequence[int] | np.ndarray) -> list[str]:
        return [f"{self.file}:{line}" for line in lines]

    def require(self) -> "Rows":
        """These rows. Raises SourceError if there is none; the message gives each reason with a place."""
        if len(self.frame):
            return self
        reasons = [f"{len(self.dropped[reason])} {reason} ({places[0]})" for reason, places in self.examples().items()]
        raise SourceError(f"{self.file}: no row is usable: {', '.join(reasons) or 'it has none'}")


def read_csv(path: Path, required: Sequence[str], optional: Sequence[str] = ()) -> Rows:
    """Columns of a comma-separated UTF-8 file with a header (RFC 4180; a byte order mark is allowed).

    Other columns are ignored. An absent optional column is filled with "". A row whose number of fields differs from
    the header's is left out as "malformed line".

    Raises SourceError: no such file or column, no rows, not UTF-8, or a quote that is never closed.
    """
    must_exist(path)
    _must_be_utf8(path)
    with path.open(encoding="utf-8-sig", newline="") as file:
        try:
            header = next(csv.reader(file))
        except StopIteration:
            raise SourceError(f"{path.name} is empty: it must have a header and rows") from None
        except csv.Error as error:
            raise SourceError(f"{path.name}:1: no header can be read: {error}") from None
    for name in required:
        if header.count(name) != 1:
            problem = "no column" if name not in header else "more than one column"
            mend = f"its header must name {', '.join(required)} once each, separated by commas"
            raise SourceError(f"{path.name}: {problem} {name!r}: {mend} (it is {','.join(header)!r})")
    present = [name for name in (*required, *optional) if name in header]
    rows = _parse(path, path, present, arrow.ParseOptions(newlines_in_values=True), header=True)
    return rows.assign(**{name: "" for name in optional if name not in header})


def read_separated(path: Path, columns: Sequence[str], separator: str) -> Rows:
    """A Latin-1 file without header or quotes, fields between `separator`. Raises SourceError: no file or no rows."""
    must_exist(path)
    one_byte = "\x1f"  # the parser takes one byte only; the "unit separator" occurs in no text
    text = path.read_bytes().decode("latin-1").replace(separator, one_byte)
    options = arrow.ParseOptions(delimiter=one_byte, quote_char=False)
    return _parse(path, io.BytesIO(text.encode()), list(columns), options, header=False)


def must_exist(path: Path) -> None:
    if not path.is_file():
        raise SourceError(f"{path.name} is missing: place it in {path.parent}")


def _must_be_utf8(path: Path) -> None:
    # The parser would check only the columns that it converts.
    with path.open("rb") as file:
        for number, line in enumerate(file, start=1):
            try:
                line.decode()
            except UnicodeDecodeError:
                raise SourceError(f"{path.name}:{number} is not UTF-8: save the file in that encoding") from None


def _parse(path: Path, data: Path | io.BytesIO, columns: list[str], options: arrow.ParseOptions, header: bool) -> Rows:
    bad: list[arrow.InvalidRow] = []
    options.invalid_row_handler = lambda row: bad.append(row) or "skip"
    options.ignore_empty_lines = False  # skipped lines would shift the numbers of later ones
    read = arrow.ReadOptions(use_threads=False, block_size=BLOCK, column_names=None if header else columns)
    types = dict.fromkeys(columns, pa.string())
    convert = arrow.ConvertOptions(include_columns=columns, column_types=types, strings_can_be_null=False)
    try:
        table = arrow.read_csv(data, read, options, convert)
    except pa.ArrowInvalid as error:
        problem = f" cannot be read: {' '.join(str(error).split())}"
        if "Empty" in problem:
            problem = " holds no rows: it must have at least one"
        elif "straddling" in problem:
            problem = f": a quote is opened and never closed (or a row is longer than {BLOCK} bytes)"
        raise SourceError(path.name + problem) from None
    first = 2 if header else 1
    is_bad = np.zeros(table.num_rows + len(bad), dtype=bool)  # for every row of the file
    is_bad[[row.number - first for row in bad]] = True
    newlines = np.zeros(len(is_bad), dtype=np.int64)  # in its quoted fields
    newlines[is_bad] = [row.text.count("\n") for row in bad]
    newlines[~is_bad] = sum(pc.count_substring(column, "\n").to_numpy() for column in table.columns)
    if not len(is_bad):
        raise SourceError(f"{path.name} holds no rows: it must have at least one" + " below the header" * header)
    line = first + np.arange(len(is_bad)) + np.cumsum(newlines) - newlines
    if options.quote_char and newlines[-1]:
        _quote_is_closed(path, line[-1])
    malformed = [np.arange(line[row], line[row] + newlines[row] + 1) for row in np.flatnonzero(is_bad)]
    dropped = {"malformed line": np.concatenate(malformed)} if malformed else {}
    return Rows(path.name, table.to_pandas().assign(line=line[~is_bad]), dropped)


def _quote_is_closed(path: Path, last: int) -> None:
    # At the end of the file the parser closes an open quote, so that the last row swallows all rows below it.
    with path.open(encoding="utf-8", newline="") as file:
        try:
            list(csv.reader(itertools.islice(file, int(last) - 1, None), strict=True))
        except csv.Error as error:
            if "expected after" not in str(error):  # a stray quote inside the row is harmless
                raise SourceError(f"{path.name}:{last}: a quote is opened in this row and never closed") from None
