"""What went wrong at the end of a run is told once for each cause."""

import json

import pytest

from thalweg.errors import RunError
from thalweg.graph import wait
from thalweg.runs import Run, Study
from thalweg.runs.closing import Closing
from thalweg.runs.history import HistoryWriter


def test_a_cause_is_told_with_all_that_it_has_cost():
    closing = Closing(None, None, None)

    def lose(what, text):
        with closing.tolerating(what, vital=True):
            raise OSError(text)

    lose("the result", "full")
    closing.warnings.append("something else")
    lose("the history", "full")
    lose("the history", "full")
    lose("the pictures", "gone")
    lose("summary.json", "full")
    assert closing.warnings == [
        "the result, the history and summary.json could not be made: OSError: full",
        "something else",
        "the pictures could not be made: OSError: gone",
    ]
    assert len(closing.losses) == 5


def test_a_history_that_cannot_be_written_is_told_once(tmp_path, document, kinds, monkeypatch):
    record = HistoryWriter.iteration

    def fill(self, row):
        if row.iteration == 3:
            self._guard = fail
        record(self, row)

    def fail():
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(HistoryWriter, "iteration", fill)
    session = Run(Study.from_document(document, kinds=kinds), out=tmp_path / "run")
    with pytest.raises(RunError, match="No space left"):
        wait(session.execute())
    warnings = session.outcome.summary["warnings"]
    told = [text for text in warnings if "No space left" in text]
    assert len(told) == 1
    assert told[0].startswith("the last checkpoint and the history could not be made: RunError: The history ")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["warnings"] == warnings
