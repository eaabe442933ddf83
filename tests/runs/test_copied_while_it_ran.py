"""A history that has lost iterations of which there are checkpoints: in a copy of a run that was taken while it went
on, or without the log of SQLite beside it."""

import shutil
import sqlite3
import time

import pytest

from tests.runs.going import Doing, every_byte, fingerprint, go_on, run, stop_after
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import RunError
from thalweg.graph import wait
from thalweg.runs import Run
from thalweg.runs.choosing import iterations_of


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


def kept(out):
    return sorted(iterations_of(CheckpointStore(out / "checkpoints")).values())


def test_it_is_refused_and_nothing_goes_until_the_user_names_the_checkpoint(tmp_path, every, kinds):
    run(every, kinds, tmp_path / "whole")
    out = copied(tmp_path / "whole", tmp_path / "copy", 5)
    before = every_byte(out)
    with pytest.raises(RunError) as refused:
        go_on(out, kinds)
    text = str(refused.value)
    assert "has 5 of the 7 iterations that its checkpoint knows" in text
    assert "copied while the run went on, or without run.sqlite-wal" in text
    way = "from iteration 5, the newest checkpoint that the history covers, and give up what came after"
    assert text.endswith(f"{way}: thalweg resume {out} --iteration 5")
    assert every_byte(out) == before
    wait(Run.resume(out, kinds=kinds, iteration=5).execute())
    assert fingerprint(out) == fingerprint(tmp_path / "whole")


def test_a_copy_without_the_log_is_refused(tmp_path, every, kinds):
    """What SQLite has not yet brought from the log to the file is in the log only."""
    out, copy = tmp_path / "run", tmp_path / "copy"

    def take():
        while kept(out)[-1:] != [4]:
            time.sleep(0.001)
        shutil.copytree(out, copy, ignore=shutil.ignore_patterns("*-wal", "*-shm"))

    run(every, kinds, out, display=Doing(5, take))
    with pytest.raises(RunError, match=r"has 0 of the 4 iterations .* covers no checkpoint, .* --iteration 0$"):
        Run.resume(copy, kinds=kinds)
    assert kept(copy)[:4] == [1, 2, 3, 4]


def test_a_run_that_has_finished_does_not_go_back(tmp_path, every, kinds):
    run(every, kinds, tmp_path / "whole")
    out = copied(tmp_path / "whole", tmp_path / "copy", 2)
    shutil.copy(tmp_path / "whole" / "summary.json", out)
    with pytest.raises(RunError, match=r"has 2 of the 7 .* --iteration 2 --set \.\.\.$"):
        go_on(out, kinds, "blocks.1.iterations=9")
    assert kept(out) == [1, 2, 3, 4, 5, 6, 7]


def test_a_damaged_checkpoint_is_not_named(tmp_path, every, kinds):
    run(every, kinds, tmp_path / "whole")
    out = copied(tmp_path / "whole", tmp_path / "copy", 5)
    (out / "checkpoints" / "000005" / "state.safetensors").write_bytes(b"damaged")
    with pytest.raises(RunError, match=r"--iteration 4$"):
        Run.resume(out, kinds=kinds)


def test_what_is_given_up_is_not_taken_for_what_is_made_anew(tmp_path, every, kinds):
    """With another rate, a process that is killed before its first checkpoint may not find the old ones."""
    run(every, kinds, tmp_path / "whole")
    out = copied(tmp_path / "whole", tmp_path / "copy", 5)
    stop_after(every, kinds, tmp_path / "one", 5)
    go_on(tmp_path / "one", kinds, "optimizer.learning_rate=0.01")
    session = Run.resume(out, kinds=kinds, overrides=["optimizer.learning_rate=0.01"], iteration=5)
    session._open(session.study.build_problem()).give_up()  # and the process is killed
    assert kept(out) == [1, 2, 3, 4, 5]
    go_on(out, kinds)
    assert fingerprint(out) == fingerprint(tmp_path / "one")


def test_where_no_checkpoint_is_old_enough_the_refusal_says_so(tmp_path, every, kinds):
    every["output"] |= {"checkpoint_every": 2, "keep": 2}
    run(every, kinds, tmp_path / "whole")
    out = copied(tmp_path / "whole", tmp_path / "copy", 5)
    before = every_byte(out)
    text = (
        r"has 5 of the 7 iterations that its checkpoint knows: .* the history covers no checkpoint, .* --iteration 0$"
    )
    with pytest.raises(RunError, match=text):
        Run.resume(out, kinds=kinds)
    assert every_byte(out) == before
    wait(Run.resume(out, kinds=kinds, iteration=0).execute())
    assert fingerprint(out) == fingerprint(tmp_path / "whole")


def test_of_a_history_with_a_hole_what_is_before_it_counts(tmp_path, every, kinds):
    run(every, kinds, tmp_path / "run")
    (tmp_path / "run" / "summary.json").unlink()
    database = sqlite3.connect(tmp_path / "run" / "run.sqlite", isolation_level=None)
    database.execute("DELETE FROM iterations WHERE iteration = 3")
    database.close()
    with pytest.raises(RunError, match=r"has 6 of the 7 iterations .* --iteration 2$"):
        Run.resume(tmp_path / "run", kinds=kinds)
    wait(Run.resume(tmp_path / "run", kinds=kinds, iteration=2).execute())
