"""Sets how the C library returns memory to the operating system."""

import ctypes

_M_MMAP_THRESHOLD = -3  # see mallopt(3)
_LARGE_BYTES = 256 * 1024


def return_large_blocks() -> None:
    """Makes glibc return each block of 256 KiB or more as soon as the block is freed.

    Otherwise, glibc raises this size to 32 MiB when it first frees a large block, and the process
    keeps the memory of its largest answers and bodies. Other C libraries are left as they are.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)
