"""What a cluster says while a run goes on is shown and is in its history, for whoever looks later."""

from __future__ import annotations

from contextlib import contextmanager

import thalweg as tw
from thalweg.runs import Run, Study
from thalweg.runs.display import QuietDisplay
from thalweg.runtime import Local, Watched


class Notes(QuietDisplay):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


def test_what_a_cluster_says_is_shown_and_recorded(tmp_path, document, kinds, monkeypatch):
    said = []

    @contextmanager
    def losing(table, note, folder):
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
