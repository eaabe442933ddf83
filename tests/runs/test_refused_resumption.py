"""What cannot go on stays as it was, to the last byte; what was begun and stopped again has lost nothing."""

import asyncio
import json
import shutil
import sqlite3
from collections import namedtuple

import numpy as np
import pytest

from tests.runs.going import Doing, Stopping, every_byte, fingerprint, go_on, run, stop_after, stopped
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import RunError, ThalwegError
from thalweg.graph import wait
from thalweg.runs import History, QuietDisplay, Run, Study, model_digest
from thalweg.runs.folder import RunFolder

Usage = namedtuple("Usage", "total used free")

REFUSED = {
    "another rule": (["optimizer.kind=adamax"], "the rule .adam."),
    "a wrapper around the rule": (['optimizer.wrap=["ema"]'], "wrap was"),
    "steps of more gradients": (["optimizer.accumulate=2"], "accumulate was 1"),
    "other variables": (["problem.length=32"], "does not fit the study's variables"),
    "another batch in the present block": (["blocks.1.batch_size=3", "blocks.1.selection=every"], "saved selection"),
    "fewer items": (["problem.measurements=1"], "batch_size"),
    "a block that is past": (["blocks.0.cutoff=0.5"], r"blocks.0.cutoff cannot change any more"),
    "the beginning of the present block": (["blocks.1.reset_optimizer=true"], "cannot change any more"),
    "a learning rate that was set since": (["optimizer.beta1=0.5"], "no effect: block 2 has set beta1 since"),
    "another seed": (["seed=4"], "has seed 3, and the study now 4"),
    "an array that is not there": (['optimizer.process_grad={kind="mask", array="no"}'], "no"),
}


@pytest.fixture
def interrupted(tmp_path, document, kinds):
    document["blocks"][1]["optimizer"] = {"beta1": 0.8}
    document["output"] = {"checkpoint_shots": True, "checkpoint_every": 1}
    run(document, kinds, tmp_path / "whole")
    stop_after(document, kinds, tmp_path / "run", 5)
    return tmp_path / "run"


@pytest.mark.parametrize("why", REFUSED)
def test_a_refused_resumption_leaves_every_byte_as_it_was(tmp_path, interrupted, kinds, why):
    changes, match = REFUSED[why]
    before = every_byte(interrupted)
    with pytest.raises(ThalwegError, match=match):
        go_on(interrupted, kinds, *changes)
    assert every_byte(interrupted) == before
    assert go_on(interrupted, kinds).status == "finished"
    assert fingerprint(interrupted) == fingerprint(tmp_path / "whole")


def test_a_seed_that_was_edited_and_named_is_refused_all_the_same(interrupted, kinds):
    study = interrupted / "study.toml"
    study.write_text(study.read_text().replace("seed = 3", "seed = 4"))
    before = every_byte(interrupted)
    with pytest.raises(RunError, match="has seed 3, and the study now 4"):
        Run.resume(interrupted, kinds=kinds, overrides=["seed=4"])
    assert every_byte(interrupted) == before


def test_what_only_says_the_seed_and_a_run_of_no_iteration_may_go_on(tmp_path, document, kinds):
    document["seed"] = 0
    run(document, kinds, tmp_path / "whole")
    del document["seed"]
    stop_after(document, kinds, tmp_path / "run", 3)
    go_on(tmp_path / "run", kinds, "seed=0")
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")
    live, killed = tmp_path / "live", tmp_path / "killed"
    run(document, kinds, live, display=Doing(2, lambda: shutil.copytree(live, killed)))
    assert not CheckpointStore(killed / "checkpoints").generations()
    outcome = go_on(killed, kinds, "seed=4")
    document["seed"] = 4
    assert outcome.summary["digest"] == run(document, kinds, tmp_path / "other").summary["digest"]


def test_without_room_nothing_is_written(interrupted, kinds, monkeypatch):
    before = every_byte(interrupted)
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 10))
        with pytest.raises(RunError, match="of disk"):
            go_on(interrupted, kinds, "blocks.1.iterations=4")
    assert every_byte(interrupted) == before


def test_a_study_that_was_not_named_leaves_every_byte_as_it_was(interrupted, document, kinds):
    before = every_byte(interrupted)
    other = Study.from_document(document, kinds=kinds, overrides=["seed=4"])
    with pytest.raises(RunError, match="seed: 3 → 4"):
        Run.resume(interrupted, study=other, kinds=kinds)
    assert every_byte(interrupted) == before


