"""wait: the synchronous entry, from a plain script or from inside a running loop (Jupyter)."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Coroutine
from contextvars import copy_context
from functools import partial
from typing import TypeVar

from thalweg.errors import GraphError
from thalweg.graph.executor import as_worker, in_worker
from thalweg.graph.tickets import BLOCKED

T = TypeVar("T")


def wait(awaitable: Awaitable[T]) -> T:
    """Run an awaitable to its end and return its result.

    Without a running event loop, it runs in one of its own, here; Ctrl-C cancels it. Inside a running loop (a
    Jupyter cell, say) it runs in a thread with its own loop and a copy of the context, and this blocks until
    it is done; a KeyboardInterrupt meanwhile cancels it and waits for that.

    Args:
        awaitable: a coroutine or anything else that can be awaited, but nothing that belongs to another event
            loop, such as a task or ``asyncio.gather(...)``: make those inside a coroutine, and wait for that.

    Raises:
        GraphError: what was given cannot be awaited, or belongs to another loop.
        Exception: whatever the awaitable raises.

    Example:
        >>> from thalweg.graph import wait
        >>> async def answer():
        ...     return 42
        >>> wait(answer())
        42
    """
    if not hasattr(awaitable, "__await__"):
        raise GraphError(
            f"wait() got a {type(awaitable).__name__}, which cannot be awaited; pass what calling a coroutine function "
            "returns, for instance wait(y.adjoint()), not wait(y.adjoint)"
        )
    if asyncio.isfuture(awaitable) and not awaitable.done():
        raise GraphError(
            f"wait() got a {type(awaitable).__name__} that belongs to another event loop than wait() makes; "
            "asyncio.gather(...), tasks and futures do. Make it inside a coroutine, `async def both(): return await "
            "asyncio.gather(a(), b())`, and pass that: wait(both())"
        )
    outside = None
    with contextlib.suppress(RuntimeError):
        outside = asyncio.get_running_loop()
    if outside is not None:
        return _in_thread(awaitable, outside)
    with asyncio.Runner() as runner:
        return runner.run(_finish(awaitable))


async def _finish(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _in_thread(awaitable: Awaitable[T], outside: asyncio.AbstractEventLoop) -> T:
    """Run the awaitable in the loop of a helper thread while the present loop stands still."""
    result: list[T] = []
    failure: list[BaseException] = []
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = []
    stop, over = threading.Event(), threading.Event()
    claim = threading.Lock()  # of the helper, once it has begun, or of an interrupt that came first

    async def main() -> T:
        task = asyncio.ensure_future(_finish(awaitable))
        running.append((asyncio.get_running_loop(), task))
        if stop.is_set():
            task.cancel()
        return await task

    def helper() -> None:
        if not claim.acquire(blocking=False):
            return
        BLOCKED.set((*BLOCKED.get(), outside))
        try:
            with asyncio.Runner() as runner:
                result.append(runner.run(main()))
        except BaseException as error:
            failure.append(error)
        finally:
            over.set()

    # A worker that waits here keeps its place occupied, so the helper must not ask for another worker.
    work = partial(as_worker, helper) if in_worker() else helper
    thread = threading.Thread(target=copy_context().run, args=(work,), name="thalweg-wait")
    begun = False
    interrupt: KeyboardInterrupt | None = None
    while not over.is_set():
        try:
            if not begun:
                begun = True
                thread.start()  # which waits for the thread, and so may be interrupted, too
            # Not thread.join(): before Python 3.13 an interrupted join believes the thread has ended. And not for ever:
            # a signal that comes just before the lock goes to sleep, or to another thread, does not wake it.
            over.wait(timeout=0.2)
        except KeyboardInterrupt as error:
            interrupt = error
            if claim.acquire(blocking=False):  # the helper has not begun, and now it never will
                if isinstance(awaitable, Coroutine):
                    awaitable.close()
                raise
            stop.set()
            for loop, task in running:
                if not loop.is_closed():
                    loop.call_soon_threadsafe(task.cancel)
    thread.join()
    if interrupt is not None:
        raise interrupt
    if failure:
        raise failure[0]
    return result[0]
