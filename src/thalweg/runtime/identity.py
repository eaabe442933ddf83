"""What decides the bits that a process computes: versions, and the processor that its code is compiled for.

LLVM and NumPy choose instructions by the processor's features, and fused or wider ones round differently, so workers on
different processors return different last bits. Processes are alike if all of :func:`identity` is.
"""

from __future__ import annotations

import platform
from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

from thalweg.lowering.objects import processor

FEATURES = frozenset({"CPU features", "NumPy's CPU features"})
ALWAYS = frozenset({"thalweg", "numpy", "numba", "python", "CPU"}) | FEATURES
"""What every process says of itself. A run may know more of one, such as the version of what it searches with."""

_PIN = (
    "Run all of them in the same environment, on the same kind of processor; or have them all compile for one target "
    "that each of them has, by setting NUMBA_CPU_NAME, NUMBA_CPU_FEATURES and NPY_DISABLE_CPU_FEATURES for the client "
    "and the workers alike (NUMBA_CPU_NAME=generic always works, and is slower)."
)


def identity() -> dict[str, str]:
    """The versions of thalweg, numpy, numba and python, and what code is compiled for.

    Example:
        >>> from thalweg.runtime.identity import identity
        >>> sorted(identity())
        ['CPU', 'CPU features', "NumPy's CPU features", 'numba', 'numpy', 'python', 'thalweg']
    """
    found = {name: _version(name) for name in ("thalweg", "numpy", "numba")}
    name, features = processor()
    return {
        **found,
        "python": platform.python_version(),
        "CPU": name,
        "CPU features": features,
        "NumPy's CPU features": _numpy_features(),
    }


def differences(mine: Mapping[str, str], theirs: Mapping[str, str]) -> list[str]:
    """What is not the same, a line each; what is not in :data:`ALWAYS` counts if both sides say it.

    Example:
        >>> from thalweg.runtime.identity import differences
        >>> differences({"numpy": "2.1", "CPU features": "+avx2,+fma"}, {"numpy": "2.2", "CPU features": "+avx2"})
        ['numpy is 2.1 here and 2.2 there', 'CPU features that only this side has: +fma']
    """
    lines = []
    for name in [*mine, *(theirs.keys() - mine.keys())]:
        if name not in ALWAYS and not (name in mine and name in theirs):
            continue
        here, there = mine.get(name, "unknown"), theirs.get(name, "unknown")
        if here == there:
            continue
        if name not in FEATURES:
            lines.append(f"{name} is {here} here and {there} there")
            continue
        ours, others = (set(filter(None, features.split(","))) for features in (here, there))
        for side, only in (("this side", ours - others), ("the other side", others - ours)):
            if only:
                lines.append(f"{name} that only {side} has: {','.join(sorted(only))}")
    return lines


def refusal(worker: str, lines: list[str]) -> str:
    """The message about a worker that differs."""
    return (
        f"The worker {worker} would compute other bits than this process: {'; '.join(lines)}. With such a mixture a "
        f"result depends on which worker did what, and a resumed run on where it goes on. {_PIN}"
    )


def unknown(worker: str, error: Exception) -> str:
    """The message about a worker that failed when it was asked."""
    return (
        f"The worker {worker} cannot say what it is: {type(error).__name__}: {error}. Workers and scheduler need the "
        "same versions of Thalweg, Python and their libraries as this process."
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def _numpy_features() -> str:
    try:
        features: dict[str, bool] = import_module("numpy._core._multiarray_umath").__cpu_features__
    except (ImportError, AttributeError):  # NumPy 1.26 has it under another name, and a later one may hide it
        return "unknown"
    return ",".join(sorted(name for name, there in features.items() if there))
