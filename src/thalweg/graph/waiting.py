"""wait: the synchronous entry, from a plain script or from inside a running loop (Jupyter)."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable
from contextvars import copy_context
from typing import TypeVar

from thalweg.errors import GraphError
from thalweg.graph.tickets import BLOCKED

T = TypeVar("T")


def wait(awaitable: Awaitable[T]) -> T:
    """Run an awaitable to its end and return its result.

    Without a running event loop, it runs in one of its own, here; Ctrl-C cancels it. Inside a running loop (a
    Jupyter cell, say) it runs in a thread with its own loop and a copy of the context, and this blocks until
    it is done; a KeyboardInterrupt meanwhile cancels it and waits for that.

    Args:
        awaitable: a coroutine or anything else that can be awaited (inside a running loop: nothing that
            belongs to that loop, such as one of its tasks, since that loop stands still).

    Raises:
        GraphError: what was given cannot be awaited.
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
    try:
        outside = asyncio.get_running_loop()
    except RuntimeError:
        with asyncio.Runner() as runner:
            return runner.run(_finish(awaitable))
    return _in_thread(awaitable, outside)


async def _finish(awaitable: Awaitable[T]) -> T:
    return await awaitable


def _in_thread(awaitable: Awaitable[T], outside: asyncio.AbstractEventLoop) -> T:
    """Run the awaitable in the loop of a helper thread while the present loop stands still."""
    result: list[T] = []
    failure: list[BaseException] = []
    running: list[tuple[asyncio.AbstractEventLoop, asyncio.Task[T]]] = []
    stop, over = threading.Event(), threading.Event()

    async def main() -> T:
        task = asyncio.ensure_future(_finish(awaitable))
        running.append((asyncio.get_running_loop(), task))
        if stop.is_set():
            task.cancel()
        return await task

    def helper() -> None:
        BLOCKED.set((*BLOCKED.get(), outside))
        try:
            with asyncio.Runner() as runner:
                result.append(runner.run(main()))
        except BaseException as error:
            failure.append(error)
        finally:
            over.set()

    thread = threading.Thread(target=copy_context().run, args=(helper,), name="thalweg-wait")
    begun = False
    interrupt: KeyboardInterrupt | None = None
    while not over.is_set():
        try:
            if not begun:
                begun = True
                thread.start()  # which waits for the thread, and so may be interrupted, too
            over.wait()  # not thread.join(): before Python 3.13 an interrupted join believes the thread has ended
        except KeyboardInterrupt as error:
            interrupt = error
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
