"""The base class of all errors that a user can cause."""


class GenrecError(ValueError):
    """An error for the person who runs genrec: the message says what is wrong, where, and what to do.

    Scripts end on it with the message and exit code `exit_codes.FAILED`; any other exception is a bug or trouble of a
    machine, and keeps its traceback.
    """
