import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import pytest

from thalweg.graph import run_blocking, use_executor, wait

COLOR = ContextVar("color", default="none")


def test_functions_run_in_another_thread_with_the_context():
    async def main():
        COLOR.set("blue")
        return await run_blocking(lambda word: (word, COLOR.get(), threading.current_thread().name), "hello")

    word, color, name = wait(main())
    assert (word, color) == ("hello", "blue")
    assert name.startswith("thalweg")


def test_another_executor_for_a_while():
    async def where():
        return (await run_blocking(threading.current_thread)).name

    with ThreadPoolExecutor(1, thread_name_prefix="mine") as pool:
        with use_executor(pool) as used:
            assert used is pool
            assert wait(where()).startswith("mine")

            async def main():
                return wait(where())

            assert wait(main()).startswith("mine")
        assert wait(where()).startswith("thalweg")


def test_exceptions_come_through():
    with pytest.raises(ZeroDivisionError):
        wait(run_blocking(lambda: 1 / 0))


def test_a_function_that_has_not_begun_never_will():
    ran = []

    async def main():
        go = threading.Event()
        with ThreadPoolExecutor(1) as pool, use_executor(pool):
            first = asyncio.ensure_future(run_blocking(go.wait, 20))
            second = asyncio.ensure_future(run_blocking(ran.append, 1))
            await asyncio.sleep(0)
            second.cancel()
            with pytest.raises(asyncio.CancelledError):
                await second
            go.set()
            assert await first

    wait(main())
    assert ran == []


def test_a_running_function_that_fails_after_a_cancellation_is_not_reported_as_lost(caplog):
    async def main():
        running, go = threading.Event(), threading.Event()

        def work():
            running.set()
            assert go.wait(20)
            raise ArithmeticError

        task = asyncio.ensure_future(run_blocking(work))
        await asyncio.to_thread(running.wait, 20)
        task.cancel()
        await asyncio.sleep(0)
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await task

    wait(main())
    assert not caplog.records


def test_from_inside_a_worker_functions_run_right_there():
    async def nested():
        return await run_blocking(threading.current_thread)

    async def main():
        return await run_blocking(lambda: (threading.current_thread(), wait(nested())))

    outer, inner = wait(main())
    assert outer is inner
