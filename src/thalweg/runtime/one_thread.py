"""One thread for BLAS and OpenMP, wherever work runs.

Such a library divides a sum among its threads, and with another number of them the sum has other last bits: on a
machine with more cores, or on a worker process, which has one. So there is one everywhere while :func:`one_thread` is
entered anywhere in the process, and then what was there before::

                        already loaded                          loaded meanwhile
    BLAS                the library's number, for the process    the environment of C
    OpenMP              each thread's own number                 the environment of C

OpenMP keeps its number for each thread, so a pool has :func:`limited` call what it is given.

The variables are set where libraries read them and not in ``os.environ``, which stays what the user made it: our own
passes over large arrays, whose bits do not depend on the number of threads, are divided among as many as that says
(:mod:`thalweg.lowering.threads`).

Libraries with other threads of their own (numba's ``parallel=True``, JAX, a C++ solver) are not reached.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from thalweg.lowering import threads

T = TypeVar("T")

NAMES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


class _Process:
    """Who has entered it in this process; the last one that leaves puts back what was there."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entered = 0
        self._blas: list[tuple[Any, int | None]] = []  # each library, and its number of before
        self.openmp: tuple[Any, ...] = ()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._forked)

    def _forked(self) -> None:
        """No thread that held the lock is in a forked child."""
        self._lock = threading.Lock()

    def enter(self) -> None:
        with self._lock:
            if not self._entered:
                self._begin()
            self._entered += 1

    def leave(self) -> None:
        with self._lock:
            self._entered -= 1
            if not self._entered:
                self._end()

    def _begin(self) -> None:
        found = _libraries()
        for name in NAMES:
            os.putenv(name, "1")
        self.openmp = tuple(library for library in found if _of_each_thread(library))
        self._blas = [(library, library.get_num_threads()) for library in found if library not in self.openmp]
        for library, _ in self._blas:
            _set(library, 1)

    def _end(self) -> None:
        for name in NAMES:
            if name in os.environ:
                os.putenv(name, os.environ[name])
            else:
                os.unsetenv(name)
        known = {library.filepath for library in (*self.openmp, *(library for library, _ in self._blas))}
        as_others = max((number for _, number in self._blas if number), default=threads.count())
        for library in _libraries():
            if library.filepath not in known:  # it has begun with one, and is the user's from here on
                _set(library, threads.count() if _of_each_thread(library) else as_others)
        for library, number in self._blas:
            if number is not None:
                _set(library, number)
        self._blas, self.openmp = [], ()


class _Numbers:
    """OpenMP's numbers of one thread: how often it was entered there, and what they were before."""

    def __init__(self) -> None:
        self._entered = 0
        self._before: list[tuple[Any, int | None]] = []

    @contextmanager
    def limit(self) -> Iterator[None]:
        if not self._entered:
            if _PROCESS.openmp and (count := getattr(sys.modules.get("torch"), "get_num_threads", None)):
                count()  # PyTorch sets its number when a thread first asks it something, which must not be after this
            self._before = [(library, library.get_num_threads()) for library in _PROCESS.openmp]
            for library, _ in self._before:
                library.set_num_threads(1)
        self._entered += 1
        try:
            yield
        finally:
            self._entered -= 1
            if not self._entered:
                before, self._before = self._before, []
                for library, number in before:
                    if number is not None and self is _HERE.numbers:  # another thread may leave, and has its own
                        library.set_num_threads(number)


class _Here(threading.local):
    def __init__(self) -> None:
        self.numbers = _Numbers()


_PROCESS = _Process()
_HERE = _Here()


@contextmanager
def one_thread() -> Iterator[None]:
    """Within the block BLAS has one thread in this process, and OpenMP in this thread.

    The first that enters looks for libraries, which takes a millisecond or two; others cost microseconds.

    Example:
        >>> import numpy as np
        >>> from thalweg.runtime.one_thread import one_thread
        >>> with one_thread():  # the same bits on every machine of its kind
        ...     total = np.dot(np.full(200_000, 0.1), np.full(200_000, 0.1))
    """
    _PROCESS.enter()
    try:
        with _HERE.numbers.limit():
            yield
    finally:
        _PROCESS.leave()


def for_good() -> None:
    """The same for what is left of this process: a worker."""
    _PROCESS.enter()


def limited(function: Callable[..., T], /, *args: Any, **keywords: Any) -> T:
    """Call it in a thread of a pool, with OpenMP limited there if it is anywhere."""
    if not _PROCESS.openmp:
        return function(*args, **keywords)
    with _HERE.numbers.limit():
        return function(*args, **keywords)


def _libraries() -> list[Any]:
    from threadpoolctl import ThreadpoolController  # where the first work comes: `import thalweg` has no need of it

    found: list[Any] = ThreadpoolController().lib_controllers
    return found


def _of_each_thread(library: Any) -> bool:
    """Whether each thread has a number of its own there: in OpenMP, and in an OpenBLAS that works with it."""
    return library.user_api == "openmp" or (
        library.internal_api == "openblas" and getattr(library, "threading_layer", "") == "openmp"
    )


def _set(library: Any, number: int) -> None:
    """Set a number that is the process's, whichever thread did so before: threadpoolctl would do nothing in another."""
    claim = getattr(library, "clear_controlling_thread", None)  # from 3.8 on, of OpenBLAS
    if claim is not None:
        claim(force=True)
    library.set_num_threads(number)
    if claim is not None:
        claim(force=True)
