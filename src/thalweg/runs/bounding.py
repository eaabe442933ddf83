"""Whether the bounds of ``process_model`` fit the problem: a start outside would silently be moved by the first step,
and values that the problem cannot bear would stop the run when they are reached."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from thalweg.optimizers import LocalOptimizer
from thalweg.optimizers.pipeline import Pipeline
from thalweg.runs.validation import Fault
from thalweg.transforms import bounds

if TYPE_CHECKING:
    from thalweg.graph import Variable
    from thalweg.runs.problem import Problem


def bounds_faults(optimizer: LocalOptimizer, problem: Problem, path: str) -> list[Fault]:
    """What is wrong with the bounds of a study.

    Args:
        optimizer: bound to the problem's variables, which are where they start.
        problem: its :meth:`~thalweg.runs.Problem.ranges` say what it bears.
        path: the dotted path of the hook.
    """
    hook = Pipeline("process_model", optimizer.process_model)
    ranges = problem.ranges()
    faults = []
    for variable in problem.variables:
        name = variable.name or ""
        for step in hook.steps(name):
            if isinstance(step, bounds):
                faults += start_faults(variable, step, path)
                faults += _range_faults(name, step, ranges.get(name, (-np.inf, np.inf)), path)
    return faults


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
    data = variable.data
    with np.errstate(over="ignore"):
        lower, upper = (np.asarray(limit).astype(data.dtype) for limit in step.limits)
    if not ((data < lower) | (data > upper)).any():
        return []
    where = f"at {data.min():.6g} to {data.max():.6g}"
    text = f"{_said(step)}, and {variable.name} starts outside, {where}; "
    return [Fault(path, text + "give bounds that hold the start, in its unit, or start inside")]


def _range_faults(name: str, step: bounds, allowed: tuple[float, float], path: str) -> list[Fault]:
    least, most = allowed
    beyond = [limit for limit in (step.lower, step.upper) if limit is not None and not least <= limit <= most]
    if not beyond:
        return []
    text = f"{_said(step)}, and the problem bears {least:.6g} to {most:.6g} for {name}; "
    return [Fault(path, text + "narrow the bounds, or have the problem bear more")]


def _said(step: bounds) -> str:
    lower, upper = ("any" if limit is None else f"{limit:.6g}" for limit in (step.lower, step.upper))
    return f"bounds of {lower} to {upper}"
