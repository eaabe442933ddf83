"""What a run ran on: the machine and the versions, for the history."""

from __future__ import annotations

import os
import platform
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

_PACKAGES = ("thalweg", "numpy", "numba", "llvmlite", "scipy", "safetensors", "pydantic", "matplotlib", "distributed")


def machine() -> dict[str, Any]:
    """The computer: ``host``, ``system``, ``processor``, ``cores`` (that this process may use) and
    ``memory_bytes``; None for what cannot be known."""
    # Not platform.platform(), which starts a process: it would hold the run's lock if this one was killed meanwhile.
    system = os.uname()
    return {
        "host": system.nodename,
        "system": f"{system.sysname}-{system.release}-{system.machine}",
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "memory_bytes": _memory(),
    }


def all_versions() -> dict[str, str]:
    """The versions of Python, of Thalweg and of the packages that it computes, writes and draws with, of those
    that are installed.

    Example:
        >>> from thalweg.runs.machine import all_versions
        >>> "numpy" in all_versions()
        True
    """
    found = {"python": platform.python_version()}
    for package in _PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str | None:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return os.uname().machine or None


def _memory() -> int | None:
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, OSError, ValueError):
        return None
