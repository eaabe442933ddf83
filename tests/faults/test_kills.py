"""SIGKILL at any moment, also within the write of a checkpoint: what goes on comes to the uninterrupted run's bits."""

import collections
import contextlib
import json
import os
import random
import time

import pytest

from tests.faults import victim
from tests.faults.bits import fingerprint
from tests.faults.killing import kill, start
from tests.sampling import ALL
from thalweg.errors import RunError
from thalweg.graph import wait
from thalweg.runs import Run, Study

ITERATIONS = 24
KILLS = 200 if ALL else 6
SEED = 20261124


def within_a_write(checkpoints):
    try:
        return any(name.startswith(".writing-") for name in os.listdir(checkpoints))
    except FileNotFoundError:
        return False


def strike(process, folder, rng, aimed):
    """Kill it at a random moment, or when a checkpoint is being written; what was going on is what it left."""
    checkpoints = folder / "checkpoints"
    if aimed:
        # The n-th time that a write is seen, and a little later: at another place within it.
        left, seen = rng.randint(1, 12), False
        while left and process.poll() is None:
            now = within_a_write(checkpoints)
            left -= now and not seen
            seen = now
        delay = rng.choice([0, 0, rng.random() * 2e-3])
        end = time.perf_counter() + delay
        while time.perf_counter() < end:
            pass
    else:
        begun = time.perf_counter()
        while not checkpoints.is_dir() and process.poll() is None and time.perf_counter() - begun < 60:
            time.sleep(0.001)
        time.sleep(rng.random() * 0.5)
    if not kill(process):
        return "after the end"
    if not (folder / "run.sqlite").is_file():
        return "before there was a run"
    status = json.loads((folder / "summary.json").read_text())["status"] if (folder / "summary.json").exists() else ""
    if within_a_write(checkpoints):
        return "within a write"
    return "between writes" if status == "running" else "while closing"


@contextlib.contextmanager
def suppress_finished():
    """A run that was killed after its end has nothing to go on with."""
    try:
        yield
    except RunError as error:
        if "has finished" not in str(error):
            raise


@pytest.mark.slow
def test_killed_runs_go_on_to_the_same_bits(tmp_path):
    kinds = victim.kinds()
    wait(Run(Study.from_document(victim.document(ITERATIONS), kinds=kinds), out=tmp_path / "whole").execute())
    expected = fingerprint(tmp_path / "whole")
    rng = random.Random(SEED)
    histogram, wrong, number, kills = collections.Counter(), [], 0, 0
    while kills < KILLS:
        number += 1
        folder = tmp_path / f"run-{number}"
        what = "run"
        for _again in range(rng.choice([1, 1, 2])):  # some runs die twice
            place = strike(start("victim", folder, ITERATIONS, what), folder, rng, aimed=rng.random() < 0.7)
            histogram[place] += 1
            if place == "before there was a run":
                break
            kills += place != "after the end"
            if place == "after the end" or kills == KILLS:
                break
            what = "resume"
        if not (folder / "run.sqlite").is_file() or not (folder / "study.toml").is_file():
            continue
        with suppress_finished():
            wait(Run.resume(folder, kinds=kinds).execute())
        got = fingerprint(folder)
        if got != expected:
            wrong.append((number, dict(histogram), [part for part in got if got[part] != expected[part]]))
        assert not within_a_write(folder / "checkpoints")
        assert not (folder / "shots").exists()
    print(f"\nseed {SEED}, {kills} kills of {number} runs: {dict(histogram)}")
    assert wrong == []
    assert histogram["within a write"] >= (80 if ALL else 1)
