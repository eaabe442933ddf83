"""Commits that many wait for are shared."""

import asyncio
import gc
import threading
import time
import weakref

import pytest

import thalweg as tw
from thalweg.checkpoints.shared import Shared


def test_whoever_comes_while_a_call_goes_on_waits_for_the_next_one():
    shared, handed, settled = Shared(), [], []
    going, on = threading.Event(), threading.Event()

    def call():
        seen = list(handed)
        if not going.is_set():
            going.set()
            on.wait()
        settled.append(seen)

    async def one(number):
        handed.append(number)
        await shared(call)
        assert any(number in seen for seen in settled)

    async def all_of_them():
        first = asyncio.ensure_future(one(0))
        await asyncio.to_thread(going.wait)
        others = [asyncio.ensure_future(one(number)) for number in range(1, 50)]
        await asyncio.sleep(0)
        assert not any(task.done() for task in (first, *others))
        on.set()
        await asyncio.gather(first, *others)

    tw.wait(all_of_them())
    assert len(settled) == 2
    assert settled[0] == [0]


def test_an_error_reaches_all_who_wait_and_the_next_call_is_made_anew():
    shared, calls = Shared(), []
    on = threading.Event()

    def call():
        calls.append(len(calls))
        if len(calls) == 1:
            on.wait()
        if len(calls) == 2:
            raise OSError("the disk is full")

    async def all_of_them():
        first = asyncio.ensure_future(shared(call))
        while not calls:
            await asyncio.sleep(0.001)
        others = [asyncio.ensure_future(shared(call)) for _ in range(5)]
        await asyncio.sleep(0)
        on.set()
        await first
        errors = await asyncio.gather(*others, return_exceptions=True)
        assert [str(error) for error in errors] == ["the disk is full"] * 5
        await shared(call)

    tw.wait(all_of_them())
    assert calls == [0, 1, 2]


def test_several_event_loops_share_too():
    shared, calls = Shared(), []
    threads = [
        threading.Thread(target=lambda: asyncio.run(shared(lambda: calls.append(threading.current_thread()))))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= len(calls) <= 8
    assert not set(calls) & {*threads, threading.main_thread()}, "no event loop was blocked"


def test_a_cancelled_one_does_not_take_the_call_from_the_others():
    shared = Shared()
    on = threading.Event()

    async def both():
        cancelled, other = (asyncio.ensure_future(shared(on.wait)) for _ in range(2))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        on.set()
        await other

    tw.wait(both())


def test_nothing_is_kept_of_event_loops_that_are_over():
    shared, loops = Shared(), []

    async def many():
        loops.append(weakref.ref(asyncio.get_running_loop()))
        await asyncio.gather(*(shared(lambda: time.sleep(0.001)) for _ in range(3)), return_exceptions=True)
        going = asyncio.ensure_future(shared(lambda: time.sleep(0.01)))
        await asyncio.sleep(0)
        later = [asyncio.ensure_future(shared(lambda: None)) for _ in range(3)]  # what ends with the loop
        await asyncio.sleep(0)
        assert not going.done()
        assert not any(task.done() for task in later)

    for _ in range(5):
        asyncio.run(many())
    gc.collect()
    assert [loop() for loop in loops] == [None] * 5
    assert shared._loops == {}
