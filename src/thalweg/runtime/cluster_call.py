"""One map_reduce on a cluster: a graph of tasks, watched until its root is there.

::

    order ──┬── item 0 ──┐
            ├── item 1 ──┤
            ├── item 2 ──┼── add ──┐
            ├── item 3 ──┘         ├── add      the tree of thalweg.runtime.tree, two of its levels at a time
            └── item 4 ────────────┘

All of it is sent at once, so Dask works depth first and few partial sums are alive. What is lost with a worker is
computed again by Dask from this graph. Waiting is ours (:mod:`thalweg.runtime.crew`): Dask would wait for ever for a
cluster without workers.

Where finished sums are kept, the client does the adding: it fetches each result as soon as it is there, since it is the
one who can write into the run's folder.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Coroutine, Sequence
from typing import Any

from thalweg.errors import RunError, ThalwegError
from thalweg.graph.finishing import to_the_end
from thalweg.runtime import onworker
from thalweg.runtime.base import ItemProgress
from thalweg.runtime.crew import Crew
from thalweg.runtime.tree import TreeReduction

LOOK = 0.05  # s between two looks at the futures' states, which are local
SURVEY = 1.0  # s between two questions to the scheduler
FETCHES = 4  # results on their way to the client at once
_FETCHING: set[asyncio.Future[Any]] = set()


class ClusterCall:
    """One map_reduce.

    Args:
        crew: the workers.
        order: the task.
        shared: keys of its shared parts, which the cluster holds.
        items: what the task is called with.
        progress: told of each finished item.
        retries: how often an item that failed by itself is tried again.
        adding: the reduction to be done here, and the items that it waits for; by default the workers add.

    :meth:`run` and :meth:`stop` belong to the client's event loop.
    """

    def __init__(
        self,
        crew: Crew,
        order: onworker.Order,
        shared: Sequence[str],
        items: Sequence[Any],
        *,
        progress: ItemProgress | None,
        retries: int,
        adding: tuple[TreeReduction, list[int]] | None = None,
    ) -> None:
        self._crew = crew
        self._client = crew.client
        self._order = order
        self._shared = shared
        self._items = items
        self._progress = progress
        self._retries = retries
        self._reduction = adding[0] if adding is not None else None
        self._todo = adding[1] if adding is not None else list(range(len(items)))
        self._futures: dict[int, Any] = {}
        self._open: list[int] = []
        self._root: Any = None
        self._sent = False
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Start no further item; :meth:`run` ends when those under way have."""
        self._stopped.set()

    async def run(self) -> tuple[Any, dict[str, int]]:
        """The sum, and which worker did how many items.

        Raises:
            RunError: see :class:`Crew`, and for items that nobody survives.
            Exception: the error of an item.
            asyncio.CancelledError: after :meth:`stop`.
        """
        survey = asyncio.ensure_future(self._survey())
        try:
            await self._crew.begin()  # before anything is sent: a mixture is refused
            self._submit()
            if self._reduction is not None:
                return await self._collect(survey, self._reduction)
            return await self._watch(survey)
        except BaseException:
            await self._abandon()
            raise
        finally:
            self._crew.end()
            await _end(survey)
            for future in (*self._futures.values(), self._root):
                if future is not None:
                    future.release()
            self._futures = {}

    def _submit(self) -> None:
        from dask.task_spec import Task, TaskRef

        self._sent = True
        name = self._order.call
        order = f"thalweg-order-{name}"
        graph: dict[Any, Any] = {order: Task(order, onworker.hold, self._order)}
        shared = [TaskRef(key) for key in self._shared]
        level: list[Any] = [(f"thalweg-item-{name}", index) for index in self._todo]
        leaves = level
        for index, key in zip(self._todo, leaves, strict=True):
            graph[key] = Task(key, onworker.work, TaskRef(order), index, self._items[index], *shared)
        if self._reduction is not None:
            futures = self._client.get(graph, leaves, sync=False, retries=self._retries or None)
            self._futures = dict(zip(self._todo, futures, strict=True))
            self._open = list(self._todo)
            return
        height = 0
        while len(level) > 1:
            height += 1
            above = []
            for index in range(0, len(level), 4):  # two levels of the tree in one task, since a task costs Dask a ms
                parts = [TaskRef(key) for key in level[index : index + 4]]
                key = (f"thalweg-add-{name}", height, index // 4)
                if len(parts) > 1:
                    graph[key] = Task(key, onworker.add, *parts)
                above.append(key if len(parts) > 1 else level[index])
            level = above
        *futures, self._root = self._client.get(graph, [*leaves, level[0]], sync=False, retries=self._retries or None)
        self._futures = dict(enumerate(futures))
        self._open = list(self._futures)

    async def _survey(self) -> None:
        while True:
            await asyncio.sleep(SURVEY)
            await self._crew.survey()

    async def _watch(self, survey: asyncio.Future[None]) -> tuple[Any, dict[str, int]]:
        root = asyncio.ensure_future(self._root.exception())
        stopped = asyncio.ensure_future(self._stopped.wait())
        pause = LOOK
        try:
            while True:
                waiting: set[asyncio.Future[Any]] = {root, stopped, survey}
                await asyncio.wait(waiting, timeout=pause, return_when=asyncio.FIRST_COMPLETED)
                if stopped.done():
                    raise asyncio.CancelledError
                began = time.monotonic()
                if self._client.status != "running":
                    raise self._crew.lost()
                if root.done():
                    if self._root.status == "error":
                        await self._raise_error()
                    if self._root.status != "finished":
                        raise await self._gone()
                    self._look(everything=True)
                    return await self._result(survey)
                self._look()
                if survey.done():
                    survey.result()
                pause = max(LOOK, 10 * (time.monotonic() - began))
        finally:
            await _end(root, stopped)

    async def _result(self, survey: asyncio.Future[None]) -> tuple[Any, dict[str, int]]:
        """Fetch the root; the worker that has it may still die, and then Dask makes it again."""
        fetch = _undisturbed(self._root.result())
        stopped = asyncio.ensure_future(self._stopped.wait())
        waiting: set[asyncio.Future[Any]] = {fetch, survey, stopped}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if not fetch.done():
                if stopped.done():
                    raise asyncio.CancelledError
                survey.result()
            value, counts = fetch.result()
            return value, dict(counts)
        except ThalwegError:
            raise
        except Exception as error:
            raise await self._gone(error) from error
        finally:
            await _end(fetch, stopped)

    async def _collect(self, survey: asyncio.Future[None], reduction: TreeReduction) -> tuple[Any, dict[str, int]]:
        """Fetch each result as soon as it is there, and add it here."""
        counts: Counter[str] = Counter()
        gate = asyncio.Semaphore(FETCHES)
        fetches = [asyncio.ensure_future(self._fetch(index, reduction, counts, gate)) for index in self._todo]
        everything = asyncio.gather(*fetches)
        stopped = asyncio.ensure_future(self._stopped.wait())
        waiting: set[asyncio.Future[Any]] = {everything, survey, stopped}
        try:
            await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
            if stopped.done():
                raise asyncio.CancelledError
            if self._client.status != "running":
                raise self._crew.lost()
            if not everything.done():
                survey.result()
            everything.result()
            return reduction.result(), dict(counts)
        finally:
            await _end(everything, stopped, *fetches)  # gather leaves the others alone when one of them fails

    async def _fetch(self, index: int, reduction: TreeReduction, counts: Counter[str], gate: asyncio.Semaphore) -> None:
        future = self._futures[index]
        await future.exception()  # until it is there
        if future.status == "error":
            await self._raise_error()
        if future.status not in ("finished", "pending"):  # pending: its worker has died since
            raise await self._gone()
        async with gate:
            try:
                value, count = await _undisturbed(future.result())
            except Exception as error:
                if future.status == "error":  # it was computed again, and failed then
                    raise
                raise await self._gone(error) from error
            await to_the_end(asyncio.to_thread(reduction.put, index, value))  # it writes into the run's folder
        counts.update(count)
        future.release()
        self._open.remove(index)
        if self._progress is not None:
            self._progress(len(self._items) - len(self._open), len(self._items))

    def _look(self, *, everything: bool = False) -> None:
        """Tell of finished items, and let go of them: the sums hold what they need."""
        done = len(self._items) - len(self._open)
        still = []
        for index in self._open:
            future = self._futures[index]
            if not everything and future.status != "finished":
                still.append(index)
                continue
            if future.key != self._root.key:
                future.release()
                del self._futures[index]
            done += 1
            if self._progress is not None:
                self._progress(done, len(self._items))
        self._open = still

    async def _raise_error(self) -> None:
        """Raise the error of the lowest item that failed, with its own traceback."""
        from distributed import KilledWorker

        failed = [index for index in self._open if self._futures[index].status == "error"]
        future = self._futures[failed[0]] if failed else self._root
        error, trace = await future.exception(), await future.traceback()
        if isinstance(error, KilledWorker):
            what = "A sum"
            if failed:
                what = f"Item {self._items[failed[0]]!r} (number {failed[0] + 1} of {len(self._items)})"
            raise RunError(
                f"{what} was being worked on by {error.allowed_failures + 1} workers that died, the last one "
                f"{error.last_worker.address}. Usually it needs more memory than a worker has; look into its log.",
                worker=error.last_worker.address,
            ) from error
        raise error.with_traceback(trace)

    async def _gone(self, error: Exception | None = None) -> RunError:
        """The error of futures that are not there any more, or of a result that cannot be fetched."""
        await asyncio.sleep(LOOK)  # whoever fetches may see earlier than the client that the scheduler is gone
        if self._client.status != "running" or isinstance(error, OSError):  # Dask's errors of connections are OSErrors
            return self._crew.lost()
        return RunError(
            "The cluster has dropped the work: somebody has restarted or cleared the scheduler. Resume the run."
        )

    async def _abandon(self) -> None:
        """Take everything back, and wait for the items that are being worked on: a thread cannot be stopped."""
        if not self._sent or self._client.status != "running":
            return
        # Released and not cancelled: Dask's scheduler stumbles over cancelled keys whose sums nobody has asked for.
        for future in (*self._futures.values(), self._root):
            if future is not None:
                future.release()
        while self._client.status == "running":
            try:
                ask = self._client.run(onworker.end, self._order.call, on_error="ignore")
                busy = await asyncio.wait_for(ask, self._crew.patience)
            except (OSError, TimeoutError, ValueError):  # a worker that was stopped, or nobody is there
                return
            if not any(busy.values()):
                return
            await asyncio.sleep(LOOK)


def _undisturbed(fetching: Coroutine[Any, Any, Any]) -> asyncio.Future[Any]:
    """A fetch that goes on when nobody waits for it any more.

    Dask's client has one request for all that is fetched at a time, for good: a fetch that is cancelled takes it along,
    and every later one of the client, of whichever call, ends with that cancellation.
    """
    fetch = asyncio.ensure_future(fetching)
    _FETCHING.add(fetch)  # or nobody holds it
    fetch.add_done_callback(_FETCHING.discard)
    return asyncio.shield(fetch)


async def _end(*tasks: asyncio.Future[Any]) -> None:
    """Cancel and wait; again if need be: Python 3.11's ``wait_for``, and Dask, swallow a cancellation now and then."""
    left = set(tasks)
    while left:
        for task in left:
            task.cancel()
        _, left = await asyncio.wait(left, timeout=SURVEY)
    await asyncio.gather(*tasks, return_exceptions=True)
