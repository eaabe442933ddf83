"""Commits that many wait for at the same time: one thread, and whoever comes meanwhile shares the next."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any


class Shared:
    """Runs a blocking call that settles whatever was handed in before it, such as a commit: in a thread, one at a time;
    whoever comes meanwhile shares the next one.

    For n who wait that is one thread and two calls, where n threads would take turns at the disk. That a call begins in
    a turn of the event loop gives those who come in the same turn time to share it: what makes commits slow is how many
    there are, as disks write one after the other.

    Example:
        >>> import asyncio, thalweg as tw
        >>> from thalweg.checkpoints.shared import Shared
        >>> calls, shared = [], Shared()
        >>> async def many():
        ...     await asyncio.gather(*(shared(lambda: calls.append("commit")) for _ in range(100)))
        >>> tw.wait(many())
        >>> len(calls) <= 2
        True
    """

    def __init__(self) -> None:
        self._loops: dict[asyncio.AbstractEventLoop, _Turns] = {}

    async def __call__(self, call: Callable[[], Any]) -> None:
        """Wait for a call that begins from now on.

        Args:
            call: what settles; the same one each time.

        Raises:
            Exception: whatever the call raises, to all who wait for it.
        """
        loop = asyncio.get_running_loop()
        turns = self._loops.get(loop)
        if turns is None:
            turns = self._loops[loop] = _Turns()
        if turns.next is None:
            turns.next = asyncio.ensure_future(_turn(turns, call))
            turns.waiting += 1
            turns.next.add_done_callback(lambda _: self._ended(loop, turns))
        await asyncio.shield(turns.next)

    def _ended(self, loop: asyncio.AbstractEventLoop, turns: _Turns) -> None:
        turns.waiting -= 1
        if not turns.waiting:
            del self._loops[loop]  # loops come and go, and what is kept of one would keep it


class _Turns:
    """Of one event loop: the call that has not begun yet, the lock that the one under way holds, how many there are."""

    def __init__(self) -> None:
        self.lock = asyncio.Lock()
        self.next: asyncio.Task[None] | None = None
        self.waiting = 0


async def _turn(turns: _Turns, call: Callable[[], Any]) -> None:
    async with turns.lock:
        turns.next = None  # what is handed in from here on need not be settled by this call
        await asyncio.to_thread(call)
