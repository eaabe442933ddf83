"""Going on from an earlier checkpoint than the newest, where the last steps have spoiled the model."""

import json
import shutil
import sqlite3
import time
from contextlib import closing

import numpy as np
import pytest
from typer.testing import CliRunner

from tests.runs.going import Doing, fingerprint, go_on, run, stop_after, stopped
from thalweg.checkpoints import CheckpointStore
from thalweg.cli import app
from thalweg.errors import RunError
from thalweg.graph import wait
from thalweg.runs import History, QuietDisplay, Run, Study
from thalweg.runs.choosing import iterations_of
from thalweg.runs.compare import changed_on_the_way
from thalweg.runs.history import HistoryWriter
from thalweg.runs.record import RunRecord


@pytest.fixture
def every(document):
    document["output"] = {"checkpoint_every": 1, "keep": 10, "figures": False}
    return document


def earlier(out, kinds, iteration, *overrides, display=None):
    session = Run.resume(out, overrides=overrides, kinds=kinds, iteration=iteration)
    if display is not None:
        session.show(display)
    return wait(session.execute())


@pytest.mark.parametrize("iteration", [0, 1, 4, 5])
@pytest.mark.parametrize("ended", [True, False])
def test_the_run_goes_on_from_there_as_if_nothing_had_come_after(tmp_path, every, kinds, iteration, ended):
    run(every, kinds, tmp_path / "whole")
    if ended:
        run(every, kinds, tmp_path / "run")
    else:
        stop_after(every, kinds, tmp_path / "run", 6)
    outcome = earlier(tmp_path / "run", kinds, iteration)
    assert outcome.summary["iterations"] == 7
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")
    events = [event for event in outcome.history.events() if event["kind"] == "resumed"]
    lost = (7 if ended else 6) - iteration
    assert f"{lost} iteration" in events[-1]["text"]


def test_with_another_setting_from_there_it_is_the_run_that_was_changed_then(tmp_path, every, kinds):
    stop_after(every, kinds, tmp_path / "one", 3)
    go_on(tmp_path / "one", kinds, "optimizer.learning_rate=0.01")
    run(every, kinds, tmp_path / "run")
    earlier(tmp_path / "run", kinds, 3, "optimizer.learning_rate=0.01")
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "one")


def test_newer_checkpoints_go_before_anything_is_computed(tmp_path, every, kinds, monkeypatch):
    """Else a process that dies in its first iteration would go on from what was given up."""
    run(every, kinds, tmp_path / "run")
    problem, seen = kinds["deconvolution"], []
    feedback = problem.feedback

    async def dying(self, batch, runtime):
        seen.append(sorted(iterations_of(CheckpointStore(tmp_path / "run" / "checkpoints")).values()))
        raise KeyError("it dies")

    monkeypatch.setattr(problem, "feedback", dying)
    with pytest.raises(KeyError):
        earlier(tmp_path / "run", kinds, 2)
    assert seen == [[1, 2]]
    monkeypatch.setattr(problem, "feedback", feedback)
    run(every, kinds, tmp_path / "whole")
    go_on(tmp_path / "run", kinds)
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")


@pytest.mark.parametrize("dies_in", ["discard_after", "forget_after"])
def test_killed_while_it_goes_back_a_run_is_at_its_end_no_more(tmp_path, every, kinds, monkeypatch, dies_in):
    """Else it would be said to have finished, with the model of where it goes back to."""
    run(every, kinds, tmp_path / "run")
    with monkeypatch.context() as patched:

        def died(*_):
            raise KeyError("it dies")

        patched.setattr({"discard_after": CheckpointStore, "forget_after": HistoryWriter}[dies_in], dies_in, died)
        with pytest.raises(KeyError):
            earlier(tmp_path / "run", kinds, 3, "optimizer.learning_rate=0.5")
    assert RunRecord.read(tmp_path / "run").status == "killed"
    assert changed_on_the_way(RunRecord.read(tmp_path / "run")) == []
    wait(Run.resume(tmp_path / "run", kinds=kinds, iteration=3).execute())
    run(every, kinds, tmp_path / "whole")
    assert fingerprint(tmp_path / "run") == fingerprint(tmp_path / "whole")
    assert changed_on_the_way(RunRecord.read(tmp_path / "run")) == []


def test_a_folder_with_a_blank_in_its_name_stands_in_quotes(tmp_path, every, kinds):
    out = tmp_path / "a run"
    run(every, kinds, out)
    with pytest.raises(RunError, match=rf"thalweg resume '{out}' --iteration 4 "):
        Run.resume(out, kinds=kinds, overrides=["blocks.0.iterations=6"])


