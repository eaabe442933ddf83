"""Something that must not be left half done when its caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Await a coroutine to its end; a cancellation of the caller is raised afterwards, unless the work failed.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.lm.waiting import to_the_end
        >>> async def step():
        ...     return 1
        >>> tw.wait(to_the_end(step()))
        1
    """
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
