"""Who is working here: what errors name, so that a person finds the machine that has the trouble."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_WHO: ContextVar[str | None] = ContextVar("thalweg_worker", default=None)


def here() -> str:
    """Who is working here: a worker of a cluster, else the present thread.

    Example:
        >>> from thalweg.runtime.where import here, working_as
        >>> here()
        'thread MainThread'
        >>> with working_as("worker tcp://node1:4711"):
        ...     here()
        'worker tcp://node1:4711'
    """
    return _WHO.get() or f"thread {threading.current_thread().name}"


@contextmanager
def working_as(who: str) -> Iterator[None]:
    """Within the block, the present context is this worker's."""
    token = _WHO.set(who)
    try:
        yield
    finally:
        _WHO.reset(token)
