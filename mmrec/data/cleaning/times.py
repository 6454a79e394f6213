"""Timestamps of a person's own file: order numbers, unix time, ISO 8601 or a given format; or the order of the file."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd

from mmrec.data.cleaning.rows import Rows, SourceError
from mmrec.data.cleaning.tables import DAY, seconds

ORDER = r"[0-9]{1,8}(\.0*)?"  # as unix time, before March 1973
DIGITS = r"((0[1-9]|[12][0-9]|3[01])(0[1-9]|1[0-2])|(0[1-9]|1[0-2])(0[1-9]|[12][0-9]|3[01]))(19|20)[0-9]{2}"
MONTH_UNCLEAR = r"([0-9]{1,2})([/.-])([0-9]{1,2})[/.-]([0-9]{4}|[0-9]{2})(?![0-9])(.*)"
BEFORE_1990 = r"(0[0-9]{3}|1[0-8][0-9]{2}|19[0-8][0-9])-"  # `seconds` gives 0 before 1970
FIRST_YEAR = 1990


def timed(rows: Rows, timestamp_format: str | None = None, any_year: bool = False) -> tuple[Rows, str]:
    """Rows with `timestamp` (text; "" if there is none) as int64, 0 for none, and a note on their meaning.

    Timestamps are seconds since 1970 UTC, or positive order numbers: given ones, or the row numbers of a file without
    timestamps.

    Args:
        timestamp_format: of `strptime`, of every timestamp. None: they are unix time, ISO 8601 or order numbers.
        any_year: accept years before 1990 and after next year.

    Raises SourceError: timestamps of an unknown or unclear format, or an unlikely year; it names the key to set.
    """
    text = rows.frame["timestamp"].str.strip()
    filled = text != ""
    if not filled.any():
        note = f"{rows.file} has no timestamps: the order of its rows is taken as the order of events"
        return rows.assign(timestamp=np.arange(1, len(text) + 1)), note
    if timestamp_format is not None:
        value = _formatted(rows, text, timestamp_format)
        note = f"timestamps of {rows.file} are read as {timestamp_format!r}"
    elif text[filled].str.fullmatch(ORDER).all() and not text[filled].str.fullmatch(DAY).all():
        return _order_numbers(rows, text, filled)
    else:
        unclear = text.str.match(MONTH_UNCLEAR).astype(bool)
        if unclear.any():
            problem = "does not say which of its numbers is the month"
            raise _question(rows, unclear, f"{problem}: {_set_format(_formats(text[unclear]))}")
        value = seconds(text).to_numpy()
        if not value.any() and not text.str.match(BEFORE_1990).any():
            problem = "is neither unix time nor ISO 8601"
            raise _question(rows, filled, f"{problem}: {_set_format(['%d %b %Y'])}, or another that fits")
        note = f"timestamps of {rows.file} are unix time or ISO 8601"
    if not any_year:
        _likely_years(rows, text, value)
    return rows.assign(timestamp=np.maximum(value, 0).astype(np.int64)), note


def _question(rows: Rows, where: pd.Series | np.ndarray, problem: str) -> SourceError:
    row = rows.frame[np.asarray(where)].iloc[0]
    return SourceError(f"{rows.locate([row['line']])[0]}: timestamp {row['timestamp']!r} {problem}")


def _set_format(formats: list[str]) -> str:
    said = " or ".join(f'timestamp_format: "{each}"' for each in formats)
    return f"in params.yaml, under the data set's source, say {said}"


def _formatted(rows: Rows, text: pd.Series, timestamp_format: str) -> np.ndarray:
    try:
        moment = pd.to_datetime(text, format=timestamp_format, utc=True, errors="coerce").dt.as_unit("s")
    except ValueError as error:
        raise SourceError(f"timestamp_format {timestamp_format!r} of the data set's source: {error}") from None
    if moment.isna().all():
        raise _question(rows, text != "", f"is not of the timestamp_format {timestamp_format!r}, nor is any other")
    return np.where(moment.isna(), 0, moment.astype(np.int64))


def _order_numbers(rows: Rows, text: pd.Series, filled: pd.Series) -> tuple[Rows, str]:
    if text[filled].str.fullmatch(DIGITS).all():
        problem = "looks like day, month and year without separators"
        raise _question(rows, filled, f"{problem}: {_set_format(['%d%m%Y', '%m%d%Y'])}")
    number = pd.to_numeric(text[filled]).to_numpy().astype(np.int64)
    value = np.zeros(len(text), np.int64)
    value[filled] = number + (number.min() == 0)  # 0 stands for no timestamp
    note = f"timestamps of {rows.file} are order numbers, {number.min()} to {number.max()}, no dates"
    return rows.assign(timestamp=value), note


def _formats(text: pd.Series) -> list[str]:
    """The formats that fit dates such as 31/12/2019 10:20."""
    parts = text.str.extract(MONTH_UNCLEAR)
    mark, year, rest = parts.loc[parts.index[0], [1, 3, 4]]
    clock = {0: "", 1: " %H:%M", 2: " %H:%M:%S"}.get(rest.count(":"), "")
    first, second = (pd.to_numeric(parts[name]).max() for name in (0, 2))
    orders = [order for order, day in (("dm", first), ("md", second)) if max(first, second) <= 12 or day > 12]
    named = "%Y" if len(year) == 4 else "%y"
    return [f"%{order[0]}{mark}%{order[1]}{mark}{named}{clock}" for order in orders]


def _likely_years(rows: Rows, text: pd.Series, value: np.ndarray) -> None:
    last = datetime.now(UTC).year + 1
    begin, end = (datetime(year, 1, 1, tzinfo=UTC).timestamp() for year in (FIRST_YEAR, last + 1))
    early = text.str.match(BEFORE_1990).to_numpy(bool)
    unlikely = ((value != 0) & (value < begin)) | (value >= end) | ((value == 0) & early)
    if unlikely.any():
        first = int(value[unlikely][0])
        year = f"of the year {np.datetime64(first, 's').astype('datetime64[Y]')}" if first > 0 else "before 1990"
        mend = "any_year: true under the data set's source in params.yaml if that is right, else timestamp_format"
        raise _question(rows, unlikely, f"is {year}, outside {FIRST_YEAR} to {last}: say {mend}")
