"""``thalweg studies``: what it can complete, and what it says when it goes wrong."""

from __future__ import annotations

import pytest
from typer.testing import CliRunner

from thalweg.cli import app


@pytest.mark.parametrize("arguments", ["thalweg studies --copy he", "thalweg run he", "thalweg check he"])
def test_the_shell_completes_the_studies_that_are_shipped(arguments, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    words = {"_THALWEG_COMPLETE": "complete_bash", "COMP_WORDS": arguments, "COMP_CWORD": str(arguments.count(" "))}
    result = CliRunner().invoke(app, env=words, prog_name="thalweg")
    assert result.stdout.split() == ["head"]


def test_a_study_that_is_not_copied_has_a_traceback_for_whoever_asks(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    asked = ["studies", "--copy", "no-such"]
    assert "Traceback" not in CliRunner().invoke(app, asked).stderr
    result = CliRunner().invoke(app, [*asked, "--traceback"])
    assert result.exit_code == 2
    assert "Traceback" in result.stderr
