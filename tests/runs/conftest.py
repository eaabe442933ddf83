"""What the tests of runs share."""

import pytest

from tests.runs.deconvolution import Deconvolution
from thalweg.runs.folder import RunFolder
from thalweg.runs.history import HistoryWriter
from thalweg.runs.iteration import IterationRecord


@pytest.fixture
def kinds():
    Deconvolution.instances.clear()
    return {"deconvolution": Deconvolution}


@pytest.fixture
def document():
    """A study of that problem."""
    return {
        "title": "A blurred signal",
        "seed": 3,
        "problem": {"kind": "deconvolution"},
        "optimizer": {"kind": "adam", "learning_rate": 0.05},
        "blocks": [
            {"name": "low", "iterations": 4, "selection": "random", "batch_size": 2, "cutoff": 0.3},
            {"iterations": 3},
        ],
        "runtime": {"threads": 2},
    }


@pytest.fixture
def started(tmp_path):
    """A run whose process is this one: 3 iterations are done, and it goes on."""
    folder = RunFolder.create(tmp_path / "run")
    text = 'title = "T"\n[problem]\nkind = "k"\n[[blocks]]\nname = "one"\niterations = 2\n[[blocks]]\niterations = 5\n'
    folder.write_study(text)
    folder.write_summary({"status": "running", "title": "T"})
    writer = HistoryWriter(folder.history)
    writer.fact("study", text)
    writer.event("started", "7 iterations in 2 blocks")
    for k in (1, 2, 3):
        writer.iteration(IterationRecord(k, k // 3, 1, 2, 8.0 / k, (0, 1), 0.5 * k, {"learning_rate": 0.1}))
    writer.flush()
    yield folder, writer
    writer.close()
    folder.release()
