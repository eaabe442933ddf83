"""Where blocking functions run: a thread of an executor, never the event loop's."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from functools import lru_cache
from typing import TypeVar

T = TypeVar("T")

_EXECUTOR: ContextVar[Executor | None] = ContextVar("thalweg_executor", default=None)
_WORKER: ContextVar[int | None] = ContextVar("thalweg_worker", default=None)


@contextmanager
def use_executor(executor: Executor) -> Iterator[Executor]:
    """Run blocking functions in this executor, for the code inside the ``with`` and the tasks that it starts.

    Args:
        executor: one whose workers are threads of this process.

    Example:
        >>> from concurrent.futures import ThreadPoolExecutor
        >>> from thalweg.graph import wait
        >>> from thalweg.graph.executor import run_blocking, use_executor
        >>> with ThreadPoolExecutor(1) as pool, use_executor(pool):
        ...     wait(run_blocking(sum, [1, 2, 3]))
        6
    """
    token = _EXECUTOR.set(executor)
    try:
        yield executor
    finally:
        _EXECUTOR.reset(token)


def chosen_executor() -> Executor | None:
    """The executor of the innermost :func:`use_executor` around this code; None if there is none."""
    return _EXECUTOR.get()


async def run_blocking(function: Callable[..., T], *args: object) -> T:
    """Run ``function(*args)`` in a thread, with the caller's context variables, and return its result.

    If the awaiting task is cancelled, a function that has not begun never will; one that is running is waited
    for, because a thread cannot be interrupted and its work must not go on behind the caller's back.

    A function that itself runs in such a thread and calls ``wait(...)`` has its own blocking functions run
    right there: waiting for a second thread of the same executor could wait for ever.

    Raises:
        Whatever the function raises.
    """
    if in_worker():
        return function(*args)
    context = copy_context()
    pool = _EXECUTOR.get() or _default_executor(os.getpid())
    inner = pool.submit(context.run, as_worker, function, *args)
    outer = asyncio.wrap_future(inner)
    try:
        return await asyncio.shield(outer)
    except asyncio.CancelledError:
        if inner.cancel():
            raise
        while not outer.done():
            try:
                await asyncio.wait([outer])
            except asyncio.CancelledError:  # one more of them changes nothing
                continue
        if not outer.cancelled():
            outer.exception()  # seen, so that nobody reports it as lost
        raise


def in_worker() -> bool:
    """Tell whether this code runs in (or keeps waiting) a thread of an executor, and so must not wait for another."""
    return _WORKER.get() == threading.get_ident()


def as_worker(function: Callable[..., T], *args: object) -> T:
    """Call ``function(*args)`` in this thread, with :func:`run_blocking` inside it calling in place.

    For whoever hands work to threads of their own (in a context of its own, ``copy_context().run(as_worker, ...)``):
    work that ran a graph of blocking operators and handed them to the same threads might wait for ever.
    """
    _WORKER.set(threading.get_ident())
    return function(*args)


@lru_cache(maxsize=1)
def _default_executor(pid: int) -> Executor:
    """Return this process's executor, made when first needed (a fork inherits no threads, hence the pid)."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return ThreadPoolExecutor(max(2, cores), thread_name_prefix="thalweg")
