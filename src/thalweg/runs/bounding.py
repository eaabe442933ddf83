"""Whether the bounds of ``process_model`` fit the problem: a start outside would silently be moved by the first step,
and values that the problem cannot bear would stop the run when they are reached. Where a run goes on, its start is
past: what must fit is its model, and bounds that the run has had all along stop nothing."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.optimizers import LocalOptimizer
from thalweg.optimizers.pipeline import Pipeline
from thalweg.runs.built import ranges_of
from thalweg.runs.validation import Fault
from thalweg.transforms import bounds

if TYPE_CHECKING:
    from thalweg.graph import Variable
    from thalweg.runs.problem import Problem

PATH = "optimizer.process_model"
Limits = tuple[float | None, float | None]


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
    ranges, had = ranges_of(problem), set(limits_in(before))
    new: list[Fault] = []
    old: list[Fault] = []
    for variable, step in _bounded(optimizer, problem):
        name = variable.name or ""
        known = (step.lower, step.upper) in had
        if (at := _outside(model[name], step)) is not None:
            text = f"{_said(step)}, and {name} of iteration {iteration} is outside, {at}: the next step would move it; "
            fault = Fault(PATH, text + "give bounds that hold it, or go on from an earlier iteration (--iteration)")
            (old if known else new).append(fault)
        (old if known and same else new).extend(_range_faults(variable, step, ranges, PATH))
    return new, old


def limits_in(hook: Any) -> Iterator[Limits]:
    """The bounds in a hook of a study, wherever they stand in it.

    Example:
        >>> from thalweg.runs.bounding import limits_in
        >>> box = {"kind": "bounds", "lower": 0}
        >>> list(limits_in({"by_variable": {"x": [{"kind": "chain", "steps": [box]}]}}))
        [(0, None)]
    """
    if isinstance(hook, Mapping):
        if hook.get("kind") == bounds.kind:
            yield hook.get("lower"), hook.get("upper")
        hook = list(hook.values())
    if isinstance(hook, list):
        for entry in hook:
            yield from limits_in(entry)


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
