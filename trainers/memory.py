"""Memory of training on a CPU."""

import ctypes
import platform

# Of glibc's malloc.h.
_TRIM_THRESHOLD, _TOP_PAD, _MMAP_MAX, _ARENA_MAX = -1, -2, -4, -8
_MOST = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc keep the memory of freed tensors for the next update instead of handing it back to the kernel.

    By default every large tensor is mapped anew and its pages are zeroed by the kernel: that was a sixth of the time of
    an update on two cores. The process holds its peak memory until it ends. Elsewhere than on glibc nothing is done.
    """
    if platform.libc_ver()[0] != "glibc":
        return
    libc = ctypes.CDLL(None)
    for option, value in ((_MMAP_MAX, 0), (_TRIM_THRESHOLD, _MOST), (_TOP_PAD, 64 << 20), (_ARENA_MAX, 1)):
        libc.mallopt(option, value)
