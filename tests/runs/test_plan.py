"""What is said of a run before there is one: ``thalweg run --dry-run``."""

from __future__ import annotations

import pytest

from tests.runs.deconvolution import Deconvolution
from thalweg.graph import wait
from thalweg.runs import Run, Study


class Counting(Deconvolution):
    def plan(self, runtime, iterations):
        return [("at once", str(runtime.workers))]


def plan(document, *changes):
    study = Study.from_document(document, overrides=changes, kinds={"deconvolution": Counting})
    return dict(wait(Run(study).plan()))


def test_the_plan_is_that_of_the_threads_that_the_study_asks_for(document):
    found = plan(document, "runtime.threads=3")
    assert found["at once"] == found["threads"] == "3"


def test_the_plan_is_that_of_the_worker_processes_and_starts_none(document, monkeypatch):
    pytest.importorskip("distributed")
    monkeypatch.setattr("thalweg.runtime.dask.Dask.start", None)  # to be called is an error
    found = plan(document, 'runtime={kind = "dask", workers = 5}')
    assert found["at once"] == "5"
    assert found["workers"] == "5 processes"


def test_the_plan_of_a_cluster_does_not_ask_its_scheduler(document):
    pytest.importorskip("distributed")
    found = plan(document, 'runtime={kind = "dask", scheduler = "tcp://127.0.0.1:1"}')
    assert found["workers"] == "those of the cluster at tcp://127.0.0.1:1"


def test_the_plan_says_how_much_work_there_is(document):
    found = plan(document)
    blocks = len(document["blocks"])
    assert found["items"].endswith(f"{Deconvolution.item_name}s")
    assert found["iterations"] == f"{sum(b['iterations'] for b in document['blocks'])} in {blocks} blocks"
