"""BLAS and OpenMP have one thread while work runs, wherever it runs, and afterwards what they had."""

import asyncio
import contextlib
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

import thalweg.graph as graph
from thalweg.errors import RunError
from thalweg.lowering import threads
from thalweg.runtime import Dask, Local
from thalweg.runtime.one_thread import NAMES, limited, one_thread

threadpoolctl = pytest.importorskip("threadpoolctl")

CORES = 2
if (os.cpu_count() or 1) < CORES:
    pytest.skip("a machine with one core has one thread", allow_module_level=True)


def numbers(api="blas"):
    return {lib["filepath"]: lib["num_threads"] for lib in threadpoolctl.threadpool_info() if lib["user_api"] == api}


def child():
    """What a program sees that is started here."""
    script = f"import os; print(*[os.environ.get(name) for name in {NAMES}])"
    return subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()


@pytest.fixture(autouse=True)
def several(monkeypatch):
    """The libraries have two threads, and nothing is said in the environment, whatever else the process did."""
    for name in NAMES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MKL_NUM_THREADS", "7")
    with threadpoolctl.threadpool_limits(CORES, user_api="blas"):
        yield


def test_a_fork_while_another_thread_enters_leaves_a_lock_that_can_be_taken():
    script = """
import os
from thalweg.runtime.one_thread import _PROCESS
with _PROCESS._lock:  # as another thread may hold it
    child = os.fork()
    if child == 0:
        os._exit(0 if _PROCESS._lock.acquire(timeout=30) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
    assert run(script) == ["0"]


def dot(item):
    rng = np.random.default_rng(item)
    a, b = rng.standard_normal((2, 200_000))
    m = rng.standard_normal((300, 300))
    return {"dot": float(np.dot(a, b)), "solution": np.linalg.solve(m, a[:300])}


def bits(total):
    return float(total["dot"]).hex(), total["solution"].tobytes()


def test_within_it_there_is_one_and_then_what_was_there():
    before, environment, divided = numbers(), dict(os.environ), threads.count()
    assert set(before.values()) == {CORES}
    assert child() == ["None", "7", "None"]
    with one_thread():
        assert set(numbers().values()) == {1}
        assert child() == ["1", "1", "1"]
        assert os.environ == environment
        assert threads.count() == divided
        with one_thread():
            assert set(numbers().values()) == {1}
        assert set(numbers().values()) == {1}
    assert numbers() == before
    assert child() == ["None", "7", "None"]


def test_the_last_one_of_two_threads_restores_also_after_an_error():
    entered, leave = threading.Event(), threading.Event()

    def other():
        with contextlib.suppress(KeyError), one_thread():
            entered.set()
            assert leave.wait(60)
            raise KeyError

    thread = threading.Thread(target=other)
    with one_thread():
        thread.start()
        assert entered.wait(60)
    assert set(numbers().values()) == {1}
    leave.set()
    thread.join(60)
    assert set(numbers().values()) == {CORES}


def test_who_set_the_number_before_in_another_thread_does_not_keep_it_from_being_set():
    threadpoolctl.threadpool_limits(CORES, user_api="blas")  # not left: threadpoolctl listens to this thread only
    seen = []

    def other():
        with one_thread():
            seen.extend(numbers().values())

    thread = threading.Thread(target=other)
    thread.start()
    thread.join(60)
    assert set(seen) == {1}
    assert set(numbers().values()) == {CORES}


def test_a_runtime_has_it_within_its_block_also_when_that_is_cancelled():
    async def work(within):
        async with Local(1):
            assert set(numbers().values()) == {1}
            within.set()
            await asyncio.sleep(600)

    async def main():
        within = asyncio.Event()
        first, second = (asyncio.ensure_future(work(within)) for _ in range(2))
        await within.wait()
        await asyncio.sleep(0)
        first.cancel()
        await asyncio.wait([first])
        assert set(numbers().values()) == {1}
        second.cancel()
        await asyncio.wait([second])

    asyncio.run(main())
    assert set(numbers().values()) == {CORES}


def test_sums_of_blas_have_the_same_bits_in_threads_and_on_workers():
    pytest.importorskip("distributed")
    with Local(1) as one, Local(2) as two, Dask(workers=2) as cluster:
        found = [bits(graph.wait(runtime.map_reduce(dot, range(5)))) for runtime in (one, two, cluster)]
    assert found[0] == found[1] == found[2]


def run(script, **environment):
    process = subprocess.run(
        [sys.executable, "-c", script],
        env={**{k: v for k, v in os.environ.items() if k not in NAMES}, **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert process.returncode == 0, process.stderr
    return process.stdout.split()


SEEN = """
import os, sys, threadpoolctl
def seen(api, part):
    found = threadpoolctl.threadpool_info()
    return [lib["num_threads"] for lib in found if lib["user_api"] == api and part in lib["filepath"]]
