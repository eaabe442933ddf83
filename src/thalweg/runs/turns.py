"""Others get their turn: what never waits must not keep the event loop to itself."""

from __future__ import annotations

import asyncio
import time

_TURN = 0.005  # s that the event loop is kept busy at most; a turn costs as much as a short step


class Turns:
    """Awaited often, gives the event loop to everybody else now and then.

    Example:
        >>> import asyncio
        >>> from thalweg.runs.turns import Turns
        >>> async def busy(heard):
        ...     turns = Turns()
        ...     while not heard:
        ...         await turns()
        >>> async def both():
        ...     heard = []
        ...     asyncio.get_running_loop().call_soon(heard.append, "the other one")
        ...     await busy(heard)
        ...     return heard
        >>> asyncio.run(both())
        ['the other one']
    """

    def __init__(self) -> None:
        self._last = time.monotonic()

    async def __call__(self) -> None:
        """Let others run, if they had to wait for some milliseconds."""
        if time.monotonic() - self._last > _TURN:
            await asyncio.sleep(0)
            self._last = time.monotonic()
