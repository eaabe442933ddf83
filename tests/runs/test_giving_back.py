"""The end of a run: nothing is closed in the event loop, and what failed is told, also if somebody stops it then."""

import asyncio
import threading

import pytest

from thalweg.graph import wait
from thalweg.graph.executor import run_blocking
from thalweg.runs import Run, Study
from thalweg.runtime import Local

LONG = 30.0  # s: only what never comes takes so long


class Closing:
    """Something that closes when the event loop says so, which it can if it is not blocked."""

    def __init__(self):
        self.begun, self.go, self.was_told = threading.Event(), threading.Event(), []

    def __call__(self):
        self.begun.set()
        self.was_told.append(self.go.wait(LONG))


async def answered(session, closing, on_begun=lambda task: None):
    """How a run ends whose closing waits for the event loop."""
    task = asyncio.ensure_future(session.execute())
    while not closing.begun.is_set() and not task.done():
        await asyncio.sleep(0.001)
    on_begun(task)
    await asyncio.sleep(0.01)
    closing.go.set()
    return (await asyncio.gather(task, return_exceptions=True))[0]


@pytest.fixture
def study(document, kinds):
    document["blocks"], document["output"] = [{"iterations": 2}], {"figures": False}
    return lambda *changes: Study.from_document(document, kinds=kinds, overrides=changes)


@pytest.fixture(params=["problem", "runtime"])
def closing(request, monkeypatch, kinds):
    """What takes time to close at the end of a run."""
    closing = Closing()
    if request.param == "problem":
        monkeypatch.setattr(kinds["deconvolution"], "close", lambda self: closing())
    else:

        class Slow(Local):
            def close(self):
                closing()
                super().close()

        monkeypatch.setattr("thalweg.runs.session.make_runtime", lambda table, note, folder: Slow(1))
    return closing


def test_closing_does_not_block_the_event_loop(tmp_path, study, closing):
    async def main():
        outcome = await answered(Run(study(), out=tmp_path / "run"), closing)
        return outcome.status, await run_blocking(abs, -3)  # in threads that are there

    assert asyncio.run(main()) == ("finished", 3)
    assert closing.was_told == [True]


def test_an_error_is_told_if_somebody_stops_the_run_while_it_closes(tmp_path, study, closing):
    session = Run(study("problem.fail_at=2"), out=tmp_path / "run")
    error = wait(answered(session, closing, lambda task: task.cancel()))
    assert isinstance(error, ZeroDivisionError)
    assert closing.was_told == [True]
    assert session.outcome.status == "failed"


def test_an_error_is_told_if_somebody_stops_the_run_while_pictures_are_drawn(tmp_path, study, monkeypatch, kinds):
    drawing = Closing()
    monkeypatch.setattr(kinds["deconvolution"], "figures", lambda self, history: {"one": lambda path: drawing()})
    session = Run(study("problem.fail_at=2", "output.figures=true"), out=tmp_path / "run")
    error = wait(answered(session, drawing, lambda task: task.cancel()))
    assert isinstance(error, ZeroDivisionError)
    assert session.outcome.summary["error"]["text"] == "the simulator broke"


def test_a_run_that_was_refused_is_given_back_too(tmp_path, study, closing):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine").touch()
    error = wait(answered(Run(study(), out=tmp_path / "run"), closing))
    assert type(error).__name__ == "RunError"
    assert closing.was_told == [True]