def test_two_who_resume_at_once(tmp_path, interrupted, kinds):
    """Both have read the checkpoint; one goes on to the end before the other begins."""
    first, second = (Run.resume(interrupted, kinds=kinds) for _ in range(2))
    assert wait(first.execute()).status == "finished"
    before = every_byte(interrupted)
    with pytest.raises(RunError, match=r"Another process has gone on .* Resume it again"):
        wait(second.execute())
    assert every_byte(interrupted) == before
    assert fingerprint(interrupted) == fingerprint(tmp_path / "whole")
    assert RunFolder(interrupted).writer_alive() is False  # and whoever was refused holds nothing
    with pytest.raises(RunError, match="was executed already"):
        wait(first.execute())


@pytest.mark.parametrize("how", ["stopped", "failed"])
def test_ended_while_it_prepares_a_resumed_run_has_the_model_that_it_had(interrupted, kinds, monkeypatch, how):
    """The problem's start is not taken for the result, nor the number of iterations forgotten."""
    digest = json.loads((interrupted / "summary.json").read_text())["digest"]

    async def prepare(self, runtime, progress):
        if how == "failed":
            raise ZeroDivisionError("no data today")
        display.task.cancel()
        await asyncio.sleep(60)

    display = QuietDisplay()
    with monkeypatch.context() as patch:
        patch.setattr(kinds["deconvolution"], "prepare", prepare)
        session = Run.resume(interrupted, kinds=kinds, display=display)
        if how == "stopped":
            stopped(session, display)
        else:
            with pytest.raises(ZeroDivisionError):
                wait(session.execute())
    summary = json.loads((interrupted / "summary.json").read_text())
    assert summary["status"] == {"stopped": "interrupted", "failed": "failed"}[how]
    assert (summary["iterations"], summary["digest"]) == (5, digest)
    with np.load(interrupted / "result.npz") as result:
        assert model_digest({"x": result["x"]}) == digest
    assert len(History(interrupted).iterations()["loss"]) == 5
    assert go_on(interrupted, kinds).status == "finished"
    assert fingerprint(interrupted) == fingerprint(interrupted.parent / "whole")


def test_a_finished_run_without_its_checkpoints_is_not_begun_again(tmp_path, document, kinds):
    """Who removes the large files of a run that is done must not lose the rest by a slip."""
    out = tmp_path / "run"
    run(document, kinds, out)
    shutil.rmtree(out / "checkpoints")
    (out / "checkpoints").mkdir()
    before = every_byte(out)
    for overrides in ([], ["blocks.1.iterations=9"]):
        with pytest.raises(RunError, match="has made 7 iterations, and there is no checkpoint in it"):
            Run.resume(out, overrides=overrides, kinds=kinds)
    assert every_byte(out) == before


def test_a_killed_run_without_its_checkpoints_is_not_begun_again(tmp_path, document, kinds):
    live, killed = tmp_path / "live", tmp_path / "killed"
    document["output"] = {"checkpoint_every": 2}
    document["blocks"] = [{"iterations": 10}]
    run(document, kinds, live, display=Doing(9, lambda: shutil.copytree(live, killed)))
    rows = len(History(killed).iterations()["loss"])
    assert 6 <= rows <= 9  # the checkpoint of the eighth waited for that of the sixth, and rows come before it
    shutil.rmtree(killed / "checkpoints")
    for overrides in ([], ["output.checkpoint_every=100"]):
        with pytest.raises(RunError, match=f"has made {rows} iterations, and there is no checkpoint"):
            Run.resume(killed, overrides=overrides, kinds=kinds)
    database = sqlite3.connect(killed / "run.sqlite", isolation_level=None)
    database.execute("DELETE FROM iterations WHERE iteration > 4")  # so many may be there before the first checkpoint
    database.execute("DELETE FROM facts WHERE name = 'checkpointed'")
    database.close()
    assert go_on(killed, kinds).status == "finished"
    assert fingerprint(killed) == fingerprint(live)


@pytest.mark.parametrize("how", ["stopped", "killed"])
def test_a_run_whose_checkpoints_are_of_the_ends_of_blocks_is_not_begun_again(tmp_path, document, kinds, how):
    """Fewer iterations than `checkpoint_every` twice say nothing: there was a checkpoint all the same."""
    live, out = tmp_path / "live", tmp_path / "run"
    document["blocks"] = [{"iterations": 5}] * 4
    if how == "stopped":
        stop_after(document, kinds, out, 12)
    else:
        # The checkpoint of the fifteenth has waited for that of the tenth, and the history is written before that.
        run(document, kinds, live, display=Doing(18, lambda: shutil.copytree(live, out)))
    shutil.rmtree(out / "checkpoints")
    (out / "checkpoints").mkdir()
    before = every_byte(out)
    with pytest.raises(RunError, match=r"has made 1\d iterations, and there is no checkpoint in it"):
        Run.resume(out, kinds=kinds)
    shared = "run.sqlite-shm"  # who reads beside a log says so in it
    assert {**every_byte(out), shared: 0} == {**before, shared: 0}


