"""Branches run at the same time, in the order that the graph gives, and nothing outlives its run."""

import asyncio
import gc
import threading
import weakref
from contextlib import suppress
from itertools import count

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from thalweg.errors import GraphFreedError
from thalweg.graph import Operator, Variable, wait


def leaf(value, **kwargs):
    return Variable(np.asarray(value, dtype=np.float64), needs_grad=True, **kwargs)


class Add(Operator):
    def forward(self, *xs):
        return Variable(sum(x.data for x in xs))

    def adjoint(self, grad, *xs):
        return (grad,) * len(xs)


class Made(Operator):
    """y = factor · x with an adjoint of one's own making."""

    def __init__(self, adjoint=None, *, factor=1.0, name=None):
        super().__init__(name=name)
        self.before, self.factor = adjoint, factor

    def forward(self, x):
        return Variable(self.factor * x.data)

    async def adjoint(self, grad, x):
        if self.before is not None:
            await self.before()
        return self.factor * grad


class Blocking(Made):
    blocking = True

    def adjoint(self, grad, x):
        if self.before is not None:
            self.before()
        return self.factor * grad


async def eventually(predicate):
    """Let others run until something holds (a limit in steps, not seconds, for a test that would never end)."""
    for _ in range(100_000):
        if predicate():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never happened")


# -- at the same time ------------------------------------------------------------------


def test_branches_wait_together():
    """64 branches that all wait for the last of them, forward and back."""

    class Meeting(Operator):
        async def meet(self):
            self.there += 1
            if self.there == 64:
                self.all.set()
            await self.all.wait()

        async def forward(self, x):
            await self.meet()
            return Variable(x.data)

        async def adjoint(self, grad, x):
            await self.meet()
            return grad

    async def main():
        x, meeting = leaf(1.0), Meeting()
        meeting.there, meeting.all = 0, asyncio.Event()
        ys = await asyncio.gather(*(meeting(x) for _ in range(64)))
        meeting.there, meeting.all = 0, asyncio.Event()
        await (await Add()(*ys)).adjoint()
        return x.grad

    assert wait(main()) == 64.0


def test_sixty_four_sleeping_branches_take_no_longer_than_a_few():
    class Nap(Operator):
        async def forward(self, x):
            await asyncio.sleep(0.005)
            return Variable(x.data)

        async def adjoint(self, grad, x):
            await asyncio.sleep(0.005)
            return grad

    async def main():
        clock = asyncio.get_running_loop().time
        x, nap = leaf(1.0), Nap()
        start = clock()
        y = await Add()(*await asyncio.gather(*(nap(x) for _ in range(64))))
        await y.adjoint()
        return clock() - start

    assert wait(main()) < 0.32  # half of what one after the other takes; usually 0.012


def test_two_blocking_operators_overlap():
    barrier = threading.Barrier(2, timeout=20)

    class Kernel(Operator):
        blocking = True

        def forward(self, x):
            barrier.wait()
            return Variable(x.data)

        def adjoint(self, grad, x):
            barrier.wait()
            assert threading.current_thread() is not threading.main_thread()
            return grad

    async def main():
        x, kernel = leaf(1.0), Kernel()
        ys = await asyncio.gather(kernel(x), kernel(x))
        await (await Add()(*ys)).adjoint()
        return x.grad

    assert wait(main()) == 2.0


def test_a_chain_makes_no_task():
    async def main():
        caller, seen = asyncio.current_task(), []

        async def note():
            seen.append(asyncio.current_task() is caller and len(asyncio.all_tasks()) == 1)
            await asyncio.sleep(0)

        y = leaf(1.0)
        for _ in range(10):
            y = await Made(note)(y)
        await y.adjoint()
        return seen

    assert wait(main()) == [True] * 10


