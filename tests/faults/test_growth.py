"""Thousands of iterations hold no more than the first ones."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.sampling import ALL

ROOT = Path(__file__).parents[2]
ITERATIONS, FIRST = (10_000, 2_000) if ALL else (2_500, 1_000)


@pytest.mark.slow
def test_a_long_run_does_not_grow(tmp_path):
    """A checkpoint every 20 iterations, the best kept besides; measured when what is free was given back."""
    at = FIRST - 5  # as far from the last checkpoint as the end is
    command = [
        sys.executable,
        "-m",
        "tests.faults.grower",
        str(tmp_path / "run"),
        str(ITERATIONS),
        str(at),
    ]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1500, cwd=ROOT)
    assert done.stderr == ""
    first, last, end = map(json.loads, done.stdout.splitlines())
    print(f"\niteration {first['iteration']}: {first}\niteration {last['iteration']}: {last}")
    assert (first["iteration"], last["iteration"]) == (at, ITERATIONS - 5)
    assert end == {"status": "finished", "rows": ITERATIONS}
    assert last["memory"] < 1.01 * first["memory"]
    assert last["blocks"] < 1.01 * first["blocks"]
    assert last["files"] <= first["files"]
    assert last["threads"] <= first["threads"]
