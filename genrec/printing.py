"""Text for people and for terminals: `show` prints everything, with control characters replaced.

Titles, ids and values come from files that others wrote. A terminal would obey the control characters in them: it would
move its cursor, overwrite lines or change its title.
"""

import io
import logging
import re
import sys
from collections.abc import Iterable
from typing import TextIO

# C0 and C1 control characters, bidirectional embeddings, overrides and isolates, and lone surrogates, which no encoding
# can write. Tabs and newlines are for `one_line`.
_CONTROL = "\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff"
_CONTROLS = re.compile(f"[{_CONTROL}]")
_BREAKS = re.compile("\r\n|[\t-\r\x85\u2028\u2029]")
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def show(text: object, *, file: TextIO | None = None, end: str = "\n", flush: bool = False) -> None:
    """Prints a text as `print` does, by default to stdout, with its control characters replaced."""
    print(clean(str(text)), file=file, end=end, flush=flush)


def show_lines(lines: Iterable[str], prefix: str) -> None:
    """Prints lines, which end in newlines, as soon as they come, each after a prefix."""
    for line in lines:
        show(prefix + line, end="", flush=True)


def clean(text: str) -> str:
    """Returns a text whose control characters, but for tabs and newlines, are each replaced by U+FFFD."""
    return _CONTROLS.sub(REPLACEMENT, text)


def one_line(text: str) -> str:
    """Returns a text without control characters; tabs and line breaks, too, are spaces."""
    return clean(_BREAKS.sub(" ", text))


def counted(number: int, name: str) -> str:
    """Returns a number of things in words, such as "1 item" and "2,000 items"."""
    plural = f"{name[:-1]}ies" if name.endswith("y") else f"{name}s"
    return f"{number:,} {name if number == 1 else plural}"


def escape_json(text: str) -> str:
    """Returns the same JSON with control characters as escapes, so that `show` leaves it as it is."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def replace_undecodable_input() -> None:
    """Makes stdin read bytes that its encoding does not have as `REPLACEMENT`, where it would raise an error."""
    if isinstance(sys.stdin, io.TextIOWrapper):
        sys.stdin.reconfigure(errors="replace")


def clean_log_entry(entry: logging.LogRecord) -> bool:
    """Replaces the control characters of a log entry; a filter of log handlers, which lets every entry pass."""
    entry.msg, entry.args = clean(entry.getMessage()), ()
    return True
