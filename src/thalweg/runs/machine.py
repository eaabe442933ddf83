"""What a run ran on: the machine and the versions, for the history."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Iterable
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from thalweg.runs.study import Study

_ALWAYS = ("thalweg", "numpy", "numba", "llvmlite", "scipy", "safetensors", "pydantic", "matplotlib", "distributed")
_PACKAGES = {
    **dict.fromkeys(_ALWAYS),
    **{name: name for name in ("threadpoolctl", "typer", "rich", "jsonschema", "httpx", "sniffio", "optuna", "cmaes")},
    **{name: name for name in ("torch", "jax", "pytensor")},
    "scikit-learn": "sklearn",
}
"""What Thalweg's dependencies and extras are, each with the module that says whether it is used; None: always said."""
_OF_A_SEARCH = {
    **{name: name for name in ("scipy", "optuna", "cmaes", "torch", "jax", "pytensor")},
    "scikit-learn": "sklearn",
}


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
    """The versions of Python, of Thalweg and of its dependencies and extras: of those that it computes, writes and
    draws with if they are installed, of the others if this process has loaded them.

    Example:
        >>> from thalweg.runs.machine import all_versions
        >>> "numpy" in all_versions()
        True
    """
    used = [name for name, module in _PACKAGES.items() if module is None or module in sys.modules]
    return {"python": platform.python_version(), **_versions(used)}


def libraries(study: Study) -> dict[str, str]:
    """The versions of what decides what a search finds besides :func:`thalweg.runtime.identity.identity`: of the
    libraries of engines and problems, those that this process has loaded. Nothing, of a study that is no search.
    """
    if not study.problem_class.rewarded:
        return {}
    return _versions([name for name, module in _OF_A_SEARCH.items() if module in sys.modules])


def _versions(packages: Iterable[str]) -> dict[str, str]:
    found = {}
    for package in packages:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
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
