"""Checkpoints are written beside the run; which of them stay; the room that they need; one of them as a file."""

import asyncio
import json
import shutil
import threading
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

import thalweg as tw
from tests.runs.going import stop_after
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import CheckpointError, RunError
from thalweg.graph import wait
from thalweg.runs import Feedback, History, Problem, QuietDisplay, Run, Study
from thalweg.runs.exporting import export
from thalweg.runs.keeping import Keeper, Mark, Retention
from thalweg.runs.position import Position
from thalweg.runs.room import room_for
from thalweg.runs.tuning import build_optimizer

GOLDEN = Path(__file__).parents[1] / "data" / "run-0.1"


def run(document, kinds, out, *overrides, display=None):
    study = Study.from_document(document, kinds=kinds, overrides=["output.figures=false", *overrides])
    return wait(Run(study, out=out, display=display).execute())


def kept(out):
    store = CheckpointStore(out / "checkpoints")
    return [store.meta(number)["iteration"] for number in store.generations()]


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        ([], [4, 7]),
        (["checkpoint_every=1"], [5, 6, 7]),
        (["checkpoint_every=1", "keep=1"], [7]),
        (["checkpoint_every=1", "keep=20"], [1, 2, 3, 4, 5, 6, 7]),
        (["keep_every=3", "keep=1"], [3, 6, 7]),
        (["keep_every=2", "checkpoint_every=3"], [2, 4, 6, 7]),
        (["keep_every=1", "keep=1"], [1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_which_checkpoints_stay(tmp_path, document, kinds, overrides, expected):
    run(document, kinds, tmp_path / "run", *(f"output.{override}" for override in overrides))
    assert kept(tmp_path / "run") == expected


def test_the_best_of_each_block_stays(tmp_path, document, kinds):
    document["optimizer"] = {"kind": "gradient_descent", "learning_rate": 0.9}
    document["blocks"] = [{**document["blocks"][0], "iterations": 9}, {"iterations": 9}]
    out = tmp_path / "run"
    run(
        document, kinds, out, "output.checkpoint_every=1", "output.keep=1", "output.keep_best=true", "problem.noise=0.5"
    )
    columns = History(out).iterations()
    # The model of checkpoint k has the loss of iteration k + 1; that of 0 has no checkpoint.
    best = [k + int(np.argmin(columns["misfit"][k : 9 * (b + 1)])) for b, k in ((0, 1), (1, 9))]
    assert kept(out) == sorted({*best, 18})
    for number in CheckpointStore(out / "checkpoints").generations():
        _, meta, _ = CheckpointStore(out / "checkpoints").load(number)
        assert meta["misfit"] == columns["misfit"][meta["iteration"] - 1]
        assert meta["history"] == meta["iteration"]


def test_what_decides_that_a_checkpoint_stays():
    marks = {1: Mark(4, 0, 2.0), 2: Mark(5, 0, 1.0), 3: Mark(6, 1, 9.0), 4: Mark(7, 1, None), 5: Mark(5, 0, 1.0)}
    assert Retention().spared(marks) == set()
    assert Retention(keep_best=True).spared(marks) == {3, 5}  # of two that are as good, the newer
    assert Retention(keep_every=5).spared(marks) == {2, 5}
    assert [k for k in range(1, 13) if Retention(every=5, keep_every=4).due(k, k - 1)] == [4, 8, 12]
    assert Retention(every=5).due(7, 2)
    assert not Retention(every=5).due(6, 2)


def test_the_run_computes_on_while_a_checkpoint_is_written(tmp_path, document, kinds, monkeypatch):
    """The second iteration ends while the first one's checkpoint is held up; the third waits for it."""
    save, go, writing, seen = CheckpointStore.save, threading.Event(), threading.Event(), []

    def held(self, arrays, meta):
        writing.set()
        if meta["iteration"] == 1:
            assert go.wait(60)
        seen.append(("written", meta["iteration"]))
        return save(self, arrays, meta)

    class Watching(QuietDisplay):
        def iteration(self, record):
            seen.append(("made", record.iteration))
            if record.iteration == 2:
                assert writing.wait(60)
                go.set()

    monkeypatch.setattr(CheckpointStore, "save", held)
    run(document, kinds, tmp_path / "run", "output.checkpoint_every=1", display=Watching())
    assert seen[:3] == [("made", 1), ("made", 2), ("written", 1)]
    written = [k for what, k in seen if what == "written"]
    assert written == [1, 2, 3, 4, 5, 6, 7]
    for k in range(2, 8):  # never two copies in memory
        assert seen.index(("written", k - 1)) < (seen.index(("made", k + 1)) if k < 7 else len(seen))


def test_what_is_written_is_the_state_when_it_was_handed_over(tmp_path, document, kinds, monkeypatch):
    run(document, kinds, tmp_path / "whole", "output.checkpoint_every=1", "output.keep=9")
    save, later = CheckpointStore.save, {k: threading.Event() for k in range(1, 8)}

    def held(self, arrays, meta):
        if meta["iteration"] < 7:
            assert later[meta["iteration"] + 1].wait(60)  # the next step is made before this one is looked at
        return save(self, arrays, meta)

    class Watching(QuietDisplay):
        def iteration(self, record):
            later[record.iteration].set()

    monkeypatch.setattr(CheckpointStore, "save", held)
    # Blocks would wait at their end for the step that comes after it.
    run(document, kinds, tmp_path / "held", "output.checkpoint_every=1", "output.keep=9", display=Watching())
    for number in range(1, 8):
        a, b = (CheckpointStore(tmp_path / name / "checkpoints").load(number) for name in ("whole", "held"))
        assert a[1] == b[1]
        assert {name: array.tobytes() for name, array in a[0].items()} == {n: x.tobytes() for n, x in b[0].items()}


def test_a_write_that_fails_stops_the_run_and_the_last_one_is_tried_again(tmp_path, document, kinds, monkeypatch):
    save, calls = CheckpointStore.save, []

    def failing(self, arrays, meta):
        calls.append(meta["iteration"])
        if len(calls) == 2:
            raise CheckpointError("the disk is full")
        return save(self, arrays, meta)

    monkeypatch.setattr(CheckpointStore, "save", failing)
    with pytest.raises(CheckpointError, match="the disk is full"):
        run(document, kinds, tmp_path / "run", "output.checkpoint_every=2")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert kept(tmp_path / "run")[-1] == summary["iterations"]  # made when the run closed
    assert wait(Run.resume(tmp_path / "run", kinds=kinds).execute()).status == "finished"


def test_a_history_that_cannot_be_written_leaves_no_checkpoint_of_it(tmp_path, document, kinds, monkeypatch):
    from thalweg.runs.history import HistoryWriter

    def broken(self):
        raise RunError("the history cannot be written")

    monkeypatch.setattr(HistoryWriter, "flush", broken)
    with pytest.raises(RunError, match="the history cannot be written"):
        run(document, kinds, tmp_path / "run", "output.checkpoint_every=2")
    assert CheckpointStore(tmp_path / "run" / "checkpoints").generations() == []


def test_a_cancelled_run_waits_for_the_write_in_flight(tmp_path, document, kinds, monkeypatch):
    save, done = CheckpointStore.save, []

    def slow(self, arrays, meta):
        threading.Event().wait(0.2)
        path = save(self, arrays, meta)
        done.append(meta["iteration"])
        return path

    class Stopping(QuietDisplay):
        def iteration(self, record):
            if record.iteration == 3:
                self.task.cancel()

    monkeypatch.setattr(CheckpointStore, "save", slow)

    async def stopped():
        display = Stopping()
        study = Study.from_document(document, kinds=kinds, overrides=["output.checkpoint_every=2"])
        display.task = asyncio.ensure_future(Run(study, out=tmp_path / "run", display=display).execute())
        with pytest.raises(asyncio.CancelledError):
            await display.task
        return list(done)

    assert wait(stopped()) == [2, 3]
    assert kept(tmp_path / "run") == [2, 3]
    assert not [thread for thread in threading.enumerate() if thread.name == "thalweg-checkpoint"]


Usage = namedtuple("Usage", "total used free")


def test_a_run_without_room_is_refused_before_there_is_anything(tmp_path, document, kinds, monkeypatch):
    lines = {}

    class Reading(QuietDisplay):
        def begin(self, title, folder, plan, blocks):
            lines.update(plan)

    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 10_000))
    with pytest.raises(RunError, match=r"needs .* of disk \(4 checkpoints of 6\.\d KiB at once, .* has 9\.8 KiB free"):
        run(document, kinds, tmp_path / "new" / "run", "output.checkpoint_every=1")
    assert not (tmp_path / "new").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 150_000))
    run(document, kinds, tmp_path / "run", "output.checkpoint_every=1", display=Reading())
    assert lines["disk"].endswith("146.5 KiB are free")
    there = sum(file.stat().st_size for file in (tmp_path / "run" / "checkpoints").glob("*/*")) / 3
    assert there < float(lines["disk"].partition("checkpoints of ")[2].split()[0]) * 1024 < 3 * there
    assert "models, a history of " in lines["disk"]
    with pytest.raises(RunError, match=r"most of it is the history, .* fewer iterations need less"):
        run(document, kinds, tmp_path / "long", "blocks.0.iterations=1000000000")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 1 << 20))
    ended = run(document, kinds, tmp_path / "long", "blocks.0.iterations=1000000000", "budget.seconds=0.1")
    assert "the budget of 0.1 seconds" in ended.summary["stopped"]  # which is all that such a study asks for


