"""Base class of all errors that a user can cause, the error for artifacts and their files, and values in messages."""

CELL = 200  # characters of a value that a message shows


class GenrecError(ValueError):
    """Error that a user can correct. The message says what is wrong, where, and what to do.

    Scripts print the message and exit with `exit_codes.FAILED`; any other exception is a bug or a machine failure, and
    keeps its traceback.
    """


class ArtifactError(GenrecError):
    """Error for an artifact that is missing, damaged, or made from other inputs. The message says what to do."""


def shown(value: object) -> str:
    """Returns `repr(value)` for a message; of a long one, which may have megabytes, the first `CELL` characters."""
    return cut(repr(value))


def cut(text: str, length: int = CELL) -> str:
    """Returns a text for a message; of a longer one, the first `length` characters and how many it has."""
    return text if len(text) <= length else f"{text[:length]}... ({len(text):,} characters)"
