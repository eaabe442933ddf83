"""Which kinds of problem there are: entry points of the group ``thalweg.problems``, and what a caller brings.

Nothing is imported before a study names it.
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from thalweg.runs.problem import Problem
from thalweg.runs.validation import Fault, nearest, show

GROUP = "thalweg.problems"


def known_kinds(kinds: Mapping[str, type[Problem]] | None = None) -> dict[str, type[Problem] | EntryPoint]:
    """Every kind by name; those that the caller brings come before installed ones.

    Args:
        kinds: the caller's own, by name.
    """
    found: dict[str, type[Problem] | EntryPoint] = {point.name: point for point in entry_points(group=GROUP)}
    found.update(kinds or {})
    return found


def find_kind(name: Any, kinds: Mapping[str, type[Problem]] | None = None) -> tuple[type[Problem] | None, list[Fault]]:
    """The class of a kind, or None, and what was wrong.

    Args:
        name: what the study says under ``problem.kind``.
        kinds: the caller's own, by name.
    """
    known = known_kinds(kinds)
    listed = ", ".join(sorted(known)) or "none"
    if not isinstance(name, str):
        return None, [Fault("problem.kind", f"got {show(name)}, expected one of: {listed}")]
    if name not in known:
        near = f'; the nearest known one is "{nearest(name, known)}"' if known else ""
        return None, [Fault("problem.kind", f"there is no kind of problem {name!r}{near} (known: {listed})")]
    found = known[name]
    if isinstance(found, EntryPoint):
        try:
            found = found.load()
        except Exception as error:  # a package of somebody else's: anything can go wrong in its import
            text = f"the kind {name!r} ({found.value}) cannot be imported: {type(error).__name__}: {error}"
            return None, [Fault("problem.kind", text)]
    if not (isinstance(found, type) and issubclass(found, Problem)):
        return None, [Fault("problem.kind", f"{name!r} is {found!r}, which is no thalweg.runs.Problem")]
    return found, []
