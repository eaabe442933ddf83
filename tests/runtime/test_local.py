"""The thread pool: same bits, at most so many at once, nothing left running."""

import asyncio
import gc
import random
import threading
import time
import weakref

import numpy as np
import pytest

import thalweg.graph as graph
from thalweg.errors import RunError
from thalweg.graph.executor import run_blocking
from thalweg.runtime import Local, Runtime, Watched


def adversarial(n, seed=0):
    """Values whose sum depends on the order of the additions in nearly every bit."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 17)) * 10.0 ** rng.integers(-12, 12, (n, 1))


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 101])
def test_bits_do_not_depend_on_threads_or_arrival(n):
    values = adversarial(n)

    def results(threads, seed):
        delays = random.Random(seed)
        pauses = [delays.random() * 2e-3 for _ in range(n)]

        def task(i):
            time.sleep(pauses[i])
            return {"sum": values[i].copy(), "loss": float(values[i, 0])}

        with Local(threads) as runtime:
            total = graph.wait(runtime.map_reduce(task, range(n)))
        return total["sum"].tobytes() + np.float64(total["loss"]).tobytes()

    expected = results(1, 0)
    assert {results(threads, seed) for threads, seed in [(2, 1), (2, 2), (3, 3), (8, 4)]} == {expected}


def test_as_many_at_once_as_there_are_threads_and_no_more():
    running, most, lock = 0, 0, threading.Lock()
    together = threading.Barrier(3)

    def task(i):
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        together.wait(timeout=20)  # passes only if three are here at the same time
        with lock:
            running -= 1
        return 1

    with Local(3) as runtime:
        assert graph.wait(runtime.map_reduce(task, range(12))) == 12
    assert most == 3


def test_few_partial_results_are_alive_even_behind_a_slow_item():
    """One item holds up its whole side of the tree; as items start in order, the other side adds up meanwhile."""
    alive, most, lock = weakref.WeakSet(), 0, threading.Lock()
    release = threading.Event()

    class Result(np.ndarray):
        __hash__ = object.__hash__  # WeakSet needs hashable members
        __eq__ = object.__eq__

        def __array_finalize__(self, template):  # of results and of sums
            nonlocal most
            with lock:
                alive.add(self)
                most = max(most, len(alive))

    def task(i):
        if i == 0:
            release.wait(timeout=20)
        if i == 511:
            release.set()
        return np.ones(4).view(Result)

    with Local(2) as runtime:
        total = graph.wait(runtime.map_reduce(task, range(512)))
    assert np.asarray(total).tolist() == [512.0] * 4
    assert most <= 2 * 9 + 2 * 2  # both sides of a path through the tree, two results in hand, two sums under way


def test_the_first_error_stops_the_work_and_names_its_item():
    started = []

    def task(item):
        started.append(item)
        if item == "shot 3":
            raise ValueError("no good")
        time.sleep(0.001)
        return 1.0

    with Local(2) as runtime, pytest.raises(ValueError, match="no good") as error:
        graph.wait(runtime.map_reduce(task, [f"shot {i}" for i in range(200)]))
    item, worker = error.value.__notes__
    assert item == "while working on item 'shot 3' (number 4 of 200)"
    assert worker in ("on the thread thalweg_0", "on the thread thalweg_1")
    assert len(started) < 100


def test_of_several_errors_the_lowest_item_is_raised():
    both = threading.Barrier(2)

    def task(item):
        both.wait(timeout=20)
        raise ValueError(item)

    with Local(2) as runtime:
        for _ in range(5):
            with pytest.raises(ValueError) as error:  # noqa: PT011 (its value is what is compared)
                graph.wait(runtime.map_reduce(task, [0, 1]))
            assert error.value.args == (0,)


def test_cancelling_waits_for_running_tasks_and_starts_no_more():
    started, finished = [], []
    both, release = threading.Barrier(3), threading.Event()

    def task(item):
        started.append(item)
        both.wait(timeout=20)
        release.wait(timeout=20)
        finished.append(item)
        return 1.0

    async def main():
        with Local(2) as runtime:
            work = asyncio.ensure_future(runtime.map_reduce(task, range(100)))
            await asyncio.to_thread(both.wait, 20)
            for _ in range(3):  # again while it waits: that changes nothing
                work.cancel()
                await asyncio.sleep(0.01)
                assert not work.done()
            release.set()
            with pytest.raises(asyncio.CancelledError):
                await work
            return sorted(started), sorted(finished)

    assert asyncio.run(main()) == ([0, 1], [0, 1])
    assert len(started) == 2


def test_the_event_loop_runs_meanwhile():
    async def main():
        beats = 0

        async def beat():
            nonlocal beats
            while True:
                await asyncio.sleep(0.001)
                beats += 1

        beating = asyncio.ensure_future(beat())
        with Local(2) as runtime:
            await runtime.map_reduce(lambda i: time.sleep(0.01) or 1, range(20))
            await runtime.run(time.sleep, 0.02)
        beating.cancel()
        return beats

    assert asyncio.run(main()) > 10


def test_progress_counts_each_item_once():
    seen, watched = [], []
    with Local(4) as runtime:
        both = Watched(runtime, lambda *c: watched.append(c))
        graph.wait(both.map_reduce(lambda i: i, range(50), progress=lambda *c: seen.append(c)))
        assert graph.wait(both.run(max, 1, 2)) == 2
    assert seen == watched == [(i, 50) for i in range(1, 51)]
    assert both.workers == 4


def test_an_error_in_progress_is_an_error():
    def progress(done, total):
        raise KeyError("display")

    with Local(2) as runtime, pytest.raises(KeyError, match="display"):
        graph.wait(runtime.map_reduce(lambda i: i, range(5), progress=progress))


def test_blocking_operators_run_in_its_threads():
    def who():
        return threading.current_thread().name

    async def main():
        with Local(1):
            return await run_blocking(who)

    assert asyncio.run(main()).startswith("thalweg_")


def test_a_task_may_run_a_graph_of_blocking_operators():
    """With every thread inside a task nobody is left for the operators, so they run where the task does."""

    class Double(graph.Operator):
        blocking = True

        def forward(self, x):
            return graph.Variable(2 * x.data)

        def adjoint(self, grad, x):
            return 2 * grad

    def task(i):
        async def work():
            x = graph.Variable(np.array([float(i)]), name="x", needs_grad=True)
            y = await Double()(await Double()(x))
            await y.adjoint(np.ones(1))
            return x.grad

        return graph.wait(work())

    with Local(2) as runtime:
        assert graph.wait(asyncio.wait_for(runtime.map_reduce(task, range(16)), 30)).tolist() == [64.0]


def test_no_threads_and_no_results_stay_behind():
    before = threading.active_count()

    class Result(np.ndarray):
        pass

    result = None
    with Local(4) as runtime:
        result = graph.wait(runtime.map_reduce(lambda i: np.ones(3).view(Result), range(9)))
        assert threading.active_count() > before
    assert threading.active_count() == before
    reference = weakref.ref(result)
    del result
    gc.collect()
    assert reference() is None
    assert graph.wait(runtime.map_reduce(lambda i: i, [1, 2])) == 3  # usable again
    runtime.close()


@pytest.mark.parametrize("threads", [0, -1, 1.5, True, "2"])
def test_number_of_threads_is_checked(threads):
    with pytest.raises(RunError, match="threads is"):
        Local(threads)


def test_default_is_every_core_and_no_items_is_an_error():
    assert Local().threads >= 1
    assert isinstance(Local(1), Runtime)
    with pytest.raises(RunError, match="nothing to reduce"):
        graph.wait(Local(1).map_reduce(lambda i: i, []))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_task_may_use_the_runtime_that_it_runs_in(threads):
    result = []

    def main():
        with Local(threads) as runtime:

            def task(i):
                once = graph.wait(runtime.run(lambda: i))
                return once + graph.wait(runtime.map_reduce(lambda j: 10 * j, range(3)))

            result.append(graph.wait(runtime.map_reduce(task, range(8))))
            result.append(graph.wait(runtime.run(task, 1)))

    thread = threading.Thread(target=main, daemon=True)  # a deadlock is a failure, no standstill
    thread.start()
    thread.join(20)
    assert result == [28 + 8 * 30, 31]


def test_an_error_in_a_nested_map_reduce_names_both_items():
    def fail(j):
        raise ValueError("no good")

    with Local(1) as runtime:

        def task(i):
            return graph.wait(asyncio.wait_for(runtime.map_reduce(fail, [7]), 20))

        with pytest.raises(ValueError, match="no good") as error:
            graph.wait(runtime.map_reduce(task, ["a"]))
    items = ["while working on item 7 (number 1 of 1)", "while working on item 'a' (number 1 of 1)"]
    assert error.value.__notes__[::2] == items
    assert error.value.__notes__[1::2] == ["on the thread thalweg_0"] * 2


def test_a_map_reduce_in_a_worker_of_other_threads_still_uses_its_own():
    """A blocking operator that spreads its shots over a runtime, say."""
    together = threading.Barrier(2)

    def task(i):
        together.wait(timeout=20)  # passes only if two are here at the same time
        return 1

    with Local(2) as runtime:
        outside = run_blocking(lambda: graph.wait(runtime.map_reduce(task, range(4))))

    async def main():
        return await outside

    assert graph.wait(main()) == 4
    runtime.close()
