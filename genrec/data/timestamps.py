"""Parsing of times into microseconds since 1970, vectorized over whole columns.

Microseconds in int64 are exact for all times that a log can have, and order and equality are those of integers; float64
seconds would be exact only until 2242, and the files of sequences (TFDS) hold float32 or int64.
"""

import dataclasses
import datetime
import decimal
from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

SECOND = 1_000_000  # microseconds
HOUR = 3600 * SECOND
UNITS = {"s": "seconds", "ms": "milliseconds", "us": "microseconds", "ns": "nanoseconds"}
EARLIEST = -2_208_988_800  # seconds: the year 1900, in which programs have their zero, or before it
LATEST = 7_258_118_400  # seconds: the year 2200
YEAR_1971 = 365 * 24 * 3600  # seconds
YEAR_1990 = 631_152_000  # seconds; no log that has finer units is older
# Of a log within 1970: below are seconds counted by hand, from here on day numbers, years and other counters.
COUNTED = 1000
BILLION = 1_000_000_000
EXAMPLE = datetime.datetime(2024, 5, 31, 18, 30)
DAYS_AS_NUMBERS = {8: "%Y%m%d", 10: "%Y%m%d%H", 12: "%Y%m%d%H%M", 14: "%Y%m%d%H%M%S"}  # by number of digits

_NUMBER = r"^\s*[+-]?([0-9]+(\.[0-9]*)?|\.[0-9]+)([eE][+-]?[0-9]{1,2})?\s*$"
_FITS = r"^-?([0-9]{1,18}|[0-8][0-9]{18})(\.|$)"  # int64; longer numbers are no times
_ISO = (
    r"^(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ](?P<clock>[0-9]{2}:[0-9]{2})(?P<seconds>:[0-9]{2})?(?:[.,](?P<fraction>[0-9]+))?"
    r" ?(?P<zone>Z|z|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?)?)?$"
)

Column: TypeAlias = pa.ChunkedArray | pa.Array


@dataclasses.dataclass(frozen=True)
class Times:
    """How a log writes its times."""

    column: str = "timestamp"  # or order
    # Of numbers, one of UNITS. An order is in "us" where it has no decimals, so that it stays as it is, else in
    # "billionths", which keeps nine decimals.
    unit: str = "s"
    form: str = ""  # as in data.time_format; empty for numbers and ISO 8601
    are_numbers: bool = True  # whether all times are written as numbers


@dataclasses.dataclass(frozen=True)
class Extent:
    """Numbers of each magnitude in a column of times, or in a part of it."""

    # Numbers that are seconds of 1970, then those that are seconds, milliseconds, microseconds, nanoseconds after 1970
    # and until 2200, then larger ones.
    counts: tuple[int, ...] = (0,) * 6
    examples: tuple[int | None, ...] = (None,) * 6  # the first of each
    fractions: bool = False  # whether there are numbers with decimals
    others: bool = False  # whether there are times that are not written as numbers

    @staticmethod
    def merge(parts: Sequence["Extent"]) -> "Extent":
        """Returns the extent of a column from those of its parts, in order."""
        return Extent(
            tuple(map(sum, zip(*(part.counts for part in parts), strict=True))),
            tuple(
                next((example for example in of_magnitude if example is not None), None)
                for of_magnitude in zip(*(part.examples for part in parts), strict=True)
            ),
            any(part.fractions for part in parts),
            any(part.others for part in parts),
        )

    @property
    def order_unit(self) -> str:
        """The unit of an order that has these numbers, the finest in which all fit into 64 bits."""
        if not (self.fractions or self.others):
            return "us"
        return "s" if self.others or any(self.counts[2:]) else "billionths"

    @property
    def units(self) -> list[str]:
        """The units that the numbers seem to have; "beyond" for those that are too large for any."""
        return [unit for unit, count in zip((*UNITS, "beyond"), self.counts[1:], strict=True) if count]

    def described(self) -> str:
        """Returns the numbers of each magnitude in words."""
        names = (*UNITS.values(), "more than nanoseconds")
        found = zip(names, self.counts[1:], self.examples[1:], strict=True)
        return ", ".join(f"{count:,} such as {example} ({name})" for name, count, example in found if count)


