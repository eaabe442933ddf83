"""Items that fail for good: left out with the sum weighted, told of with worker and traceback, the same everywhere."""

import asyncio
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import thalweg.graph as graph
from thalweg.errors import RunError
from thalweg.runtime import Dask, Local, Pieces, Shared, add_trees
from thalweg.runtime.failures import map_reduce_without, weighted
from thalweg.runtime.tree import Absent, TreeReduction, below


@pytest.fixture(scope="module")
def two():
    pytest.importorskip("distributed")
    with Dask(workers=2) as runtime:
        yield runtime


def adversarial(n, seed=0):
    """Values whose sum depends on the order of the additions in nearly every bit."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 17)) * 10.0 ** rng.integers(-12, 12, (n, 1))


def failing(values, broken):
    def task(i):
        if i in broken:
            raise ArithmeticError(f"shot {i} is broken")
        return {"g": values[i].astype(np.float32), "loss": float(values[i, 0]), "rest": [values[i] * 1j, (values[i],)]}

    return task


def tree_without(parts, broken):
    """The definition: the fixed tree over all items, those that are left out being nothing."""
    level = [None if i in broken else part for i, part in enumerate(parts)]
    while len(level) > 1:
        pairs = [b if a is None else a if b is None else a + b for a, b in zip(level[::2], level[1::2], strict=False)]
        level = pairs + level[len(level) - len(level) % 2 :]
    return level[0]


def bits(total):
    second, (third,) = total["rest"]
    return total["g"].tobytes() + np.float64(total["loss"]).tobytes() + second.tobytes() + third.tobytes()


CASES = [(1, ()), (2, (0,)), (7, (6,)), (7, (1, 2, 3)), (23, (0, 5, 22)), (23, range(1, 23))]


@pytest.mark.parametrize(("n", "broken"), CASES)
def test_the_rest_is_added_in_the_tree_of_all_and_weighted(n, broken):
    values = adversarial(n, seed=n)
    with Local(2) as local:
        total, failed = graph.wait(map_reduce_without(local, failing(values, broken), range(n)))
    assert [item.number for item in failed] == list(broken)
    weight = n / (n - len(broken))
    single = [v.astype(np.float32) for v in values]
    expected = tree_without(single, broken)
    expected = expected * np.float32(weight) if broken else expected
    assert total["g"].dtype == np.float32
    assert total["g"].tobytes() == expected.tobytes()
    loss = tree_without([float(v[0]) for v in values], broken)
    assert total["loss"] == (loss * weight if broken else loss)


@pytest.mark.parametrize(("n", "broken"), CASES)
def test_bits_are_the_same_in_every_runtime(two, n, broken):
    task = failing(adversarial(n, seed=n), broken)
    found = []
    with Local(1) as one, Local(3) as three:
        for runtime in (one, three, two):
            total, failed = graph.wait(map_reduce_without(runtime, task, range(n)))
            found.append((bits(total), [(item.number, item.item, item.error) for item in failed]))
    assert found[0] == found[1] == found[2]


def test_a_failed_item_says_who_worked_on_it_and_where_it_came_from(two):
    task = failing(adversarial(5), {3})
    with Local(1) as local:
        _, (here,) = graph.wait(map_reduce_without(local, task, range(5)))
    _, (there,) = graph.wait(map_reduce_without(two, task, range(5)))
    assert here.worker == "thread thalweg_0"
    assert there.worker.startswith("worker tcp://127.0.0.1:")
    assert there.worker.endswith(("(worker 0)", "(worker 1)"))
    for item in (here, there):
        assert (item.number, item.item, item.error) == (3, "3", "ArithmeticError: shot 3 is broken")
        assert "in task\n" in item.traceback  # what was sent to a worker has no text there
        assert item.traceback.endswith(item.error)
    assert 'raise ArithmeticError(f"shot {i} is broken")' in here.traceback


def test_without_being_asked_a_failed_item_stops_the_work_and_names_its_worker(two):
    task = failing(adversarial(5), {3})
    with Local(1) as local, pytest.raises(ArithmeticError, match="shot 3 is broken") as error:
        graph.wait(local.map_reduce(task, range(5)))
    assert error.value.__notes__ == ["while working on item 3 (number 4 of 5)", "on the thread thalweg_0"]
    with pytest.raises(ArithmeticError, match="shot 3 is broken") as error:
        graph.wait(two.map_reduce(task, range(5)))
    item, worker = error.value.__notes__
    assert item == "while working on item 3 (number 4 of 5)"
    assert worker.startswith("on the worker tcp://127.0.0.1:")
    assert worker.endswith(("(worker 0)", "(worker 1)"))


def test_all_items_failed_is_an_error_with_the_first_ones_traceback():
    with (
        Local(2) as local,
        pytest.raises(RunError, match=r"All 4 items failed.*item 0 on the thread thalweg_") as error,
    ):
        graph.wait(map_reduce_without(local, failing(adversarial(4), range(4)), range(4)))
    assert "ArithmeticError: shot 0 is broken" in str(error.value)
    assert "raise ArithmeticError" in error.value.__notes__[0]


@pytest.mark.parametrize(
    ("result", "match"),
    [
        ({"n": 1, "loss": 1.0}, r"result\['n'\] holds integers"),
        ([np.arange(3)], r"result\[0\] holds integers"),
        (np.int32(3), "result holds integers"),
        ((Pieces(),), r"result\[0\] is made of pieces"),
    ],
)
def test_what_cannot_be_weighted_is_refused_only_if_something_failed(result, match):
    def task(i):
        if i == broken:
            raise OSError("no disk")
        return result

    with Local(1) as local:
        broken = None
        assert graph.wait(map_reduce_without(local, task, [1]))[0] is result
        broken = 2
        with pytest.raises(RunError, match=match) as error:
            graph.wait(map_reduce_without(local, task, [1, 2]))
    assert "item 2 on the thread thalweg_0: OSError: no disk" in str(error.value)


def test_weighting_leaves_the_sum_of_the_task_alone():
    array = np.ones(3, np.float32)
    assert weighted([array], 2.0)[0].tolist() == [2.0] * 3
    assert array.tolist() == [1.0] * 3
    total = add_trees({"g": array}, {"g": Absent()})
    total["g"] += 1
    assert array.tolist() == [1.0] * 3


def test_an_item_is_tried_again_before_it_is_left_out(tmp_path):
    folder = str(tmp_path)

    def flaky(i):
        tries = len(list(Path(folder).glob(f"try-{i}-*")))
        (Path(folder) / f"try-{i}-{tries}").touch()
        if tries < i:
            raise OSError(f"the disk, for the {tries + 1}th time")
        return float(i)

    with Local(2) as local:
        total, failed = graph.wait(map_reduce_without(local, flaky, [0, 1, 2, 3], retries=2))
    assert [item.error for item in failed] == ["OSError: the disk, for the 3th time"]
    assert total == 3.0 * 4 / 3
    assert len(list(tmp_path.iterdir())) == 1 + 2 + 3 + 3


@pytest.mark.parametrize("wrapped", [False, True])
def test_what_all_items_share_is_no_fault_of_an_item(two, wrapped):
    def broken_file():
        raise FileNotFoundError("traces.npz")

    shared = Shared(broken_file)

    def task(i):
        if i == 0:
            return 1.0
        if not wrapped:
            return shared.value
        try:
            return shared.value
        except FileNotFoundError as error:
            raise RuntimeError("no data") from error

    with Local(2) as local:
        for runtime in (local, two):
            with pytest.raises(RuntimeError if wrapped else FileNotFoundError):
                graph.wait(map_reduce_without(runtime, task, range(4)))


def test_interrupts_are_not_taken_for_failures():
    def task(i):
        raise KeyboardInterrupt

    with Local(1) as local, pytest.raises(KeyboardInterrupt):
        graph.wait(map_reduce_without(local, task, range(4)))


class Memory(dict):
    """Keeps sums in memory, and lets a test stop the work."""

    def __init__(self, *args):
        super().__init__(*args)
        self.lock = threading.Lock()
        self.written = []

    def sums(self, count):
        return dict(self)

    def keep(self, level, index, value):
        import copy

        with self.lock:
            inside = [place for place in self if place[0] < level and place[1] >> (level - place[0]) == index]
            for place in inside:
                del self[place]
            self[level, index] = copy.deepcopy(value)
            self.written.append((level, index))


@pytest.mark.parametrize("place", ["local", "dask"])
@pytest.mark.parametrize("n", [1, 5, 13])
def test_kept_sums_are_not_computed_again_to_the_same_bits(two, tmp_path, place, n):
    values = adversarial(n, seed=n)
    folder = str(tmp_path)

    def task(i):
        if (Path(folder) / f"break-{i}").exists():
            raise OSError("the process is killed here")
        with (Path(folder) / f"did-{i}").open("a") as file:
            file.write("x")
        return {"g": values[i].copy(), "loss": float(values[i, 0])}

    with Local(1) as local:
        expected = graph.wait(local.map_reduce(lambda i: {"g": values[i], "loss": float(values[i, 0])}, range(n)))
        runtime = local if place == "local" else two
        kept = Memory()
        seen = []
        for broken in range(n):  # each attempt gets one item further, at least
            (tmp_path / f"break-{broken}").touch()
        for broken in [*range(n), None]:
            if broken is not None:
                with pytest.raises(OSError, match="killed here"):
                    graph.wait(runtime.map_reduce(task, range(n), kept=kept))
                (tmp_path / f"break-{broken}").unlink()
            else:
                total = graph.wait(
                    runtime.map_reduce(task, range(n), kept=kept, progress=lambda *count: seen.append(count))
                )
        again = graph.wait(runtime.map_reduce(task, range(n), kept=kept))
    assert bits_of(total) == bits_of(again) == bits_of(expected)
    counts = {path.name: len(path.read_text()) for path in tmp_path.glob("did-*")}
    assert len(counts) == n
    if place == "local":  # on the cluster an item may be under way while another one fails
        assert set(counts.values()) == {1}
        assert seen == [(n, n)]
    assert list(kept) == [((n - 1).bit_length(), 0)]


@pytest.mark.parametrize("reason", ["error", "cancelled"])
def test_a_call_that_ends_while_results_are_fetched_spoils_no_later_one(two, tmp_path, reason):
    """Dask's client has one request for all fetches: if that is cancelled, every later one is."""
    flag = str(tmp_path / "fails")

    def task(i):
        if i == 11 and Path(flag).exists():
            if reason == "error":
                raise OSError("it fails here")
            time.sleep(0.2)  # so that the call is not over when it is cancelled
        return np.full(200_000, float(i))

    class Kept(Memory):
        def keep(self, *arguments):
            super().keep(*arguments)
            here.set()

    async def call(kept):
        work = asyncio.ensure_future(two.map_reduce(task, range(12), kept=kept))
        if reason == "cancelled" and Path(flag).exists():
            await asyncio.to_thread(here.wait, 30)
            work.cancel()
        return await work

    with Local(1) as local:
        expected = graph.wait(local.map_reduce(lambda i: np.full(200_000, float(i)), range(12)))
    for _ in range(10):
        here = threading.Event()
        Path(flag).touch()
        with pytest.raises(OSError if reason == "error" else asyncio.CancelledError):
            asyncio.run(call(Kept()))
        Path(flag).unlink()
        assert asyncio.run(call(Memory())).tobytes() == expected.tobytes()


