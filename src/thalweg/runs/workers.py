"""Who worked on how many items, for the history: in the iterations that the run consists of. What was done for others,
after the checkpoint that a run goes on from, is not counted, as its seconds are not.

The counts are no part of a checkpoint: they depend on who was faster, and equal runs have equal checkpoints.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from thalweg.runs.history import HistoryWriter
from thalweg.runs.keeping import Mark, Retention
from thalweg.runtime.base import ItemProgress

COUNTED, COUNTED_AT = "items_by_worker", "items_by_worker_at"
"""The facts that hold the finished items by worker: now, and, with ``/`` and its iteration after the name, when each
checkpoint was taken (:class:`CountsAt`)."""


class WorkerCounts:
    """Counts the finished items of each worker, and passes the news on.

    Args:
        watcher: told of each finished item, as ``watcher(done, total)``.
        runtime: if it counts by itself, it has ``items_by_worker``, a mapping from names to numbers; else the
            workers are the threads that tell of their items.
        before: what was counted before this process.

    Example:
        >>> from thalweg.runs.workers import WorkerCounts
        >>> counts = WorkerCounts(lambda done, total: None, object(), {"MainThread": 2})
        >>> counts(1, 5)
        >>> counts.items
        {'MainThread': 3}
    """

    def __init__(self, watcher: ItemProgress, runtime: Any, before: Mapping[str, int] | None = None) -> None:
        self._watcher = watcher
        self._runtime = runtime
        self._before = Counter(before or {})
        self._mine: Counter[str] = Counter()

    def __call__(self, done: int, total: int) -> None:
        """Count an item for the thread that calls."""
        self._mine[threading.current_thread().name] += 1
        self._watcher(done, total)

    @property
    def items(self) -> dict[str, int]:
        """Finished items by worker."""
        own: Mapping[str, int] | None = getattr(self._runtime, "items_by_worker", None)
        return dict(sorted((self._before + Counter(self._mine if own is None else own)).items()))


class CountsAt:
    """What was counted when each checkpoint was taken that may still be there: who goes back to it goes on from there.
    Each has a fact of its own, so that a run with many is not written again with each of them.

    Args:
        history: has the facts.
        retention: which checkpoints stay.
        facts: of the history, where the run was begun before.
        iteration: where it goes on; what was noted after it is of checkpoints that are no more.
        losses: :attr:`thalweg.runs.keeping.Keeper.losses`; by default those of the marks.

    Example:
        >>> import tempfile
        >>> from pathlib import Path
        >>> from thalweg.runs.history import History, HistoryWriter
        >>> from thalweg.runs.keeping import Mark, Retention
        >>> from thalweg.runs.workers import CountsAt, counted_at
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with HistoryWriter(Path(folder) / "run.sqlite") as writer:
        ...         counts = CountsAt(writer, Retention(keep=1))
        ...         for iteration in (1, 2, 3, 4):
        ...             counts.note(Mark(iteration, 0, None), {"MainThread": 8 * iteration})
        ...     facts = History(folder).facts()
        >>> counted_at(facts, 3), counted_at(facts, 1)
        ({'MainThread': 24}, {})
    """

    def __init__(
        self,
        history: HistoryWriter,
        retention: Retention,
        facts: Mapping[str, Any] | None = None,
        iteration: int = 0,
        losses: Mapping[int, tuple[int, float]] | None = None,
    ) -> None:
        self._history = history
        self._retention = retention
        self._marks = {n: mark for n, (mark, _) in _entries(facts or {}).items()}
        self._iteration = iteration
        self._losses = losses

    def note(self, mark: Mark, items: Mapping[str, int]) -> None:
        """Take note of what is counted where a checkpoint is taken."""
        there = {n: found for n, found in self._marks.items() if n <= self._iteration} | {mark.iteration: mark}
        if self._losses is not None:
            there = {n: Mark(n, *self._losses.get(n, (0, None))) for n in there}
        self._iteration = mark.iteration
        stay = {*sorted(there)[-self._retention.keep - 1 :], *self._retention.spared(there)}  # one may not be there yet
        self._history.fact(_name(mark.iteration), [mark.block, mark.misfit, dict(items)])
        for gone in {*self._marks, *there} - stay:
            self._history.forget_fact(_name(gone))
        self._marks = {n: there[n] for n in stay}


def counted_at(facts: Mapping[str, Any], iteration: int) -> dict[str, int]:
    """What was counted when the checkpoint of an iteration was taken, from a history's facts; where an earlier version
    has not noted that, all that was counted since."""
    _, found = _entries(facts).get(iteration, (None, facts.get(COUNTED)))
    if not iteration or not isinstance(found, dict):
        return {}
    return {name: count for name, count in found.items() if type(count) is int}


def _name(iteration: int) -> str:
    """The fact of a checkpoint."""
    return f"{COUNTED_AT}/{iteration}"


def _entries(facts: Mapping[str, Any]) -> dict[int, tuple[Mark, dict[str, int]]]:
    """What was noted, by iteration; what is somebody else's is left out."""
    found = {}
    for name, value in facts.items():
        head, _, number = name.partition("/")
        if head == COUNTED_AT and number.isdecimal() and len(number) < 19:
            match value:
                case [int(block), float() | int() | None as misfit, dict(counts)]:
                    found[int(number)] = (Mark(int(number), block, misfit), counts)
    return found
