"""Shares of counts, exactly: 0.29 of 100 is 29, where the product of the floating-point numbers is 28.999999999999996.

A share is the decimal number that a user writes, not the nearest binary one.
"""

import math
from fractions import Fraction


def exact(share: float) -> Fraction:
    """Returns the decimal number that a user wrote."""
    return Fraction(str(share))


def floor(share: float, count: int) -> int:
    """Returns the largest whole number that is at most `share` of `count`."""
    return math.floor(exact(share) * count)


def ceil(share: float, count: int) -> int:
    """Returns the smallest whole number that is at least `share` of `count`."""
    return math.ceil(exact(share) * count)


def nearest(share: float, count: int) -> int:
    """Returns the whole number nearest to `share` of `count`, the even one of two."""
    return round(exact(share) * count)
