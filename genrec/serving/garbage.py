"""Garbage collection of processes that must not stop: a full one of all objects takes 0.1 s, and all threads wait."""

import gc

# Objects that are made before the youngest are collected, such collections before one of the older ones, and those
# before a full one. By default, under load there is a full one every few seconds, of 0.05 s.
THRESHOLDS = (5000, 10, 20)


def freeze() -> None:
    """Leaves what is in memory out of later collections, and makes those that stop all threads for long rare."""
    gc.unfreeze()
    gc.collect()
    gc.freeze()
    gc.set_threshold(*THRESHOLDS)
