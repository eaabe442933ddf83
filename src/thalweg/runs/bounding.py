"""Whether the bounds of ``process_model`` fit the problem: a start outside would silently be moved by the first step,
and values that the problem cannot bear would stop the run when they are reached. Where a run goes on, its start is
past: what must fit is its model, if nothing moves it out again after the bounds, and bounds that the run has had all
along, or wider ones, do not stop it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.optimizers import LocalOptimizer
from thalweg.optimizers.pipeline import Pipeline
from thalweg.runs.built import ranges_of
from thalweg.runs.validation import Fault
from thalweg.transforms import bounds, chain, nonnegative

if TYPE_CHECKING:
    from thalweg.graph import Variable
    from thalweg.runs.problem import Problem

PATH = "optimizer.process_model"
Limits = tuple[float, float]
"""Lower and upper, infinite where there is none."""


def bounds_faults(optimizer: LocalOptimizer, problem: Problem, path: str = PATH) -> list[Fault]:
    """What is wrong with the bounds of a study whose run begins.

    Args:
        optimizer: bound to the problem's variables, which are where they start.
        problem: its :meth:`~thalweg.runs.Problem.ranges` say what it bears.
        path: the dotted path of the hook.
    """
    ranges = ranges_of(problem)
    faults = []
    for variable, step in _bounded(optimizer, problem):
        faults += start_faults(variable, step, path)
        faults += _range_faults(variable, step, ranges, path)
    return faults


def going_on_faults(
    optimizer: LocalOptimizer, problem: Problem, model: Mapping[str, Any], iteration: int, before: Any, *, same: bool
) -> tuple[list[Fault], list[Fault]]:
    """What is wrong with the bounds of a study whose run goes on.

    Args:
        optimizer: as it goes on.
        problem: its :meth:`~thalweg.runs.Problem.ranges` say what it bears.
        model: where the variables are, by name.
        iteration: since when.
        before: the table, or list of tables, of the hook that the model was made with.
        same: whether the problem bears what it did.

    Returns:
        What has come with a change of the study, and what was so before.
    """
    ranges = ranges_of(problem)
    new: list[Fault] = []
    old: list[Fault] = []
    hook = Pipeline("process_model", optimizer.process_model)
    for variable in problem.variables:
        name = variable.name or ""
        steps = hook.steps(name)
        had = limits_in(before, name)
        lasting_had = [step.limits for step in _lasting(_steps_in(before, name))]
        for box in _lasting(steps):
            if (at := _outside(model[name], box)) is not None:
                text = f"{_said(box)}, and {name} of iteration {iteration} is outside, {at}: the next step would move "
                text += "it; give bounds that hold it, or go on from an earlier iteration (--iteration)"
                wider = any(_holds(box.limits, limits) for limits in lasting_had)
                (old if wider else new).append(Fault(PATH, text))
        for step in steps:
            if isinstance(step, bounds):
                known = same and step.limits in had
                (old if known else new).extend(_range_faults(variable, step, ranges, PATH))
    return new, old


def _holds(outer: Limits, inner: Limits) -> bool:
    return outer[0] <= inner[0] and inner[1] <= outer[1]


def limits_in(hook: Any, variable: str) -> list[Limits]:
    """The bounds of a variable in a hook of a study, wherever they stand in it.

    Example:
        >>> from thalweg.runs.bounding import limits_in
        >>> box = {"kind": "bounds", "lower": 0}
        >>> hook = {"by_variable": {"x": [{"kind": "chain", "steps": [box]}]}}
        >>> limits_in(hook, "x"), limits_in(hook, "y")
        ([(0.0, inf)], [])
    """
    return [step.limits for step in _steps_in(hook, variable) if isinstance(step, bounds)]


def _steps_in(hook: Any, variable: str) -> list[Any]:
    """The steps of a variable in a hook of a study, those of a chain one by one: bounds as what they are, others as
    tables."""
    if isinstance(hook, Mapping) and isinstance(hook.get("by_variable"), Mapping):
        hook = hook["by_variable"].get(variable)
    tables = hook if isinstance(hook, list | tuple) else [hook] if hook else []
    steps: list[Any] = []
    for table in tables:
        kind = table.get("kind") if isinstance(table, Mapping) else None
        if kind == chain.kind:
            steps += _steps_in(table.get("steps"), variable)
        elif kind == bounds.kind:
            steps.append(bounds(table.get("lower"), table.get("upper")))
        else:
            steps.append(nonnegative() if kind == nonnegative.kind else table)
    return steps


def _lasting(steps: Sequence[Any]) -> list[bounds]:
    """The bounds that hold what comes out at the end: after them come only others that leave values inside of them."""
    found: list[bounds] = []
    least, most = -np.inf, np.inf  # of what follows
    for step in reversed(steps):
        if not isinstance(step, bounds | nonnegative):
            break
        lower, upper = step.limits if isinstance(step, bounds) else (0.0, np.inf)
        least, most = max(least, lower), min(most, upper)
        if least > most:  # what follows moves everything out again
            break
        if isinstance(step, bounds):
            found.insert(0, step)
    return found


def start_faults(variable: Variable, step: bounds, path: str) -> list[Fault]:
    """What is wrong with where a variable starts; bounds are rounded to its dtype, as they are when applied.

    Example:
        >>> import numpy as np
        >>> import thalweg as tw
        >>> from thalweg.runs.bounding import start_faults
        >>> speed = tw.Variable(np.array([1500.0, 1800.0]), name="vp")
        >>> [fault] = start_faults(speed, tw.transforms.bounds(1.5, 2.4), "optimizer.process_model")
        >>> print(fault.text.partition(";")[0])
        bounds of 1.5 to 2.4, and vp starts outside, at 1500 to 1800
    """
    at = _outside(variable.data, step)
    if at is None:
        return []
    text = f"{_said(step)}, and {variable.name} starts outside, {at}; "
    return [Fault(path, text + "give bounds that hold the start, in its unit, or start inside")]


def _bounded(optimizer: LocalOptimizer, problem: Problem) -> Iterator[tuple[Variable, bounds]]:
    """The bounds of each variable."""
    hook = Pipeline("process_model", optimizer.process_model)
    for variable in problem.variables:
        for step in hook.steps(variable.name or ""):
            if isinstance(step, bounds):
                yield variable, step


def _outside(data: np.ndarray, step: bounds) -> str | None:
    """Where data is that bounds would move, in words."""
    with np.errstate(over="ignore"):
        lower, upper = (np.asarray(limit).astype(data.dtype) for limit in step.limits)
    if not ((data < lower) | (data > upper)).any():
        return None
    return f"at {data.min():.6g} to {data.max():.6g}"


def _range_faults(
    variable: Variable, step: bounds, ranges: Mapping[str, tuple[float, float]], path: str
) -> list[Fault]:
    name = variable.name or ""
    least, most = ranges.get(name, (-np.inf, np.inf))
    beyond = [limit for limit in (step.lower, step.upper) if limit is not None and not least <= limit <= most]
    if not beyond:
        return []
    text = f"{_said(step)}, and the problem bears {least:.6g} to {most:.6g} for {name}; "
    return [Fault(path, text + "narrow the bounds, or have the problem bear more")]


def _said(step: bounds) -> str:
    lower, upper = ("any" if limit is None else f"{limit:.6g}" for limit in (step.lower, step.upper))
    return f"bounds of {lower} to {upper}"
