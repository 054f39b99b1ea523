"""Hashes of arrays of numbers."""

import numpy as np


def mixed(numbers: np.ndarray) -> np.ndarray:
    """Returns hashes uint64[n] of numbers uint64[n], by the finalizer of SplitMix64 (Steele et al., OOPSLA 2014)."""
    numbers = numbers + np.uint64(0x9E3779B97F4A7C15)
    numbers = (numbers ^ (numbers >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    numbers = (numbers ^ (numbers >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return numbers ^ (numbers >> np.uint64(31))
