"""On import: memory that this process frees stays with it, and is used again without being zeroed by the kernel.

A compiled step on CPUs allocates all of its intermediate arrays as one buffer, and frees it at the end. From 32 MiB on,
glibc takes such a buffer from the kernel and returns it each time, and the kernel zeroes every page once more: at the
paper's size this is a sixth of the processor time of training, and more on virtual machines. The scripts that train
import this module before anything slow: it holds for threads that start later, as those of JAX do. The price is that
the process keeps its largest size, and that two steps in a row have two buffers.
"""

import ctypes

# Parameters of mallopt in glibc's malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def _keep_freed() -> None:
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:  # another C library than glibc
        return
    # Threads other than the first allocate in arenas that cannot hold a large buffer, unless all share the first one.
    mallopt(_ARENA_MAX, 1)
    mallopt(_MMAP_MAX, 0)
    mallopt(_TRIM_THRESHOLD, -1)


_keep_freed()
