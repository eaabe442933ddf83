"""Dask workers of this machine: the thread pool's bits, its exceptions, and nothing left running."""

import asyncio
import contextlib
import copy
import os
import pickle
import subprocess
import sys
import threading
import time
import traceback
from collections import Counter
from functools import partial
from pathlib import Path

import numpy as np
import pytest

import thalweg.graph as graph
from thalweg.errors import RunError, ThalwegError
from thalweg.runtime import Dask, Local, Pieces, Runtime, Shared, Watched, crew
from thalweg.runtime.packing import recipe

pytest.importorskip("distributed")


@pytest.fixture(scope="module")
def two():
    with Dask(workers=2) as runtime:
        graph.wait(runtime.start())
        yield runtime


def adversarial(n, seed=0):
    """Values whose sum depends on the order of the additions in nearly every bit."""
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, 17)) * 10.0 ** rng.integers(-12, 12, (n, 1))


def summing(values, folder=None):
    """A task that can be sent, and that leaves a file for each item that it has begun."""

    def task(i):
        if folder is not None:
            (Path(folder) / f"{i}-{os.getpid()}-{time.monotonic_ns()}").touch()
        return {"sum": values[i].copy(), "rest": [float(values[i, 0]), (values[i].astype(np.float32),)]}

    return task


def bits(total):
    first, (second,) = total["rest"]
    return total["sum"].tobytes() + np.float64(first).tobytes() + second.tobytes()


def wait_for(what, timeout=60.0):
    end = time.monotonic() + timeout
    while not (found := what()):
        assert time.monotonic() < end, "it has not happened"
        time.sleep(0.02)
    return found


def left_in_scheduler(runtime):
    """Our keys that the scheduler still knows, shared parts excepted."""

    def ours(token, dask_scheduler=None):
        return [str(key) for key in dask_scheduler.tasks if token in str(key) and "thalweg-shared" not in str(key)]

    return runtime._client.run_on_scheduler(ours, runtime._token)


@pytest.mark.parametrize("n", [1, 2, 3, 7, 64, 101])
def test_bits_are_those_of_the_thread_pool(two, n):
    task = summing(adversarial(n, seed=n))
    with Local(2) as local:
        expected = bits(graph.wait(local.map_reduce(task, range(n))))
    total = graph.wait(two.map_reduce(task, range(n)))
    assert bits(total) == expected
    assert total["sum"].flags.writeable


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 4])
def test_bits_do_not_depend_on_the_number_of_workers_or_arrival(workers):
    values = adversarial(53, seed=5)
    pauses = np.random.default_rng(workers).random(53) * 0.02

    def task(i):
        time.sleep(pauses[i])
        return {"sum": values[i].copy(), "rest": [float(values[i, 0]), (values[i].astype(np.float32),)]}

    with Local(1) as local:
        expected = bits(graph.wait(local.map_reduce(task, range(53))))
    with Dask(workers=workers) as runtime:
        assert runtime.workers == workers
        assert {bits(graph.wait(runtime.map_reduce(task, range(53)))) for _ in range(2)} == {expected}


def test_progress_counts_each_item_once_and_workers_are_told_apart(two):
    seen, watched = [], []
    before = sum(two.items_by_worker.values())
    both = Watched(two, lambda *c: watched.append(c))
    total = graph.wait(both.map_reduce(lambda i: i, range(50), progress=lambda *c: seen.append(c)))
    assert total == sum(range(50))
    assert seen == watched == [(i, 50) for i in range(1, 51)]
    assert sum(two.items_by_worker.values()) == before + 50
    assert set(two.items_by_worker) <= {"worker 0", "worker 1"}
    assert isinstance(two, Runtime)


def test_an_error_in_progress_is_an_error(two):
    def progress(done, total):
        raise KeyError("display")

    with pytest.raises(KeyError, match="display"):
        graph.wait(two.map_reduce(lambda i: i, range(5), progress=progress))
    assert graph.wait(two.map_reduce(lambda i: i, range(5))) == 10
    wait_for(lambda: not left_in_scheduler(two))