def test_tasks_are_as_many_as_branches():
    async def main():
        most = 0

        async def note():
            nonlocal most
            await asyncio.sleep(0)
            most = max(most, len(asyncio.all_tasks()) - 1)

        x = leaf(1.0)
        branches = []
        for _ in range(5):
            y = x
            for _ in range(10):
                y = await Made(note)(y)
            branches.append(y)
        await (await Add()(*branches)).adjoint()
        return most

    assert wait(main()) == 5


def test_timeouts_work_inside_an_adjoint():
    async def main():
        caught = []

        async def hurried():
            try:
                async with asyncio.timeout(0.001):
                    await asyncio.Event().wait()
            except TimeoutError:
                caught.append(asyncio.current_task())

        x = leaf(1.0)
        for y in (await Made(hurried)(x), await Add()(await Made(hurried)(x), await Made(hurried)(x))):
            await y.adjoint()
        assert len(caught) == 3
        assert None not in caught
        return x.grad

    assert wait(main()) == 3.0


def test_a_long_chain_of_plain_adjoints_lets_others_run():
    class Plain(Made):
        def adjoint(self, grad, x):
            return grad

    async def main():
        y, plain = leaf(1.0), Plain()
        for _ in range(50_000):
            y = await plain(y)
        turns = 0

        async def other():
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.ensure_future(other())
        await y.adjoint(retain_graph=True)
        task.cancel()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0):
                await y.adjoint()
        return turns

    assert wait(main()) > 3


# -- the bits do not depend on timing --------------------------------------------------


@settings(max_examples=60, deadline=None, database=None)
@given(st.permutations(range(9)), st.lists(st.integers(0, 12), min_size=9, max_size=9), st.integers(0, 2**32 - 1))
def test_bits_do_not_depend_on_arrival(creation, delays, seed):
    """Branches are made in any order, and their gradients arrive in any order."""
    values = np.random.default_rng(seed).standard_normal((9, 4)) * 10.0 ** np.arange(-8, 10, 2)[:, None]

    class Weigh(Operator):
        def __init__(self, k, turns):
            super().__init__()
            self.k, self.turns = k, turns

        async def forward(self, x):
            for _ in range(self.turns):
                await asyncio.sleep(0)
            return Variable(values[self.k] * x.data)

        async def adjoint(self, grad, x):
            for _ in range(self.turns):
                await asyncio.sleep(0)
            return values[self.k] * grad

    async def main(creation, delays):
        x = leaf(np.linspace(1, 2, 4))
        middle = await Made(factor=1 / 3)(x)
        operators = [Weigh(k, delays[k]) for k in range(9)]
        if creation is None:
            ys = [await op(middle if k % 2 else x) for k, op in enumerate(operators)]
        else:
            tasks = {k: asyncio.ensure_future(operators[k](middle if k % 2 else x)) for k in creation}
            ys = [await tasks[k] for k in range(9)]
        y = await Add()(*ys[:5], middle, *ys[5:], x)
        await y.adjoint(np.full(4, 0.1))
        return x.grad

    reference = wait(main(None, [0] * 9))
    assert wait(main(creation, delays)).tobytes() == reference.tobytes()


# -- failure and cancellation ----------------------------------------------------------


@pytest.mark.parametrize("retain", [True, False])
def test_a_failing_branch_stops_the_others(retain):
    async def main():
        events = []

        async def forever():
            events.append("begun")
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)  # needs a moment to tidy up
                events.append("ended")

        async def fail():
            await eventually(lambda: events.count("begun") == 3)
            raise ArithmeticError("no")

        xs = [leaf(1.0) for _ in range(5)]
        bad = Made(fail)
        branches = [await Made(forever)(x) for x in xs[:3]]
        y = await Add()(*branches, await bad(xs[3]), xs[4])
        with pytest.raises(ArithmeticError, match="no"):
            await y.adjoint(retain_graph=retain)
        assert events == ["begun"] * 3 + ["ended"] * 3
        assert len(asyncio.all_tasks()) == 1
        assert all(x.grad is None for x in xs)
        del events[:]
        with pytest.raises(ArithmeticError if retain else GraphFreedError):
            await y.adjoint(retain_graph=retain)

    wait(main())


