"""What a cluster says while a run goes on is shown and is in its history, for whoever looks later."""

from __future__ import annotations

from contextlib import asynccontextmanager

import pytest

import thalweg as tw
from thalweg.runs import Run, Study
from thalweg.runs.display import QuietDisplay
from thalweg.runtime import Dask, Local, Watched


class Notes(QuietDisplay):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_what_a_cluster_says_is_shown_and_recorded(tmp_path, document, kinds, monkeypatch):
    said = []

    @asynccontextmanager
    async def losing(table, note, folder):
        def watch(done, total):
            if done == total and len(said) < 3:
                said.append(f"worker {len(said)} is gone")
                note(said[-1])

        with Local(threads=1) as threads:
            yield Watched(threads, watch)

    monkeypatch.setattr("thalweg.runs.session.make_runtime", losing)
    display = Notes()
    outcome = tw.wait(Run(Study.from_document(document, kinds=kinds), out=tmp_path / "run", display=display).execute())
    assert outcome.status == "finished"
    events = [(event["text"], event["iteration"]) for event in outcome.history.events() if event["kind"] == "cluster"]
    assert events == [(text, index) for index, text in enumerate(said)]
    assert display.notes[: len(said)] == said


def test_what_a_cluster_of_the_callers_says_is_recorded_too(tmp_path, document, kinds):
    pytest.importorskip("distributed")
    told, display = [], Notes()
    with Dask(workers=1, note=told.append) as cluster:
        tw.wait(cluster.start())
        display.iteration = lambda record: cluster._crew.note(f"at {record.iteration}")
        document["blocks"] = [{"iterations": 2}]
        study = Study.from_document(document, kinds=kinds)
        outcome = tw.wait(Run(study, out=tmp_path / "run", runtime=cluster, display=display).execute())
        cluster._crew.note("later")
    said = [(event["text"], event["iteration"]) for event in outcome.history.events() if event["kind"] == "cluster"]
    assert said == [("at 1", 1), ("at 2", 2)]
    assert told[-3:] == ["at 1", "at 2", "later"]
    assert [text for text in display.notes if text.startswith("at")] == ["at 1", "at 2"]
    assert "later" not in display.notes