def test_where_nothing_was_made_a_refusal_says_how_to_begin_again(tmp_path, every, kinds):
    class AtOnce(QuietDisplay):
        def begin_block(self, *_, **__):
            self.task.cancel()

    display = AtOnce()
    stopped(Run(Study.from_document(every, kinds=kinds), out=tmp_path / "run", display=display), display)
    with pytest.raises(RunError, match=r"has seed 3, and the study now 4.* --iteration 0 --set"):
        Run.resume(tmp_path / "run", kinds=kinds, overrides=["seed=4"])
    assert earlier(tmp_path / "run", kinds, 0, "seed=4").status == "finished"


def test_killed_before_it_has_a_checkpoint_again_it_begins_again(tmp_path, document, kinds):
    """It had checkpoints, which were given up: none of them was lost."""
    out, killed = tmp_path / "run", tmp_path / "killed"
    run(document, kinds, out)

    def kill():
        while not len(History(out).iterations()["loss"]):
            time.sleep(0.01)
        shutil.copytree(out, killed)

    earlier(out, kinds, 0, display=Doing(3, kill))
    assert not list((killed / "checkpoints").iterdir())
    go_on(killed, kinds)
    assert fingerprint(killed) == fingerprint(out)
    shutil.rmtree(killed / "checkpoints")
    with pytest.raises(RunError, match=r"has made 7 iterations, and there is no checkpoint .* --iteration 0"):
        go_on(killed, kinds)


@pytest.mark.parametrize(
    ("output", "iteration"),
    [({"keep": 20}, 2), ({"keep": 20}, 0), ({"keep": 1, "keep_every": 2}, 4), ({"keep": 1, "keep_best": True}, None)],
)
def test_items_are_those_of_the_iterations_that_the_run_consists_of(tmp_path, document, kinds, output, iteration):
    """As its seconds are: what was given up counts in neither."""
    out = tmp_path / "run"
    run(document | {"output": {"checkpoint_every": 1, "figures": False, **output}}, kinds, out)

    if iteration is None:  # the best of the first block
        iteration = min(iterations_of(CheckpointStore(out / "checkpoints")).values())
        assert iteration <= 4

    def counted():
        return sum(History(out).facts()["items_by_worker"].values())

    items = History(out).iterations()["items"]
    assert counted() == items.sum()
    seen = []
    earlier(out, kinds, iteration, display=Doing(iteration + 1, lambda: seen.append(counted())))
    assert seen[0] <= items[: iteration + 1].sum(), "also of a process that is killed here"
    assert counted() == items.sum()


def test_a_history_that_has_no_counts_of_checkpoints_goes_on_with_all(tmp_path, every, kinds):
    out = tmp_path / "run"
    run(every, kinds, out)
    before = History(out).iterations()["items"].sum()
    with closing(sqlite3.connect(out / "run.sqlite")) as database, database:
        database.execute("DELETE FROM facts WHERE name LIKE 'items_by_worker_at/%'")
    earlier(out, kinds, 4)
    facts = History(out).facts()
    assert sum(facts["items_by_worker"].values()) == before + History(out).iterations()["items"][4:].sum()


def test_what_there_is_no_checkpoint_of_is_refused_and_nothing_changes(tmp_path, every, kinds):
    run(every, kinds, tmp_path / "run")
    before = fingerprint(tmp_path / "run")
    with pytest.raises(RunError, match=r"no checkpoint of iteration 9; it has those of iterations 1, 2, 3, 4, 5, 6, 7"):
        Run.resume(tmp_path / "run", kinds=kinds, iteration=9)
    assert fingerprint(tmp_path / "run") == before


def test_an_inversion_that_left_the_stable_range_is_rescued_by_what_the_error_says(tmp_path):
    out = tmp_path / "run"
    few = ["blocks.0.iterations=4", "blocks.1.iterations=1", "problem.sources.count=4", "output.checkpoint_every=1"]
    few += ["output.keep=5", "optimizer.process_model={kind='scale', factor=1.0}"]  # no bounds
    changes = [part for change in few for part in ("--set", change)]
    command = CliRunner().invoke
    done = command(
        app, ["run", "inclusion", *changes, "--set", "optimizer.learning_rate=2.0", "--out", str(out), "--quiet"]
    )
    assert done.exit_code == 0, done.output
    again = command(app, ["resume", str(out), "--iteration", "2", "--set", "optimizer.learning_rate=4000.0"])
    said = " ".join(again.output.split())
    assert again.exit_code == 1, said
    newest = History(out).iterations()["iteration"][-1]
    assert f"or from before the last steps: thalweg resume {out} --iteration {newest - 1}" in said
    stuck = command(app, ["resume", str(out), "--set", "optimizer.learning_rate=2.0"])
    assert stuck.exit_code == 1, "the model of its newest checkpoint is the broken one"
    rescued = command(app, ["resume", str(out), "--iteration", "2", "--set", "optimizer.learning_rate=2.0", "--quiet"])
    assert rescued.exit_code == 0, rescued.output
    assert json.loads((out / "summary.json").read_text())["status"] == "finished"
    assert np.isfinite(History(out).iterations()["loss"]).all()
