"""Where work runs: the face that the run loop and the problems know.

The one operation is a sum over items, reduced in a tree that is fixed by the items' order
(:mod:`thalweg.runtime.tree`)::

    map_reduce(task, items) = task(items[0]) ⊕ task(items[1]) ⊕ ...

so the result has the same bits with any number of workers, whichever of them finishes first.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar, runtime_checkable

from thalweg.runtime.tree import Kept

Item = TypeVar("Item")
Result = TypeVar("Result")
ItemProgress = Callable[[int, int], None]
"""``progress(done, total)``, called once a finished item, from any thread, never from two at once."""


@runtime_checkable
class Runtime(Protocol):
    """Runs numeric work beside the event loop."""

    @property
    def workers(self) -> int:
        """How many tasks run at once."""

    async def map_reduce(
        self,
        task: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        progress: ItemProgress | None = None,
        kept: Kept | None = None,
    ) -> Result:
        """The sum of ``task(item)`` over ``items``, added in the fixed tree.

        Args:
            task: a pure, plain function. It runs in another thread (or, with other runtimes, on another
                machine, so a module-level function with :func:`functools.partial` is the form to choose). It
                returns an array of its own, a number, or dicts, lists and tuples of them; the same structure
                for every item.
            items: what the task is called with, at least one.
            progress: told of each finished item.
            kept: where finished partial sums are kept; what it has already is not computed again. It is called in
                other threads.

        Raises:
            RunError: there are no items, or results that cannot be added.

        The first exception of a task stops the work: no further task starts, the running ones are waited for,
        and the exception is raised with notes of its item and of who worked on it. Cancelling the coroutine does
        the same.
        """

    async def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """Call one blocking function beside the event loop and hand back its result.

        A cancelled call is waited for, so that nothing runs on behind the caller's back.
        """


class Watched:
    """A runtime that tells somebody of each finished item, whoever asked for the work.

    The run loop hands one to the problem, so that the shots of every batch are counted in the display.

    Args:
        runtime: where the work runs.
        watcher: ``watcher(done, total)``.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.runtime import Local, Watched
        >>> seen = []
        >>> with Local(threads=1) as runtime:
        ...     total = tw.wait(Watched(runtime, lambda *count: seen.append(count)).map_reduce(abs, [-1, 2]))
        >>> total, seen
        (3, [(1, 2), (2, 2)])
    """

    def __init__(self, runtime: Runtime, watcher: ItemProgress) -> None:
        self._runtime = runtime
        self._watcher = watcher

    @property
    def workers(self) -> int:
        """How many tasks run at once."""
        return self._runtime.workers

    async def map_reduce(
        self,
        task: Callable[[Item], Result],
        items: Sequence[Item],
        *,
        progress: ItemProgress | None = None,
        kept: Kept | None = None,
    ) -> Result:
        """As :meth:`Runtime.map_reduce`; the watcher is told first."""

        def both(done: int, total: int) -> None:
            self._watcher(done, total)
            if progress is not None:
                progress(done, total)

        more: dict[str, Any] = {} if kept is None else {"kept": kept}  # a runtime of the user's may not know it
        return await self._runtime.map_reduce(task, items, progress=both, **more)

    async def run(self, function: Callable[..., Result], *args: Any) -> Result:
        """As :meth:`Runtime.run`."""
        return await self._runtime.run(function, *args)
