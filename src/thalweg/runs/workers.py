"""Who worked on how many items, for the history."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from typing import Any

from thalweg.runtime.base import ItemProgress


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
