"""A run whose study.toml is gone goes on all the same: its history has the text."""

import shutil

import pytest

from tests.runs.going import every_byte, fingerprint, go_on, run, stop_after
from thalweg.errors import RunError
from thalweg.runs import History, Run


@pytest.fixture
def interrupted(tmp_path, document, kinds):
    run(document, kinds, tmp_path / "whole")
    stop_after(document, kinds, tmp_path / "run", 5)
    return tmp_path / "run"


def test_it_is_written_again_and_that_is_said(tmp_path, interrupted, kinds):
    text = (interrupted / "study.toml").read_text()
    (interrupted / "study.toml").unlink()
    session = Run.resume(interrupted, kinds=kinds)
    assert any("study.toml was missing" in note for note in session._resumption.notes)
    assert go_on(interrupted, kinds).status == "finished"
    assert (interrupted / "study.toml").read_text() == text
    assert fingerprint(interrupted) == fingerprint(tmp_path / "whole")
    warnings = [event["text"] for event in History(interrupted).events() if event["kind"] == "warning"]
    assert any("study.toml was missing" in text for text in warnings)


def test_a_change_is_applied_to_it(interrupted, kinds):
    (interrupted / "study.toml").unlink()
    go_on(interrupted, kinds, "optimizer.learning_rate=0.02")
    assert "learning_rate = 0.02" in (interrupted / "study.toml").read_text()
    assert History(interrupted).iterations()["learning_rate"].tolist() == [0.05] * 5 + [0.02] * 2


def test_one_that_is_damaged_says_what_to_do(tmp_path, interrupted, kinds):
    (interrupted / "study.toml").write_text("title =")
    before = every_byte(interrupted)
    with pytest.raises(RunError, match=r"is damaged: .*Remove it, and it is made again of the history"):
        Run.resume(interrupted, kinds=kinds)
    assert every_byte(interrupted) == before


def test_what_is_missing_is_named(interrupted, kinds):
    (interrupted / "run.sqlite").unlink()
    with pytest.raises(RunError, match=r"has no history: run\.sqlite is missing"):
        Run.resume(interrupted, kinds=kinds)
    shutil.rmtree(interrupted)
    interrupted.mkdir()
    with pytest.raises(RunError, match=r"There is no run in .* It has no run\.sqlite"):
        Run.resume(interrupted, kinds=kinds)
