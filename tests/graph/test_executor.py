import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from contextvars import ContextVar

import numpy as np
import pytest

from thalweg.graph import Operator, Variable, run_blocking, use_executor, wait

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


class Twice(Operator):
    blocking = True

    def forward(self, x):
        return Variable(2 * x.data)

    def adjoint(self, grad, x):
        return 2 * grad


def waiting_for(inner, *, blocks):
    """Make an operator, blocking or not, whose methods wait for another operator."""

    class Outer(Operator):
        blocking = blocks

        def forward(self, x):
            return Variable(wait(inner(x)).data)

        def adjoint(self, grad, x):
            z = x.as_parameter()
            wait(wait(inner(z)).adjoint(grad))
            return z.grad

    return Outer()


def ends(function, *args):
    """Run a function in a thread that may be left behind, so that a deadlock is a failure and no standstill."""
    result = []
    thread = threading.Thread(target=lambda: result.append(function(*args)), daemon=True)
    thread.start()
    thread.join(20)
    assert result, "it waits for ever"
    return result[0]


@pytest.mark.parametrize("blocks", [(True,), (False, True), (True, True), (True, False, True), (True, True, True)])
def test_blocking_operators_that_wait_for_each_other_need_one_thread(blocks):
    operator = Twice()
    for block in blocks[::-1]:
        operator = waiting_for(operator, blocks=block)

    def work():
        x = Variable(np.ones(2), needs_grad=True)
        wait(wait(operator(x)).adjoint(np.ones(2)))
        return x.grad

    def main():
        with ThreadPoolExecutor(1) as pool, use_executor(pool):
            alone = work()
            in_a_worker = wait(run_blocking(work))
        return [*alone, *in_a_worker]

    assert ends(main) == [2.0] * 4


def test_a_run_in_a_worker_does_not_wait_for_one_that_needs_its_thread():
    x = Variable(np.ones(2), needs_grad=True)
    queued, begun = threading.Event(), threading.Event()

    async def early(y, loop):
        run = asyncio.ensure_future(y.adjoint(np.ones(2)))
        await asyncio.sleep(0)  # it has its ticket, and wants the thread
        loop.call_soon(queued.set)
        await run

    def late():
        begun.set()
        assert queued.wait(20)
        wait(wait(Twice()(x)).adjoint(np.full(2, 10.0)))

    async def main():
        with ThreadPoolExecutor(1) as pool, use_executor(pool):
            y = await Twice()(x)
            task = asyncio.ensure_future(run_blocking(late))
            await asyncio.to_thread(begun.wait, 20)
            await asyncio.gather(task, early(y, asyncio.get_running_loop()))
        return x.grad.tolist()

    assert ends(lambda: wait(main())) == [22.0, 22.0]
