"""Base class of all errors that a user can cause."""

CELL = 200  # characters of a value that a message shows


class GenrecError(ValueError):
    """Error that a user can correct. The message says what is wrong, where, and what to do.

    Scripts print the message and exit with `exit_codes.FAILED`; any other exception is a bug or a machine failure, and
    keeps its traceback.
    """


def shown(value: object) -> str:
    """Returns `repr(value)` for a message; of a long one, which may have megabytes, the first `CELL` characters."""
    return cut(repr(value))


def cut(text: str, length: int = CELL) -> str:
    """Returns a text for a message; of a longer one, the first `length` characters and how many it has."""
    return text if len(text) <= length else f"{text[:length]}... ({len(text):,} characters)"