@pytest.mark.parametrize("figures", ["true", "false"])
def test_the_room_covers_all_that_a_run_leaves(tmp_path, document, kinds, monkeypatch, figures):
    estimates = []
    monkeypatch.setattr("thalweg.runs.room.Room.check", lambda self: estimates.append(self))
    document["problem"]["length"] = 4096  # the models are most of it
    run(document, kinds, tmp_path / "run", "output.keep=1", f"output.figures={figures}")
    sizes = {
        name: sum(path.stat().st_size for path in (tmp_path / "run").glob(pattern))
        for name, pattern in {
            "checkpoints": "checkpoints/*/*",
            "models": "models/*",
            "figures": "figures/*",
            "history": "run.sqlite*",
        }.items()
    }
    (room,) = estimates
    assert (room.models, room.pictures > 0) == (3, figures == "true")
    assert sizes["models"] + (tmp_path / "run" / "models" / "block-0.npz").stat().st_size <= room.models * room.model
    assert sizes["figures"] <= room.pictures
    assert sizes["history"] <= room.history
    assert sum(sizes.values()) <= room.needed
    # What is there already needs no more room.
    study = Study.from_document(document, kinds=kinds)
    problem = study.build_problem()
    again = room_for(study, problem, build_optimizer(study.settings.optimizer, problem), tmp_path / "run")
    assert again.there == sum(sizes.values()) + (tmp_path / "run" / "result.npz").stat().st_size