def test_a_tasks_own_error_comes_as_it_was_and_names_item_and_worker(two):
    def task(item):
        if item == "shot 3":
            raise ValueError("no good")
        return 1.0

    with pytest.raises(ValueError, match="no good") as error:
        graph.wait(two.map_reduce(task, [f"shot {i}" for i in range(20)]))
    assert error.value.args == ("no good",)
    item, worker = error.value.__notes__
    assert item == "while working on item 'shot 3' (number 4 of 20)"
    assert worker.startswith("on the worker tcp://127.0.0.1:")
    assert 'raise ValueError("no good")' in "".join(traceback.format_exception(error.value)) or any(
        frame.name == "task" for frame in traceback.extract_tb(error.value.__traceback__)
    )
    wait_for(lambda: not left_in_scheduler(two))


def test_errors_of_ours_keep_their_details_and_those_that_cannot_travel_their_text(two):
    def ours(i):
        raise ThalwegError("wrong", variable="vp", iteration=i)

    def odd(i):
        class Odd(Exception):
            def __init__(self, a, b):
                super().__init__(f"{a} and {b}")

        try:
            raise OSError("the disk")
        except OSError as cause:
            raise Odd("this", "that") from cause

    with pytest.raises(ThalwegError, match="wrong") as error:
        graph.wait(two.map_reduce(ours, [7]))
    assert error.value.details == {"variable": "vp", "iteration": 7}
    with pytest.raises(RunError, match="Odd: this and that") as error:
        graph.wait(two.map_reduce(odd, [7]))
    told = "\n".join(error.value.__notes__)
    assert "while working on item 7" in told
    assert "OSError: the disk" in told


def test_results_that_cannot_be_added_are_refused(two):
    with pytest.raises(RunError, match="cannot be added"):
        graph.wait(two.map_reduce(lambda i: np.ones(i), [2, 3]))
    with pytest.raises(RunError, match="nothing to reduce"):
        graph.wait(two.map_reduce(lambda i: i, []))


def test_pieces_come_side_by_side(two):
    pieces = graph.wait(two.map_reduce(lambda i: Pieces({i: np.full(3, i)}), range(9)))
    assert type(pieces) is Pieces
    assert {i: piece.tolist() for i, piece in pieces.items()} == {i: [i] * 3 for i in range(9)}
    with pytest.raises(RunError, match="both returned"):
        graph.wait(two.map_reduce(lambda i: Pieces({0: i}), range(2)))


def test_what_cannot_be_sent_is_refused(two):
    lock = threading.Lock()
    with pytest.raises(RunError, match="cannot be sent"):
        graph.wait(two.map_reduce(lambda i: lock, [0]))
    with pytest.raises(RunError, match="refers to the runtime"):
        graph.wait(two.map_reduce(lambda i: two, [0]))


def test_functions_run_here(two):
    assert graph.wait(two.run(os.getpid)) == os.getpid()
    assert graph.wait(two.map_reduce(lambda i: Pieces({i: os.getpid()}), [0]))[0] != os.getpid()


def test_a_task_may_run_a_graph_of_blocking_operators(two):
    def task(i):
        class Double(graph.Operator):
            blocking = True

            def forward(self, x):
                return graph.Variable(2 * x.data)

            def adjoint(self, grad, x):
                return 2 * grad

        async def work():
            x = graph.Variable(np.array([float(i)]), name="x", needs_grad=True)
            y = await Double()(await Double()(x))
            await y.adjoint(np.ones(1))
            return x.grad

        return graph.wait(work())

    assert graph.wait(asyncio.wait_for(two.map_reduce(task, range(8)), 60)).tolist() == [32.0]


def test_the_event_loop_runs_meanwhile(two, tmp_path):
    """Each item waits for an answer of the loop, which comes if the loop is not blocked."""

    def task(i):
        (tmp_path / f"asked-{i}").touch()
        end = time.monotonic() + 30.0
        while not (tmp_path / f"answered-{i}").exists():
            if time.monotonic() > end:
                raise TimeoutError("the loop does not answer")
            time.sleep(0.01)
        return i

    async def answer():
        while True:
            for path in tmp_path.glob("asked-*"):
                (tmp_path / path.name.replace("asked", "answered")).touch()
            await asyncio.sleep(0.01)

    async def main():
        answering = asyncio.ensure_future(answer())
        total = await two.map_reduce(task, range(20))
        answering.cancel()
        return total

    assert asyncio.run(main()) == 190


