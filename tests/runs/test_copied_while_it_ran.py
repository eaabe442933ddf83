"""A copy of a run that was taken while it went on: the history first, checkpoints of later iterations after it."""

import shutil
import sqlite3

import pytest

from tests.runs.going import every_byte, fingerprint, go_on, run, stop_after
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import RunError
from thalweg.graph import wait
from thalweg.runs import History, QuietDisplay, Run
from thalweg.runs.choosing import iterations_of


class Told(QuietDisplay):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def every(document):
    document["output"] = {"checkpoint_every": 1, "keep": 10, "figures": False}
    return document


def copied(whole, out, last):
    """The history has iterations up to the last, the checkpoints know of all."""
    shutil.copytree(whole, out)
    (out / "summary.json").unlink()
    database = sqlite3.connect(out / "run.sqlite", isolation_level=None)
    database.execute("DELETE FROM iterations WHERE iteration > ?", (last,))
    database.close()
    return out


def test_it_goes_on_from_the_newest_checkpoint_that_the_history_knows_and_says_so(tmp_path, every, kinds):
    run(every, kinds, tmp_path / "whole")
    out, display = copied(tmp_path / "whole", tmp_path / "copy", 5), Told()
    go_on(out, kinds, display=display)
    assert fingerprint(out) == fingerprint(tmp_path / "whole")
    told = [note for note in display.notes if "the history ends with iteration 5" in note]
    assert [note.split(", and")[0] for note in told] == [f"checkpoint {k} is of iteration {k}" for k in (7, 6)]
    events = History(out).events()
    assert [event["text"] for event in events if event["text"] in told and event["kind"] == "warning"] == told
    assert any(event["text"].startswith("from iteration 5") for event in events if event["kind"] == "resumed")


def test_what_was_passed_over_is_not_taken_for_what_is_made_anew(tmp_path, every, kinds):
    """With another rate, a process that is killed before its first checkpoint may not find the old ones."""
    run(every, kinds, tmp_path / "whole")
    out = copied(tmp_path / "whole", tmp_path / "copy", 5)
    stop_after(every, kinds, tmp_path / "one", 5)
    go_on(tmp_path / "one", kinds, "optimizer.learning_rate=0.01")
    session = Run.resume(out, kinds=kinds, overrides=["optimizer.learning_rate=0.01"])
    session._open(session.study.build_problem()).give_up()  # and the process is killed
    assert sorted(iterations_of(CheckpointStore(out / "checkpoints")).values()) == [1, 2, 3, 4, 5]
    go_on(out, kinds)
    assert fingerprint(out) == fingerprint(tmp_path / "one")


def test_where_no_checkpoint_is_old_enough_the_refusal_says_what_may_have_happened(tmp_path, every, kinds):
    every["output"] |= {"checkpoint_every": 2, "keep": 2}
    run(every, kinds, tmp_path / "whole")
    out = copied(tmp_path / "whole", tmp_path / "copy", 5)
    before = every_byte(out)
    text = (
        r"has 5 of the 7 iterations that its checkpoint knows: .* or copied before the checkpoints were, while the run"
    )
    with pytest.raises(RunError, match=text):
        Run.resume(out, kinds=kinds)
    assert every_byte(out) == before
    wait(Run.resume(out, kinds=kinds, iteration=0).execute())
    assert fingerprint(out) == fingerprint(tmp_path / "whole")


def test_a_history_with_a_hole_is_damaged_and_no_copy(tmp_path, every, kinds):
    run(every, kinds, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    database = sqlite3.connect(tmp_path / "run" / "run.sqlite", isolation_level=None)
    database.execute("DELETE FROM iterations WHERE iteration = 3")
    database.close()
    with pytest.raises(RunError, match="has 6 of the 7 iterations"):
        Run.resume(tmp_path / "run", kinds=kinds)
    wait(Run.resume(tmp_path / "run", kinds=kinds, iteration=2).execute())
