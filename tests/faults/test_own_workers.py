"""Worker processes of our own that die come back, and where none can live there is an error in time."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path

import pytest

import thalweg.graph as graph
from tests.faults.clusters import wait_for
from tests.faults.strikes import begun_by, count, kill, limited, strike
from tests.sampling import ALL, sample
from thalweg.errors import RunError
from thalweg.runtime import Dask

pytest.importorskip("distributed")
import dask
import psutil


def spawned():
    """Processes of ours that are workers, or will be."""
    found = set()
    for child in psutil.Process().children():
        with contextlib.suppress(psutil.NoSuchProcess):
            if "spawn_main" in " ".join(child.cmdline()):
                found.add(child.pid)
    return found


@pytest.mark.parametrize("seeds", [range(12) if ALL else sample(range(12), 3, seed=1)], ids=["seeds"])
def test_workers_of_our_own_that_are_killed_are_replaced(tmp_path, seeds):
    with Dask(workers=2) as runtime:
        for seed in seeds:
            pid, place, held = strike(runtime, tmp_path, seed, kill)
            assert begun_by(place, held) - {pid}
            wait_for(lambda: count(runtime) == 2)  # a new process takes its time on a busy machine


def test_a_worker_of_our_own_is_not_given_up_while_it_comes_back(tmp_path):
    """Dask looks 15 s after each death whether the worker is there; here while each of them is sure to be away."""
    with dask.config.set({"distributed.deploy.lost-worker-timeout": "100ms"}), Dask(workers=1) as runtime:
        graph.wait(runtime.start())
        nanny = runtime._cluster.workers[0]
        for seed in range(2):
            strike(runtime, tmp_path, seed, kill)
            wait_for(lambda: count(runtime) == 1)
        assert runtime._cluster.workers == {0: nanny}


def test_a_nanny_that_has_ended_is_replaced():
    def who(dask_worker):
        return dask_worker.name, os.getpid(), os.environ["OMP_NUM_THREADS"]

    with Dask(workers=2) as runtime:
        graph.wait(runtime.start())
        before = set(runtime._client.run(who).values())
        cluster = runtime._cluster
        cluster.sync(cluster.workers[0].close)
        ended = [pid for name, pid, _ in before if name == 0]
        wait_for(lambda: not Path(f"/proc/{ended[0]}").exists())
        wait_for(lambda: count(runtime) == 2)
        after = set(runtime._client.run(who).values())
        assert len(before & after) == 1
        assert {(name, threads) for name, _, threads in after} == {(0, "1"), (1, "1")}
        assert graph.wait(limited(runtime.map_reduce(abs, range(6)))) == 15


def test_where_no_worker_lives_there_is_an_error_and_it_goes_on_when_they_do():
    """Each process that is to be a worker is killed before it is one."""
    killed, enough = set(), threading.Event()

    def plague():
        while not enough.wait(0.01):
            for pid in spawned() - before:
                with contextlib.suppress(ProcessLookupError):
                    kill(pid)
                killed.add(pid)

    before = spawned()
    with Dask(workers=2, patience=6.0) as runtime:
        graph.wait(runtime.start())
        plagued = threading.Thread(target=plague)
        plagued.start()
        try:
            with pytest.raises(RunError, match="All workers died"):
                graph.wait(limited(runtime.map_reduce(abs, range(6))))
        finally:
            enough.set()
            plagued.join()
        assert len(killed) > 2, "none was brought back"
        wait_for(lambda: count(runtime) == 2)
        assert graph.wait(limited(runtime.map_reduce(abs, range(6)))) == 15


def test_processes_that_are_starting_end_with_the_rest():
    """One that its nanny brings back, and the first one of a new nanny; both hang."""
    before = spawned()
    runtime = Dask(workers=2)
    graph.wait(runtime.start())
    cluster = runtime._cluster
    first = spawned() - before
    assert len(first) == 2
    kill(cluster.workers[1].pid)
    cluster.sync(cluster.workers[0].close)
    starting = wait_for(lambda: len(found := spawned() - before - first) == 2 and found)
    for pid in starting:
        os.kill(pid, signal.SIGSTOP)
    runtime.close()
    assert not spawned() - before
    assert cluster.status.name == "closed"


def test_no_process_is_left_by_a_close_that_takes_too_long(monkeypatch):
    from thalweg.runtime.own_workers import LOOK

    before = spawned()
    runtime = Dask(workers=2)
    graph.wait(runtime.start())
    stopped = spawned() - before
    assert len(stopped) == 2
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    monkeypatch.setattr("thalweg.runtime.dask.CLOSING", 0.5)
    loop = runtime._client.loop
    runtime.close()
    wait_for(lambda: loop.asyncio_loop.is_closed())  # and with it the thread of the scheduler
    wait_for(lambda: not spawned() - before)
    time.sleep(2 * LOOK)
    assert not spawned() - before  # and no other one is started


@pytest.mark.slow
@pytest.mark.parametrize("seed", sample(range(5), 1, seed=2))
def test_a_stopped_worker_of_our_own_is_replaced(tmp_path, seed):
    with Dask(workers=2, patience=12.0) as runtime:
        pid, place, held = strike(runtime, tmp_path, seed, lambda pid: os.kill(pid, signal.SIGSTOP), go_on=False)
        assert begun_by(place, held) - {pid}
        wait_for(lambda: count(runtime) == 2)
        pids = set(runtime._client.run(os.getpid).values())
        assert len(pids) == 2
        assert pid not in pids
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def test_an_item_that_kills_its_workers_is_named():
    def task(i):
        if i == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        return i

    with Dask(workers=2) as runtime:
        with pytest.raises(
            RunError, match=r"Item 3 \(number 4 of 6\) was being worked on by 4 workers that died"
        ) as error:
            graph.wait(limited(runtime.map_reduce(task, range(6))))
        assert error.value.details["worker"].startswith("tcp://")
        assert graph.wait(limited(runtime.map_reduce(abs, range(6)))) == 15


def test_a_task_that_kills_every_worker_is_an_error():
    def task(i):
        os.kill(os.getpid(), signal.SIGKILL)

    with Dask(workers=2) as runtime:
        with pytest.raises(RunError, match=r"Item \d \(number \d of 6\) was being worked on by 4 workers that died"):
            graph.wait(limited(runtime.map_reduce(task, range(6))))
        assert graph.wait(limited(runtime.map_reduce(abs, range(6)))) == 15
