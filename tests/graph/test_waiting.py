import asyncio
import os
import signal
import subprocess
import sys
import textwrap
import threading
from contextvars import ContextVar

import numpy as np
import pytest

from thalweg.errors import GraphError
from thalweg.graph import Operator, Variable, wait

COLOR = ContextVar("color", default="none")


async def answer():
    await asyncio.sleep(0)
    return 42


class Awaitable:
    def __await__(self):
        yield from asyncio.sleep(0).__await__()
        return "awaited"


def test_in_a_plain_script():
    assert wait(answer()) == 42
    assert wait(Awaitable()) == "awaited"
    with pytest.raises(RuntimeError, match="no running"):
        asyncio.get_running_loop()


def test_inside_a_running_loop():
    async def main():
        COLOR.set("blue")

        async def inner():
            await asyncio.sleep(0)
            return COLOR.get(), threading.current_thread() is threading.main_thread()

        assert wait(inner()) == ("blue", False)
        assert wait(Awaitable()) == "awaited"

        async def again():
            return wait(answer())

        assert wait(again()) == 42

    asyncio.run(main())


def test_an_adjoint_run_inside_a_running_loop():
    class Double(Operator):
        async def forward(self, x):
            return Variable(2 * x.data)

        async def adjoint(self, grad, x):
            await asyncio.sleep(0)
            return 2 * grad

    async def cell():
        x = Variable(np.ones(2), needs_grad=True)
        y = wait(Double()(x))
        wait(y.adjoint(np.ones(2)))
        return x.grad

    np.testing.assert_array_equal(asyncio.run(cell()), [2.0, 2.0])


@pytest.mark.parametrize("inside", [False, True])
def test_exceptions_come_through(inside):
    async def fail():
        raise ZeroDivisionError("mine")

    async def main():
        wait(fail())

    with pytest.raises(ZeroDivisionError, match="mine"):
        asyncio.run(main()) if inside else wait(fail())


def test_what_cannot_be_awaited():
    for thing in (3, None, answer):
        with pytest.raises(GraphError, match="cannot be awaited"):
            wait(thing)


@pytest.mark.parametrize(
    "interrupt",
    [
        lambda: os.kill(os.getpid(), signal.SIGINT),
        lambda: signal.pthread_kill(threading.get_ident(), signal.SIGINT),
    ],
    ids=["to the process", "to a thread that does not wait"],
)
def test_an_interrupt_inside_a_running_loop_cancels_and_waits(interrupt):
    """As in Jupyter, where the interrupt raises KeyboardInterrupt in the thread that waits, whichever thread the system
    gives the signal to: only one that comes to a thread already asleep wakes it."""
    events = []

    async def inner():
        try:
            interrupt()
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            events.append("cancelled")
            raise
        finally:
            events.append("over")

    async def main():
        with pytest.raises(KeyboardInterrupt):
            wait(inner())
        events.append("caught")

    loop = asyncio.new_event_loop()  # unlike asyncio.run, it leaves SIGINT as it is, like Jupyter
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        loop.run_until_complete(main())
    finally:
        signal.signal(signal.SIGINT, before)
        loop.close()
    assert events == ["cancelled", "over", "caught"]


def test_control_c_in_a_plain_script():
    script = """
        import asyncio, os, signal
        import numpy as np
        from thalweg.graph import Operator, Variable, wait

        # As in a terminal; what a shell starts in the background has the signal ignored.
        signal.signal(signal.SIGINT, signal.default_int_handler)

        class Stuck(Operator):
            def forward(self, x):
                return Variable(x.data)
            async def adjoint(self, grad, x):
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.Event().wait()

        x = Variable(1.0, needs_grad=True)
        y = wait(Stuck()(x))
        try:
            wait(y.adjoint())
        except KeyboardInterrupt:
            print("stopped", x.grad)
    """
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", textwrap.dedent(script)], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "stopped None\n", "")


def test_an_interrupt_before_the_helper_thread_exists_ends_the_wait(monkeypatch):
    """A daemon thread, so that a loop that swallows interrupts for ever is a failure and no standstill."""
    caught, ran = [], []

    class Interrupted(threading.Thread):
        def start(self):
            raise KeyboardInterrupt

    async def inner():
        ran.append(1)

    async def main():
        with pytest.raises(KeyboardInterrupt):
            wait(inner())
        caught.append(1)

    thread = threading.Thread(target=lambda: asyncio.run(main()), daemon=True)
    monkeypatch.setattr("thalweg.graph.waiting.threading.Thread", Interrupted)
    thread.start()
    thread.join(20)
    assert caught, "the interrupt was swallowed"
    assert not ran


def test_what_belongs_to_another_loop_is_refused():
    loop = asyncio.new_event_loop()
    try:
        gathered = asyncio.gather(loop.create_future(), loop.create_future())
        with pytest.raises(GraphError, match="coroutine"):
            wait(gathered)
    finally:
        loop.close()

    async def main():
        future = asyncio.get_running_loop().create_future()
        with pytest.raises(GraphError, match="coroutine"):
            wait(future)
        future.set_result(3)
        assert wait(future) == 3  # nothing to wait for any more

    asyncio.run(main())
