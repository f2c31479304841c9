"""Sets how a process returns memory, and which objects its garbage collector looks at."""

import ctypes
import gc

_M_MMAP_THRESHOLD = -3  # see mallopt(3)
_LARGE_BYTES = 256 * 1024


def return_large_blocks() -> None:
    """Makes glibc return each block of 256 KiB or more as soon as the block is freed.

    Otherwise, glibc raises this size to the size of each larger block that is freed, up to 32 MiB,
    and the process keeps the memory of its largest answers and bodies. Nothing changes with a C
    library that has no `mallopt`.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def skip_startup_objects() -> None:
    """Makes the garbage collector skip all objects that exist now.

    The modules of a process are about 75,000 objects, and each full collection of them would stop
    the process for 17 ms. See https://docs.python.org/3/library/gc.html#gc.freeze
    """
    gc.collect()
    gc.freeze()