def test_a_run_that_was_stopped_before_its_first_iteration_may_lose_its_checkpoint(tmp_path, document, kinds):
    """There is nothing that beginning again would destroy."""
    display = QuietDisplay()
    display.begin = lambda *_: display.task.cancel()
    stopped(Run(Study.from_document(document, kinds=kinds), out=tmp_path / "run", display=display), display)
    shutil.rmtree(tmp_path / "run" / "checkpoints" / "000001")
    go_on(tmp_path / "run", kinds)
    run(document, kinds, tmp_path / "whole")
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")


def test_a_killed_run_that_had_no_checkpoint_yet_may_have_more_of_them_from_now_on(tmp_path, document, kinds):
    live, killed = tmp_path / "live", tmp_path / "killed"
    document["output"] = {"checkpoint_every": 100}
    document["blocks"] = [{"iterations": 8}]
    whole = run(document, kinds, live, display=Doing(6, lambda: shutil.copytree(live, killed)))
    outcome = go_on(killed, kinds, "output.checkpoint_every=1")
    assert outcome.status == "finished"
    assert outcome.summary["digest"] == whole.summary["digest"]


@pytest.mark.parametrize("moment", ["before study.toml", "after study.toml"])
def test_killed_while_it_notes_a_change_a_run_goes_on(tmp_path, interrupted, kinds, monkeypatch, moment):
    """The study in the folder is the old one or the new one, and neither is called edited."""

    class KilledError(BaseException):
        pass

    write = RunFolder.write_study

    def killed(self, text):
        if moment == "after study.toml":
            write(self, text)
        raise KilledError

    live, left = interrupted, tmp_path / "left"
    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_study", killed)
        session = Run.resume(live, kinds=kinds, overrides=["blocks.1.optimizer.beta1=0.7"])
        with pytest.raises(KilledError):
            session._open(session.study.build_problem())
    shutil.copytree(live, left)
    new = "beta1 = 0.7" in (left / "study.toml").read_text()
    assert new == (moment == "after study.toml")
    go_on(left, kinds)
    _, meta, _ = CheckpointStore(left / "checkpoints").load()
    assert meta["optimizer"]["hyperparameters"]["beta1"] == (0.7 if new else 0.8)
    if not new:
        assert fingerprint(left)[0] == fingerprint(tmp_path / "whole")[0]


def test_a_change_is_not_lost_with_a_process_that_made_no_checkpoint(tmp_path, document, kinds):
    """It is killed after it went on with another rate, and the checkpoint is still the one with the rate of before."""
    live, killed = tmp_path / "live", tmp_path / "killed"
    document["blocks"] = [{"iterations": 12}]
    stop_after(document, kinds, live, 3)
    go_on(live, kinds, "optimizer.learning_rate=0.01", display=Doing(5, lambda: shutil.copytree(live, killed)))
    assert [CheckpointStore(killed / "checkpoints").meta(n)["iteration"] for n in (1,)] == [3]
    go_on(killed, kinds)
    assert History(killed).iterations()["learning_rate"].tolist() == [0.05] * 3 + [0.01] * 9
    assert fingerprint(killed) == fingerprint(live)


def test_a_study_with_nan_in_it_goes_on(tmp_path, document, kinds):
    """NaN is not equal to itself, and has not changed all the same."""
    document["description"] = "x"
    (tmp_path / "study.toml").write_text("# mine\n" + Study.from_document(document, kinds=kinds).text)
    study = Study.load(tmp_path / "study.toml", kinds=kinds)
    display = Stopping(2)
    stopped(Run(study, out=tmp_path / "run", display=display), display)
    display = Stopping(4)
    stopped(Run.resume(tmp_path / "run", kinds=kinds, display=display), display)
    assert (tmp_path / "run" / "study.toml").read_text() == study.text
    assert History(tmp_path / "run").facts()["study"] == study.text  # with its author's comments
    from thalweg.runs.differences import different

    nan = float("nan")
    assert different({"a": [nan, {"b": nan}], "c": 1}, {"a": [float("nan"), {"b": float("nan")}], "c": 1}) == []
    assert different({"a": nan}, {"a": 1.0}) == ["a"]
