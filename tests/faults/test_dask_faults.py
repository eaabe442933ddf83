"""Workers killed, stopped and missing, a scheduler that dies: the same bits or an error in time, never a standstill."""

import asyncio
import logging
import os
import signal
import time
import traceback
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

import thalweg.graph as graph
from tests.faults.clusters import HARD_LIMIT, Cluster, wait_for
from tests.faults.strikes import begun_by, holding, kill, limited, pid_of, strike, values
from tests.runs import slow_shots as slow
from tests.sampling import ALL
from thalweg.errors import RunError
from thalweg.runs import Run, Study
from thalweg.runtime import Dask, Shared

pytest.importorskip("distributed")

ALL_ONLY = pytest.mark.skipif(not ALL, reason="long: `make faults` runs it")


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path)
    yield made
    made.close()


WAYS = ["killed", "stopped", "cut off"]
SERIES = [(seed, WAYS[seed % 3]) for seed in range(51)]
PATIENCE = {"killed": 30.0, "stopped": 12.0, "cut off": 12.0}  # s; Dask itself sees that a worker has died
DONE = Counter()


@pytest.mark.parametrize(
    ("seed", "way"),
    [pytest.param(seed, way, marks=pytest.mark.slow) for seed, way in (SERIES if ALL else SERIES[:3])],
)
def test_a_hurt_workers_items_are_computed_again_to_the_same_bits(cluster, tmp_path, seed, way):
    """The series: each time a worker is hurt in the middle of a random item of a sum, and is not brought back."""
    notes, cuts = [], {}
    for _ in range(2):
        worker, cut = cluster.add_worker_with_a_line()
        cuts[worker.pid] = cut
    hits = {"killed": kill, "stopped": lambda pid: os.kill(pid, signal.SIGSTOP), "cut off": lambda pid: cuts[pid]()}
    with Dask(cluster.address, patience=PATIENCE[way], note=notes.append) as runtime:
        graph.wait(runtime.start())
        wait_for(lambda: _threads(runtime) == 2)
        began = time.monotonic()
        pid, place, held = strike(runtime, tmp_path, seed, hits[way], go_on=way == "killed")
        again = begun_by(place, held)
        assert again - {pid}, "the item of the hurt worker was computed by nobody else"
        told = any("has been silent for 6 s; its items are computed again" in note for note in notes)
        assert told == (way != "killed"), notes
    DONE[way] += 1
    print(f"seed {seed}: {way} in item {held}, done after {time.monotonic() - began:.1f} s; so far {dict(DONE)}")


def test_a_queue_is_waited_for_and_dead_workers_are_not(cluster, tmp_path):
    notes = []
    with Dask(cluster.address, patience=4.0, note=notes.append) as runtime:

        async def queue():
            work = asyncio.ensure_future(limited(runtime.map_reduce(abs, [-1, -2, -3])))
            await asyncio.sleep(6.0)  # longer than the patience with dead ones
            assert not work.done()
            cluster.add_worker()
            return await work

        assert asyncio.run(queue()) == 6
        assert sum("no worker yet" in note for note in notes) == 1
        assert graph.wait(limited(runtime.map_reduce(abs, [-1]))) == 1  # begins with a look at who is there
        assert any("workers have come" in note for note in notes)

        async def death():
            task = holding(values(5, 0), tmp_path, 2)
            work = asyncio.ensure_future(limited(runtime.map_reduce(task, range(5))))
            await asyncio.to_thread(wait_for, lambda: pid_of(tmp_path, 2))
            kill(cluster.workers[0].pid)
            began = time.monotonic()
            with pytest.raises(RunError, match="All workers died"):
                await work
            return time.monotonic() - began

        assert asyncio.run(death()) < 30.0
        began = time.monotonic()
        with pytest.raises(RunError, match="All workers died"):  # and they have not come back since
            graph.wait(limited(runtime.map_reduce(abs, [1])))
        cluster.add_worker()
        seen = wait_for(lambda: _threads(runtime))
        assert seen == 1
        assert graph.wait(limited(runtime.map_reduce(abs, [-5]))) == 5
        assert time.monotonic() - began < HARD_LIMIT


def _threads(runtime):
    return runtime._client.run_on_scheduler(lambda dask_scheduler=None: dask_scheduler.total_nthreads)


@ALL_ONLY
@pytest.mark.slow
def test_all_workers_dead_is_an_error_within_a_minute_without_further_settings(cluster, tmp_path):
    for stop in (signal.SIGKILL, signal.SIGSTOP):
        place = tmp_path / stop.name
        place.mkdir()
        worker = cluster.add_worker()
        with Dask(cluster.address) as runtime:

            async def main(runtime=runtime, place=place, worker=worker, stop=stop):
                work = asyncio.ensure_future(limited(runtime.map_reduce(holding(values(5, 0), place, 2), range(5))))
                await asyncio.to_thread(wait_for, lambda: pid_of(place, 2))
                os.kill(worker.pid, stop)
                began = time.monotonic()
                with pytest.raises(RunError, match="All workers died"):
                    await work
                return time.monotonic() - began

            assert 25.0 < asyncio.run(main()) < 60.0
        worker.kill()
        worker.wait()


@pytest.mark.slow
def test_a_worker_that_comes_and_dies_before_it_was_seen_counts_as_dead(cluster, tmp_path):
    """Else the run would wait for a first worker, for ever."""
    with Dask(cluster.address, patience=3.0) as runtime:

        async def main():
            work = asyncio.ensure_future(limited(runtime.map_reduce(holding(values(5, 0), tmp_path, 2), range(5))))
            worker = cluster.add_worker()
            await asyncio.to_thread(wait_for, lambda: pid_of(tmp_path, 2))
            worker.kill()
            with pytest.raises(RunError, match="All workers died: for 3 s"):
                await work

        asyncio.run(main())


