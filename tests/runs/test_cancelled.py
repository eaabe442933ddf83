"""Cancelled at any moment: the variables are as after the last committed step, and the run goes on to the same bits.

The event loop counts every step of every task. A first run says how many there are; then the run is cancelled at the
k-th, wherever it is at that moment.
"""

import asyncio
import random
import shutil
import threading

import numpy as np
import pytest

from tests.runs.deconvolution import Deconvolution
from tests.runs.going import Stopping, every_byte, fingerprint, stopped
from tests.sampling import ALL
from thalweg.checkpoints import CheckpointStore
from thalweg.graph import wait
from thalweg.runs import History, QuietDisplay, Run, Study, model_digest


class Steps:
    """Counts the steps of all tasks of a loop, and does something at one of them."""

    def __init__(self):
        self.count = 0
        self.at = None
        self.work = None

    def factory(self, loop, coroutine, **keywords):
        return asyncio.Task(self._counted(coroutine), loop=loop, **keywords)

    async def _counted(self, coroutine):
        return await _Stepped(coroutine, self._step)

    def _step(self):
        self.count += 1
        if self.count == self.at:
            self.work()


class _Stepped:
    """A coroutine that says when it gives way."""

    def __init__(self, coroutine, step):
        self._coroutine, self._step = coroutine, step

    def __await__(self):
        send, value = self._coroutine.send, None
        while True:
            try:
                given = send(value)
            except StopIteration as end:
                return end.value
            self._step()
            try:
                value = yield given
                send = self._coroutine.send
            except BaseException as error:
                send, value = self._coroutine.throw, error


class Models(QuietDisplay):
    """Notes the model after each committed step."""

    def __init__(self):
        self._problems = Deconvolution.instances
        self.after = {}

    def iteration(self, record):
        self.after[record.iteration] = model_digest({"x": self._problems[-1].x.data})


def execute(session, steps):
    """Run it in an event loop of its own, with a limit; the error that it ended with, and what it left running."""

    async def main():
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()
        loop.set_task_factory(steps.factory)
        work = loop.create_task(session.execute())
        steps.work = work.cancel
        assert task is not None
        done, _ = await asyncio.wait({work}, timeout=120)
        assert done, "it hangs"
        left = asyncio.all_tasks() - {task}
        return (work.exception() if not work.cancelled() else asyncio.CancelledError()), left

    return asyncio.run(main())


@pytest.fixture
def study(document, kinds):
    document["blocks"] = [{**document["blocks"][0], "iterations": 2}, {"iterations": 2}]
    document["output"] = {"checkpoint_every": 1, "figures": False}
    document["runtime"] = {"threads": 1}
    return Study.from_document(document, kinds=kinds)


@pytest.mark.parametrize("place", ["on the loop", "in a thread"])
def test_cancelled_at_any_await(tmp_path, kinds, study, monkeypatch, place):
    if place == "in a thread":  # as the steps of large models
        monkeypatch.setattr("thalweg.runs.loop.SHORT_STEP", 0)
    steps, models = Steps(), Models()
    error, left = execute(Run(study, out=tmp_path / "whole", display=models), steps)
    assert (error, left) == (None, set())
    whole = steps.count
    begun = model_digest({"x": study.build_problem().x.data})
    digests = {0: begun, **models.after}
    history = History(tmp_path / "whole").iterations()
    expected = CheckpointStore(tmp_path / "whole" / "checkpoints").load()
    assert whole > 30
    threads = {thread.name for thread in threading.enumerate()}
    moments = range(1, whole + 1)
    if not ALL:
        moments = sorted(random.Random(5).sample(moments, 12))
    ends = set()
    for k in moments:
        folder = tmp_path / str(k)
        steps = Steps()
        steps.at = k
        session = Run(study, out=folder)
        error, left = execute(session, steps)
        assert left == set(), f"cancelled at step {k}, tasks are left"
        assert {thread.name for thread in threading.enumerate()} <= threads | {"MainThread"}, k
        if error is None:
            assert session.outcome.status == "finished"  # it came when all was done
            continue
        assert isinstance(error, asyncio.CancelledError), (k, error)
        if session.outcome is None:
            assert not (folder / "study.toml").exists(), k  # before there was a run
            continue
        made = session.outcome.summary["iterations"]
        ends.add(made)
        if session.outcome.status == "finished":  # it came while the run closed, which is done to the end
            assert (made, session.outcome.summary["digest"]) == (4, digests[4])
            continue
        assert session.outcome.status == "interrupted"
        assert session.outcome.summary["digest"] == digests[made], f"cancelled at step {k}, after iteration {made}"
        assert History(folder).iterations()["iteration"].tolist() == list(range(1, made + 1))
        stored = CheckpointStore(folder / "checkpoints")
        if made:
            arrays, meta, _ = stored.load()
            assert model_digest({"x": arrays["variable/x"]}) == digests[made]
            assert meta["iteration"] == made
        outcome = wait(Run.resume(folder, kinds=kinds).execute())
        assert outcome.status == "finished"
        arrays, meta, _ = stored.load()
        assert meta == expected[1]
        assert {name: array.tobytes() for name, array in arrays.items()} == {
            name: array.tobytes() for name, array in expected[0].items()
        }
        again = outcome.history.iterations()
        assert all(again[name].tolist() == history[name].tolist() for name in history if name != "seconds")
    assert ends >= {0, 1, 2, 3} if ALL else ends & {1, 2, 3}
    print(f"{whole} steps, cancelled at {len(moments)} of them, after {sorted(ends)} iterations")


def test_a_resumed_run_cancelled_at_any_await(tmp_path, kinds, study):
    """Also while it is built, tried, opened and prepared: the result is never the problem's start."""
    begun = tmp_path / "begun"
    display = Stopping(2)
    stopped(Run(study, out=begun, display=display), display)
    shutil.copytree(begun, tmp_path / "whole")
    steps = Steps()
    error, left = execute(Run.resume(tmp_path / "whole", kinds=kinds), steps)
    assert (error, left) == (None, set())
    expected, whole = fingerprint(tmp_path / "whole"), steps.count
    moments = range(1, whole + 1) if ALL else sorted(random.Random(6).sample(range(1, whole + 1), 12))
    ends = set()
    for k in moments:
        folder, steps = tmp_path / str(k), Steps()
        shutil.copytree(begun, folder)
        steps.at = k
        session = Run.resume(folder, kinds=kinds)
        error, left = execute(session, steps)
        assert left == set(), f"cancelled at step {k}, tasks are left"
        if session.outcome is None:
            assert every_byte(folder) == every_byte(begun), k
        else:
            summary = session.outcome.summary
            arrays, meta, _ = CheckpointStore(folder / "checkpoints").load()
            assert 2 <= summary["iterations"] == meta["iteration"], k
            with np.load(folder / "result.npz") as result:
                assert model_digest({"x": result["x"]}) == summary["digest"]
            assert model_digest({"x": arrays["variable/x"]}) == summary["digest"]
            ends.add(summary["iterations"])
        if error is not None and (session.outcome is None or session.outcome.status != "finished"):
            assert isinstance(error, asyncio.CancelledError), (k, error)
            assert wait(Run.resume(folder, kinds=kinds).execute()).status == "finished"
        assert fingerprint(folder) == expected, k
    assert ends >= ({2, 3, 4} if ALL else {2})
    print(f"{whole} steps, cancelled at {len(moments)} of them, after {sorted(ends)} iterations")
