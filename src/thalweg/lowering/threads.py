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
    made = _TEAMS.get(os.getpid()) or _TEAMS.setdefault(os.getpid(), _Team())
    return made.run(several)


class _Team:
    """Whoever calls, one at a time, and some threads, which are started here and never end."""

    def __init__(self) -> None:
        self._one = threading.Lock()
        self._size = 0
        self._others: list[tuple[ctypes.c_int64, threading.Lock]] = []

    def run(self, several: np.ndarray) -> bool:
        if not self._one.acquire(blocking=False):  # another thread's pass runs; or its own, and this is a handler's
            return self._alone(several)
        try:
            if len(self._others) + 1 != self._size:
                self._begin()
            for asleep, bell in self._others:  # one that falls asleep only now is done without
                if asleep.value and bell.locked():
                    bell.release()
            return self._code.share(self._address, several.ctypes.data, len(several)) == 0
        finally:
            self._one.release()

    def _alone(self, several: np.ndarray) -> bool:
        """The same in this thread alone: a team of its own, which nobody else is in."""
        code = _compiled(1)
        memory, address = _memory(1)
        done = code.share(address, several.ctypes.data, len(several)) == 0
        del memory  # held until here
        return done

    def _begin(self) -> None:
        """Start the threads, or those that Ctrl-C has kept from it."""
        if not self._size:
            size = count()
            self._code = _compiled(size)
            memory, self._address = _memory(size)
            for forever in (self._code, memory):  # threads look there until the process ends
                ctypes.pythonapi.Py_IncRef(ctypes.py_object(forever))
            self._size = size
        for k in range(len(self._others) + 1, self._size):
            asleep, bell = ctypes.c_int64.from_address(self._address + team.asleep(k)), threading.Lock()
            bell.acquire()
            thread = threading.Thread(target=self._live, args=(k, bell), name=f"thalweg-pass_{k}", daemon=True)
            try:
                thread.start()
            except RuntimeError:  # there may be no more threads: those that there are do it
                self._size = k
                break
            self._others.append((asleep, bell))

    def _live(self, thread: int, bell: threading.Lock) -> None:
        while True:
            self._code.serve(self._address, thread)
            bell.acquire()


_TEAMS: dict[int, _Team] = {}
"""By process: a fork inherits no threads."""


def _memory(size: int) -> tuple[Any, int]:
    """Memory for a team, and where in it a line of the cache begins."""
    memory = (ctypes.c_int64 * (team.words(size) + team.LINE))()
    return memory, -(-ctypes.addressof(memory) // team.ALIGNED) * team.ALIGNED


@functools.cache
def _compiled(size: int) -> team.Compiled:
    """The code for so many threads."""
    return team.Compiled(size)
