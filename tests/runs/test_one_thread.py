"""A problem that has BLAS add up has the same bits wherever a run computes, and the process is then as it was."""

import asyncio
import os
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext
from functools import partial

import numpy as np
import pytest
from pydantic import BaseModel

import thalweg as tw
from thalweg.graph.executor import chosen_executor, run_blocking, use_executor
from thalweg.runs import Feedback, Problem, QuietDisplay, Run, Study
from thalweg.runtime import Local

threadpoolctl = pytest.importorskip("threadpoolctl")

seen = []


def numbers():
    return {lib["num_threads"] for lib in threadpoolctl.threadpool_info() if lib["user_api"] == "blas"}


def shot(x, i):
    data = np.random.default_rng(i).standard_normal(200_000)
    off = data * x[i % 3] - 1.0
    gradient = np.zeros(3)
    gradient[i % 3] = np.dot(data, off) / len(data)
    return {"loss": float(np.dot(off, off)) / len(data), "x": gradient}


class LeastSquares(Problem):
    kind, item_name, items = "least_squares", "shot", 6

    class Settings(BaseModel, extra="forbid"):
        pass

    BlockSettings = Settings

    def __init__(self):
        self.x = tw.Variable(np.zeros(3), name="x", needs_grad=True)
        self.variables = (self.x,)

    @classmethod
    def build(cls, settings, blocks, *, seed, folder):
        seen.append(numbers())
        return cls()

    async def feedback(self, batch, runtime):
        seen.append(numbers())
        total = await runtime.map_reduce(partial(shot, self.x.data.copy()), [int(i) for i in batch])
        return Feedback(total["loss"], {"x": total["x"]})


KINDS = {"least_squares": LeastSquares}
DOCUMENT = {
    "title": "sums of BLAS",
    "problem": {"kind": "least_squares"},
    "optimizer": {"kind": "adam", "learning_rate": 0.05},
    "blocks": [{"iterations": 6}],
    "output": {"figures": False, "checkpoint_every": 1},
}


class StopsAt(QuietDisplay):
    def __init__(self, iteration):
        self.stop_at, self.task = iteration, None

    def iteration(self, record):
        if record.iteration == self.stop_at:
            self.task.cancel()


@pytest.fixture(autouse=True)
def several():
    if (os.cpu_count() or 1) < 2:
        pytest.skip("a machine with one core has one thread")
    seen.clear()
    with threadpoolctl.threadpool_limits(2, user_api="blas"):
        yield
        assert numbers() == {2}  # whatever became of the run


def made(out, table, **options):
    return Run(Study.from_document({**DOCUMENT, "runtime": table}, kinds=KINDS), out=out, **options)


def digest(run):
    return tw.wait(run.execute()).summary["digest"]


def stopped(out, table):
    display = StopsAt(3)

    async def main():
        display.task = asyncio.ensure_future(made(out, table, display=display).execute())
        with pytest.raises(asyncio.CancelledError):
            await display.task

    tw.wait(main())


def test_threads_and_workers_have_the_same_digest(tmp_path):
    pytest.importorskip("distributed")
    tables = {"one": {"threads": 1}, "two": {"threads": 2}, "workers": {"kind": "dask", "workers": 2}}
    digests = {name: digest(made(tmp_path / name, table)) for name, table in tables.items()}
    assert len(set(digests.values())) == 1, digests
    stopped(tmp_path / "stopped", {"threads": 2})
    assert numbers() == {2}
    changed = ['runtime={kind="dask", workers=2}']
    assert digest(Run.resume(tmp_path / "stopped", overrides=changed, kinds=KINDS)) == digests["one"]


def test_a_runtime_of_the_callers_has_it_for_the_run(tmp_path):
    expected = digest(made(tmp_path / "own", {"threads": 2}))
    runtime = Local(2)  # not entered
    assert numbers() == {2}
    assert digest(made(tmp_path / "callers", {}, runtime=runtime)) == expected
    runtime.close()


@pytest.mark.parametrize("chosen", [False, True], ids=["nobody chose", "use_executor"])
def test_blocking_operators_of_a_run_whose_runtime_was_not_entered_have_it_too(tmp_path, monkeypatch, chosen):
    """OpenMP has a number for each thread. Who has chosen where they run keeps it."""
    runtime, found = Local(2), []
    feedback = LeastSquares.feedback

    async def blocks(self, batch, there):
        found.append((chosen_executor(), await run_blocking(threading.current_thread)))
        runtime.close()  # as another run that shares it may: it starts new threads, and harms no operator
        return await feedback(self, batch, there)

    monkeypatch.setattr(LeastSquares, "feedback", blocks)
    with ThreadPoolExecutor(1) as mine, use_executor(mine) if chosen else nullcontext():
        digest(made(tmp_path / "run", {}, runtime=runtime))
        assert len(found) == 6
        assert all(thread in executor._threads for executor, thread in found)
        assert all((executor is mine) == chosen for executor, _ in found)
        assert all(chosen or type(executor).submit is not ThreadPoolExecutor.submit for executor, _ in found)
    runtime.close()


def test_the_plan_and_a_run_that_fails_leave_the_process_as_it_was(tmp_path, monkeypatch):
    tw.wait(made(tmp_path / "plan", {"threads": 1}).plan())
    assert seen == [{1}]
    assert numbers() == {2}

    async def fails(self, batch, runtime):
        seen.append(numbers())
        raise FloatingPointError("unstable")

    monkeypatch.setattr(LeastSquares, "feedback", fails)
    with pytest.raises(FloatingPointError):
        digest(made(tmp_path / "failed", {"threads": 1}))
    assert seen == [{1}] * 3


def test_two_runs_at_once_keep_it_until_the_last_one_has_ended(tmp_path):
    async def both():
        runs = [made(tmp_path / str(k), {"threads": 1}) for k in range(2)]
        return await asyncio.gather(*(run.execute() for run in runs))

    first, second = tw.wait(both())
    assert first.summary["digest"] == second.summary["digest"]
    assert seen == [{1}] * len(seen)
    assert len(seen) == 2 + 2 * 6
