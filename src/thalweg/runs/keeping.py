"""Checkpoints of a run: written beside it, and which of them stay.

The loop hands over a copy of the state and goes on computing; a thread brings the history to the disk, then
the copy. One write is in flight: who hands over the next one waits for it. An error of a write is raised by the
next call.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np

from thalweg.checkpoints import CheckpointStore
from thalweg.errors import CheckpointError
from thalweg.runs.settings import GenericBlock, OutputSettings


@dataclass(frozen=True)
class Mark:
    """What decides whether a checkpoint stays.

    Args:
        iteration: where it was taken.
        block: the block that ``misfit`` is of; losses of different blocks cannot be compared.
        misfit: the loss an item of its model, if it is known.
    """

    iteration: int
    block: int
    misfit: float | None


@dataclass(frozen=True)
class Retention:
    """Which checkpoints are taken, and which of them stay.

    Args:
        every: at most so many iterations are between two of them.
        keep: so many of the newest stay.
        keep_best: of each block the one stays whose model had the lowest loss an item.
        keep_every: one is taken after each so many iterations, and stays.

    Example:
        >>> from thalweg.runs.keeping import Mark, Retention
        >>> marks = {k: Mark(k, 0, misfit) for k, misfit in enumerate([3.0, 1.0, 2.0, 2.5], start=1)}
        >>> sorted(Retention(every=1, keep=1, keep_best=True, keep_every=3).spared(marks))
        [2, 3]
    """

    every: int = 10
    keep: int = 3
    keep_best: bool = False
    keep_every: int | None = None

    @classmethod
    def of(cls, output: OutputSettings) -> Retention:
        """What a study says."""
        return cls(output.checkpoint_every, output.keep, output.keep_best, output.keep_every)

    @property
    def looks(self) -> bool:
        """Whether anything but the age of a checkpoint decides."""
        return self.keep_best or self.keep_every is not None

    def due(self, iteration: int, last: int) -> bool:
        """Whether one is to be taken after ``iteration``, when the newest is of iteration ``last``."""
        asked = self.keep_every is not None and iteration % self.keep_every == 0
        return iteration - last >= self.every or (asked and iteration != last)

    def spared(self, marks: Mapping[int, Mark]) -> set[int]:
        """The generations that stay, however old they are."""
        stay = {n for n, mark in marks.items() if self.keep_every is not None and mark.iteration % self.keep_every == 0}
        if self.keep_best:
            best: dict[int, tuple[float, int]] = {}
            for number in sorted(marks, reverse=True):
                mark = marks[number]
                if mark.misfit is not None and mark.misfit < best.get(mark.block, (float("inf"), 0))[0]:
                    best[mark.block] = (mark.misfit, number)
            stay |= {number for _, number in best.values()}
        return stay

    def most(self, blocks: Sequence[GenericBlock]) -> int:
        """At most so many checkpoints are on the disk at once, the one that is being written included; of a short run
        that was interrupted more than once there may be more, up to those that stay."""
        iterations = sum(block.iterations for block in blocks)
        taken = 1 + sum(-(-block.iterations // self.every) for block in blocks)  # one where it is interrupted
        taken += iterations // self.keep_every if self.keep_every is not None else 0
        stay = self.keep + 1 + (len(blocks) if self.keep_best else 0)
        stay += iterations // self.keep_every if self.keep_every is not None else 0
        return min(taken, stay, iterations)


class Keeper:
    """Writes the checkpoints of one run.

    Args:
        store: where they go.
        retention: which of them stay.
        before: called in the thread before each write; brings the history to the disk, since a checkpoint may
            never know of an iteration that the history has lost.
        after: called in the thread with the meta of each checkpoint that is on the disk.
        losses: what is known of the models of checkpoints that are there: by iteration the block, and the loss an item.

    The loss of a checkpoint's model is that of the next iteration: of the block that this is of, and known when it is
    made, which is before the next checkpoint. (What a search has found in an iteration is in the checkpoint after it.)
    """

    def __init__(
        self,
        store: CheckpointStore,
        retention: Retention,
        before: Callable[[], None],
        after: Callable[[Mapping[str, Any]], None] = lambda meta: None,
        losses: Mapping[int, tuple[int, float]] | None = None,
    ) -> None:
        self.retention = retention
        self._store = store
        self._before = before
        self._after = after
        self._job: Future[None] | None = None
        self._iterations: dict[int, int | None] = {}
        self.losses: dict[int, tuple[int, float]] = dict(losses or {})

    def learn(self, iteration: int, block: int, misfit: float) -> None:
        """Take note of the loss an item that the model of a checkpoint has in a block."""
        if self.retention.keep_best:
            self.losses[iteration] = block, misfit

    async def wait(self) -> None:
        """Wait until nothing is being written.

        Raises:
            CheckpointError: the write failed; it is told once.
            RunError: the history could not be written.
        """
        if self._job is not None:
            # A cancelled waiter leaves the write alone; asyncio would cancel a future that it awaits directly.
            waiter = asyncio.wrap_future(self._job)
            waiter.add_done_callback(_look)
            await asyncio.wait([waiter])
            self.check()

    def check(self) -> None:
        """Raise what a write that has ended came to, without waiting; see :meth:`wait`."""
        if self._job is not None and self._job.done():
            job, self._job = self._job, None
            job.result()

    def begin(self, arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        """Begin to write; nothing may be in flight, and nobody may change the arrays any more."""
        assert self._job is None
        job = Future[None]()
        # Nobody waits for it when the process ends at once: what is half written has no name yet.
        threading.Thread(target=self._work, args=(job, arrays, meta), name="thalweg-checkpoint", daemon=True).start()
        self._job = job  # if there is no thread to be had, there is nothing to wait for

    def _work(self, job: Future[None], arrays: Mapping[str, np.ndarray], meta: Mapping[str, Any]) -> None:
        try:
            self._before()
            self._store.save(arrays, meta)
            self._after(meta)
            self._store.prune(self.retention.keep, self._spared() if self.retention.looks else ())
        except BaseException as error:  # carried to the loop, which raises it
            job.set_exception(error)
        else:
            job.set_result(None)

    def _spared(self) -> set[int]:
        known = self._iterations
        there = {n: known[n] if n in known else self._iteration(n) for n in self._store.generations()}
        self._iterations = there
        spared = self.retention.spared({n: self._mark(k) for n, k in there.items() if k is not None})
        newest = max((k for k in there.values() if k is not None), default=0)
        for iteration in [k for k in set(self.losses) - set(there.values()) if k < newest]:
            del self.losses[iteration]
        return spared

    def _mark(self, iteration: int) -> Mark:
        return Mark(iteration, *self.losses.get(iteration, (0, None)))

    def _iteration(self, number: int) -> int | None:
        """None for one that cannot be read: it goes when it is old."""
        try:
            return int(self._store.meta(number)["iteration"])
        except (CheckpointError, KeyError, TypeError, ValueError):
            return None


def losses_of(
    iterations: Mapping[str, np.ndarray], there: Collection[int], *, ahead: int = 1
) -> dict[int, tuple[int, float]]:
    """What a history knows of the models of checkpoints.

    Args:
        iterations: its columns.
        there: the iterations that there are checkpoints of.
        ahead: how many iterations after a checkpoint its model's loss is: 0 of a search.

    Example:
        >>> import numpy as np
        >>> from thalweg.runs.keeping import losses_of
        >>> columns = {"iteration": np.arange(1, 4), "block": np.array([0, 0, 1]), "misfit": np.array([3.0, 2.0, 5.0])}
        >>> losses_of(columns, [1, 2, 3])
        {1: (0, 2.0), 2: (1, 5.0)}
    """
    names = ("iteration", "block", "misfit")
    rows = zip(*(iterations[name].tolist() for name in names), strict=True)
    return {number - ahead: (block, misfit) for number, block, misfit in rows if number - ahead in there}


def _look(waiter: asyncio.Future[None]) -> None:
    """Take note of an error that the job itself will raise, before asyncio complains that nobody has."""
    if not waiter.cancelled():
        waiter.exception()
