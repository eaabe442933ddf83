"""This machine: a pool of threads, whose kernels release the GIL.

Each thread takes the next item, works on it and adds its result into the tree, so the event loop is asked
twice a call and not twice an item, and additions run in the threads, too.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from types import TracebackType
from typing import Any

from thalweg.errors import RunError
from thalweg.graph.executor import as_worker, in_worker, use_executor
from thalweg.graph.finishing import to_the_end
from thalweg.runtime.base import Item, ItemProgress, Result
from thalweg.runtime.one_thread import limited, one_thread
from thalweg.runtime.tree import Kept, begin_reduction
from thalweg.runtime.where import here


class Local:
    """Runs tasks in threads of this process.

    Args:
        threads: how many run at once; by default one for each core that this process may use.

    Raises:
        RunError: ``threads`` is not a positive integer.

    As a context manager it also runs the blocking operators of the graph in its threads
    (:func:`thalweg.graph.executor.use_executor`) and ends the threads when the block is left; ``async with`` does not
    keep the event loop waiting for that. Without, they end with the object.

    Within the block, as within a run, BLAS and OpenMP have one thread each, so that what a task has them add up does
    not depend on the machine's cores (:mod:`thalweg.runtime.one_thread`).

    The result does not depend on the number of threads, to the last bit:

    Example:
        >>> import thalweg as tw
        >>> from thalweg.runtime import Local
        >>> values = [1e16, 1.0, -1e16, 1.0, 0.1]
        >>> def task(item):
        ...     return {"sum": values[item]}
        >>> with Local(threads=1) as one, Local(threads=2) as two:
        ...     a, b = (tw.wait(runtime.map_reduce(task, range(5))) for runtime in (one, two))
        >>> a == b
        True
    """

    def __init__(self, threads: int | None = None) -> None:
        if threads is None:
            threads = _usable_cores()
        if isinstance(threads, bool) or not isinstance(threads, int) or threads < 1:
            raise RunError(f"threads is {threads!r}; it must be an integer of at least 1, or None for all cores.")
        self._threads = threads
        self._pool: ThreadPoolExecutor | None = None
        self._entered = ExitStack()

    @property
    def threads(self) -> int:
        """How many threads there are."""
        return self._threads

    @property
    def workers(self) -> int:
        """How many tasks run at once: the number of threads."""
        return self._threads

    def __enter__(self) -> Local:
        self._entered.enter_context(one_thread())
        self._entered.enter_context(use_executor(self._executor()))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.close()
        self.close()

    async def __aenter__(self) -> Local:
        return self.__enter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._entered.close()
        await to_the_end(asyncio.to_thread(self.close))

    def close(self) -> None:
        """End the threads, after what they are working on. The next call starts new ones."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.shutdown(wait=True)

    async def map_reduce(
        self,
        task: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        progress: ItemProgress | None = None,
        kept: Kept | None = None,
    ) -> Result:
        """The sum of ``task(item)`` over ``items``, in the fixed tree; see :meth:`Runtime.map_reduce`."""
        make = partial(_Work, task, items, progress, kept)
        work = make() if kept is None else await self.run(make)  # what was kept is read from somewhere
        nested = in_worker()
        jobs = [self._submit(work.drain) for _ in range(min(self._threads, work.left) - nested)]
        if nested:
            # All threads may be waiting like this one, so it works itself, and waits for those only that help.
            work.drain()
            jobs = [job for job in jobs if not job.cancel()]
        await _finish(jobs, on_cancel=work.stop)
        work.raise_first_error()
        result: Result = work.reduction.result()
        return result

    async def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """Call one blocking function in a thread; see :meth:`Runtime.run`."""
        if in_worker():  # all threads may be waiting like this one
            return function(*args)
        job = self._submit(function, *args)
        await _finish([job], on_cancel=lambda: None)
        return job.result()

    def _executor(self) -> ThreadPoolExecutor:
        if self._pool is None:
            self._pool = _Pool(self._threads, thread_name_prefix="thalweg")
        return self._pool

    def _submit(self, function: Callable[..., Result], *args: Any) -> Future[Result]:
        context = contextvars.copy_context()
        return self._executor().submit(context.run, as_worker, function, *args)


class _Pool(ThreadPoolExecutor):
    """Threads in which OpenMP has one thread while that is limited."""

    def submit(self, function: Callable[..., Any], /, *args: Any, **keywords: Any) -> Future[Any]:
        return super().submit(limited, function, *args, **keywords)


class _Work:
    """One map_reduce: the items not yet started, the tree, the first errors."""

    def __init__(
        self, task: Callable[[Any], Any], items: Sequence[Any], progress: ItemProgress | None, kept: Kept | None
    ) -> None:
        self._task = task
        self._items = items
        self._progress = progress
        self.reduction, self._todo = begin_reduction(len(items), kept)
        self._lock = threading.Lock()
        self._report = threading.Lock()
        self._next = 0
        self._done = len(items) - len(self._todo)
        self._stopped = False
        self._errors: dict[int, tuple[BaseException, str]] = {}

    @property
    def left(self) -> int:
        """How many items are not started."""
        return len(self._todo) - self._next

    def stop(self) -> None:
        """Start no further item."""
        self._stopped = True

    def drain(self) -> None:
        """Work on items, one after the other, until there are none left (in a thread of the pool)."""
        while (index := self._take()) is not None:
            try:
                self.reduction.put(index, self._task(self._items[index]))
                self._tell()
            except BaseException as error:  # carried to whoever awaits the call, which raises it
                self._errors[index] = error, here()
                self._stopped = True

    def raise_first_error(self) -> None:
        """Raise the error of the lowest item that failed, with notes that name it and who worked on it."""
        if self._errors:
            index = min(self._errors)
            error, where = self._errors[index]
            error.add_note(f"while working on item {self._items[index]!r} (number {index + 1} of {len(self._items)})")
            error.add_note(f"on the {where}")
            self._errors.clear()  # an error that is kept keeps its frames, and their arrays
            raise error

    def _take(self) -> int | None:
        # In order: the results on either side of a slow item add up meanwhile, to about log2(n) of them.
        with self._lock:
            if self._stopped or self._next == len(self._todo):
                return None
            index = self._todo[self._next]
            self._next += 1
            return index

    def _tell(self) -> None:
        if self._progress is not None:
            with self._report:
                self._done += 1
                self._progress(self._done, len(self._items))


async def _finish(jobs: list[Future[Any]], *, on_cancel: Callable[[], None]) -> None:
    """Wait for all jobs, also when cancelled; the cancellation is raised once they are done."""
    if not jobs:
        return
    waiting = [asyncio.wrap_future(job) for job in jobs]
    cancelled: asyncio.CancelledError | None = None
    while True:
        try:
            # asyncio.wait leaves the futures alone when it is cancelled; gather would cancel them.
            await asyncio.wait(waiting)
            break
        except asyncio.CancelledError as error:
            cancelled = error
            on_cancel()
    for future in waiting:
        future.exception()  # seen here, raised from the job by the caller
    if cancelled is not None:
        raise cancelled


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
