"""Runs from beginning to end: what they leave behind, however they end."""

import asyncio
import json
import os
import resource
import sqlite3
import time
import tomllib

import numpy as np
import pytest

from tests.runs.deconvolution import Deconvolution
from tests.runs.going import Doing, go_on
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import NonFiniteGradientError, RunError, StudyError
from thalweg.graph import wait
from thalweg.runs import History, QuietDisplay, Run, Study, model_digest, run_study
from thalweg.runs.seconds import Seconds
from thalweg.runs.selection import Selection


def run(document, kinds, out, *overrides, **options):
    study = Study.from_document(document, kinds=kinds, overrides=overrides)
    return wait(run_study(study, out=out, **options))


def failing(document, kinds, out, error, *overrides):
    """The run that ends with this error, and the error."""
    session = Run(Study.from_document(document, kinds=kinds, overrides=overrides), out=out)
    with pytest.raises(error) as caught:
        wait(session.execute())
    return session.outcome, caught.value


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def test_a_run_leaves_everything_behind(tmp_path, document, kinds):
    out = tmp_path / "run"
    outcome = run(document, kinds, out)
    problem = Deconvolution.instances[-1]
    assert outcome.status == "finished"
    assert sorted(p.name for p in out.iterdir()) == [
        "checkpoints",
        "figures",
        "models",
        "result.npz",
        "run.lock",
        "run.sqlite",
        "study.toml",
        "summary.json",
    ]
    assert sorted(p.name for p in (out / "figures").iterdir()) == ["misfit.png", "signal.png"]
    assert (out / "figures" / "misfit.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"

    summary = summary_of(out)
    assert summary["status"] == "finished"
    assert summary["title"] == "A blurred signal"
    assert summary["seed"] == 3  # the problem's "seed" may not replace the run's
    assert any("seed" in text for text in summary["warnings"])
    assert summary["iterations"] == 7
    assert summary["blocks"] == ["low", "2"]
    assert len(summary["misfit_start"]) == len(summary["misfit_end"]) == 2
    assert summary["digest"] == model_digest({"x": problem.x.data})
    assert summary["seconds"] > 0
    assert summary["peak_memory_bytes"] > 10_000_000
    assert summary["versions"].keys() == {"thalweg", "numpy", "numba", "python"}
    assert summary["error_end"] == problem.metrics()["error"] < 1

    with np.load(out / "result.npz") as result:
        assert result["x"].tobytes() == problem.x.data.tobytes()
        assert result["truth"].tobytes() == problem.truth.tobytes()
    assert tomllib.loads((out / "study.toml").read_text()) == document

    columns = outcome.history.iterations()
    assert columns["iteration"].tolist() == list(range(1, 8))
    assert columns["block"].tolist() == [0] * 4 + [1] * 3
    assert columns["epoch"].tolist() == [1, 1, 1, 2, 3, 4, 5]
    assert columns["items"].tolist() == [2] * 4 + [6] * 3
    assert np.all(columns["learning_rate"] == 0.05)
    assert np.allclose(columns["per_sample"] * 64, columns["loss"])
    assert columns["misfit"][0] == summary["misfit_start"][0]
    assert columns["misfit"][-1] == summary["misfit_end"][1]
    assert columns["error"][-1] == summary["error_end"]
    assert [event["kind"] for event in outcome.history.events()] == ["started", "finished", "warning"]
    selection = Selection("random", items=6, batch_size=2, seed=3, block=0)
    assert outcome.history.batches()[:4] == [selection.next().items.tolist() for _ in range(4)]


def test_it_fits(tmp_path, document, kinds):
    document["blocks"] = [{"iterations": 150}]
    summary = run(document, kinds, tmp_path / "run", "output.figures=false").summary
    assert summary["misfit_end"][0] < 0.02 * summary["misfit_start"][0]
    assert summary["error_end"] < 0.2
    assert not list((tmp_path / "run" / "figures").iterdir())


def test_the_same_bits_with_one_and_two_threads_and_again(tmp_path, document, kinds):
    document["problem"]["pause"] = 0.002
    digests, losses = set(), set()
    for k, threads in enumerate([1, 2, 2, 5]):
        outcome = run(document, kinds, tmp_path / str(k), f"runtime.threads={threads}")
        digests.add(outcome.summary["digest"])
        losses.add(outcome.history.iterations()["loss"].tobytes())
        assert len(Deconvolution.instances[-1].threads) == threads
    assert len(digests) == len(losses) == 1
    assert run(document, kinds, tmp_path / "other", "seed=4").summary["digest"] not in digests


def test_checkpoints_hold_all_that_decides_the_next_step(tmp_path, document, kinds):
    run(document, kinds, tmp_path / "run")
    store = CheckpointStore(tmp_path / "run" / "checkpoints")
    assert len(store.generations()) == 2  # one a block; the last is the end's
    arrays, meta, _ = store.load()
    problem = Deconvolution.instances[-1]
    assert arrays["variable/x"].tobytes() == problem.x.data.tobytes()
    assert meta["iteration"] == 7
    assert meta["block"] == 1
    assert meta["block_iteration"] == 3
    selection = Selection("all", items=6, seed=3, block=1)
    for _ in range(3):
        selection.next()
    assert meta["selection"] == selection.state()
    assert {name.partition("/")[0] for name in arrays} == {"variable", "optimizer"}

    # The state continues to the same bits: the optimizer of a fresh run restored from it takes the same next
    # step.
    from thalweg.optimizers import OptimizerSnapshot
    from thalweg.runs.tuning import build_optimizer

    fresh = Study.from_document(document, kinds=kinds).build_problem()
    optimizer = build_optimizer(document["optimizer"], fresh)
    slots = {name.partition("/")[2]: a for name, a in arrays.items() if name.startswith("optimizer/")}
    fresh.x.data[...] = arrays["variable/x"]
    optimizer.restore(OptimizerSnapshot(slots, meta["optimizer"]))
    assert optimizer.optimization_state.curr_iter == 7
    assert optimizer.optimization_state.curr_epoch == 5


def test_folders_are_numbered_and_an_occupied_one_is_refused(tmp_path, document, kinds, monkeypatch):
    monkeypatch.chdir(tmp_path)
    first = wait(run_study(Study.from_document(document, kinds=kinds, name="blur")))
    second = wait(run_study(Study.from_document(document, kinds=kinds, name="blur")))
    assert [str(first.folder), str(second.folder)] == ["runs/blur-1", "runs/blur-2"]
    before = {p: p.read_bytes() for p in first.folder.rglob("*") if p.is_file()}
    outcome, error = failing(document, kinds, first.folder, RunError)
    assert outcome is None
    assert "is not empty" in str(error)
    assert {p: p.read_bytes() for p in first.folder.rglob("*") if p.is_file()} == before


def test_a_study_that_is_refused_makes_no_folder(tmp_path, document, kinds):
    outcome, _ = failing(document, kinds, tmp_path / "run", StudyError, "blocks.0.batch_size=7")
    assert outcome is None
    document["optimizer"]["process_grad"] = {"kind": "mask", "array": "maks"}
    _, error = failing(document, kinds, tmp_path / "run", StudyError)
    assert "mask" in str(error)
    assert not (tmp_path / "run").exists()


def test_a_failing_problem_leaves_a_readable_run(tmp_path, document, kinds):
    outcome, error = failing(document, kinds, tmp_path / "run", ZeroDivisionError, "problem.fail_at=4")
    assert str(error) == "the simulator broke"
    assert outcome.status == "failed"
    summary = summary_of(tmp_path / "run")
    assert summary["status"] == "failed"
    assert summary["error"]["type"] == "ZeroDivisionError"
    assert summary["iterations"] == 3
    assert summary["misfit_start"][1] is None
    events = outcome.history.events()
    assert "the simulator broke" in next(event["text"] for event in events if event["kind"] == "failed")
    assert len(outcome.history.iterations()["loss"]) == 3
    x = Deconvolution.instances[-1].x.data
    with np.load(tmp_path / "run" / "result.npz") as result:
        assert result["x"].tobytes() == x.tobytes()
    arrays, meta, _ = CheckpointStore(tmp_path / "run" / "checkpoints").load()
    assert meta["iteration"] == 3
    assert arrays["variable/x"].tobytes() == x.tobytes()
    # The model is that of a run of three iterations, which ended well.
    document["blocks"] = [{**document["blocks"][0], "iterations": 3}]
    assert run(document, kinds, tmp_path / "three").summary["digest"] == summary["digest"]


def test_a_loss_that_is_not_finite_stops_before_the_variable_is_touched(tmp_path, document, kinds):
    outcome, error = failing(document, kinds, tmp_path / "run", RunError, "problem.bad_loss_at=3")
    assert "Iteration 3, block 1 (low): the loss of 2 measurements is nan" in str(error)
    assert "as after iteration 2" in str(error)
    document["blocks"] = [{**document["blocks"][0], "iterations": 2}]
    assert run(document, kinds, tmp_path / "two").summary["digest"] == outcome.summary["digest"]
    assert np.all(np.isfinite(outcome.history.iterations()["loss"]))
    assert CheckpointStore(tmp_path / "run" / "checkpoints").load()[1]["iteration"] == 2


def test_a_metric_that_is_not_finite_stops_and_is_not_stored(tmp_path, document, kinds):
    outcome, error = failing(document, kinds, tmp_path / "run", RunError, "problem.bad_metric_at=2")
    assert "error = inf" in str(error)
    columns = outcome.history.iterations()
    assert columns["iteration"].tolist() == [1, 2]
    assert np.isnan(columns["error"][1])


def test_a_gradient_that_is_not_finite_or_missing_stops_before_anything_changes(tmp_path, document, kinds, monkeypatch):
    problem = kinds["deconvolution"]
    feedback = problem.feedback

    async def spoiled(self, batch, runtime):
        result = await feedback(self, batch, runtime)
        if self.calls == 2:
            result.gradients["x"][5] = np.nan
        return result

    monkeypatch.setattr(problem, "feedback", spoiled)
    outcome, error = failing(document, kinds, tmp_path / "run", NonFiniteGradientError)
    assert "x" in str(error)
    assert outcome.summary["iterations"] == 1
    _, meta, _ = CheckpointStore(tmp_path / "run" / "checkpoints").load()
    assert meta["iteration"] == 1
    assert meta["selection"]["count"] == 1

    async def nameless(self, batch, runtime):
        result = await feedback(self, batch, runtime)
        result.gradients["y"] = result.gradients.pop("x")
        return result

    monkeypatch.setattr(problem, "feedback", nameless)
    _, error = failing(document, kinds, tmp_path / "second", RunError)
    assert "gradients of ['y'], and the variables are ['x']" in str(error)


def test_what_breaks_at_the_end_is_said_and_costs_nothing_else(tmp_path, document, kinds):
    outcome = run(document, kinds, tmp_path / "run", "problem.broken_ending=true")
    assert outcome.status == "finished"
    warnings = " ".join(summary_of(tmp_path / "run")["warnings"])
    assert "no summary today" in warnings
    assert "no picture today" in warnings
    assert (tmp_path / "run" / "figures" / "misfit.png").exists()
    assert any(event["kind"] == "warning" for event in outcome.history.events())


def test_a_cancelled_run_is_interrupted_readable_and_as_after_its_last_step(tmp_path, document, kinds):
    document["problem"]["pause"] = 0.01
    document["blocks"] = [{"iterations": 1000}]
    session = Run(Study.from_document(document, kinds=kinds), out=tmp_path / "run")

    async def main():
        task = asyncio.ensure_future(session.execute())
        while not Deconvolution.instances or Deconvolution.instances[-1].calls < 4:
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return [t for t in asyncio.all_tasks() if t is not asyncio.current_task()]

    assert asyncio.run(main()) == []
    assert session.outcome.status == "interrupted"
    summary = summary_of(tmp_path / "run")
    steps = summary["iterations"]
    assert summary["status"] == "interrupted"
    assert steps == len(session.outcome.history.iterations()["loss"]) >= 3
    assert CheckpointStore(tmp_path / "run" / "checkpoints").load()[1]["iteration"] == steps
    document["blocks"] = [{"iterations": steps}]
    document["problem"]["pause"] = 0.0
    assert run(document, kinds, tmp_path / "again").summary["digest"] == summary["digest"]


@pytest.mark.parametrize("moment", range(0, 60, 4))
def test_a_cancellation_at_any_moment_leaves_a_whole_step(tmp_path, document, kinds, moment):
    """Cancel after so many turns of the event loop, wherever that is."""
    document["blocks"] = [{"iterations": 500}]
    session = Run(Study.from_document(document, kinds=kinds, overrides=["output.figures=false"]), out=tmp_path / "run")

    async def main():
        task = asyncio.ensure_future(session.execute())
        for _ in range(moment):
            await asyncio.sleep(0.0005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    if session.outcome is None:
        assert not (tmp_path / "run").exists()
        return
    steps = session.outcome.summary["iterations"]
    assert len(session.outcome.history.iterations()["loss"]) == steps
    with np.load(tmp_path / "run" / "result.npz") as result:
        digest = model_digest({"x": result["x"]})
    assert digest == session.outcome.summary["digest"]
    if steps:
        document["blocks"] = [{"iterations": steps}]
        assert run(document, kinds, tmp_path / "again", "output.figures=false").summary["digest"] == digest


def test_readable_while_it_runs_and_one_plain_database_afterwards(tmp_path, document, kinds):
    document["problem"]["pause"] = 0.01
    document["blocks"] = [{"iterations": 30}]
    seen = []

    async def main():
        study = Study.from_document(document, kinds=kinds)
        task = asyncio.ensure_future(run_study(study, out=tmp_path / "run"))
        while not task.done():
            await asyncio.sleep(0.02)
            if (tmp_path / "run" / "summary.json").exists() and not task.done():
                seen.append(len(History(tmp_path / "run").iterations()["loss"]))
                assert summary_of(tmp_path / "run")["status"] in ("running", "finished")
        await task

    asyncio.run(main())
    assert seen == sorted(seen)
    assert len(set(seen)) > 3
    database = sqlite3.connect(f"file:{tmp_path / 'run' / 'run.sqlite'}?mode=ro", uri=True)
    assert database.execute("PRAGMA journal_mode").fetchone() == ("delete",)
    database.close()
    assert not list((tmp_path / "run").glob("run.sqlite-*"))


def test_the_event_loop_is_not_blocked(tmp_path, document, kinds):
    """What the run does on the loop itself is short; a heart that beats beside it tells."""
    document["blocks"] = [{"iterations": 60}]
    document["problem"]["pause"] = 0.002
    gaps = []

    async def main():
        async def heart():
            loop, last = asyncio.get_running_loop(), None
            while True:
                now = loop.time()
                if last is not None:
                    gaps.append(now - last)
                last = now
                await asyncio.sleep(0.001)

        beating = asyncio.ensure_future(heart())
        await run_study(Study.from_document(document, kinds=kinds), out=tmp_path / "run")
        beating.cancel()

    run(document, kinds, tmp_path / "warm", "blocks.0.iterations=1")  # compiles the rule
    asyncio.run(main())
    gaps.sort()
    assert len(gaps) > 100
    assert gaps[int(0.95 * len(gaps))] < 0.05  # not the maximum: other processes share the machine


def test_hyperparameters_change_with_the_block_and_memory_is_reset_on_request(tmp_path, document, kinds):
    document["blocks"] = [
        {"iterations": 3},
        {"iterations": 2, "optimizer": {"learning_rate": 0.01, "beta1": 0.5}},
        {"iterations": 2, "optimizer": {"learning_rate": {"kind": "exp", "initial": 0.04, "gamma": 0.5}}},
    ]
    rates = run(document, kinds, tmp_path / "a").history.iterations()["learning_rate"]
    assert rates[:5].tolist() == [0.05, 0.05, 0.05, 0.01, 0.01]
    assert rates[6] == rates[5] / 2
    assert rates[5] == 0.04 * 0.5**5  # the schedule counts epochs of the whole run

    document["blocks"] = [{"iterations": 3}, {"iterations": 1}]
    kept = run(document, kinds, tmp_path / "b").summary["digest"]
    document["blocks"][1]["reset_optimizer"] = True
    outcome = run(document, kinds, tmp_path / "c")
    assert outcome.summary["digest"] != kept
    steps = outcome.history.iterations()
    assert steps["epoch"].tolist() == [1, 2, 3, 4]
    # With empty moments Adam's first step is learning_rate · sign(gradient).
    with np.load(tmp_path / "c" / "result.npz") as result:
        after = result["x"]
    document["blocks"] = [{"iterations": 3}]
    run(document, kinds, tmp_path / "d")
    with np.load(tmp_path / "d" / "result.npz") as result:
        step = np.abs(after - result["x"])
    assert np.allclose(step, 0.05, rtol=1e-3)


def test_transforms_may_name_the_problems_arrays(tmp_path, document, kinds):
    document["optimizer"]["process_grad"] = [{"kind": "mask", "array": "mask"}, {"kind": "normalize"}]
    document["optimizer"]["process_model"] = {"kind": "bounds", "lower": 0.0, "upper": 0.05}
    run(document, kinds, tmp_path / "run")
    with np.load(tmp_path / "run" / "result.npz") as result:
        assert result["x"].min() == 0.0
        assert result["x"].max() == 0.05


def test_relative_paths_start_at_the_study(tmp_path, document, kinds):
    truth = np.linspace(0, 1, 64)
    np.savez(tmp_path / "mine.npz", truth=truth)
    study = Study.from_document(document, kinds=kinds, folder=tmp_path, overrides=["problem.truth_file=mine.npz"])
    outcome = wait(run_study(study, out=tmp_path / "run"))
    assert np.array_equal(Deconvolution.instances[-1].truth, truth)
    assert outcome.history.facts()["study_folder"] == str(tmp_path)


def test_a_thousand_iterations_grow_no_file_descriptors(tmp_path, document, kinds, monkeypatch):
    problem = kinds["deconvolution"]
    counts, sizes = [], []
    metrics = problem.metrics

    def counting(self):
        counts.append(len(os.listdir("/proc/self/fd")))
        sizes.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
        return metrics(self)

    monkeypatch.setattr(problem, "metrics", counting)
    document["blocks"] = [{"iterations": 1000, "selection": "every", "batch_size": 1}]
    document["problem"]["length"] = 8
    outcome = run(document, kinds, tmp_path / "run")
    assert outcome.summary["iterations"] == 1000
    assert max(counts[100:]) <= max(counts[:100]) + 1
    assert sizes[-1] <= 1.05 * sizes[200]


def test_a_long_step_is_made_beside_the_event_loop_with_the_same_bits(tmp_path, document, kinds, monkeypatch):
    import threading

    from thalweg.optimizers import LocalOptimizer
    from thalweg.runs import loop

    where = []
    apply = LocalOptimizer.apply

    async def watched(self, feedback):
        where.append(threading.current_thread() is threading.main_thread())
        return await apply(self, feedback)

    monkeypatch.setattr(LocalOptimizer, "apply", watched)
    short = run(document, kinds, tmp_path / "short").summary["digest"]
    assert all(where)
    where.clear()
    monkeypatch.setattr(loop, "SHORT_STEP", 63)
    assert run(document, kinds, tmp_path / "long").summary["digest"] == short
    assert where == [False] * 7


def test_a_display_that_breaks_does_not_end_the_run(tmp_path, document, kinds):
    class Broken(QuietDisplay):
        def items(self, done, total):
            raise BrokenPipeError("the terminal is gone")

    outcome = run(document, kinds, tmp_path / "run", display=Broken())
    assert outcome.status == "finished"
    assert any("the terminal is gone" in text for text in outcome.summary["warnings"])


def test_the_display_is_told_of_everything_in_order(tmp_path, document, kinds):
    told = []

    class Listening(QuietDisplay):
        def begin(self, title, folder, plan, blocks):
            told.append(("begin", title, plan[0]))

        def stage(self, done, total, text):
            told.append(("stage", done, total))

        def begin_block(self, index, block, batch_items, *, done=0):
            told.append(("block", index, batch_items))

        def items(self, done, total):
            told.append(("items", done, total))

        def iteration(self, record):
            told.append(("iteration", record.iteration))

        def end(self, ending):
            told.append(("end", ending.status, ending.picture.name))

    run(document, kinds, tmp_path / "run", "blocks.0.iterations=1", display=Listening())
    assert told[0] == ("begin", "A blurred signal", ("signal", "64 samples"))
    assert told[1:7] == [("stage", k, 6) for k in range(1, 7)]
    assert told[7:11] == [("block", 0, 2.0), ("items", 1, 2), ("items", 2, 2), ("iteration", 1)]
    assert told[11:19] == [("block", 1, 6.0), *[("items", k, 6) for k in range(1, 7)], ("iteration", 2)]
    assert told[-1] == ("end", "finished", "signal.png")


def test_a_run_whose_result_cannot_be_written_has_failed(tmp_path, document, kinds, monkeypatch):
    monkeypatch.setattr(kinds["deconvolution"], "results", lambda self: {"bad": np.array([None])})
    outcome, error = failing(document, kinds, tmp_path / "run", RunError)
    assert "Python objects" in str(error)
    assert outcome.status == summary_of(tmp_path / "run")["status"] == "failed"
    assert CheckpointStore(tmp_path / "run" / "checkpoints").load()[1]["iteration"] == 7


def test_a_full_disk_fails_the_run_and_keeps_what_was_written(tmp_path, document, kinds, monkeypatch):
    from thalweg.runs.history import HistoryWriter

    commit = HistoryWriter._commit

    def breaking(self):
        with self._changed:
            broken = any("iterations" in statement and row[0] >= 3 for statement, row in self._rows)
        if broken:
            self._error = sqlite3.OperationalError("database or disk is full")
        commit(self)

    monkeypatch.setattr(HistoryWriter, "_commit", breaking)
    document["problem"]["pause"] = 0.01
    outcome, error = failing(document, kinds, tmp_path / "run", RunError)
    assert "cannot be written: database or disk is full" in str(error)
    assert outcome.status == "failed"
    assert summary_of(tmp_path / "run")["status"] == "failed"
    assert outcome.history.iterations()["iteration"].tolist()[:2] == [1, 2]
    assert (tmp_path / "run" / "result.npz").exists()


def test_a_step_that_fails_counts_neither_iteration_nor_epoch(tmp_path, document, kinds, monkeypatch):
    from thalweg.optimizers import LocalOptimizer, OptimizerSnapshot
    from thalweg.runs.tuning import build_optimizer

    apply, calls = LocalOptimizer.apply, []

    async def failing_apply(self, feedback):
        calls.append(1)
        if len(calls) == 3:
            raise KeyError("the step")
        return await apply(self, feedback)

    monkeypatch.setattr(LocalOptimizer, "apply", failing_apply)
    document["blocks"] = [{"iterations": 5}]
    failing(document, kinds, tmp_path / "run", KeyError)
    arrays, meta, _ = CheckpointStore(tmp_path / "run" / "checkpoints").load()
    assert meta["iteration"] == 2
    optimizer = build_optimizer(document["optimizer"], Study.from_document(document, kinds=kinds).build_problem())
    slots = {name.partition("/")[2]: a for name, a in arrays.items() if name.startswith("optimizer/")}
    optimizer.restore(OptimizerSnapshot(slots, meta["optimizer"]))
    assert optimizer.optimization_state.curr_epoch == optimizer.optimization_state.curr_iter == 2


def test_a_checkpoint_never_knows_of_an_iteration_that_the_history_has_lost(tmp_path, document, kinds, monkeypatch):
    from thalweg.runs.history import HistoryWriter

    commit, save, seen = HistoryWriter._commit, CheckpointStore.save, []

    def slow(self):
        time.sleep(0.03)
        commit(self)

    def watched(self, arrays, meta):
        seen.append((meta["iteration"], len(History(self.folder.parent).iterations()["loss"])))
        return save(self, arrays, meta)

    monkeypatch.setattr(HistoryWriter, "_commit", slow)
    monkeypatch.setattr(CheckpointStore, "save", watched)
    run(document, kinds, tmp_path / "run", "output.checkpoint_every=2", "output.figures=false")
    assert [iteration for iteration, _ in seen] == [2, 4, 6, 7]
    assert all(known >= iteration for iteration, known in seen)


def test_checkpoints_come_every_so_many_iterations_and_the_last_three_are_kept(tmp_path, document, kinds):
    run(document, kinds, tmp_path / "run", "output.checkpoint_every=1", "output.figures=false")
    store = CheckpointStore(tmp_path / "run" / "checkpoints")
    assert store.generations() == [5, 6, 7]
    assert [store.load(k)[1]["iteration"] for k in (5, 6, 7)] == [5, 6, 7]


def test_the_summary_is_complete_before_the_pictures_and_stays_so(tmp_path, document, kinds, monkeypatch):
    seen = []
    session = Run(Study.from_document(document, kinds=kinds), out=tmp_path / "run")

    def draw(path):
        seen.append(summary_of(tmp_path / "run"))
        session.abandon()  # the second signal
        seen.append(summary_of(tmp_path / "run"))

    monkeypatch.setattr(kinds["deconvolution"], "figures", lambda self, history: {"one": draw})
    last = wait(session.execute()).summary
    for summary in seen:
        assert summary["status"] == "finished"
        assert summary.keys() == last.keys()
        assert summary["digest"] == last["digest"]
    assert "while the pictures were drawn" in seen[1]["warnings"][-1]
    assert not any("while the pictures" in text for text in summary_of(tmp_path / "run")["warnings"])


def test_a_run_that_is_abandoned_keeps_what_is_known(tmp_path, document, kinds):
    seen = []

    class Second(QuietDisplay):
        def iteration(self, record):
            if record.iteration == 3:
                session.abandon()
                seen.append(summary_of(tmp_path / "run"))

    session = Run(Study.from_document(document, kinds=kinds), out=tmp_path / "run", display=Second())
    wait(session.execute())
    assert seen[0]["status"] == "interrupted"
    assert seen[0]["iterations"] == 3
    assert seen[0]["seconds"] > 0


def test_the_writer_of_a_run_is_known_to_live_until_it_ends(tmp_path, document, kinds):
    alive = []

    class Watching(QuietDisplay):
        def iteration(self, record):
            alive.append(History(tmp_path / "run").writer_alive())

    outcome = run(document, kinds, tmp_path / "run", "output.figures=false", display=Watching())
    assert alive == [True] * 7
    assert outcome.history.writer_alive() is False


def test_feedback_of_another_kind_is_named(tmp_path, document, kinds, monkeypatch):
    async def nothing(self, batch, runtime):
        return None

    for k, (feedback, words) in enumerate(
        [
            (nothing, "Deconvolution.feedback returned None instead of a thalweg.runs.Feedback"),
            (lambda self, batch, runtime: (1.0, {}), "returned an object of type tuple instead of a coroutine"),
        ]
    ):
        monkeypatch.setattr(kinds["deconvolution"], "feedback", feedback)
        _, error = failing(document, kinds, tmp_path / str(k), RunError)
        assert words in str(error)


def test_the_user_is_told_whether_a_run_stops_or_closes(tmp_path, document, kinds, monkeypatch):
    notes = []

    class Noting(QuietDisplay):
        def iteration(self, record):
            if record.iteration == 1:
                session.announce_stop()

        def note(self, text):
            notes.append(text)

    monkeypatch.setattr(
        kinds["deconvolution"], "figures", lambda self, history: {"one": lambda path: session.announce_stop()}
    )
    session = Run(Study.from_document(document, kinds=kinds), out=tmp_path / "run", display=Noting())
    wait(session.execute())
    assert [text.split()[0] for text in notes] == ["Stopping", "Already"]


def test_a_rate_for_each_element_is_a_study_like_any_other(tmp_path, document, kinds):
    size = Study.from_document(document, kinds=kinds).build_problem().variables[0].data.size
    document["optimizer"]["learning_rate"] = {"array": [0.05] * size}
    one = wait(Run(Study.from_document(document, kinds=kinds), out=tmp_path / "array").execute())
    document["optimizer"]["learning_rate"] = 0.05
    other = wait(Run(Study.from_document(document, kinds=kinds), out=tmp_path / "number").execute())
    assert one.summary["digest"] == other.summary["digest"]
    assert "learning_rate" not in one.history.iterations()


def test_what_the_budget_ends_keeps_no_model_of_a_block_that_is_not_done(tmp_path, document, kinds, monkeypatch):
    document["budget"] = {"seconds": 1e6}
    document["output"] = {"figures": False}
    over = []
    monkeypatch.setattr(Seconds, "over", lambda self: over[0] if over else None)
    outcome = wait(
        Run(
            Study.from_document(document, kinds=kinds),
            out=tmp_path / "run",
            display=Doing(4, lambda: over.append("the budget")),
        ).execute()
    )
    assert (outcome.summary["stopped"], outcome.summary["iterations"]) == ("the budget", 4)
    assert [path.name for path in (tmp_path / "run" / "models").iterdir()] == ["block-0.npz"]
    over.clear()
    go_on(tmp_path / "run", kinds)
    assert {path.name for path in (tmp_path / "run" / "models").iterdir()} == {"block-0.npz", "block-1.npz"}
