"""Ctrl-C: the first one stops a run cleanly, the second one at once.

Signal handlers belong to the process, so only the command installs them, for as long as the run lasts, and
puts the old ones back. A program that runs a study itself cancels the task instead.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import threading
from collections.abc import Callable, Coroutine
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_PATIENCE = 3.0  # s that on_second may take: a display may wait for a lock or for a terminal that has stalled


class Interrupted(Exception):
    """The work was stopped by a signal, and has cleaned up; ``signal`` is its number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"stopped by {signal.Signals(number).name}")
        self.signal = number


def run_interruptible(
    work: Coroutine[Any, Any, T],
    *,
    on_first: Callable[[], None] = lambda: None,
    on_second: Callable[[], None] = lambda: None,
) -> T:
    """Run a coroutine in an event loop of its own; SIGINT and SIGTERM cancel it, a second one ends the
    process.

    Only from the main thread, as Python demands for signal handlers.

    Args:
        work: cancelled by the first signal; it has all the time that it needs to clean up.
        on_first: called at the first signal, after the work was cancelled; an error of it is ignored.
        on_second: called at the second one, just before the process ends with the exit code 128 + signal, also
            if it raises or takes more than a few seconds.

    Raises:
        Interrupted: a signal came, and the work has ended.

    Example:
        >>> from thalweg.runs.interrupt import run_interruptible
        >>> async def work():
        ...     return 3
        >>> run_interruptible(work())
        3
    """
    received: list[int] = []

    async def main() -> T:
        task = asyncio.current_task()
        loop = asyncio.get_running_loop()
        assert task is not None

        def stop() -> None:
            task.cancel()  # first: whoever is told may not be able to say it
            with contextlib.suppress(Exception):
                on_first()

        def handle(number: int, frame: FrameType | None) -> None:
            received.append(number)
            if len(received) == 1:
                loop.call_soon_threadsafe(stop)  # also wakes the loop, if it sleeps
            else:
                end = threading.Timer(_PATIENCE, os._exit, [128 + number])
                end.daemon = True
                try:
                    end.start()
                    on_second()
                finally:
                    os._exit(128 + number)  # at once: a normal exit would wait for the threads that compute

        before = {number: signal.signal(number, handle) for number in _SIGNALS}
        try:
            return await work
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    try:
        return asyncio.run(main())
    except asyncio.CancelledError:
        if received:
            raise Interrupted(received[0]) from None
        raise
