"""Who worked on how many items, for the history: in the iterations that the run consists of. What was done for others,
after the checkpoint that a run goes on from, is not counted, as its seconds are not.

The counts are no part of a checkpoint: they depend on who was faster, and equal runs have equal checkpoints.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from thalweg.runs.keeping import Mark, Retention
from thalweg.runtime.base import ItemProgress

COUNTED, COUNTED_AT = "items_by_worker", "items_by_worker_at"
"""The facts that hold the finished items by worker: now, and when each checkpoint was taken (:class:`CountsAt`)."""


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

    Args:
        retention: which checkpoints stay.
        before: as :meth:`note` returned it, of the checkpoints that a run goes on after.

    Example:
        >>> from thalweg.runs.keeping import Mark, Retention
        >>> from thalweg.runs.workers import COUNTED_AT, CountsAt, counted_at
        >>> counts = CountsAt(Retention(keep=1))
        >>> for iteration in (1, 2, 3, 4):
        ...     noted = counts.note(Mark(iteration, 0, None), {"MainThread": 8 * iteration})
        >>> counted_at({COUNTED_AT: noted}, 3), counted_at({COUNTED_AT: noted}, 1)
        ({'MainThread': 24}, {})
    """

    def __init__(self, retention: Retention, before: Any = None) -> None:
        self._retention = retention
        self._entries = _entries(before)

    def note(self, mark: Mark, items: Mapping[str, int]) -> list[list[Any]]:
        """Take note of what is counted where a checkpoint is taken; returns all that is noted, for a fact."""
        self._entries = {n: entry for n, entry in self._entries.items() if n < mark.iteration}
        self._entries[mark.iteration] = (mark, dict(items))
        stay = sorted(self._entries)[-self._retention.keep - 1 :]  # one may not be on the disk yet
        spared = self._retention.spared({n: mark for n, (mark, _) in self._entries.items()})
        self._entries = {n: entry for n, entry in self._entries.items() if n in spared or n in stay}
        return [[m.iteration, m.block, m.misfit, counts] for m, counts in self._entries.values()]


def counted_at(facts: Mapping[str, Any], iteration: int) -> dict[str, int]:
    """What was counted when the checkpoint of an iteration was taken, from a history's facts; where an earlier version
    has not noted that, all that was counted since."""
    _, found = _entries(facts.get(COUNTED_AT)).get(iteration, (None, facts.get(COUNTED)))
    if not iteration or not isinstance(found, dict):
        return {}
    return {name: count for name, count in found.items() if type(count) is int}


def _entries(noted: Any) -> dict[int, tuple[Mark, dict[str, int]]]:
    """What was noted, by iteration; what is somebody else's is left out."""
    found = {}
    for entry in noted if isinstance(noted, list) else []:
        match entry:
            case [int(iteration), int(block), float() | int() | None as misfit, dict(counts)]:
                found[iteration] = (Mark(iteration, block, misfit), counts)
    return found
