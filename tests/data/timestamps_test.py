"""Every documented format of a time gives the same microsecond, and units are recognized by their magnitude."""

import datetime
import decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from genrec.data import timestamps

REQUEST_TIME = datetime.datetime(2024, 5, 31, 18, 30, 0, 250_000, tzinfo=datetime.UTC)
MICROSECONDS = 1_717_180_200_250_000
SECONDS = MICROSECONDS // timestamps.SECOND


@pytest.mark.parametrize(
    "text",
    [
        f"{SECONDS}.25",
        f"+{SECONDS}.2500009",
        "2024-05-31T18:30:00.25Z",
        "2024-05-31 18:30:00.250000",
        "2024-05-31 18:30:00,250 UTC",
        "2024-05-31t18:30:00.2500000001z",
        "2024-05-31T20:30:00.25+02:00",
        "2024-05-31 20:30:00.25+02",
        "2024-05-31T13:00:00.25-0530",
    ],
)
def test_texts_are_parsed(text):
    times, readable = timestamps.parse(pa.array([text, "2024-05-31T18:30:00.25Z"]))
    assert readable.all()
    np.testing.assert_array_equal(times, [MICROSECONDS, MICROSECONDS])


def test_a_date_is_its_midnight_in_utc_and_seconds_may_be_left_out():
    times, _ = timestamps.parse(pa.array(["1970-01-02", "1970-01-02T00:00"]))
    assert times.tolist() == [86_400 * timestamps.SECOND] * 2


@pytest.mark.parametrize(
    "column",
    [
        pa.array([REQUEST_TIME], pa.timestamp("ns", tz="UTC")),
        pa.array([REQUEST_TIME.replace(tzinfo=None)], pa.timestamp("us")),
        pa.array([SECONDS + 0.25], pa.float64()),
        pa.array([decimal.Decimal(f"{SECONDS}.250")]),
        pa.chunked_array([pa.array([f"{SECONDS}.25"]), pa.array([], pa.string())]),
    ],
)
def test_arrow_types_are_converted(column):
    assert timestamps.parse(column)[0].tolist() == [MICROSECONDS]
    assert timestamps.parse(pa.array([SECONDS], pa.int32()))[0].tolist() == [SECONDS * timestamps.SECOND]


@settings(deadline=None)
@given(st.integers(-(10**15), 7 * 10**15))
def test_every_microsecond_is_kept(time):
    """In decimals, in float64, in ISO 8601, and in every finer unit."""
    sign, digits = "-" * (time < 0), f"{abs(time):07d}"
    iso = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=time)
    for column, unit in (
        (pa.array([f"{sign}{digits[:-6]}.{digits[-6:]}"]), "s"),
        (pa.array([time / 1e6]), "s"),
        (pa.array([f"{sign}{digits[:-3]}.{digits[-3:]}"]), "ms"),
        (pa.array([str(time)]), "us"),
        (pa.array([time * 1000 + 999]), "ns"),
        (pa.array([iso.isoformat()]), "s"),
    ):
        assert timestamps.cells(column).microseconds(unit)[0].tolist() == [time]


@pytest.mark.parametrize("unit", timestamps.UNITS)
def test_the_unit_is_recognized_by_the_magnitude_of_the_numbers(unit):
    numbers = np.array([5e8, 1.7e9, 7e9]) * 1000 ** list(timestamps.UNITS).index(unit)
    for column in (pa.array(numbers.astype(np.int64)), pa.array(numbers.astype(np.int64)).cast(pa.string())):
        assert timestamps.cells(column).extent.units == [unit]
    parts = [timestamps.cells(pa.array([value])).extent for value in (1_700_000_000, 1_700_000_000_123, 0)]
    assert timestamps.Extent.merge(parts).units == ["s", "ms"]


@pytest.mark.parametrize(
    "text", ["yesterday", "", "31.5.2024", "2024-02-30", "2024-13-01", "12:30", "9" * 30, "1e999", "e9"]
)
def test_invalid_times_are_marked(text):
    times, readable = timestamps.parse(pa.array([text, "5", None]))
    assert readable.tolist() == [False, True, False]
    assert times[1] == 5 * timestamps.SECOND


def test_missing_numbers_are_marked():
    for column in (pa.array([None, 1.0, float("nan")]), pa.array([None, 1, None]), pa.nulls(3)):
        readable = timestamps.parse(column)[1]
        assert not readable[0] and not readable[2]


@pytest.mark.parametrize(
    ("form", "column"),
    [
        ("%Y%m%d", pa.array(["20240531", "20240532", None])),
        ("%Y%m%d", pa.array([20240531, 20240532, None])),
        ("%Y%m%d", pa.array([20240531.0, 20240531.5, None])),
        ("%m/%d/%Y %I:%M:%S %p", pa.array(["5/31/2024 12:00:00 AM", "31/5/2024 12:00:00 AM", None])),
        ("%d.%m.%Y %H:%M:%S.%f %z", pa.array(["31.5.2024 02:00:00.0 +0200", "", None])),
    ],
)
def test_a_format_reads_times_that_are_written_otherwise(form, column):
    times, readable = timestamps.cells(column, form).microseconds("s")
    assert readable.tolist() == [True, False, False]
    assert times[0] == 1_717_113_600 * timestamps.SECOND
