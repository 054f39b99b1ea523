"""Cells of raw files as text, numbers, or lists of them: nested ones, and columns of rarer Arrow types.

Objects, maps and lists of either become text: in a text field the texts that they hold, elsewhere JSON. Their keys
would otherwise become a schema with a column for each, and cost the number of rows times the number of keys.
"""

import json
import math
from collections.abc import Iterator, Sequence
from typing import TypeAlias

import pyarrow as pa
import pyarrow.compute as pc

Column: TypeAlias = pa.ChunkedArray | pa.Array
DIGITS = 15  # of a decimal, which float64 keeps
SEPARATOR = "|"  # between the values of a cell with several, such as countries


def plain(column: Column, is_text: bool) -> Column:
    """Returns an Arrow column without dictionaries, views, nested objects, and bytes that are text.

    `is_text` tells that it describes items: lists and objects become the texts that they hold.
    """
    if isinstance(column.type, pa.ExtensionType | pa.BaseExtensionType):
        if pa.types.is_fixed_size_binary(column.type.storage_type):  # such as UUIDs
            return pa.array([value if value is None else str(value) for value in column.to_pylist()], pa.string())
        column = column.cast(column.type.storage_type)
    if pa.types.is_run_end_encoded(column.type):
        column = pc.run_end_decode(column)
    kind = _plain_type(column.type)
    if kind != column.type:
        column = column.cast(kind)
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        try:
            return column.cast(pa.string())
        except pa.ArrowInvalid:  # bytes that are no text
            return column
    if pa.types.is_nested(kind) and (is_text or not _is_flat_list(kind)):
        return nested_as_text([_without_pairs(value) for value in column.to_pylist()], is_text)
    return column


def _plain_type(kind: pa.DataType) -> pa.DataType:
    if pa.types.is_dictionary(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_string_view(kind):
        return pa.string()
    if pa.types.is_binary_view(kind):
        return pa.binary()
    if is_list(kind) and pa.types.is_decimal(kind.value_type) and kind.value_type.precision <= DIGITS:
        return pa.list_(pa.float64())
    if is_list(kind) and (_plain_type(kind.value_type) != kind.value_type or "view" in str(kind)):
        return pa.list_(_plain_type(kind.value_type))
    return kind


def is_list(kind: pa.DataType) -> bool:
    """Returns whether the cells of an Arrow type are lists, of any of its kinds."""
    tests = (pa.types.is_list, pa.types.is_large_list, pa.types.is_fixed_size_list, pa.types.is_list_view)
    return any(test(kind) for test in tests) or pa.types.is_large_list_view(kind)


def _is_flat_list(kind: pa.DataType) -> bool:
    return is_list(kind) and not pa.types.is_nested(kind.value_type)


def nested_as_text(values: Sequence, is_text: bool) -> pa.Array:
    """Returns string[rows]: of each Python value the texts that it holds, or its JSON unless `is_text`."""
    return pa.array([_text(value) if is_text else _json(value) for value in values], pa.string())


def from_python(values: list, is_text: bool) -> pa.Array:
    """Returns the column of values that JSON holds, as text where they have no common type."""
    nested = any(isinstance(value, dict) or (isinstance(value, list) and _holds_nested(value)) for value in values)
    lists = any(isinstance(value, list) for value in values)
    if nested or (is_text and lists):
        return nested_as_text(values, is_text)
    values = [None if isinstance(value, float) and math.isnan(value) else value for value in values]
    if lists:  # a single value is a list of one
        values = [value if value is None or isinstance(value, list) else [value] for value in values]
    try:
        column = pa.array(values)
    # Mixed types, such as 1 and "one", and integers beyond 64 bits are kept as text.
    except (pa.ArrowInvalid, pa.ArrowTypeError, OverflowError):
        if not lists:
            return nested_as_text(values, is_text=False)
        texts = [cell if cell is None else [one if one is None else _label(one) for one in cell] for cell in values]
        return pa.array(texts, pa.list_(pa.string()))
    if pa.types.is_list(column.type) and pa.types.is_null(column.type.value_type):  # all lists are empty
        return column.cast(pa.list_(pa.string()))
    return column


def _holds_nested(values: list) -> bool:
    return any(isinstance(value, dict | list) for value in values)


def _without_pairs(value: object) -> object:
    """Returns a value with objects in the place of Arrow's maps, which are lists of pairs."""
    if isinstance(value, list) and value and isinstance(value[0], tuple):
        return {str(key): _without_pairs(one) for key, one in value}
    if isinstance(value, dict):
        return {key: _without_pairs(one) for key, one in value.items()}
    return [_without_pairs(one) for one in value] if isinstance(value, list) else value


def _json(value: object) -> str | None:
    if value is None or isinstance(value, str):
        return value
    return json.dumps(value, ensure_ascii=False, default=str)


def _text(value: object) -> str | None:
    return None if value is None else ", ".join(_texts(value))


def _texts(value: object) -> Iterator[str]:
    """Yields the texts and numbers within a value, in their order."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        for one in value:
            yield from _texts(one)
    elif value is not None and not isinstance(value, bool) and (text := str(value).strip()):
        yield text


def labels(column: Column) -> pa.Array:
    """Returns string[rows], each cell as one value: a list as the set of its values, in order and separated by "|"."""
    if isinstance(column, pa.ChunkedArray):
        column = pa.concat_arrays(column.chunks) if column.num_chunks else pa.array([], column.type)
    if not pa.types.is_nested(column.type):
        return column.cast(pa.string())
    return pa.array([SEPARATOR.join(sorted(values)) or None for values in value_sets(column)], pa.string())


def value_sets(column: Column) -> list[tuple[str, ...]]:
    """Returns the values of each cell as text, without repetitions: those of a list, else one or none."""
    if not pa.types.is_nested(column.type):
        return [(text,) if text else () for text in column.cast(pa.string()).to_pylist()]
    lists = [value if isinstance(value, list) else [] if value is None else [value] for value in column.to_pylist()]
    return [tuple(dict.fromkeys(text for one in cell if one is not None and (text := _label(one)))) for cell in lists]


def _label(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else _json(value) or ""
