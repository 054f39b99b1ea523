"""Every documented format of a time gives the same second."""

import datetime

import numpy as np
import pyarrow as pa
import pytest

from genrec.data import timestamps

REQUEST_TIME = datetime.datetime(2024, 5, 31, 18, 30, tzinfo=datetime.UTC)
SECONDS = int(REQUEST_TIME.timestamp())


@pytest.mark.parametrize(
    "text",
    [
        str(SECONDS),
        f"{SECONDS}.75",
        "2024-05-31T18:30:00Z",
        "2024-05-31 18:30:00",
        "2024-05-31T18:30",
        "2024-05-31T18:30:00.999Z",
        "2024-05-31T20:30:00+02:00",
        "2024-05-31T13:00:00-0530",
    ],
)
def test_texts_are_parsed(text):
    seconds, readable = timestamps.parse(pa.array([text, "2024-05-31T18:30:00Z"]))
    assert readable.all()
    np.testing.assert_array_equal(seconds, [SECONDS, SECONDS])


def test_a_date_is_its_midnight_in_utc():
    seconds, _ = timestamps.parse(pa.array(["1970-01-02"]))
    assert seconds.tolist() == [86_400]


def test_arrow_types_are_converted():
    for column in (
        pa.array([REQUEST_TIME], pa.timestamp("ns", tz="UTC")),
        pa.array([REQUEST_TIME.replace(tzinfo=None)], pa.timestamp("us")),
        pa.array([SECONDS], pa.int32()),
        pa.array([SECONDS + 0.5], pa.float64()),
    ):
        assert timestamps.parse(column)[0].tolist() == [SECONDS], column.type


@pytest.mark.parametrize("text", ["yesterday", "", "31.5.2024", "2024-02-30", "2024-13-01", "12:30", "9" * 30, "1e9"])
def test_invalid_times_are_marked(text):
    seconds, readable = timestamps.parse(pa.array([text, "5", None]))
    assert readable.tolist() == [False, True, False]
    assert seconds[1] == 5


def test_missing_numbers_are_marked():
    for column in (pa.array([None, 1.0, float("nan")]), pa.array([None, 1, None]), pa.nulls(3)):
        readable = timestamps.parse(column)[1]
        assert not readable[0] and not readable[2]
