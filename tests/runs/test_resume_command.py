"""``thalweg run --resume`` and ``thalweg resume``: what comes out is what the uninterrupted run comes to."""

import json

import pytest
from typer.testing import CliRunner

from tests.runs.going import Stopping, every_byte, fingerprint, stopped
from thalweg.cli import app
from thalweg.graph import wait
from thalweg.runs import Run, Study, find_study

CHANGES = [
    *("blocks.0.iterations=2", "blocks.1.iterations=2", "problem.sources.count=5", "runtime.threads=1"),
    *("blocks.1.selection='random'", "blocks.1.batch_size=2", "output.figures=false"),
]
SET = [part for change in CHANGES for part in ("--set", change)]


def study():
    return Study.load(find_study("inclusion"), overrides=CHANGES)


def command(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, " ".join(done.output.split())


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "run"
    wait(Run(study(), out=out).execute())
    return fingerprint(out)


@pytest.mark.parametrize("how", ["run --resume", "resume"])
def test_a_stopped_run_goes_on_to_the_same_bits(tmp_path, expected, how):
    out = tmp_path / "run"
    display = Stopping(3)
    stopped(Run(study(), out=out, display=display), display)
    go_on = ["resume", out] if how == "resume" else ["run", "inclusion", *SET, "--resume", "--out", out]
    code, said = command(*go_on, "--quiet")
    assert code == 0, said
    assert fingerprint(out) == expected
    assert json.loads((out / "summary.json").read_text())["status"] == "finished"
    code, said = command(*go_on)
    assert code == 2
    assert "has finished" in said
    assert fingerprint(out) == expected


def test_where_there_is_no_run_it_is_begun(tmp_path, expected):
    code, said = command("run", "inclusion", *SET, "--resume", "--out", tmp_path / "run", "--quiet")
    assert code == 0, said
    assert fingerprint(tmp_path / "run") == expected


def test_another_study_is_refused_with_what_differs_and_a_named_change_is_made(tmp_path, expected):
    """The run was begun with fewer iterations; whoever asks for more must say so."""
    out = tmp_path / "run"
    shorter = Study.load(find_study("inclusion"), overrides=[*CHANGES, "blocks.1.iterations=1"])
    wait(Run(shorter, out=out).execute())
    file = tmp_path / "study.toml"
    file.write_text(study().text)
    code, said = command("run", file, "--resume", "--out", out, "--quiet")
    assert code == 2
    assert "blocks.1.iterations" in said
    assert "--set" in said
    code, said = command("run", file, "--set", "blocks.1.iterations=2", "--resume", "--out", out, "--quiet")
    assert code == 0, said
    with_rows, without = fingerprint(out)[1], expected[1]
    assert with_rows == without


def test_it_must_say_which_run(tmp_path):
    code, said = command("run", "inclusion", "--resume")
    assert code == 2
    assert "--resume goes with --out" in said


def test_a_dry_run_says_what_the_run_would_do_to_the_folder(tmp_path):
    out = tmp_path / "run"
    display = Stopping(3)
    stopped(Run(study(), out=out, display=display), display)
    before = every_byte(out)
    code, said = command("run", "inclusion", *SET, "--out", out, "--dry-run")
    assert code == 2
    assert f"there is a run in it, and a run never writes over another. To go on with it: thalweg resume {out}" in said
    for go_on in (["resume", out, "--dry-run"], ["run", "inclusion", *SET, "--out", out, "--resume", "--dry-run"]):
        code, said = command(*go_on)
        assert code == 0, said
        assert "goes on from iteration 3; at most 1 are left" in said
    code, said = command("resume", out, "--iteration", "0", "--dry-run")
    assert "goes on from iteration 0; at most 4 are left" in said
    code, said = command("resume", out, "--dry-run", "--set", "seed=7")
    assert code == 2
    assert "seed" in said
    assert every_byte(out) == before
    code, said = command("run", "inclusion", *SET, "--out", tmp_path / "new", "--dry-run")
    assert code == 0, said
    assert not (tmp_path / "new").exists()
