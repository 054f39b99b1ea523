"""Parsing of times into Unix seconds, vectorized over whole columns."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

_NUMBER = r"^\s*-?[0-9]+(\.[0-9]+)?\s*$"
_ISO = (
    r"^(?P<date>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[T ](?P<clock>[0-9]{2}:[0-9]{2})(?P<seconds>:[0-9]{2})?(?:\.[0-9]+)?"
    r"(?P<zone>Z|[+-][0-9]{2}:?[0-9]{2})?)?$"
)


def parse(column: pa.ChunkedArray | pa.Array) -> tuple[np.ndarray, np.ndarray]:
    """Parses Unix seconds, ISO 8601 text (UTC where there is no zone), or Arrow's dates and times.

    Returns:
      int64[rows], seconds (fractions are dropped), and bool[rows], True where a value could be parsed.
    """
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    if pa.types.is_null(column.type):
        return np.zeros(len(column), np.int64), np.zeros(len(column), bool)
    if pa.types.is_date(column.type) or pa.types.is_timestamp(column.type):
        column = column.cast(pa.timestamp("s"), safe=False).cast(pa.int64())
    elif pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = _parse_text(column)
    elif pa.types.is_floating(column.type):
        finite = pc.is_finite(column)
        column = pc.floor(pc.if_else(finite, column, None)).cast(pa.int64(), safe=False)
    elif pa.types.is_integer(column.type):
        if pa.types.is_uint64(column.type):
            column = pc.if_else(pc.less_equal(column, pa.scalar(2**63 - 1, pa.uint64())), column, None)
        column = column.cast(pa.int64())
    else:
        column = pa.nulls(len(column), pa.int64())
    return column.fill_null(0).to_numpy(), column.is_valid().to_numpy(zero_copy_only=False)


def _parse_text(text: pa.Array) -> pa.Array:
    """Returns int64[rows], null where the text is not a time."""
    numeric = pc.match_substring_regex(text, _NUMBER)
    if pc.all(numeric, min_count=0).as_py():
        return _parse_numbers(text)
    parts = pc.extract_regex(pc.utf8_trim_whitespace(text), _ISO)
    date, clock, seconds, zone = (pc.struct_field(parts, name) for name in ("date", "clock", "seconds", "zone"))
    clock = pc.if_else(pc.equal(clock, ""), "00:00", clock)
    seconds = pc.if_else(pc.equal(seconds, ""), ":00", seconds)
    texts = pc.binary_join_element_wise(date, pc.binary_join_element_wise(clock, seconds, ""), " ")
    parsed = pc.strptime(texts, format="%Y-%m-%d %H:%M:%S", unit="s", error_is_null=True)
    # strptime parses 30 February as 1 March.
    same_day = pc.equal(pc.day(parsed), pc.utf8_slice_codeunits(date, 8, 10).cast(pa.int64()))
    iso = pc.subtract(pc.if_else(same_day, parsed, None).cast(pa.int64()), _offset(zone))
    if not pc.any(numeric).as_py():
        return iso
    return pc.if_else(numeric, _parse_numbers(pc.if_else(numeric, text, None)), iso)


def _parse_numbers(text: pa.Array) -> pa.Array:
    """Returns int64[rows], the numbers without their decimals; null where they have more than 18 digits."""
    text = pc.utf8_trim_whitespace(text)
    # 18 digits fit int64; longer numbers are no times.
    text = pc.if_else(pc.match_substring_regex(text, r"^-?[0-9]{1,18}(\.|$)"), text, None)
    return pc.replace_substring_regex(text, r"\..*$", "").cast(pa.int64())


def _offset(zone: pa.Array) -> pa.Array:
    """Returns the UTC offset in seconds, positive east of Greenwich; 0 for "Z" and where there is no zone."""
    named = pc.match_substring_regex(zone, "^[+-]")
    digits = pc.if_else(named, pc.replace_substring(zone, ":", ""), "+0000")
    hours = pc.utf8_slice_codeunits(digits, 1, 3).cast(pa.int64())
    minutes = pc.utf8_slice_codeunits(digits, 3, 5).cast(pa.int64())
    seconds = pc.add(pc.multiply(hours, 3600), pc.multiply(minutes, 60))
    return pc.if_else(pc.starts_with(digits, "-"), pc.negate(seconds), seconds)
