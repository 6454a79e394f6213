"""Timestamps of a person's own file: what is read, what is asked."""

from datetime import UTC, datetime

import numpy as np
import pandas as pd
import pytest

from mmrec.data.cleaning.rows import Rows, SourceError
from mmrec.data.cleaning.times import timed

DAY_1 = 1_577_923_200  # 2020-01-02
NEXT_YEAR = datetime.now(UTC).year + 1


def rows(*times: str) -> Rows:
    return Rows("i.csv", pd.DataFrame({"timestamp": times, "line": np.arange(len(times)) + 2}))


def values(found: Rows) -> list[int]:
    assert found.frame["timestamp"].dtype == np.int64
    return found.frame["timestamp"].tolist()


READ = {
    "order numbers from 0": (["0", "2", "1", "2"], [1, 3, 2, 3], "order numbers, 0 to 2, no dates"),
    "order numbers from 1": (["1", " 2", "3"], [1, 2, 3], "order numbers, 1 to 3"),
    "order numbers that became floats": (["1.0", "2.0"], [1, 2], "order numbers"),
    "order numbers with a gap": (["0", "", "5"], [1, 0, 6], "order numbers"),
    "no timestamps": (["", " ", ""], [1, 2, 3], "the order of its rows"),
    "seconds": (["1577923200", "0", ""], [DAY_1, 0, 0], "unix time"),
    "milliseconds": (["1577923200000"], [DAY_1], "unix time"),
    "microseconds": (["1577923200000000"], [DAY_1], "unix time"),
    "days": (["20200102", "20200103"], [DAY_1, DAY_1 + 86_400], "ISO 8601"),
    "ISO basic": (["20200102T000001"], [DAY_1 + 1], "ISO 8601"),
    "ISO extended": (["2020-01-02T00:00:01", "soon"], [DAY_1 + 1, 0], "ISO 8601"),
    "UTC": (["2020-01-02 00:00:01 UTC"], [DAY_1 + 1], "ISO 8601"),
    "offset": (["2020-01-02T02:00:00+02:00"], [DAY_1], "ISO 8601"),
    "first year": (["1990-01-01"], [631_152_000], "ISO 8601"),
    "last year": ([f"{NEXT_YEAR}-12-31"], [int(datetime(NEXT_YEAR, 12, 31, tzinfo=UTC).timestamp())], "ISO 8601"),
}


@pytest.mark.parametrize(("texts", "expected", "said"), READ.values(), ids=READ)
def test_times_that_are_read(texts, expected, said):
    found, note = timed(rows(*texts))
    assert values(found) == expected
    assert said in note


FORMATTED = {
    "%d/%m/%Y": ["02/01/2020", "02/01/2020"],
    "%m/%d/%Y %H:%M": ["01/02/2020 00:00", "01/02/2020 00:00"],
    "%d.%m.%y": ["02.01.20", "2.1.20"],
    "%d %b %Y": ["02 Jan 2020", "2 Jan 2020"],
    "%Y%m%d%H%M%S": ["20200102000000", "20200102000000"],
}


@pytest.mark.parametrize(("said", "texts"), FORMATTED.items())
def test_times_of_a_given_format(said, texts):
    found, note = timed(rows(*texts, "", "soon"), said)
    assert values(found) == [DAY_1, DAY_1, 0, 0]
    assert repr(said) in note


ASKED = {
    "day first": (["01/02/2020", "31/12/2019"], "i.csv:2: timestamp '01/02/2020' .* \"%d/%m/%Y\"$"),
    "month first": (["", "01/02/2020", "12/31/2019"], 'i.csv:3: .* timestamp_format: "%m/%d/%Y"$'),
    "either first": (["2020-01-02", "1/2/2020"], 'i.csv:3: .*"%d/%m/%Y" or timestamp_format: "%m/%d/%Y"$'),
    "dots": (["31.12.2019"], '"%d.%m.%Y"$'),
    "dashes, two digits of the year": (["31-12-19"], '"%d-%m-%y"$'),
    "minutes": (["31/12/2019 10:20"], '"%d/%m/%Y %H:%M"$'),
    "seconds": (["31/12/2019 10:20:30"], '"%d/%m/%Y %H:%M:%S"$'),
    "no separators": (["31122019", "01022020"], 'looks like day, month and year .*"%d%m%Y"'),
    "words": (["3 Jan 2020", "soon"], "i.csv:2: timestamp '3 Jan 2020' is neither .* timestamp_format"),
    "nanoseconds": (["1577923200000000000"], "is neither unix time nor ISO 8601.*timestamp_format"),
    "1970 among times": (["1577923200", "5"], "i.csv:3: timestamp '5' is of the year 1970, outside 1990 to .*any_year"),
    "1985": (["1985-03-01"], "is of the year 1985"),
    "1989": (["1989-12-31"], "is of the year 1989"),
    "before 1970": (["1969-12-31", "2020-01-02"], "i.csv:2: .*is before 1990"),
    "digits of a moment": (["20200102000000"], "outside 1990 to .*any_year: true .* else timestamp_format"),
    "after next year": ([f"{NEXT_YEAR + 1}-01-01"], f"is of the year {NEXT_YEAR + 1}, outside 1990 to {NEXT_YEAR}:"),
}


@pytest.mark.parametrize(("texts", "message"), ASKED.values(), ids=ASKED)
def test_times_that_raise_a_question_of_one_line(texts, message):
    with pytest.raises(SourceError, match=message) as error:
        timed(rows(*texts))
    assert "\n" not in str(error.value)


def test_unlikely_years_are_accepted_where_they_are_said_to_be_right():
    found, _ = timed(rows("1985-03-01", "1577923200", "2999-01-01"), any_year=True)
    assert values(found) == [478_483_200, DAY_1, 32_472_144_000]


@pytest.mark.parametrize(
    ("said", "message"),
    [("%Y-%m", "is not of the timestamp_format '%Y-%m'"), ("%Q", "timestamp_format '%Q' of the data set's source: ")],
)
def test_a_format_that_fits_nothing_is_refused(said, message):
    with pytest.raises(SourceError, match=message):
        timed(rows("02/01/2020"), said)


def test_years_of_a_given_format_are_asked_about_too():
    with pytest.raises(SourceError, match="i.csv:2: timestamp '02/01/1920' is before 1990"):
        timed(rows("02/01/1920", "02/01/1820"), "%d/%m/%Y")
