"""What must not be left half done goes to its end, whether or not it has a task of its own from the beginning."""

import asyncio

import numpy as np
import pytest

import thalweg as tw
from thalweg.graph.finishing import to_the_end
from thalweg.optimizers import LocalOptimizer
from thalweg.runs.stepping import never_asks_for_its_task

HERE = pytest.mark.parametrize("here", [False, True])


@HERE
def test_the_result_and_the_error_are_handed_on(here):
    async def good():
        return 3

    async def slow():
        await asyncio.sleep(0.01)
        return 4

    async def bad():
        await asyncio.sleep(0)
        raise KeyError("no")

    async def bad_at_once():
        raise KeyError("no")

    async def main():
        assert await to_the_end(good(), begin_here=here) == 3
        assert await to_the_end(slow(), begin_here=here) == 4
        for work in (bad, bad_at_once):
            with pytest.raises(KeyError):
                await to_the_end(work(), begin_here=here)

    asyncio.run(main())


@HERE
@pytest.mark.parametrize("fails", [False, True])
def test_a_cancellation_waits_and_an_error_comes_before_it(here, fails):
    done = []

    async def work():
        for step in range(5):
            await asyncio.sleep(0.01)
            done.append(step)
        if fails:
            raise ValueError("the work")

    async def main():
        task = asyncio.ensure_future(to_the_end(work(), begin_here=here))
        for _ in range(3):
            await asyncio.sleep(0.005)
            task.cancel()
        with pytest.raises(ValueError if fails else asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert done == [0, 1, 2, 3, 4]


@HERE
def test_what_is_awaited_inside_works_as_anywhere(here):
    async def work():
        loop = asyncio.get_running_loop()
        first = loop.create_future()
        loop.call_later(0.005, first.set_result, 1)
        total = await first
        total += await asyncio.to_thread(lambda: 2)
        total += sum(await asyncio.gather(*(asyncio.sleep(0.001, i) for i in (3, 4))))
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):  # after it has waited: it is in its own task now
                await asyncio.sleep(10)
        failing = loop.create_future()
        loop.call_soon(failing.set_exception, OSError("thrown in"))
        with pytest.raises(OSError, match="thrown in"):
            await failing
        return total

    assert asyncio.run(to_the_end(work(), begin_here=here)) == 10


def test_work_that_never_waits_needs_no_task():
    async def work():
        return asyncio.current_task()

    async def main():
        mine = asyncio.current_task()
        assert await to_the_end(work(), begin_here=True) is mine
        assert await to_the_end(work()) is not mine

    asyncio.run(main())


def test_steps_that_call_coroutines_of_the_users_have_their_own_task():
    x = tw.Variable(np.zeros(3), name="x", needs_grad=True)

    class Coroutine:
        async def __call__(self, array, variable=None):
            return array

    class Own(tw.Adam):
        async def post_process(self):
            await super().post_process()

    async def hook(array, variable=None):
        return array

    smooth = tw.transforms.bounds(-1.0, 1.0)
    assert never_asks_for_its_task(tw.Adam(x))
    assert never_asks_for_its_task(tw.Adam(x, process_model=smooth))
    assert never_asks_for_its_task(tw.Adam(x, process_model=[smooth, lambda array: array]))
    assert not never_asks_for_its_task(tw.Adam(x, process_grad=hook))
    assert not never_asks_for_its_task(tw.Adam(x, process_model=[smooth, Coroutine()]))
    assert not never_asks_for_its_task(Own(x))
    assert not never_asks_for_its_task(object())
    assert issubclass(tw.Adam, LocalOptimizer)
