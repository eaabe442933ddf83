"""What has to be on the disk before something is paid for."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextvars import ContextVar

BEFORE_PAYING: ContextVar[Callable[[], Awaitable[None]] | None] = ContextVar("before_paying", default=None)
"""What a request waits for before it is sent, besides what the model itself notes on the disk: a caller that keeps
books sets it, so that both are written at the same time."""
