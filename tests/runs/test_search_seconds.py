"""A budget of seconds: no evaluation of the search begins when they are over, and what there is is chosen from."""

import time
from types import SimpleNamespace

import pytest

from tests.runs.searching import resume, valley
from thalweg.graph import wait
from thalweg.runs import Run, Study

EACH = 6  # samples of a candidate; an iteration has two


@pytest.fixture
def document():
    return {
        "title": "a valley",
        "problem": {"kind": "valley"},
        "optimizer": {"kind": "evolution", "candidates": 2, "finalists": 2, "rescore": 0},
        "blocks": [{"iterations": 4}],
        "budget": {"seconds": 1e6},
        "output": {"checkpoint_every": 1, "figures": False},
    }


def clocked(monkeypatch, after):
    """A problem during whose n-th evaluation a million seconds pass."""
    cls = valley()

    def monotonic():
        return time.monotonic() + (1e6 if len(cls.calls) >= after else 0.0)

    monkeypatch.setattr("thalweg.runs.seconds.time", SimpleNamespace(monotonic=monotonic))
    return cls


def run(document, cls, out):
    return wait(Run(Study.from_document(document, kinds={"valley": cls}), out=out).execute())


@pytest.mark.parametrize("at_once", [1, 3])
@pytest.mark.parametrize(
    ("after", "made", "candidates"),
    [
        pytest.param(15, 1, 2, id="in a candidate, of which nothing is used"),
        pytest.param(18, 2, 3, id="between two candidates"),
        pytest.param(45, 4, 7, id="in the last iteration"),
    ],
)
def test_nothing_of_the_search_begins_when_they_are_over(
    tmp_path, document, monkeypatch, at_once, after, made, candidates
):
    cls = clocked(monkeypatch, after)
    cls.at_once = at_once
    outcome = run(document, cls, tmp_path / "run")
    searched = [call for call in cls.calls if call[2] < EACH]
    assert after <= len(searched) <= after + at_once - 1, "what was in flight is waited for"
    assert outcome.status == "finished"
    assert "budget of 1e+06 seconds" in outcome.summary["stopped"]
    assert outcome.summary["iterations"] == made
    assert outcome.history.iterations()["candidates"][-1] >= candidates
    assert outcome.summary["search"]["winner"]["held_out"]["samples"] == 6, "the choice is made all the same"
    assert outcome.summary["search"]["winner"]["test"]["samples"] == 6


@pytest.mark.parametrize("after", [15, 21, 45])
def test_with_more_of_them_it_goes_on_and_makes_nothing_twice(tmp_path, document, monkeypatch, after):
    cls = clocked(monkeypatch, after)
    first = run(document, cls, tmp_path / "run").summary
    before = len(cls.calls)
    monkeypatch.undo()
    outcome = wait(resume(cls, tmp_path / "run", "budget.seconds=1e9", "blocks.0.iterations=6").execute())
    assert outcome.summary["iterations"] == 6
    assert "stopped" not in outcome.summary
    assert len(cls.calls) > before
    assert len(set(cls.calls)) == len(cls.calls)
    assert outcome.summary["search"]["spent"]["evaluations"] == len(cls.calls)
    if first["iterations"] == 1:  # no iteration was cut: the same as a run without a limit
        whole = valley()
        expected = run({**document, "budget": {}, "blocks": [{"iterations": 6}]}, whole, tmp_path / "whole").summary[
            "search"
        ]
        assert outcome.summary["search"]["winner"] == expected["winner"]