@pytest.mark.parametrize("size", [1, 50, 3000])
def test_the_room_covers_a_history_whose_batches_are_large(tmp_path, size):
    """A full batch of many items is most of what a run leaves; one that is overestimated refuses runs for nothing."""

    class Counted(Problem):
        kind, items = "counted", size

        class Settings(BaseModel, extra="forbid"):
            pass

        BlockSettings = Settings

        def __init__(self):
            self.variables = (tw.Variable(np.zeros(1), name="x", needs_grad=True),)

        @classmethod
        def build(cls, settings, blocks, *, seed, folder):
            return cls()

        async def feedback(self, batch, runtime):
            return Feedback(1.0, {"x": np.ones(1)}, metrics={"of_the_problem": 1 / 3})

    document = {
        "title": "many items",
        "problem": {"kind": "counted"},
        "optimizer": {"kind": "sgd", "learning_rate": 0.1},
        "blocks": [{"iterations": 100}, {"iterations": 100}],
        "output": {"figures": False, "checkpoint_every": 100},
    }
    study = Study.from_document(document, kinds={"counted": Counted})
    problem = study.build_problem()
    room = room_for(study, problem, build_optimizer(study.settings.optimizer, problem), tmp_path)
    run(document, {"counted": Counted}, tmp_path / "run")
    there = (tmp_path / "run" / "run.sqlite").stat().st_size
    assert there <= room.history <= 1.5 * there + (1 << 16)


def test_the_number_of_checkpoints_is_that_at_most_on_the_disk(tmp_path, document, kinds, monkeypatch):
    most = []
    save = CheckpointStore.save

    def counting(self, arrays, meta):
        path = save(self, arrays, meta)
        most.append(len(self.generations()))
        return path

    monkeypatch.setattr(CheckpointStore, "save", counting)
    study = Study.from_document(document, kinds=kinds)
    for number, retention in enumerate(
        [Retention(), Retention(every=1), Retention(every=1, keep=1, keep_every=2), Retention(every=1, keep_best=True)]
    ):
        most.clear()
        settings = {"checkpoint_every": retention.every, "keep": retention.keep, "keep_best": retention.keep_best}
        if retention.keep_every:
            settings["keep_every"] = retention.keep_every
        document["output"] = settings
        run(document, kinds, tmp_path / str(number))
        assert max(most) <= retention.most(study.blocks) <= 7