"""


def test_a_library_that_is_loaded_within_it_has_one_thread_there_and_then_as_many_as_others():
    script = f"""{SEEN}
import numpy
from thalweg.runtime.one_thread import one_thread
assert "scipy" not in sys.modules
before = seen("blas", "numpy.libs")
with one_thread():
    import scipy.linalg
    print(*seen("blas", "scipy.libs"))
print(*seen("blas", "scipy.libs"), seen("blas", "numpy.libs") == before)
"""
    if (found := run(script)) == ["True"]:
        pytest.skip("this SciPy brings no BLAS of its own")
    assert found == ["1", str(len(os.sched_getaffinity(0))), "True"]


@pytest.mark.slow
def test_openmp_has_one_thread_in_every_thread_of_a_pool_and_the_bits_of_one():
    """OpenMP has a number for each thread: what is set in one says nothing about another."""
    pytest.importorskip("sklearn")
    script = f"""{SEEN}
import threading
import numpy as np
from sklearn.cluster import KMeans
import thalweg.graph as graph
from thalweg.runtime import Local
x = np.random.default_rng(0).standard_normal((20_000, 10))
meet = threading.Barrier(2)
def task(item):
    meet.wait(60)  # one item in each of the two threads
    centers = KMeans(5, n_init=1, random_state=0).fit(x).cluster_centers_
    return {{"centers": centers * (1.0, 3.0)[item], "numbers": seen("openmp", "")}}
with Local(2) as local:
    found = graph.wait(local.map_reduce(task, [0, 1]))
print(found["centers"].tobytes().hex(), *set(found["numbers"]), *set(seen("openmp", "")))
"""
    several, one = (run(script, **extra) for extra in ({}, {"OMP_NUM_THREADS": "1"}))
    assert several[0] == one[0]
    assert several[1] == "2"  # two items, one thread each, added
    assert several[2] == str(os.cpu_count())


@pytest.mark.slow
def test_pytorch_has_the_same_number_from_the_first_item_of_a_thread():
    pytest.importorskip("torch")
    script = """
import torch
from thalweg.runtime import Local
from thalweg.runtime.one_thread import one_thread
torch.set_num_threads(2)
with Local(1) as local:
    pool = local._executor()
    print(*[pool.submit(torch.get_num_threads).result() for _ in range(3)])
print(torch.get_num_threads())
"""
    assert run(script) == ["1", "1", "1", "2"]


def test_what_a_pool_is_given_is_called_as_it_is():
    assert limited(int, "11", base=2) == 3
    with one_thread(), pytest.raises(ZeroDivisionError):
        limited(lambda: 1 / 0)


@pytest.fixture
def foreign(tmp_path):
    """A scheduler that is there already, and what starts a worker of it that has no nanny."""
    distributed = pytest.importorskip("distributed")
    started = []
    with distributed.LocalCluster(
        n_workers=0, host="127.0.0.1", dashboard_address="127.0.0.1:0", worker_dashboard_address=None
    ) as cluster:

        def start(**environment):
            command = [sys.executable, "-m", "distributed.cli.dask_worker", cluster.scheduler_address]
            command += ["--nthreads", "1", "--no-nanny", "--no-dashboard", "--local-directory", str(tmp_path)]
            with open(tmp_path / "log", "wb") as log:
                environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2", **environment}
                started.append(subprocess.Popen(command, env=environment, stdout=log, stderr=log))
            return cluster.scheduler_address

        yield start
        for process in started:
            process.kill()
            process.wait()


@pytest.mark.slow
def test_a_worker_without_a_nanny_has_one_from_its_first_item_on(foreign):
    with Local(1) as local, Dask(foreign()) as cluster:
        assert bits(graph.wait(cluster.map_reduce(dot, range(5)))) == bits(graph.wait(local.map_reduce(dot, range(5))))

        def seen():
            import threadpoolctl

            return [lib["num_threads"] for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas"]

        (found,) = cluster._client.run(seen).values()
        assert set(found) == {1}


@pytest.mark.slow
def test_a_worker_that_cannot_be_limited_is_refused(foreign, tmp_path):
    folder = tmp_path / "older"
    folder.mkdir()
    (folder / "threadpoolctl.py").write_text("raise ModuleNotFoundError(\"No module named 'threadpoolctl'\")\n")
    with Dask(foreign(PYTHONPATH=str(folder))) as cluster, pytest.raises(RunError) as error:
        graph.wait(cluster.map_reduce(dot, range(2)))
    assert "cannot say what it is: ModuleNotFoundError: No module named 'threadpoolctl'" in str(error.value)
    assert "need the same versions of Thalweg, Python and their libraries" in str(error.value)