@pytest.mark.parametrize("branches", [1, 4])
def test_cancelling_a_run_leaves_nothing_behind(branches):
    async def main():
        begun, ended = [], []

        async def forever():
            begun.append(1)
            try:
                await asyncio.Event().wait()
            finally:
                await asyncio.sleep(0)
                ended.append(1)

        x, other = leaf(1.0), leaf(1.0)
        y = (
            await Add()(*[await Made(forever)(x) for _ in range(branches)], other)
            if branches > 1
            else await Made(forever)(x)
        )
        run = asyncio.ensure_future(y.adjoint())
        await eventually(lambda: len(begun) == branches)
        run.cancel()
        await asyncio.sleep(0)
        run.cancel()  # once more, while it tidies up
        with pytest.raises(asyncio.CancelledError):
            await run
        assert len(asyncio.all_tasks()) == 1
        if branches > 1:
            assert len(ended) == branches
        assert x.grad is other.grad is None
        assert x._tickets == ()
        await other.adjoint()  # nobody is in the way

    wait(main())


@pytest.mark.parametrize("branches", [1, 2])
def test_a_function_in_a_thread_is_waited_for(branches):
    async def main():
        running, go, done = threading.Semaphore(0), threading.Event(), []

        def work():
            running.release()
            assert go.wait(20)
            done.append(1)

        x = leaf(1.0)
        tops = [await Blocking(work)(x) for _ in range(branches)]
        y = await Add()(*tops) if branches > 1 else tops[0]
        run = asyncio.ensure_future(y.adjoint())
        for _ in range(branches):
            await asyncio.to_thread(running.acquire)
        run.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        assert not run.done()
        run.cancel()
        await asyncio.sleep(0)
        assert not run.done()
        go.set()
        with pytest.raises(asyncio.CancelledError):
            await run
        assert len(done) == branches
        assert x.grad is None

    wait(main())


def test_a_failure_waits_for_functions_in_threads():
    async def main():
        running, go, done = threading.Event(), threading.Event(), []

        def work():
            running.set()
            assert go.wait(20)
            done.append(1)

        async def fail():
            await asyncio.to_thread(running.wait, 20)
            asyncio.get_running_loop().call_later(0.01, go.set)
            raise ArithmeticError("no")

        x = leaf(1.0)
        y = await Add()(await Blocking(work)(x), await Made(fail)(x))
        with pytest.raises(ArithmeticError):
            await y.adjoint()
        assert done == [1]

    wait(main())


def test_an_adjoint_that_cancels_itself_is_a_failure():
    """A CancelledError that nobody asked for must not be taken for the end of a branch."""

    async def cancel():
        raise asyncio.CancelledError

    async def main():
        x, other = leaf(1.0), leaf(1.0)
        y = await Add()(await Made(cancel)(x), await Made()(other))
        with pytest.raises(asyncio.CancelledError):
            await y.adjoint()
        assert x.grad is other.grad is None

    wait(main())


def test_a_branch_that_swallows_its_cancellation_goes_no_further():
    async def main():
        reached = []

        async def swallow():
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                reached.append("swallowed")

        async def note():
            reached.append("went on")

        async def fail():
            await asyncio.sleep(0)
            raise ArithmeticError

        x = leaf(1.0)
        y = await Add()(await Made(swallow)(await Made(note)(x)), await Made(fail)(x))
        with pytest.raises(ArithmeticError):
            await y.adjoint()
        return reached

    assert wait(main()) == ["swallowed"]


def test_the_first_exception_wins_and_keeps_its_cause():
    async def main():
        async def fail():
            raise ArithmeticError("mine") from KeyError("cause")

        x = leaf(1.0)
        y = await Add()(*[await Made(fail)(x) for _ in range(3)])
        with pytest.raises(ArithmeticError, match="mine") as caught:
            await y.adjoint()
        assert isinstance(caught.value.__cause__, KeyError)

    wait(main())