def bits_of(total):
    return total["g"].tobytes() + np.float64(total["loss"]).tobytes()


@pytest.mark.parametrize("seed", range(5))
def test_any_set_of_kept_sums_gives_the_same_bits(seed):
    rng = np.random.default_rng(seed)
    n = int(rng.integers(1, 40))
    values = adversarial(n, seed=seed)

    def task(i):
        return {"g": values[i].copy(), "loss": float(values[i, 0])}

    with Local(2) as local:
        whole = Memory()
        expected = graph.wait(local.map_reduce(task, range(n), kept=whole))
        assert graph.wait(local.map_reduce(task, range(n)))["g"].tobytes() == expected["g"].tobytes()
        for _ in range(10):
            # What a kill would leave behind: the sums that wait when some of the items are done.
            left, begun = Memory(), []
            reduction = TreeReduction(n, keep=left.keep)
            for index in rng.permutation(n)[: rng.integers(0, n + 1)]:
                reduction.put(int(index), task(int(index)))

            def noting(i, begun=begun):
                begun.append(i)
                return task(i)

            total = graph.wait(local.map_reduce(noting, range(n), kept=Memory(left)))
            assert bits_of(total) == bits_of(expected)
            covered = {i for level, index in left for i in below(level, index, n)}
            assert sorted(begun) == sorted(set(range(n)) - covered)


def test_an_error_in_keeping_stops_the_work():
    class Full(Memory):
        def keep(self, level, index, value):
            raise OSError("no space left")

    with Local(2) as local, pytest.raises(OSError, match="no space left"):
        graph.wait(local.map_reduce(float, range(5), kept=Full()))
