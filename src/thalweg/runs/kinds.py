"""Which kinds of problem there are: entry points of the group ``thalweg.problems``, and what a caller brings.

Nothing is imported before a study names it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from pydantic import BaseModel

from thalweg.runs.problem import Problem
from thalweg.runs.validation import Fault, meant, models_in, show

GROUP = "thalweg.problems"
_OWN = (
    f"a kind of your own is found through the entry point group {GROUP} of an installed package, or is given: "
    "kinds={name: class} of Study.load, Study.from_document and Run.resume"
)


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
        text = f"there is no kind of problem {name!r}{meant(name, known)} (known: {listed})"
        return None, [Fault("problem.kind", f"{text}; {_OWN}")]
    found = known[name]
    # Not asked for its class: once Dask is imported, importlib_metadata hands out entry points of its own class.
    if not isinstance(found, type) and hasattr(found, "load"):
        try:
            found = found.load()
        except Exception as error:  # a package of somebody else's: anything can go wrong in its import
            text = f"the kind {name!r} ({found.value}) cannot be imported: {type(error).__name__}: {error}"
            return None, [Fault("problem.kind", text)]
    if not (isinstance(found, type) and issubclass(found, Problem)):
        return None, [Fault("problem.kind", f"{name!r} is {found!r}, which is no thalweg.runs.Problem")]
    faults = [Fault("problem.kind", text) for part in ("Settings", "BlockSettings") for text in _lenient(found, part)]
    return (None, faults) if faults else (found, [])


def _lenient(problem: type[Problem], part: str) -> Iterator[str]:
    """What is wrong with one of a problem's settings classes: misspelled keys must not be ignored."""
    model = getattr(problem, part, None)
    where = f"{problem.__qualname__}.{part}"
    if not (isinstance(model, type) and issubclass(model, BaseModel)):
        yield f"{where} is {model!r}; it must be a pydantic model"
        return
    todo, seen = [model], {model}
    while todo:
        model = todo.pop()
        if model.model_config.get("extra") != "forbid":
            at = where if model is getattr(problem, part) else f"{where} (in its table {model.__qualname__})"
            yield (
                f"{at} would silently ignore misspelled keys of a study; declare it as "
                f'`class {model.__name__}(BaseModel, extra="forbid")`'
            )
        inside = {m for field in model.model_fields.values() for m in models_in(field.annotation)} - seen
        seen |= inside
        todo += sorted(inside, key=lambda m: m.__qualname__)
