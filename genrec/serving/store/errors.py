"""Errors of the store."""

from genrec.errors import GenrecError


class StoreError(GenrecError):
    """Error for a store that cannot be opened, and for values that no store takes."""


class ConflictError(StoreError):
    """Error for a write that another write forbids: nothing was written."""


class StoreUnavailable(StoreError):  # noqa: N818 - what a caller must know is that it may work later
    """Error for a database that does not answer, or takes no writes: nothing was acknowledged, and it may come back."""
