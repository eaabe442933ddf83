"""One map_reduce on a cluster: a graph of tasks, watched until its root is there.

::

    order ──┬── item 0 ──┐
            ├── item 1 ──┤
            ├── item 2 ──┼── add ──┐
            ├── item 3 ──┘         ├── add      the tree of thalweg.runtime.tree, two of its levels at a time
            └── item 4 ────────────┘

All of it is sent at once, so Dask works depth first and few partial sums are alive. What is lost with a worker is
computed again by Dask from this graph. Waiting is ours: Dask would wait for ever for a cluster without workers.

Where finished sums are kept, the client does the adding: it fetches each result as soon as it is there, since it is the
one who can write into the run's folder.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from thalweg.errors import RunError, ThalwegError
from thalweg.runtime import onworker
from thalweg.runtime.base import ItemProgress
from thalweg.runtime.identity import differences, identity, refusal
from thalweg.runtime.tree import TreeReduction

LOOK = 0.05  # s between two looks at the futures' states, which are local
SURVEY = 1.0  # s between two questions to the scheduler
FETCHES = 4  # results on their way to the client at once


@dataclass
class Crew:
    """What is known of the workers, over all calls.

    Args:
        client: Dask's client.
        token: what the names of all keys hold.
        patience: s without a sign of life after which the workers count as dead; a single one after half of it.
        note: told what a person at the terminal should know.
    """

    client: Any
    token: str
    patience: float
    note: Callable[[str], None]
    identity: dict[str, str] = field(default_factory=identity)
    admitted: set[str] = field(default_factory=set)
    threads: int = 0
    alive: float | None = None  # when a worker last gave a sign of life; None before the first one
    waiting: bool = False
    paused: bool = False

    async def survey(self) -> list[str]:
        """Ask the scheduler who is there; returns the workers' addresses.

        Raises:
            RunError: all workers are dead, the scheduler does not answer, or a worker would compute other bits.
        """
        if self.client.status != "running":  # Dask would try to reach it again, and then know nothing of our work
            raise self.lost()
        try:
            question = self.client.run_on_scheduler(onworker.attend, self.token, self.patience / 2)
            found = await asyncio.wait_for(question, self.patience)
        except (OSError, TimeoutError) as error:  # Dask's errors of connections are OSErrors
            raise self.lost() from error
        self.threads = found["threads"]
        now = time.monotonic()
        if found["age"] is not None:
            self.alive = max(self.alive or 0.0, now - found["age"])
        for address in found["removed"]:
            self.note(f"the worker {address} has been silent for {self.patience / 2:g} s; its items are computed again")
        if self.alive is None:
            if not self.waiting:
                self.note("no worker yet: waiting until the cluster gives one (Ctrl-C stops waiting)")
            self.waiting = True
        elif now - self.alive > self.patience:
            raise RunError(
                f"All workers died: for {self.patience:g} s none has given a sign of life. Look into their logs (often "
                "they had too little memory, or their time in the queue was over), start workers, and resume the run. "
                "Where workers come back by themselves after a longer time, set runtime.patience to more than that."
            )
        elif found["workers"]:
            if self.waiting:
                self.note(f"workers have come: {len(found['workers'])}")
            self.waiting = False
        paused = bool(found["workers"]) and found["paused"] == len(found["workers"])
        if paused and not self.paused:
            self.note("all workers have paused, since their memory is nearly full; give them more, or fewer threads")
        self.paused = paused
        await self._admit(set(found["workers"]))
        return list(found["workers"])

    async def _admit(self, workers: set[str]) -> None:
        """Refuse workers that would compute other bits. Each item looks again: one may come in between."""
        new = workers - self.admitted
        if not new:
            return
        ask = self.client.run(onworker.report, workers=list(new), on_error="return")
        try:
            answers: dict[str, Any] = await asyncio.wait_for(ask, self.patience)
        except (OSError, TimeoutError):
            return  # one of them is gone, or stopped; the next survey knows
        for address, answer in answers.items():
            if isinstance(answer, (OSError, ValueError)):  # as Dask says that it has gone
                continue
            if isinstance(answer, Exception):
                raise RunError(
                    f"The worker {address} cannot say what it is: {type(answer).__name__}: {answer}. Workers and "
                    "scheduler need the same versions of Thalweg, Python and their libraries as this process.",
                    worker=address,
                ) from answer
            differing = differences(self.identity, answer)
            if differing:
                raise RunError(refusal(address, differing), worker=address, differences=differing)
            self.admitted.add(address)

    def lost(self) -> RunError:
        """The error of a scheduler that is not there any more."""
        return RunError(
            "The connection to the Dask scheduler is lost: it has ended, or it does not answer. What was being "
            "computed is lost with it. Start the scheduler again and resume the run."
        )


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
            await self._crew.survey()  # before anything is sent: a mixture is refused
            self._submit()
            if self._reduction is not None:
                return await self._collect(survey, self._reduction)
            return await self._watch(survey)
        except BaseException:
            await self._abandon()
            raise
        finally:
            survey.cancel()
            await asyncio.gather(survey, return_exceptions=True)
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
            root.cancel()
            stopped.cancel()
            await asyncio.gather(root, stopped, return_exceptions=True)

    async def _result(self, survey: asyncio.Future[None]) -> tuple[Any, dict[str, int]]:
        """Fetch the root; the worker that has it may still die, and then Dask makes it again."""
        fetch = asyncio.ensure_future(self._root.result())
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
            fetch.cancel()
            stopped.cancel()
            await asyncio.gather(fetch, stopped, return_exceptions=True)

    async def _collect(self, survey: asyncio.Future[None], reduction: TreeReduction) -> tuple[Any, dict[str, int]]:
        """Fetch each result as soon as it is there, and add it here."""
        counts: Counter[str] = Counter()
        gate = asyncio.Semaphore(FETCHES)
        everything = asyncio.gather(*(self._fetch(index, reduction, counts, gate) for index in self._todo))
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
            everything.cancel()
            stopped.cancel()
            await asyncio.gather(everything, stopped, return_exceptions=True)

    async def _fetch(self, index: int, reduction: TreeReduction, counts: Counter[str], gate: asyncio.Semaphore) -> None:
        future = self._futures[index]
        await future.exception()  # until it is there
        if future.status == "error":
            await self._raise_error()
        if future.status not in ("finished", "pending"):  # pending: its worker has died since
            raise await self._gone()
        async with gate:
            try:
                value, count = await future.result()
            except Exception as error:
                if future.status == "error":  # it was computed again, and failed then
                    raise
                raise await self._gone(error) from error
            await asyncio.to_thread(reduction.put, index, value)
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