# -- several runs ----------------------------------------------------------------------


def test_concurrent_runs_over_a_graph_that_is_not_retained():
    async def main():
        x = leaf(1.0)
        y = await Made(lambda: asyncio.sleep(0))(x)
        results = await asyncio.gather(y.adjoint(), y.adjoint(), return_exceptions=True)
        assert results[0] is None
        assert isinstance(results[1], GraphFreedError)
        return x.grad

    assert wait(main()) == 1.0


def test_a_retained_run_in_flight_keeps_what_it_needs():
    async def main():
        x, gate, passed = leaf(2.0), asyncio.Event(), []

        async def pause():
            passed.append(1)
            if len(passed) == 1:
                await gate.wait()

        y = await Made(factor=3.0)(await Made(pause)(x))
        first = asyncio.ensure_future(y.adjoint(retain_graph=True))
        await eventually(lambda: passed)
        second = asyncio.ensure_future(y.adjoint())  # frees the graph
        await eventually(lambda: len(passed) == 2)
        gate.set()
        await asyncio.gather(first, second)
        return x.grad

    assert wait(main()) == 6.0


def test_concurrent_retained_runs_have_their_own_extra_arguments():
    class Factor(Operator):
        def forward(self, x):
            return Variable(x.data)

        async def adjoint(self, grad, x, *, call):
            await asyncio.sleep(0)
            return call.run_kwargs["factor"] * grad

    async def main():
        x = leaf(1.0)
        y = await Factor()(await Factor()(x))
        await asyncio.gather(*(y.adjoint(retain_graph=True, factor=10.0**k) for k in range(4)))
        return x.grad

    assert wait(main()) == 1 + 1e2 + 1e4 + 1e6


def order_of_commits(*, fail=None, cancel=None):
    """Three runs on one leaf, started in order and finished in the opposite order; who committed when?"""

    async def main():
        x, gates, ready = leaf(0.0), [asyncio.Event() for _ in range(3)], []

        def adjoint(k):
            async def wait_for_gate():
                ready.append(k)
                await gates[k].wait()
                if k == fail:
                    raise ArithmeticError

            return wait_for_gate

        ys = [await Made(adjoint(k), factor=10.0**k)(x) for k in range(3)]
        runs = [asyncio.ensure_future(y.adjoint()) for y in ys]
        await eventually(lambda: len(ready) == 3)
        history = []
        for k in (2, 1, 0):
            gates[k].set()
            for _ in range(20):
                await asyncio.sleep(0)
            history.append(None if x.grad is None else float(x.grad))
            if cancel == k:
                runs[k].cancel()
        await asyncio.gather(*runs, return_exceptions=True)
        assert x._tickets == ()
        return history, float(x.grad)

    return wait(main())


def test_runs_commit_in_the_order_of_their_start():
    assert order_of_commits() == ([None, None, 111.0], 111.0)


def test_a_failed_run_holds_nobody_up():
    assert order_of_commits(fail=0) == ([None, None, 110.0], 110.0)
    assert order_of_commits(fail=1) == ([None, None, 101.0], 101.0)


def test_a_run_cancelled_while_it_waits_for_its_turn_commits_nothing():
    assert order_of_commits(cancel=2) == ([None, None, 11.0], 11.0)


def test_the_order_holds_across_threads():
    x = leaf(0.0)
    started, gate, log = threading.Event(), threading.Event(), []

    def slow():
        started.set()
        assert gate.wait(20)

    def run(operator, name):
        async def main():
            await (await operator(x)).adjoint()
            log.append(name)

        asyncio.run(main())

    first = threading.Thread(target=run, args=(Blocking(slow), "first"))
    first.start()
    assert started.wait(20)
    second = threading.Thread(target=run, args=(Made(factor=10.0), "second"))
    second.start()
    while len(x._tickets) < 2:
        pass
    assert x.grad is None
    gate.set()
    first.join()
    second.join()
    assert x.grad == 11.0


