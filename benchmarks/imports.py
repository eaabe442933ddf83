"""The figures of starting up: ``import thalweg`` and ``thalweg --help``."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import time
from pathlib import Path

from benchmarks.contest import Options
from benchmarks.figures import Figure, Target
from benchmarks.machine import as_installed

NOTES = (
    "Import times are the cumulative ones that `python -X importtime -c 'import ...'` prints, NumPy's own part beside "
    "the whole; `thalweg --help` is the wall time of the installed command. One more run before, which fills the "
    "caches (bytecode, too), is not counted; what is measured takes turns.",
)
RUNS = 7


def figures(options: Options) -> list[Figure]:
    """Measure everything, ``--quick`` in fewer runs."""
    runs = 2 if options.quick else RUNS
    command = _command()
    imports: list[float] = []
    numpy_alone: list[float] = []
    helps: list[float] = []
    for turn in range(runs + 1):
        options.say(f"imports: run {turn} of {runs}" if turn else "imports: filling the caches")
        found = (import_seconds("thalweg"), import_seconds("numpy"), _help_seconds(command))
        if turn:
            for samples, seconds in zip((imports, numpy_alone, helps), found, strict=True):
                if seconds is not None:
                    samples.append(seconds)
    judged = not options.quick
    return [
        Figure("import thalweg", tuple(imports), unit="s", target=Target(high=0.25), judged=judged),
        Figure("import numpy alone", tuple(numpy_alone), unit="s"),
        Figure(
            "thalweg --help",
            tuple(helps),
            unit="s",
            target=Target(high=0.5),
            judged=judged,
            note="" if command else "the command is not installed beside this Python (pip install -e .)",
        ),
    ]


def import_seconds(package: str) -> float:
    """Return the cumulative import time of a package in a new process, s."""
    ended = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", f"import {package}"],
        capture_output=True,
        text=True,
        check=True,
        env=as_installed(),
    )
    for line in reversed(ended.stderr.splitlines()):
        columns = line.split("|")  # import time: own µs | cumulative µs | name, indented by depth
        if len(columns) == 3 and columns[2].strip() == package:
            return int(columns[1]) * 1e-6
    raise RuntimeError(f"python -X importtime printed no line for {package}")


def _command() -> Path | None:
    for folder in (Path(sys.executable).parent, Path(sysconfig.get_path("scripts"))):
        for name in ("thalweg", "thalweg.exe"):
            if (folder / name).is_file():
                return folder / name
    return None


def _help_seconds(command: Path | None) -> float | None:
    if command is None:
        return None
    began = time.perf_counter()
    subprocess.run([command, "--help"], capture_output=True, check=True, env=as_installed())
    return time.perf_counter() - began
