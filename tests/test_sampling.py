"""A sample of a large table is the same in every process, and whoever asks for one case gets it."""

import os
import subprocess
import sys
from pathlib import Path

from tests import sampling

ROOT = Path(__file__).resolve().parent.parent
TABLE = "tests/schedules/test_table.py"
TEST = "test_the_values_are_those_of_the_library"


def test_a_sample_is_in_order_and_the_same_each_time(monkeypatch):
    monkeypatch.setattr(sampling, "ALL", False)
    found = sampling.sample(range(100), 10, seed="name")
    assert len(set(found)) == 10
    assert found == sorted(found) == sampling.sample(range(100), 10, seed="name")
    assert found != sampling.sample(range(100), 10, seed="another name")
    assert sampling.sample("abc", 3, seed=0) == ["a", "b", "c"]
    monkeypatch.setattr(sampling, "ALL", True)
    assert sampling.sample(range(100), 10, seed="name") == list(range(100))


def collected(*arguments, **environment):
    command = [sys.executable, "-m", "pytest", "--collect-only", "-q", *arguments]
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "THALWEG_TESTS"))}
    found = subprocess.run(command, cwd=ROOT, env={**outer, **environment}, capture_output=True, text=True, check=True)
    return [line for line in found.stdout.splitlines() if f"::{TEST}[" in line]


def test_make_test_runs_a_sample_and_make_test_all_the_table():
    some, every = collected(f"{TABLE}::{TEST}"), collected(f"{TABLE}::{TEST}", THALWEG_TESTS="all")
    assert set(some) < set(every)
    left_out = next(case for case in every if case not in some)
    assert collected(left_out) == [left_out]
