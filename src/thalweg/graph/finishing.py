"""Something that must not be left half done when its caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Generator
from typing import Any, Generic, TypeVar

T = TypeVar("T")


async def to_the_end(work: Coroutine[Any, Any, T], *, begin_here: bool = False) -> T:
    """Await a coroutine to its end, whatever happens to the caller; a cancellation is raised afterwards.

    An error of the work comes before the cancellation, since it says more.

    Args:
        work: what must not be left half done.
        begin_here: run it in the caller's task until it waits for the first time: what never waits needs no task
            of its own, which costs as much as a short step. Not for work that asks, before it first waits, which
            task it is in (:func:`asyncio.timeout` does).

    Example:
        >>> import thalweg as tw
        >>> from thalweg.graph.finishing import to_the_end
        >>> async def step():
        ...     return 1
        >>> tw.wait(to_the_end(step())), tw.wait(to_the_end(step(), begin_here=True))
        (1, 1)
    """
    if begin_here:
        try:
            pending = work.send(None)
        except StopIteration as stop:
            value: T = stop.value
            return value
        work = _finish(_Begun(work, pending))
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait({task})
        except asyncio.CancelledError as error:
            cancelled = error
    result = task.result()
    if cancelled is not None:
        raise cancelled
    return result


class _Begun(Generic[T]):
    """A coroutine that has begun elsewhere, and what it waits for: the next one who awaits it goes on with both."""

    def __init__(self, work: Coroutine[Any, Any, T], pending: Any) -> None:
        self._work = work
        self._pending = pending

    def __await__(self) -> Generator[Any, Any, T]:
        while True:
            thrown: BaseException | None = None
            sent: Any = None
            try:
                sent = yield self._pending
            except BaseException as error:  # a cancellation, say: it belongs to the work
                thrown = error
            try:
                self._pending = self._work.send(sent) if thrown is None else self._work.throw(thrown)
            except StopIteration as stop:
                value: T = stop.value
                return value


async def _finish(begun: _Begun[T]) -> T:
    return await begun