@dataclasses.dataclass(frozen=True)
class Cells:
    """Cells of a column of times, before the unit of its numbers is known."""

    is_number: np.ndarray  # bool[rows]
    wholes: np.ndarray  # int64[rows], the numbers, rounded down
    billionths: np.ndarray | None  # int64[rows], their decimals; None where there are none
    is_time: np.ndarray  # bool[rows], cells that are not numbers and could be parsed
    times: np.ndarray  # int64[rows], these in microseconds since 1970
    are_floats: bool = False  # numbers in binary, whose decimals are rounded

    @property
    def extent(self) -> Extent:
        """The magnitudes of the numbers."""
        numbers = self.wholes if self.is_number.all() else self.wholes[self.is_number]
        # The largest negative number has no absolute value.
        sizes = np.abs(np.maximum(numbers, -np.iinfo(np.int64).max))
        limits = [YEAR_1971 - 1, *(LATEST * 1000**power for power in range(4))]
        ends = np.searchsorted(limits, [sizes.min(), sizes.max()]) if len(sizes) else np.zeros(2, int)
        if ends[0] == ends[1]:  # of nearly all columns
            magnitudes = np.broadcast_to(ends[:1], len(sizes))
            counts = ((np.arange(6) == ends[0]) * len(sizes)).tolist()
        else:
            magnitudes = np.searchsorted(limits, sizes)
            counts = np.bincount(magnitudes, minlength=6).tolist()
        examples = [
            int(numbers[np.argmax(magnitudes == place)]) if count else None for place, count in enumerate(counts)
        ]
        fractions = self.billionths is not None and bool(self.billionths[self.is_number].any())
        return Extent(tuple(counts), tuple(examples), fractions, bool(self.is_time.any()))

    def microseconds(self, unit: str) -> tuple[np.ndarray, np.ndarray]:
        """Returns int64[rows], microseconds since 1970, and bool[rows], True where a cell could be parsed."""
        if unit == "ns":
            found = self.wholes // 1000
        else:
            factor = {"billionths": BILLION, "s": SECOND, "ms": 1000, "us": 1}[unit]
            most = np.iinfo(np.int64).max // factor - 1
            found = np.clip(self.wholes, -most, most) * factor
            if self.billionths is not None:
                found += (self.billionths * factor + (BILLION // 2 if self.are_floats else 0)) // BILLION
        if not self.is_time.any():
            return found, self.is_number
        return np.where(self.is_number, found, self.times), self.is_number | self.is_time


def cells(column: Column, form: str = "") -> Cells:
    """Parses numbers, ISO 8601 text (UTC where there is no zone), and Arrow's dates and times.

    With `form`, cells are text in this format of `datetime.strptime` instead, or numbers that are read as such text.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
        if isinstance(column, pa.ChunkedArray):  # older pyarrow
            column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    kind = column.type
    if pa.types.is_date(kind) or pa.types.is_timestamp(kind):
        return _times_only(_native(column))
    if pa.types.is_decimal(kind):
        column = column.cast(pa.string())
    if form:
        return _times_only(_formatted(column, form))
    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        return _text_cells(column)
    if pa.types.is_floating(kind):
        return _float_cells(column.cast(pa.float64()).fill_null(np.nan).to_numpy())
    if pa.types.is_integer(kind):
        if pa.types.is_uint64(kind):
            column = pc.if_else(pc.less_equal(column, pa.scalar(2**63 - 1, pa.uint64())), column, None)
        return _number_cells(column.cast(pa.int64()), None)
    return _times_only(pa.nulls(len(column), pa.int64()))


def parse(column: Column) -> tuple[np.ndarray, np.ndarray]:
    """Parses times, whose numbers are Unix seconds, as `Cells.microseconds`."""
    return cells(column).microseconds("s")


def digits_of(times: Sequence[int], written: Times) -> str:
    """Returns the format in which all numbers are days, such as 2024053118 with its hour; empty if there is none.

    `times` are microseconds since 1970 that were read from numbers as `written` says.
    """
    if not written.are_numbers or written.unit == "ns":
        return ""
    numbers = [str(time // {"s": SECOND, "ms": 1000, "us": 1}[written.unit]) for time in times]
    form = DAYS_AS_NUMBERS.get(len(numbers[0]), "")
    return form if form and all(_microseconds(number, form, exact=True) is not None for number in numbers) else ""


def readable(time: int) -> str:
    """Returns microseconds since 1970 as text, such as 2024-05-31 18:30:00."""
    return f"{datetime.datetime.fromtimestamp(time // SECOND, datetime.UTC):%Y-%m-%d %H:%M:%S}"


def _arrays(column: pa.Array) -> tuple[np.ndarray, np.ndarray]:
    return column.fill_null(0).to_numpy(), column.is_valid().to_numpy(zero_copy_only=False)


def _times_only(microseconds: pa.Array) -> Cells:
    times, is_time = _arrays(microseconds)
    return Cells(np.zeros(len(times), bool), np.zeros(len(times), np.int64), None, is_time, times)


def _native(column: pa.Array) -> pa.Array:
    """Returns int64[rows], microseconds since 1970 of dates and times of Arrow, the nearest that 64 bits can hold."""
    kind = column.type
    numbers, known = _arrays((column.cast(pa.int32()) if pa.types.is_date32(kind) else column).cast(pa.int64()))
    if not pa.types.is_date(kind) and kind.unit == "ns":
        return pa.array(numbers // 1000, mask=~known)
    factor = 1000 if pa.types.is_date64(kind) else 24 * HOUR
    if pa.types.is_timestamp(kind):
        factor = {"s": SECOND, "ms": 1000, "us": 1}[kind.unit]
    most = np.iinfo(np.int64).max // factor
    return pa.array(np.clip(numbers, -most, most) * factor, mask=~known)


def _number_cells(wholes: pa.Array, billionths: np.ndarray | None, are_floats: bool = False) -> Cells:
    numbers, is_number = _arrays(wholes)
    nothing = np.zeros(len(numbers), np.int64)
    return Cells(is_number, numbers, billionths, np.zeros(len(numbers), bool), nothing, are_floats)


def _float_cells(numbers: np.ndarray) -> Cells:
    fits = np.abs(numbers) < 2.0**63  # also False for NaN
    wholes = np.floor(np.where(fits, numbers, 0))
    billionths = np.rint((np.where(fits, numbers, 0) - wholes) * BILLION).astype(np.int64)
    column = pa.array(wholes.astype(np.int64), mask=~fits)
    return _number_cells(column, billionths if billionths.any() else None, are_floats=True)


def _text_cells(text: pa.Array) -> Cells:
    numeric = pc.match_substring_regex(text, _NUMBER)
    if pc.all(numeric, min_count=0).as_py():
        return _numeric_cells(text)
    times, is_time = _arrays(_iso(text))
    if not pc.any(numeric).as_py():
        return dataclasses.replace(_number_cells(pa.nulls(len(text), pa.int64()), None), is_time=is_time, times=times)
    return dataclasses.replace(_numeric_cells(pc.if_else(numeric, text, None)), is_time=is_time, times=times)


def _numeric_cells(text: pa.Array) -> Cells:
    """Returns the cells of text that holds numbers or nothing."""
    text = pc.replace_substring_regex(pc.utf8_trim_whitespace(text), r"^\+", "")
    if pc.any(pc.match_substring_regex(text, "[eE]")).as_py():  # such as 1.7e9, as NumPy writes floats
        text = pa.array([None if one is None else f"{decimal.Decimal(one):f}" for one in text.to_pylist()], text.type)
    if pc.any(pc.match_substring_regex(text, r"^-?\.")).as_py():  # .5 is 0.5
        text = pc.replace_substring_regex(text, r"^(-?)\.", r"\10.")
    text = pc.if_else(pc.match_substring_regex(text, _FITS), text, None)
    if not pc.any(pc.match_substring(text, ".")).as_py():
        return _number_cells(text.cast(pa.int64()), None)
    parts = pc.extract_regex(text, r"^(?P<whole>-?[0-9]+)\.?(?P<decimals>[0-9]*)$")
    wholes = pc.struct_field(parts, "whole").cast(pa.int64())
    decimals = pc.utf8_slice_codeunits(pc.utf8_rpad(pc.struct_field(parts, "decimals"), 9, "0"), 0, 9)
    billionths = decimals.cast(pa.int64()).fill_null(0).to_numpy()
    # Decimals count upwards, also from a number below zero, which is rounded down.
    below = pc.starts_with(text, "-").fill_null(False).to_numpy(zero_copy_only=False) & (billionths > 0)
    wholes = pc.subtract(wholes, pa.array(below.astype(np.int64)))
    return _number_cells(wholes, np.where(below, BILLION - billionths, billionths))


def _iso(text: pa.Array) -> pa.Array:
    """Returns int64[rows], microseconds since 1970, null where the text is not ISO 8601."""
    parts = pc.extract_regex(pc.utf8_trim_whitespace(text), _ISO)
    date, clock, seconds, fraction, zone = (
        pc.struct_field(parts, name) for name in ("date", "clock", "seconds", "fraction", "zone")
    )
    clock = pc.if_else(pc.equal(clock, ""), "00:00", clock)
    seconds = pc.if_else(pc.equal(seconds, ""), ":00", seconds)
    texts = pc.binary_join_element_wise(date, pc.binary_join_element_wise(clock, seconds, ""), " ")
    parsed = pc.strptime(texts, format="%Y-%m-%d %H:%M:%S", unit="s", error_is_null=True)
    # strptime parses 30 February as 1 March.
    same_day = pc.equal(pc.day(parsed), pc.utf8_slice_codeunits(date, 8, 10).cast(pa.int64()))
    whole = pc.subtract(pc.if_else(same_day, parsed, None).cast(pa.int64()), _offset(zone))
    millionths = pc.utf8_slice_codeunits(pc.utf8_rpad(fraction, 6, "0"), 0, 6).cast(pa.int64())
    return pc.add(pc.multiply(whole, SECOND), millionths)


def _offset(zone: pa.Array) -> pa.Array:
    """Returns the UTC offset in seconds, positive east of Greenwich; 0 for "Z" and where there is no zone."""
    named = pc.match_substring_regex(zone, "^[+-]")
    digits = pc.if_else(named, pc.utf8_rpad(pc.replace_substring(zone, ":", ""), 5, "0"), "+0000")
    hours = pc.utf8_slice_codeunits(digits, 1, 3).cast(pa.int64())
    minutes = pc.utf8_slice_codeunits(digits, 3, 5).cast(pa.int64())
    seconds = pc.add(pc.multiply(hours, 3600), pc.multiply(minutes, 60))
    return pc.if_else(pc.starts_with(digits, "-"), pc.negate(seconds), seconds)


def _formatted(column: pa.Array, form: str) -> pa.Array:
    """Returns int64[rows], microseconds since 1970, null where the text of a cell is not in a format of `strptime`."""
    if pa.types.is_floating(column.type):  # integers of a column with missing values
        column = pc.if_else(pc.equal(column, pc.floor(column)), column, None).cast(pa.int64(), safe=False)
    texts = column.cast(pa.string()).dictionary_encode()
    # Python's parser knows %f, %z and %p on every machine. Few texts differ: days, or the seconds of a log.
    values = pa.array([_microseconds(text.strip(), form) for text in texts.dictionary.to_pylist()], pa.int64())
    return values.take(texts.indices)


def _microseconds(text: str, form: str, exact: bool = False) -> int | None:
    try:
        time = datetime.datetime.strptime(text, form)
    except ValueError:
        # 20240531.0 is an integer of a column with missing values.
        return None if exact or not text.endswith(".0") else _microseconds(text[:-2], form, exact=True)
    in_zone = time if time.tzinfo else time.replace(tzinfo=datetime.UTC)
    return (in_zone - datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)) // datetime.timedelta(microseconds=1)
