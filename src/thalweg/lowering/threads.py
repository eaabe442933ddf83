"""A pass over large arrays, divided into pieces that a few threads share.

Memory is shared by the cores of a machine, but one core alone cannot use all of it. The rows of a piece are whole
blocks, so that the result is the same to the last bit however many pieces and threads there are, and whoever takes
which.
"""

from __future__ import annotations

import ctypes
import functools
import os
import threading
from typing import Any

import numpy as np

from thalweg.lowering import team

WORTH_IT = 1 << 17
"""The number of elements from which waking a thread (some 20 µs) costs less than it gains."""

EACH = 32
"""The most pieces for each thread: the more, the sooner all are done at the same time."""


def count() -> int:
    """How many threads a large pass is divided among.

    Returns:
        ``$OMP_NUM_THREADS`` if it is set, as for other numerical libraries, but no more than the cores that this
        process may use.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    wish = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return max(1, min(cores, int(wish))) if wish.isdecimal() else cores


def pieces(rows: int, size: int) -> int:
    """How many pieces a pass is divided into.

    Args:
        rows: how many there are to be divided.
        size: how many elements they have in all.

    Returns:
        1 if waking threads is not worth it.
    """
    threads = count() if size >= WORTH_IT else 1
    return 1 if threads == 1 else max(1, min(rows, threads * EACH, team.MOST))


def run(several: np.ndarray) -> bool:
    """Work on the pieces of a pass, in this thread and others, and come back when all are done.

    It is one call of compiled code, so that Ctrl-C comes before it or after it, and nothing is still being written when
    it is over.

    Args:
        several: of shape (n, ``team.PIECE``), int64, C-contiguous, n from 1 to ``team.MOST``: by row the address of a
            compiled function, which returns 0 (a C int), and the three addresses that it takes.

    Returns:
        Whether each function returned 0.
    """
    return _team(os.getpid()).run(several)


class _Team:
    """Whoever calls, one at a time, and some threads, which are started here and never end."""

    def __init__(self) -> None:
        size = count()
        code = team.Compiled(size)
        memory = (ctypes.c_int64 * (team.words(size) + team.LINE))()
        for forever in (code, memory):  # never freed: until the process ends there are threads that look there
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(forever))
        self._code, self._one = code, threading.Lock()
        self._address = -(-ctypes.addressof(memory) // team.ALIGNED) * team.ALIGNED
        self._others = []
        for k in range(1, size):
            asleep, bell = ctypes.c_int64.from_address(self._address + team.asleep(k)), threading.Lock()
            bell.acquire()
            thread = threading.Thread(target=self._live, args=(k, bell), name=f"thalweg-pass_{k}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # there may be no more threads: those that there are do it
                break
            self._others.append((asleep, bell))

    def run(self, several: np.ndarray) -> bool:
        with self._one:
            for asleep, bell in self._others:  # one that falls asleep only now is done without
                if asleep.value and bell.locked():
                    bell.release()
            return self._code.share(self._address, several.ctypes.data, len(several)) == 0

    def _live(self, thread: int, bell: Any) -> None:
        while True:
            self._code.serve(self._address, thread)
            bell.acquire()


@functools.lru_cache(maxsize=1)
def _team(pid: int) -> _Team:
    """This process's threads, made when first needed (a fork inherits none, hence the pid)."""
    return _Team()
