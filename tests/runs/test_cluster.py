"""Runs on Dask workers: the digests of the thread pool, and nothing left behind by Ctrl-C."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import thalweg as tw
from thalweg.errors import StudyError
from thalweg.problems.waves.files import array_digest
from thalweg.problems.waves.shots import Band
from thalweg.runs import Run, Study, find_study
from thalweg.runtime import Local
from thalweg.runtime.packing import recipe

pytest.importorskip("distributed")

THREADS = "runtime.threads=2"
WORKERS = 'runtime={ kind = "dask", workers = 2 }'


class Notes:
    """A display that keeps what it is told."""

    def __init__(self):
        self.notes, self.counted = [], []

    def note(self, text):
        self.notes.append(text)

    def items(self, done, total):
        self.counted.append((done, total))

    def __getattr__(self, name):
        return lambda *arguments, **keywords: None


def run(name, out, *overrides, display=None):
    study = Study.load(find_study(name), overrides=["output.figures=false", *overrides])
    return tw.wait(Run(study, out=out, display=display).execute())


def test_a_study_on_two_workers_has_the_digest_of_the_thread_pool(tmp_path):
    short = ["blocks.0.iterations=2", "blocks.1.iterations=1", "problem.sources.count=7"]
    expected = run("inclusion", tmp_path / "threads", THREADS, *short)
    display = Notes()
    found = run("inclusion", tmp_path / "workers", WORKERS, *short, display=display)
    assert found.status == "finished"
    assert found.summary["digest"] == expected.summary["digest"]
    assert found.history.iterations()["loss"].tolist() == expected.history.iterations()["loss"].tolist()
    assert any("dashboard: http://127.0.0.1:" in note for note in display.notes)
    assert display.counted.count((7, 7)) == 3


@pytest.mark.slow
def test_the_shipped_study_on_two_workers_has_the_digest_of_the_thread_pool(tmp_path):
    digests = {run("inclusion", tmp_path / name, name_of).summary["digest"] for name, name_of in PLACES.items()}
    assert len(digests) == 1


HANGS = 600  # s: only what hangs takes so long, however busy the machine is
PLACES = {"threads": THREADS, "workers": WORKERS}


def test_traces_of_a_file_are_read_by_the_workers(tmp_path):
    digests = set()
    study = Study.load(find_study("inclusion"))
    steps, count = study.problem_settings.steps, 5
    traces = np.random.default_rng(0).standard_normal((count, steps, count)).astype(np.float32) * 1e-3
    np.savez(tmp_path / "observed.npz", traces=traces)
    changes = [
        f"problem.observed={{ kind = 'file', path = '{tmp_path}/observed.npz' }}",
        *("blocks.0.iterations=1", "blocks.1.iterations=1", f"problem.sources.count={count}"),
    ]
    for name, place in PLACES.items():
        outcome = run("inclusion", tmp_path / name, place, *changes)
        digests.add((outcome.summary["digest"], *outcome.history.iterations()["loss"].tolist()))
    assert len(digests) == 1


def test_traces_of_a_file_do_not_go_through_the_client(tmp_path):
    """What the cluster is told of a band holds simulated traces, and of those in a file the digest only."""
    study = Study.load(find_study("inclusion"), overrides=["problem.sources.count=5"])
    traces = np.random.default_rng(0).standard_normal((5, study.problem_settings.steps, 5)).astype(np.float32) * 1e-3
    np.savez(tmp_path / "observed.npz", traces=traces)
    place = f"problem.observed={{ kind = 'file', path = '{tmp_path}/observed.npz' }}"
    told = {}
    for name, changes in {"file": [place], "simulated": []}.items():
        overrides = ["problem.sources.count=5", *changes]
        problem = Study.load(find_study("inclusion"), overrides=overrides).build_problem()
        with Local(threads=2) as runtime:
            tw.wait(problem.prepare(runtime, lambda done, total, text: None))
        tw.wait(problem.begin_block(0))
        told[name] = recipe(problem._band), problem
    data, problem = told["file"]
    assert problem.inputs() == {"problem.observed.path": array_digest(traces)}
    assert array_digest(traces).encode() in data
    assert traces.tobytes()[:1000] not in data
    data, problem = told["simulated"]
    assert problem._observed[0].tobytes()[:1000] in data


def test_another_file_under_the_same_path_is_refused(tmp_path):
    count = 5
    steps = Study.load(find_study("inclusion")).problem_settings.steps
    traces = np.ones((count, steps, count), np.float32)
    np.savez(tmp_path / "observed.npz", traces=traces)
    changes = [
        f"problem.observed={{ kind = 'file', path = '{tmp_path}/observed.npz' }}",
        f"problem.sources.count={count}",
    ]
    problem = Study.load(find_study("inclusion"), overrides=changes).build_problem()
    assert Band(problem.setup, 0, None).observed.shape == traces.shape
    np.savez(tmp_path / "observed.npz", traces=2 * traces)
    with pytest.raises(StudyError, match="is not what the run began with"):
        Band(problem.setup, 0, None)


def descendants(pid):
    """The processes that this one started, and those that they started."""
    found, parents = [], {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            except OSError:
                continue
    waiting = [pid]
    while waiting:
        here = waiting.pop()
        mine = [child for child, parent in parents.items() if parent == here]
        found += mine
        waiting += mine
    return found


def alive(pid):
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.sampled(1)
@pytest.mark.slow
@pytest.mark.parametrize("how", ["first Ctrl-C", "second Ctrl-C", "kill"])
def test_a_stopped_command_leaves_no_process_and_a_run_that_goes_on_to_the_same_bits(tmp_path, how):
    out = tmp_path / "run"
    command = [sys.executable, "-m", "thalweg", "run", "inclusion", "--workers", "2", "--out", str(out)]
    command += ["--set", "output.figures=false", "--set", "output.checkpoint_every=1"]
    said, errors = tmp_path / "said", tmp_path / "errors"
    with open(said, "w") as output, open(errors, "w") as error:  # no pipes, which workers that are left would keep open
        process = subprocess.Popen(command, stdout=output, stderr=error, start_new_session=True)
    while "\niteration" not in said.read_text():
        assert process.poll() is None, errors.read_text()
        time.sleep(0.01)
    children = descendants(process.pid)
    assert len(children) >= 2
    if how == "kill":
        process.kill()
    else:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: every process of the group
        if how == "second Ctrl-C":
            time.sleep(0.05)
            os.killpg(process.pid, signal.SIGINT)
    assert process.wait(HANGS) == (-signal.SIGKILL if how == "kill" else 128 + signal.SIGINT), errors.read_text()
    assert "Traceback" not in errors.read_text()
    end = time.monotonic() + HANGS
    while any(alive(child) for child in children):
        assert time.monotonic() < end, "worker processes are left"
        time.sleep(0.05)
    again = [sys.executable, "-m", "thalweg", "resume", str(out), "--threads", "2", "--quiet"]
    again += ["--set", 'runtime={ kind = "local" }']
    finished = subprocess.run(again, capture_output=True, text=True, timeout=HANGS, check=False)
    assert finished.returncode == 0, finished.stderr
    summary = json.loads((out / "summary.json").read_text())
    assert summary["status"] == "finished"
    assert summary["digest"] == run("inclusion", tmp_path / "whole", THREADS).summary["digest"]