def test_a_scheduler_that_dies_is_an_error_at_once(cluster, tmp_path):
    """And the only one: what Dask's client has to say of it is of no use."""
    cluster.add_worker()
    said = []
    listener = logging.Handler()
    listener.emit = said.append
    logging.getLogger("distributed.client").addHandler(listener)

    with Dask(cluster.address) as runtime:

        async def main():
            work = asyncio.ensure_future(limited(runtime.map_reduce(holding(values(5, 0), tmp_path, 2), range(5))))
            await asyncio.to_thread(wait_for, lambda: pid_of(tmp_path, 2))
            cluster.scheduler.kill()
            began = time.monotonic()
            with pytest.raises(RunError, match="connection to the Dask scheduler is lost"):
                await work
            return time.monotonic() - began

        assert asyncio.run(main()) < 20.0
        with pytest.raises(RunError, match="scheduler is lost"):
            graph.wait(limited(runtime.map_reduce(abs, [1])))
        assert graph.wait(runtime.run(abs, -1)) == 1  # what closes a run goes on
    logging.getLogger("distributed.client").removeHandler(listener)
    assert [record.getMessage() for record in said] == []
    (tmp_path / "go").touch()


def test_an_error_of_an_items_own_is_tried_again_as_often_as_asked(tmp_path):
    folder = str(tmp_path)

    def flaky(i):
        tries = len(list(Path(folder).glob(f"try-{i}-*")))
        (Path(folder) / f"try-{i}-{time.monotonic_ns()}").touch()
        if tries < i:
            raise OSError(f"the disk, for the {tries + 1}th time")
        return i

    with Dask(workers=1, retries=2) as runtime:
        assert graph.wait(limited(runtime.map_reduce(flaky, [0, 1, 2]))) == 3
        with pytest.raises(OSError, match="for the 3th time") as error:
            graph.wait(limited(runtime.map_reduce(flaky, [3])))
    assert "while working on item 3 (number 1 of 1)" in error.value.__notes__
    assert traceback.extract_tb(error.value.__traceback__)[-1].name == "flaky", "the last one's own traceback"
    assert len(list(tmp_path.glob("try-3-*"))) == 3


def test_what_is_shared_is_sent_again_when_it_is_lost(cluster):
    shared = Shared(np.arange, 1000.0)

    def task(i):
        return float(shared.value[i])

    first = cluster.add_worker()
    with Dask(cluster.address) as runtime:
        assert graph.wait(limited(runtime.map_reduce(task, range(10)))) == 45.0
        kill(first.pid)
        wait_for(lambda: not _threads(runtime))
        cluster.add_worker()
        assert graph.wait(limited(runtime.map_reduce(task, range(10)))) == 45.0


def test_two_clients_of_one_cluster_do_not_get_each_others_results(cluster, tmp_path):
    folder = str(tmp_path)

    def task(i):
        (Path(folder) / f"begun-{i}-{time.monotonic_ns()}").touch()
        return i

    cluster.add_worker()
    cluster.add_worker()
    with Dask(cluster.address) as one, Dask(cluster.address) as other:

        async def main():
            return await asyncio.gather(*(limited(runtime.map_reduce(task, range(6))) for runtime in (one, other)))

        assert asyncio.run(main()) == [15, 15]
    assert len(list(tmp_path.glob("begun-*"))) == 12


@pytest.mark.sampled(2)
@pytest.mark.slow
@pytest.mark.parametrize("hurt", ["scheduler", "all workers"])
@pytest.mark.parametrize("keep", [False, True], ids=["sums lost", "sums kept"])
def test_a_run_whose_cluster_died_goes_on_to_the_same_bits(tmp_path, hurt, keep):
    kinds = {"slow": slow.Slow}
    (tmp_path / "whole").mkdir()
    whole = graph.wait(Run(slow.study(tmp_path / "whole", "one", checkpoint_shots=False), out=tmp_path / "w").execute())
    second = (tmp_path / "whole" / "shots").read_text().split()[2 * slow.ITEMS]  # what is summed of the second model
    (tmp_path / "hold-4").write_text(second)
    first = Cluster(tmp_path)
    again = Cluster(tmp_path)
    try:
        for cluster in (first, again):
            cluster.add_worker()
            cluster.add_worker()
        place = {"kind": "dask", "scheduler": first.address, "patience": 20.0}
        document = {**slow.study(tmp_path, "one", checkpoint_shots=keep).document, "runtime": place}
        run = Run(Study.from_document(document, kinds=kinds), out=tmp_path / "run")

        async def main():
            work = asyncio.ensure_future(limited(run.execute()))
            await asyncio.to_thread(wait_for, lambda: list(tmp_path.glob("held-4-*")) or work.done())
            for process in [first.scheduler] if hurt == "scheduler" else first.workers:
                process.kill()
            with pytest.raises(RunError, match=r"scheduler is lost|All workers died"):
                await work

        asyncio.run(main())
        assert run.outcome.status == "failed"
        assert run.outcome.summary["iterations"] == 1
        (tmp_path / "hold-4").unlink()
        resumed = Run.resume(tmp_path / "run", overrides=[f"runtime.scheduler={again.address}"], kinds=kinds)
        outcome = graph.wait(limited(resumed.execute()))
    finally:
        first.close()
        again.close()
    assert outcome.status == "finished"
    assert outcome.summary["digest"] == whole.summary["digest"]
    assert outcome.history.iterations()["loss"].tolist() == whole.history.iterations()["loss"].tolist()
