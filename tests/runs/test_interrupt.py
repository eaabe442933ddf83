"""Signals: installed for the run's duration only."""

import asyncio
import os
import signal
import subprocess
import sys

import pytest

from thalweg.graph.finishing import to_the_end
from thalweg.runs.interrupt import Interrupted, run_interruptible


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_cancels_and_the_work_cleans_up(number):
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    said, cleaned = [], []

    async def work():
        try:
            asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), number)
            await asyncio.sleep(30)
        finally:
            await asyncio.sleep(0.01)
            cleaned.append(True)

    with pytest.raises(Interrupted) as error:
        run_interruptible(work(), on_first=lambda: said.append("stopping"))
    assert error.value.signal == number
    assert said == ["stopping"]
    assert cleaned == [True]
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


def test_handlers_are_put_back_after_an_error_and_the_result_comes_through():
    before = signal.getsignal(signal.SIGINT)

    async def fail():
        assert signal.getsignal(signal.SIGINT) is not before
        raise KeyError("x")

    with pytest.raises(KeyError):
        run_interruptible(fail())
    assert signal.getsignal(signal.SIGINT) is before

    async def good():
        return 5

    assert run_interruptible(good()) == 5


def test_a_cancellation_that_is_not_ours_stays_one():
    async def work():
        raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        run_interruptible(work())


def test_to_the_end_finishes_first():
    events = []

    async def step():
        await asyncio.sleep(0.02)
        events.append("committed")
        return 1

    async def fail():
        await asyncio.sleep(0.01)
        raise KeyError("step")

    async def main():
        task = asyncio.ensure_future(to_the_end(step()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert events == ["committed"]
        task = asyncio.ensure_future(to_the_end(fail()))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(KeyError):
            await task

    asyncio.run(main())


def test_the_first_signal_cancels_though_nobody_can_be_told():
    async def work():
        asyncio.get_running_loop().call_later(0.01, os.kill, os.getpid(), signal.SIGINT)
        await asyncio.sleep(30)

    def say():
        raise BrokenPipeError("the terminal is gone")

    with pytest.raises(Interrupted):
        run_interruptible(work(), on_first=say)


@pytest.mark.parametrize("fault", ["raise RuntimeError('reentrant call')", "time.sleep(60)"])
def test_the_second_signal_ends_the_process_whatever_happens(fault):
    script = f"""
import asyncio, os, signal, threading, time
from thalweg.runs import interrupt
interrupt._PATIENCE = 0.2
def second():
    {fault}
async def work():
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            os.kill(os.getpid(), signal.SIGTERM)
threading.Timer(0.2, os.kill, [os.getpid(), signal.SIGINT]).start()
interrupt.run_interruptible(work(), on_second=second)
"""
    done = subprocess.run([sys.executable, "-c", script], timeout=30, capture_output=True)
    assert done.returncode == 128 + signal.SIGTERM