def test_one_checkpoint_as_a_file(tmp_path, document, kinds, monkeypatch):
    run(document, kinds, tmp_path / "run", "output.checkpoint_every=1")
    monkeypatch.chdir(tmp_path)
    arrays, meta, _ = CheckpointStore(tmp_path / "run" / "checkpoints").load()
    assert export(Path("run")) == Path("run-7.npz")
    with np.load("run-7.npz", allow_pickle=False) as file:
        assert json.loads(str(file["meta"])) == meta
        assert file["x"].tobytes() == arrays["variable/x"].tobytes()
        assert file["optimizer/slots/mean/x"].tobytes() == arrays["optimizer/slots/mean/x"].tobytes()
    with pytest.raises(RunError, match="is there already"):
        export(Path("run"))
    with pytest.raises(RunError, match="no checkpoint of iteration 2; there are those of 5, 6, 7"):
        export(Path("run"), iteration=2)
    with pytest.raises(RunError, match="has no checkpoints"):
        export(tmp_path)
    CheckpointStore(tmp_path / "odd" / "checkpoints").save({"variable/../../x": np.zeros(1)}, Position().meta())
    with pytest.raises(RunError, match="no name for a file"):
        export(tmp_path / "odd")
    CheckpointStore(tmp_path / "alien" / "checkpoints").save({}, {"hello": 1})
    with pytest.raises(RunError, match="of no run"):
        export(tmp_path / "alien")


def test_the_command_that_exports(tmp_path, document, kinds):
    from thalweg.cli import app

    run(document, kinds, tmp_path / "run", "output.checkpoint_every=1")
    out = tmp_path / "model.npz"
    done = CliRunner().invoke(app, ["export", str(tmp_path / "run"), "--iteration", "6", "--out", str(out)])
    assert (done.exit_code, done.output.strip()) == (0, str(out))
    with np.load(out) as file:
        assert json.loads(str(file["meta"]))["iteration"] == 6
    (tmp_path / "run" / "checkpoints" / "000006" / "state.safetensors").write_bytes(b"")
    again = CliRunner().invoke(app, ["export", str(tmp_path / "run"), "--iteration", "6", "--out", str(tmp_path / "b")])
    assert again.exit_code == 2
    assert "has 0 bytes" in again.output
    assert not (tmp_path / "b").exists()


def test_a_run_of_version_0_1_goes_on(tmp_path, kinds):
    shutil.copytree(GOLDEN, tmp_path / "run")
    found = Run.resume(tmp_path / "run", kinds=kinds, overrides=["blocks.1.iterations=1"])
    assert found._resumption.position.iteration == 5
    outcome = wait(Run.resume(tmp_path / "run", kinds=kinds).execute())
    assert (outcome.status, outcome.summary["iterations"]) == ("finished", 7)
    assert outcome.history.iterations()["iteration"].tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert export(tmp_path / "run", tmp_path / "five.npz", iteration=5).is_file()
    with np.load(tmp_path / "five.npz") as exported, np.load(GOLDEN / "result.npz") as result:
        assert exported["x"].tobytes() == result["x"].tobytes()


def test_a_history_that_lost_what_the_checkpoint_knows_is_refused(tmp_path, document, kinds):
    import sqlite3

    run(document, kinds, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    database = sqlite3.connect(tmp_path / "run" / "run.sqlite", isolation_level=None)
    database.execute("DELETE FROM iterations WHERE iteration = 3")
    database.close()
    with pytest.raises(RunError, match="has 6 of the 7 iterations"):
        Run.resume(tmp_path / "run", kinds=kinds)


@pytest.mark.parametrize(
    "meta",
    [{}, {"optimizer": {}}, {"iteration": 1.0, "block": 0, "block_iteration": 1}, {"iteration": True, "block": 0}],
)
def test_a_checkpoint_of_something_else_is_refused(tmp_path, document, kinds, meta):
    run(document, kinds, tmp_path / "run")
    CheckpointStore(tmp_path / "run" / "checkpoints").save({}, meta or {"hello": 1})
    with pytest.raises(RunError, match="of no run"):
        Run.resume(tmp_path / "run", kinds=kinds)
    with pytest.raises(RunError, match="of no run"):
        export(tmp_path / "run", tmp_path / "x.npz")


def test_without_a_thread_to_be_had_nothing_is_waited_for(tmp_path, monkeypatch):
    keeper = Keeper(CheckpointStore(tmp_path), Retention(), lambda: None)

    def none(thread):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", none)
    with pytest.raises(RuntimeError, match="new thread"):
        keeper.begin({}, {})
    monkeypatch.undo()
    wait(keeper.wait())
    keeper.begin({}, {"iteration": 1})
    wait(keeper.wait())
    assert CheckpointStore(tmp_path).meta() == {"iteration": 1}


def test_an_interruption_makes_one_checkpoint_more_and_that_is_reckoned_with(tmp_path, document, kinds):
    document["blocks"] = [{"iterations": 8}]
    document["output"] = {"checkpoint_every": 4}
    study = Study.from_document(document, kinds=kinds)
    stop_after(document, kinds, tmp_path / "run", 2)
    wait(Run.resume(tmp_path / "run", kinds=kinds).execute())
    assert kept(tmp_path / "run") == [2, 6, 8]
    assert Retention.of(study.settings.output).most(study.blocks) == 3
