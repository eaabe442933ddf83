"""What the command says when a run has ended early, and how one goes on elsewhere."""

import asyncio
import json
import os
import signal

import pytest
from typer.testing import CliRunner

from tests.runs.going import Stopping, stopped
from thalweg.cli import app
from thalweg.cli.computing import _placing
from thalweg.runs import Run, Study, find_study
from thalweg.runs.overrides import apply_overrides

CHANGES = [
    *("blocks.0.iterations=2", "blocks.1.iterations=2", "problem.sources.count=3", "output.figures=false"),
    *("blocks.0.selection='all'", "blocks.1.selection='all'"),
]
SET = [part for change in CHANGES for part in ("--set", change)]


def command(*arguments):
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    return done.exit_code, done.output


def test_threads_take_the_place_of_a_cluster_that_is_no_more():
    dask = {"runtime": {"kind": "dask", "scheduler": "tcp://gone:8786", "patience": 3.0}}
    assert apply_overrides(dask, _placing(2, None, None))[0] == {"runtime": {"threads": 2}}
    assert apply_overrides(dask, _placing(None, 2, None))[0] == {"runtime": {"kind": "dask", "workers": 2}}
    assert _placing(None, None, None) == []


def test_a_run_on_a_cluster_goes_on_in_threads(tmp_path):
    out, display = tmp_path / "run", Stopping(2)
    study = Study.load(find_study("inclusion"), overrides=[*CHANGES, "runtime.threads=2"])
    stopped(Run(study, out=out, display=display), display)
    dask = 'runtime={ kind = "dask", scheduler = "tcp://127.0.0.1:9" }'
    (out / "study.toml").write_text(Run.resume(out, overrides=[dask]).study.text)  # as if it had been there
    code, said = command("resume", out, "--threads", 1, "--quiet")
    assert code == 0, said
    assert "[runtime]\nthreads = 1" in (out / "study.toml").read_text()
    assert json.loads((out / "summary.json").read_text())["status"] == "finished"


@pytest.mark.parametrize("name", ["run", "resume"])
def test_two_places_are_refused_by_their_options(name):
    code, said = command(name, "inclusion", "--threads", 2, "--workers", 2)
    assert code == 2
    assert "--threads does not go with --workers" in said
    _, said = command(name, "inclusion", "--scheduler", "tcp://a:1", "--workers", 2)
    assert "--workers does not go with --scheduler" in said


@pytest.mark.parametrize("quiet", [True, False])
def test_a_run_that_was_stopped_says_how_it_goes_on(tmp_path, monkeypatch, quiet):
    begun = Run._execute

    async def stop(self, *arguments):
        asyncio.get_running_loop().call_later(0.0, os.kill, os.getpid(), signal.SIGINT)
        await begun(self, *arguments)

    monkeypatch.setattr(Run, "_execute", stop)
    monkeypatch.chdir(tmp_path)
    code, said = command("run", "inclusion", *SET, *["--quiet"] * quiet, "--out", "a run")
    assert code == 130, said
    assert said.splitlines()[-1] == ("a run" if quiet else "go on with: thalweg resume 'a run'")
    assert not quiet or said == "a run\n"
