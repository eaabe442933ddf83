"""Whoever resumes a run is told where it goes on, and what is computed again."""

import io
import shutil
import time

from tests.runs.going import Doing, go_on, run, stop_after
from tests.runs.searching import valley
from thalweg.runs import History, PlainDisplay


def resumed(out):
    return [event["text"] for event in History(out).events() if event["kind"] == "resumed"]


def test_a_run_that_was_stopped(tmp_path, document, kinds):
    stop_after(document, kinds, tmp_path / "run", 5)
    stream = io.StringIO()
    go_on(tmp_path / "run", kinds, display=PlainDisplay(stream))
    assert resumed(tmp_path / "run") == ["from iteration 5"]
    lines = stream.getvalue().splitlines()
    assert lines.index("resumed from iteration 5") < lines.index("recording: 6/6")


def test_a_run_that_was_killed_before_its_first_checkpoint(tmp_path, document, kinds):
    """There is no checkpoint that anything could be after."""
    live, killed, stream = tmp_path / "live", tmp_path / "killed", io.StringIO()
    document["output"] = {"checkpoint_every": 100, "figures": False}
    document["blocks"] = [{"iterations": 4}]

    def kill():
        while len(History(live).iterations()["loss"]) < 3:
            time.sleep(0.001)
        shutil.copytree(live, killed)

    run(document, kinds, live, display=Doing(3, kill))
    go_on(killed, kinds, display=PlainDisplay(stream))
    assert resumed(killed) == ["from the beginning; 3 iterations are computed again"]
    assert "resumed from the beginning; 3 iterations are computed again\n" in stream.getvalue()
    assert next(event["text"] for event in History(killed).events()) == "4 iterations in 1 block"


def test_a_search_uses_what_is_known_again(tmp_path):
    """What it goes through again is not computed again: only what was in flight is."""
    cls, live, killed = valley(), tmp_path / "live", tmp_path / "killed"
    study = {
        "title": "a valley",
        "problem": {"kind": "valley", "held_out": 0, "test": 0},
        "optimizer": {"kind": "random", "candidates": 1},
        "blocks": [{"iterations": 4}],
        "output": {"checkpoint_every": 100, "figures": False},
    }

    def kill():
        while len(History(live).iterations()["loss"]) < 3:
            time.sleep(0.001)
        shutil.copytree(live, killed)

    run(study, {"valley": cls}, live, display=Doing(3, kill))
    before = len(cls.calls)
    go_on(killed, {"valley": cls})
    words = "from the beginning; 3 iterations are gone through again, with the results that are known"
    assert resumed(killed) == [words]
    assert len(cls.calls) - before == 6, "those of the fourth iteration"
