"""A call for each of a few threads: large passes are divided among them.

Memory is shared by the cores of a machine, but one core alone cannot use all of it. The rows that a thread gets
are whole blocks, so that the result is the same to the last bit however many there are.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

T = TypeVar("T")

WORTH_IT = 1 << 17
"""The number of elements from which waking a thread (some 20 µs) costs less than it gains."""


def count() -> int:
    """How many threads a large pass is divided among.

    Returns:
        ``$OMP_NUM_THREADS`` if it is set, as for other numerical libraries, but no more than the cores that this
        process may use.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wish = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return max(1, min(cores, int(wish))) if wish.isdecimal() else cores


def run(function: Callable[..., T], arguments: Sequence[tuple[int, ...]]) -> list[T]:
    """Call ``function`` with each of several sets of arguments at the same time, the first in this thread.

    Args:
        function: a compiled function, which lets go of the GIL and cannot raise an error.
        arguments: one set for each thread.

    Returns:
        What each call returned, in their order.
    """
    others = [_pool(os.getpid()).submit(function, *several) for several in arguments[1:]]
    try:
        first = function(*arguments[0])
    finally:  # also on Ctrl-C: nobody may free, or put back, what another thread is still writing
        rest = [other.result() for other in others]
    return [first, *rest]


@functools.lru_cache(maxsize=1)
def _pool(pid: int) -> ThreadPoolExecutor:
    """This process's threads, made when first needed (a fork inherits none, hence the pid)."""
    return ThreadPoolExecutor(max(1, count() - 1), thread_name_prefix="thalweg-pass")
