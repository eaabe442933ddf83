"""Items by worker as they were at each checkpoint: a fact each, as long as the checkpoint may be there."""

import json

import pytest

from thalweg.runs.history import History, HistoryWriter
from thalweg.runs.keeping import Mark, Retention
from thalweg.runs.workers import CountsAt, counted_at

PREFIX = "items_by_worker_at/"


@pytest.fixture
def written(tmp_path, monkeypatch):
    """A history, and how many characters each fact had that was written to it."""
    sizes = []
    fact = HistoryWriter.fact

    def measured(self, name, value):
        sizes.append(len(name) + len(json.dumps(value)))
        fact(self, name, value)

    monkeypatch.setattr(HistoryWriter, "fact", measured)
    return tmp_path / "run.sqlite", sizes


def note(path, retention, iterations, start=0):
    facts = History(path).facts() if path.exists() else {}
    with HistoryWriter(path) as writer:
        counts = CountsAt(writer, retention, facts, start)
        for iteration in iterations:
            counts.note(Mark(iteration, 0, float(iteration)), {"MainThread": 8 * iteration})
    facts = History(path).facts()
    return facts, sorted(int(name.removeprefix(PREFIX)) for name in facts if name.startswith(PREFIX))


def test_what_is_written_does_not_grow_with_the_checkpoints_that_stay(written):
    path, sizes = written
    facts, there = note(path, Retention(every=1, keep_every=1), range(1, 301))
    assert there == list(range(1, 301))
    assert counted_at(facts, 17) == {"MainThread": 136}
    assert len(sizes) == 300
    assert max(sizes) < 80


def test_those_of_checkpoints_that_are_no_more_go(written):
    path, _ = written
    retention = Retention(every=1, keep=2, keep_best=True, keep_every=5)
    assert note(path, retention, range(1, 14))[1] == [1, 5, 10, 11, 12, 13]
    facts, there = note(path, retention, [7], start=5)  # those after the fifth were given up
    assert there == [1, 5, 7]
    assert counted_at(facts, 7) == {"MainThread": 56}
    assert counted_at(facts, 10) == {}


def test_the_note_of_an_earlier_version_is_left_alone(written):
    path, _ = written
    with HistoryWriter(path) as writer:
        writer.fact("items_by_worker_at", [[3, 0, 1.0, {"MainThread": 24}]])
        writer.fact("items_by_worker", {"MainThread": 40})
    facts, there = note(path, Retention(), [6], start=5)
    assert there == [6]
    assert (counted_at(facts, 3), counted_at(facts, 6)) == ({"MainThread": 40}, {"MainThread": 48})