def test_what_is_shared_is_made_once_a_worker(two, tmp_path):
    folder = str(tmp_path)
    large = np.arange(2_000_000.0)  # Dask would warn of a graph of this size

    def make(values):
        (Path(folder) / f"{os.getpid()}-{time.monotonic_ns()}").touch()
        return {"values": values}

    shared = Shared(make, large)

    def task(i):
        return float(shared.value["values"][i])

    for _ in range(3):
        assert graph.wait(two.map_reduce(task, range(40))) == sum(range(40))
    made = [path.name.partition("-")[0] for path in tmp_path.iterdir()]
    assert len(made) == len(set(made)) <= 2
    assert str(os.getpid()) not in made
    for start in range(5):  # others come, and the first one comes again
        other = Shared(range, start, 100)
        assert graph.wait(two.map_reduce(lambda i, other=other: other.value[i], [0, 1])) == 2 * start + 1
    assert graph.wait(two.map_reduce(task, range(4))) == 6


def test_what_is_shared_is_made_anew_for_another_object_with_the_same_recipe(two, tmp_path):
    """It may read a file, which holds something else by now; workers outlive runs and clients."""
    file = tmp_path / "data.npy"

    def make(path):
        Path(f"{path}-{os.getpid()}-{time.monotonic_ns()}").touch()
        return np.load(path)

    def task(shared, i):
        return float(shared.value[i])

    with Dask(two._cluster.scheduler_address) as later:
        for factor, runtime in [(1.0, two), (2.0, two), (3.0, later), (4.0, two)]:
            np.save(file, factor * np.arange(5.0))
            shared = Shared(make, str(file))
            for part in (shared, copy.copy(shared), pickle.loads(recipe(shared))):
                assert graph.wait(runtime.map_reduce(partial(task, part), range(5))) == 10.0 * factor
            made = [path.name.split("-")[1] for path in tmp_path.glob("data.npy-*")]
            assert len(made) == len(set(made)), "a copy is the same one"
            for path in tmp_path.glob("data.npy-*"):
                path.unlink()


def test_a_task_is_sent_once_a_call_and_once_to_a_worker(two, tmp_path, monkeypatch):
    """It holds the model, and an iteration has hundreds of items."""
    from distributed.protocol import dumps

    folder, model = str(tmp_path), np.random.default_rng(0).standard_normal(500_000)
    monkeypatch.setattr(two._client, "_send_to_scheduler", sending := Sending(two._client._send_to_scheduler))

    def open_model(values):
        (Path(folder) / f"{os.getpid()}-{time.monotonic_ns()}").touch()
        return values

    class Model:
        def __reduce__(self):
            return open_model, (model,)

    held = Model()

    def task(i):
        return float(np.asarray(held)[i])

    for call in (1, 2):
        sending.messages.clear()
        assert graph.wait(two.map_reduce(task, range(100))) == graph.wait(
            Local(threads=1).map_reduce(lambda i: float(model[i]), range(100))
        )
        sent = sum(len(frame) for message in sending.messages for frame in dumps(message))
        assert model.nbytes < sent < 1.1 * model.nbytes
        opened = Counter(path.name.partition("-")[0] for path in tmp_path.iterdir())
        assert max(opened.values()) <= call
        assert len(opened) <= 2


class Sending:
    """Keeps what a client sends to its scheduler."""

    def __init__(self, send):
        self.messages, self._send = [], send

    def __call__(self, message):
        self.messages.append(message)
        self._send(message)


@pytest.fixture
def fetched(two, monkeypatch):
    """What the client fetches from the cluster, by key, fetch by fetch."""
    found, fetch = [], two._client._gather_remote

    async def listening(direct, local_worker):
        response = await fetch(direct, local_worker)
        found.extend(response["data"].items())
        return response

    monkeypatch.setattr(two._client, "_gather_remote", listening)
    return found


def arrays_in(value):
    """The arrays of a result."""
    if isinstance(value, dict | list | tuple):
        return [array for entry in (value.values() if isinstance(value, dict) else value) for array in arrays_in(entry)]
    return [value] if isinstance(value, np.ndarray) else []


@pytest.mark.parametrize("n", [1, 2, 5, 24, 101])
def test_gradients_are_added_on_the_workers_and_one_comes_here(two, fetched, n):
    """One sum a call, however many items it has: gradients may be large, and a survey has thousands of shots."""
    size = 20_000

    def task(i):
        return {"loss": 1.0, "gradient": np.full(size, float(i))}

    for _ in range(3):
        fetched.clear()
        total = graph.wait(two.map_reduce(task, range(n)))
        assert total["gradient"].tolist() == [n * (n - 1) / 2] * size
        assert [array.nbytes for _, value in fetched for array in arrays_in(value)] == [8 * size]
        assert len(fetched) == 1


