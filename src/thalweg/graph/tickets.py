"""Tickets: runs that share leaves commit in the order in which they were started.

A run takes a ticket for its leaves at its start; before it commits it waits until every earlier run on any of
them is over. A run never waits for one that waits for it: its ancestors (an adjoint may run a nested
adjoint), what waits for those, and whatever needs an event loop that is blocked until this run is done
(``wait`` inside a running loop). Nor does a run inside a worker (a thread
for blocking functions) wait for one outside, which may need that very thread.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Sequence
from contextvars import ContextVar
from typing import TYPE_CHECKING

from thalweg.graph.executor import in_worker

if TYPE_CHECKING:
    from thalweg.graph.variable import Variable

# Runs may start in several threads; taking tickets and the payloads of a graph is one step.
# Reentrant, because an abandoned run that the garbage collector finds meanwhile releases its ticket then and
# there.
START = threading.RLock()
CURRENT: ContextVar[Ticket | None] = ContextVar("thalweg_current_run", default=None)
BLOCKED: ContextVar[tuple[asyncio.AbstractEventLoop, ...]] = ContextVar("thalweg_blocked_loops", default=())


class Ticket:
    """A run's place in the queue of each of its leaves."""

    __slots__ = ("before", "children", "leaves", "loop", "over", "parent", "worker")

    def __init__(self) -> None:
        parent = CURRENT.get()
        self.parent = parent if parent is not None and not parent.over.done() else None
        self.leaves: Sequence[Variable] = ()
        self.loop = asyncio.get_running_loop()
        self.worker = in_worker()
        self.over: concurrent.futures.Future[None] = concurrent.futures.Future()
        self.children: set[Ticket] = set()
        self.before: list[Ticket] = []

    def queue(self, leaves: Sequence[Variable]) -> None:
        """Line up for these leaves. To be called while holding ``START``."""
        self.leaves = leaves
        blocked = BLOCKED.get()
        earlier = {ticket: None for leaf in leaves for ticket in leaf._tickets if not ticket.over.done()}
        if self.worker:
            earlier = {ticket: None for ticket in earlier if ticket.worker}
        self.before = [ticket for ticket in earlier if not _needs(ticket, self.parent, blocked)]
        for leaf in leaves:
            leaf._tickets = (*leaf._tickets, self)
        if self.parent is not None:
            self.parent.children.add(self)

    async def turn(self) -> None:
        """Wait until every earlier run on these leaves is over, well or badly."""
        for earlier in self.before:
            if not earlier.over.done():
                # The shield keeps a cancellation of this run from cancelling the other one's future.
                await asyncio.shield(asyncio.wrap_future(earlier.over))

    def release(self) -> None:
        """Leave all queues and let the next ones go on. Never fails; once is enough."""
        with START:
            for leaf in self.leaves:
                leaf._tickets = tuple(ticket for ticket in leaf._tickets if ticket is not self)
            if self.parent is not None:
                self.parent.children.discard(self)
            self.before = []  # breaks the chain of references to all runs that there ever were
        self.over.set_result(None)


def _needs(ticket: Ticket, parent: Ticket | None, blocked: tuple[asyncio.AbstractEventLoop, ...]) -> bool:
    """Tell whether ticket cannot be over before parent is, or before a blocked loop goes on."""
    if parent is None and not blocked:
        return False
    seen = {ticket}
    stack = [ticket]
    while stack:
        other = stack.pop()
        if other is parent or other.loop in blocked:
            return True
        further = {*other.before, *other.children} - seen
        seen |= further
        stack += further
    return False
