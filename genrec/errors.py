"""Base class of all errors that a user can cause."""


class GenrecError(ValueError):
    """Error that a user can correct. The message says what is wrong, where, and what to do.

    Scripts print the message and exit with `exit_codes.FAILED`; any other exception is a bug or a machine failure, and
    keeps its traceback.
    """