def test_with_kept_sums_each_result_comes_here(two, fetched):
    """The client adds them, since it is the one who writes: so what is counted above is what comes."""
    go = threading.Event()
    go.set()
    total = graph.wait(two.map_reduce(lambda i: np.full(7, float(i)), range(6), kept=Keeping(go)))
    assert total.tolist() == [15.0] * 7
    assert [array.shape for _, value in fetched for array in arrays_in(value)] == [(7,)] * 6


def test_cancelling_waits_for_running_tasks_and_leaves_none(two, tmp_path):
    folder = str(tmp_path)

    def task(i):
        path = Path(folder)
        (path / f"begun-{i}").touch()
        while not (path / "go").exists():
            time.sleep(0.01)
        (path / f"done-{i}").touch()
        return 1.0

    async def main():
        work = asyncio.ensure_future(two.map_reduce(task, range(100)))
        await asyncio.to_thread(wait_for, lambda: len(list(tmp_path.glob("begun-*"))) == 2)
        for _ in range(3):  # again while it waits: that changes nothing
            work.cancel()
            await asyncio.sleep(0.2)
            assert not work.done()
        (tmp_path / "go").touch()
        with pytest.raises(asyncio.CancelledError):
            await work

    asyncio.run(main())
    begun = {path.name.partition("-")[2] for path in tmp_path.glob("begun-*")}
    assert {path.name.partition("-")[2] for path in tmp_path.glob("done-*")} == begun
    wait_for(lambda: not left_in_scheduler(two))
    time.sleep(0.3)
    assert {path.name.partition("-")[2] for path in tmp_path.glob("begun-*")} == begun  # none began afterwards
    assert len(begun) == 2
    assert graph.wait(two.map_reduce(lambda i: i, range(5))) == 10


class Keeping:
    """Kept sums whose keeping takes as long as ``go`` says: it is a write into the run's folder."""

    def __init__(self, go):
        self.go, self.begun, self.ended = go, [], []

    def sums(self, count):
        return {}

    def keep(self, level, index, value):
        self.begun.append((level, index))
        assert self.go.wait(60.0)
        self.ended.append((level, index))


@pytest.mark.parametrize("how", ["an error", "cancelled"])
def test_nothing_is_kept_any_more_when_the_call_has_ended(two, tmp_path, how):
    kept, failed = Keeping(threading.Event()), tmp_path / "go"

    def task(i):
        with contextlib.suppress(FileExistsError):
            (tmp_path / "first").touch(exist_ok=False)
            return float(i)  # whichever comes first, so that there is something to keep
        while not failed.exists():
            time.sleep(0.01)
        raise ValueError("no good")

    async def main():
        work = asyncio.ensure_future(two.map_reduce(task, range(4), kept=kept))
        try:
            await asyncio.to_thread(wait_for, lambda: kept.begun)
            if how == "cancelled":
                work.cancel()
            failed.touch()
            await asyncio.wait({work}, timeout=0.5)
            assert not work.done(), "threads of ours are still writing"
        finally:
            failed.touch()
            kept.go.set()
        with pytest.raises(ValueError if how == "an error" else asyncio.CancelledError):
            await work
        return list(kept.begun)

    begun = asyncio.run(main())
    assert sorted(kept.ended) == sorted(kept.begun) == sorted(begun)
    time.sleep(0.2)
    assert len(kept.begun) == len(begun), "none began afterwards"
    left = [str(one) for one in asyncio.all_tasks(two._client.loop.asyncio_loop) if "_fetch" in str(one)]
    assert not left


def test_a_survey_that_swallows_its_cancellation_ends(two, tmp_path, monkeypatch):
    """As in Python 3.11, where wait_for does so if what it waits for is there at the same moment."""
    go, asked = tmp_path / "go", []

    def task(i):
        while not go.exists():
            time.sleep(0.01)
        return i

    async def survey():
        asked.append(len(asked))
        if len(asked) == 2:  # the first one is before the call
            go.touch()
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(60)
        assert len(asked) < 3, "it goes on after the end of the call"
        return []

    monkeypatch.setattr(two._crew, "survey", survey)
    assert graph.wait(two.map_reduce(task, range(5))) == 10
    assert asked == [0, 1]


