"""Between a step and what is written of it: whatever fails there, the step is made once, and counted once."""

import json
import shutil
from collections import namedtuple

import pytest

from tests.runs.going import fingerprint, go_on, run
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import ThalwegError
from thalweg.optimizers import Adam
from thalweg.runs import History, Run, Study, model_digest

Usage = namedtuple("Usage", "total used free")


@pytest.mark.parametrize("every", [1, 10])
@pytest.mark.parametrize("what", ["metrics", "observe", "names"])
def test_what_fails_after_a_step_does_not_have_it_made_twice(tmp_path, document, kinds, monkeypatch, what, every):
    document["output"] = {"checkpoint_every": every}
    run(document, kinds, tmp_path / "whole")
    out, calls = tmp_path / "run", []
    problem = kinds["deconvolution"]
    metrics, observe = problem.metrics, Adam.observe

    def fourth():
        calls.append(1)
        return len(calls) == 4

    def failing_metrics(self):
        if fourth():
            if what == "names":
                return {("a", 1): 1.0, "error": 0.5}
            raise OSError("the reference is gone")
        return metrics(self)

    def failing_observe(self, loss):
        if fourth():
            raise OSError("the reference is gone")
        observe(self, loss)

    with monkeypatch.context() as patch:
        if what == "observe":
            patch.setattr(Adam, "observe", failing_observe)
        else:
            patch.setattr(problem, "metrics", failing_metrics)
        match = "the reference is gone" if what != "names" else "is no name"
        with pytest.raises(Exception, match=match):
            run(document, kinds, out)
    summary = json.loads((out / "summary.json").read_text())
    assert (summary["status"], summary["iterations"]) == ("failed", 4)
    arrays, meta, _ = CheckpointStore(out / "checkpoints").load()
    assert meta["iteration"] == 4
    assert model_digest({"x": arrays["variable/x"]}) == summary["digest"]
    assert History(out).iterations()["iteration"].tolist() == [1, 2, 3, 4]
    assert go_on(out, kinds).status == "finished"
    assert fingerprint(out)[0] == fingerprint(tmp_path / "whole")[0]
    columns, whole = History(out).iterations(), History(tmp_path / "whole").iterations()
    assert columns["misfit"].tolist() == whole["misfit"].tolist()


@pytest.mark.parametrize("refused", ["by the optimizer", "for want of room"])
def test_a_problem_is_closed_whatever_is_refused_after_it_was_built(tmp_path, document, kinds, monkeypatch, refused):
    closed = []
    monkeypatch.setattr(kinds["deconvolution"], "close", lambda self: closed.append(self))
    if refused == "by the optimizer":
        monkeypatch.setattr(kinds["deconvolution"], "arrays", lambda self: {}["nothing"])
    else:
        monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 10))
    with pytest.raises(ThalwegError, match=r"nothing|of disk"):
        run(document, kinds, tmp_path / "run")
    assert closed == kinds["deconvolution"].instances
    assert len(closed) == 1
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("summary", [None, 3, ["a"]], ids=["none", "number", "list"])
def test_a_summary_that_is_no_table_costs_only_itself(tmp_path, document, kinds, monkeypatch, summary):
    monkeypatch.setattr(kinds["deconvolution"], "summary", lambda self: summary)
    outcome = run(document, kinds, tmp_path / "run")
    assert outcome.status == "finished"
    assert any("the problem's summary could not be made" in text for text in outcome.summary["warnings"])


def test_a_name_that_is_no_utf8_is_said_and_stops_nothing_else(tmp_path, document, kinds, monkeypatch):
    """Such as that of a file, in the error that a shot fails with."""

    async def feedback(self, batch, runtime):
        raise FileNotFoundError("caf\udce9.npz")

    monkeypatch.setattr(kinds["deconvolution"], "feedback", feedback)
    with pytest.raises(FileNotFoundError):
        run(document, kinds, tmp_path / "run")
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["error"]["text"]) == ("failed", "caf\udce9.npz")
    (failed,) = [event for event in History(tmp_path / "run").events() if event["kind"] == "failed"]
    assert failed["text"] == "FileNotFoundError: caf\\udce9.npz"
    assert not (tmp_path / "run" / "run.sqlite-wal").exists()


def test_a_history_that_cannot_be_closed_fails_the_run(tmp_path, document, kinds, monkeypatch):
    from thalweg.errors import RunError
    from thalweg.runs.history import HistoryWriter

    close = HistoryWriter.close

    def failing(self):
        close(self)
        raise RunError("the history cannot be written")

    monkeypatch.setattr(HistoryWriter, "close", failing)
    session = Run(Study.from_document(document, kinds=kinds), out=tmp_path / "run")
    from thalweg.graph import wait

    with pytest.raises(RunError, match="the history cannot be written"):
        wait(session.execute())
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["status"] == session.outcome.status == "failed"
    assert summary["error"]["text"] == "the history cannot be written"