def test_a_run_inside_a_run_on_the_same_leaf():
    async def main():
        x, deep = leaf(1.0), count()

        async def nested():
            if next(deep) < 3:
                await (await Made(nested, factor=10.0)(x)).adjoint()

        await (await Made(nested)(x)).adjoint()
        return x.grad

    assert wait(main()) == 31.0


def test_a_run_inside_an_earlier_run_does_not_wait_for_a_later_one():
    """The later one waits for the earlier one, which waits for what runs inside it."""

    async def main():
        x, later_waits = leaf(0.0), asyncio.Event()

        async def nested():
            await later_waits.wait()
            await (await Made(factor=100.0)(x)).adjoint()

        earlier = asyncio.ensure_future((await Made(nested)(x)).adjoint())
        await asyncio.sleep(0)
        later = asyncio.ensure_future((await Made(factor=10.0)(x)).adjoint())
        await eventually(lambda: len(x._tickets) == 2)
        later_waits.set()
        await asyncio.gather(earlier, later)
        return x.grad

    assert wait(main()) == 111.0


@pytest.mark.parametrize("end", ["close", "collect"])
def test_an_abandoned_run_is_in_nobodys_way(end):
    async def main():
        x = leaf(0.0)
        coroutine = (await Made(lambda: asyncio.sleep(0))(x)).adjoint()
        coroutine.send(None)
        assert len(x._tickets) == 1
        if end == "close":
            coroutine.close()
        del coroutine
        assert x.grad is None
        await (await Made()(x)).adjoint()
        return x.grad

    assert wait(main()) == 1.0


def test_a_failed_run_is_freed_without_the_garbage_collector():
    async def main():
        async def fail():
            await asyncio.sleep(0)
            raise ArithmeticError

        x = leaf(np.zeros(3))
        y = await Add()(await Made(fail)(x), await Made(fail)(x))
        gone = weakref.ref(x)
        with suppress(ArithmeticError):
            await y.adjoint(np.ones(3))
        del x, y
        await asyncio.sleep(0)
        return gone()

    gc.disable()
    try:
        assert wait(main()) is None
    finally:
        gc.enable()


def test_runs_inside_two_runs_do_not_wait_for_each_other():
    async def main():
        shared, a, b, both = leaf(0.0), leaf(0.0), leaf(0.0), asyncio.Barrier(2)

        async def nested():
            await both.wait()
            await (await Made(lambda: asyncio.sleep(0))(shared)).adjoint()
            await both.wait()
            await (await Add()(shared, a, b)).adjoint()

        runs = [(await Made(nested)(x)).adjoint() for x in (a, b)]
        await asyncio.gather(*runs)
        return shared.grad, a.grad, b.grad

    assert wait(main()) == (4.0, 3.0, 3.0)


def test_wait_inside_a_loop_does_not_wait_for_what_that_loop_runs():
    """The loop stands still until the inner run is done, so the outer one cannot commit first."""

    async def main():
        x, begun, gate = leaf(0.0), asyncio.Event(), asyncio.Event()

        async def pause():
            begun.set()
            await gate.wait()

        outer = asyncio.ensure_future((await Made(pause)(x)).adjoint())
        await begun.wait()
        y = await Made(factor=10.0)(x)
        wait(y.adjoint())
        assert x.grad == 10.0
        gate.set()
        await outer
        return x.grad

    assert wait(main()) == 11.0


def test_blocking_adjoints_may_wait_for_blocking_adjoints():
    """More of them than the executor has threads, each of which needs another."""
    x = leaf(0.0)

    def nested():
        wait(wait(Blocking(factor=10.0)(x)).adjoint())

    async def main():
        await (await Add()(*[await Blocking(nested)(x) for _ in range(40)])).adjoint()

    wait(main())
    assert x.grad == 440.0