def test_workers_have_one_thread_and_leave_ctrl_c_to_us(two):
    def state():
        import signal

        import numba

        names = ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
        limits = [*(os.environ.get(name) for name in names), str(numba.config.NUMBA_NUM_THREADS)]
        return limits, signal.getsignal(signal.SIGINT) is signal.SIG_IGN

    states = two._client.run(state)
    assert len(states) == 2
    for address, (limits, ignored) in states.items():
        assert address.startswith("tcp://127.0.0.1:")
        assert limits == ["1"] * 5
        assert ignored
    assert two._cluster.scheduler_address.startswith("tcp://127.0.0.1:")
    assert set(two._client.nthreads().values()) == {1}


def test_a_mixture_is_refused_before_anything_is_sent(two, tmp_path, monkeypatch):
    real = crew.identity()
    monkeypatch.setattr(two._crew, "admitted", set())
    monkeypatch.setattr(
        two._crew, "identity", {**real, "numpy": "0.9", "CPU features": real["CPU features"] + ",+abacus"}
    )
    with pytest.raises(RunError, match=r"numpy is 0\.9 here and .* there; .*\+abacus.*NUMBA_CPU_NAME") as error:
        graph.wait(two.map_reduce(summing(adversarial(5), tmp_path), range(5)))
    assert error.value.details["worker"].startswith("tcp://127.0.0.1:")
    assert not list(tmp_path.iterdir())


def test_a_worker_that_comes_in_between_is_refused_by_itself(two, tmp_path, monkeypatch):
    everyone = set(two._client.scheduler_info()["workers"])
    monkeypatch.setattr(two._crew, "admitted", everyone)  # as if they had been asked
    monkeypatch.setattr(two._crew, "identity", {**crew.identity(), "numba": "0.1"})
    with pytest.raises(RunError, match=r"numba is 0\.1 here"):
        graph.wait(two.map_reduce(summing(adversarial(5), tmp_path), range(5)))
    assert not list(tmp_path.iterdir())


def test_no_process_stays_behind_and_it_can_be_used_again():
    def pids(runtime):
        return list(runtime._client.run(os.getpid).values())

    with Dask(workers=1) as runtime:
        assert graph.wait(runtime.map_reduce(abs, [-1, 2])) == 3
        workers = pids(runtime)
    assert workers
    wait_for(lambda: not any(Path(f"/proc/{pid}").exists() for pid in workers))
    assert graph.wait(runtime.map_reduce(abs, [-1, 2])) == 3
    assert not set(pids(runtime)) & set(workers)
    runtime.close()


def test_a_script_that_new_processes_cannot_import_is_told_so(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(
        "import thalweg as tw\n"
        "from thalweg.runtime import Dask\n"
        "with Dask(workers=1) as runtime:\n"
        "    tw.wait(runtime.map_reduce(abs, [1]))\n"
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=100)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("thalweg.errors.RunError: The worker processes cannot be started: ")
    assert "needs \"if __name__ == '__main__':\" before" in last


@pytest.mark.parametrize(
    ("arguments", "match"),
    [
        ({"workers": 0}, "workers is 0"),
        ({"workers": True}, "workers is True"),
        ({"workers": 2, "scheduler": "tcp://a:1"}, "both given"),
        ({"scheduler": "nowhere"}, "scheduler is 'nowhere'"),
        ({"scheduler": "ftp://a:1"}, "scheduler is 'ftp://a:1'"),
        ({"patience": 0.0}, "patience is 0"),
        ({"ca_file": "ca.pem", "scheduler": "tls://a:1"}, "TLS needs all"),
        ({"ca_file": "a", "cert_file": "b", "key_file": "c", "scheduler": "tcp://a:1"}, "TLS needs all"),
    ],
)
def test_arguments_are_checked(arguments, match):
    with pytest.raises(RunError, match=match):
        Dask(**arguments)


def test_a_scheduler_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setattr("thalweg.runtime.dask.CONNECTING", 1.0)
    with Dask("tcp://127.0.0.1:9") as runtime, pytest.raises(RunError, match="cannot be reached") as error:
        graph.wait(runtime.map_reduce(abs, [1]))
    assert "tcp://127.0.0.1:9" in str(error.value)
    assert "thalweg resume RUN --scheduler ADDRESS, or --threads N" in str(error.value)
