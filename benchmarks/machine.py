"""One line about where the figures were measured."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("thalweg", "numpy", "numba")


def machine() -> dict[str, str]:
    """Return processor, cores, load, system and versions."""
    facts = {
        "processor": _processor(),
        "cores": str(cores()),
        "load": f"{os.getloadavg()[0]:.1f}" if hasattr(os, "getloadavg") else "unknown",
        "system": f"{platform.system()} {platform.machine()}",
        "Python": platform.python_version(),
    }
    for package in PACKAGES:
        try:
            facts[package] = version(package)
        except PackageNotFoundError:
            facts[package] = "not installed"
    return facts


def machine_line() -> str:
    """Return the facts in one line; a load near or above the number of cores spoils every time."""
    return "machine: " + ", ".join(f"{name} {value}" for name, value in machine().items())


def cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def as_installed(**more: str) -> dict[str, str]:
    """Return the environment of a process whose start is timed: packages have their bytecode, as pip leaves them.

    Where ``PYTHONDONTWRITEBYTECODE`` is set, an editable install would compile every module anew at each start.
    """
    return {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"} | more


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor() or "unknown"
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown")
