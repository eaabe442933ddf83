"""Hooks and schedules inside a JAX trace: what :mod:`thalweg.optimizers.pipeline` and ``settings`` do elsewhere."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.lowering.jax import Number, number
from thalweg.optimizers.pipeline import Pipeline
from thalweg.optimizers.settings import follows, told
from thalweg.schedules import Counts, Schedule
from thalweg.transforms import ParameterTransform, TreeTransform, bounds

Arrays = Mapping[str, Any]


def run_all(hook: Pipeline, arrays: Arrays, params: Arrays) -> dict[str, Any]:
    """What the callables of a hook make of the arrays of all parameters.

    Args:
        hook: ``process_grad`` or ``process_model``.
        arrays: gradients or data by the parameters' names.
        params: the parameters' data by name, for transforms that look at them.

    Returns:
        The results by name.

    Raises:
        HyperparameterError: a callable cannot be traced, or returned something of another type, shape or dtype.
    """
    results = dict(arrays)
    if isinstance(hook.hook, Mapping):  # by name: each its own, none of them on all together
        for name in results:
            for step in hook.steps(name):
                results[name] = _one(hook.what, step, name, results[name], params[name])
        return results
    for step in hook.steps(next(iter(results))):
        if isinstance(step, TreeTransform):
            found = _called(hook.what, step, results)
            results = {name: _checked(hook.what, step, name, found.get(name), old) for name, old in results.items()}
        else:
            results = {name: _one(hook.what, step, name, old, params[name]) for name, old in results.items()}
    return results


def _one(what: str, step: Any, name: str, array: Any, param: Any) -> Any:
    more = (param,) if isinstance(step, ParameterTransform) else ()
    return _checked(what, step, name, _called(what, step, array, *more), array)


def _called(what: str, step: Any, *values: Any) -> Any:
    try:
        found = step(*values)
    except jax.errors.JAXTypeError as error:
        raise HyperparameterError(
            f"{what}: {step!r} asks for the values of a traced array; write it with jax.numpy, and with where in "
            "place of if",
            name=what,
        ) from error
    if inspect.isawaitable(found):
        if inspect.iscoroutine(found):
            found.close()
        raise HyperparameterError(
            f"{what}: {step!r} is a coroutine function, and JAX traces plain ones; make it one", name=what
        )
    return found


def _checked(what: str, step: Any, name: str, found: Any, given: Any) -> Any:
    if not isinstance(found, jax.Array):
        got = f"a {type(found).__name__}"
    elif found.shape != given.shape:
        got = f"shape {found.shape}"
    elif found.dtype != given.dtype:
        got = f"dtype {found.dtype}"
    else:
        if what == "process_grad" and type(step) is bounds:
            # They are made for models; in a gradient they would put a number where infinity must be noticed.
            return jnp.where(jnp.isfinite(given), found, given)
        return found
    raise HyperparameterError(
        f"{what} of parameter {name!r}: {step!r} returned {got}; it must return a JAX array of shape {given.shape} "
        f"and dtype {given.dtype}",
        name=what,
        variable=name,
    )


def resolve(name: str, schedule: Any, counts: Counts) -> Number:
    """What a schedule says, as a number that may be traced.

    Args:
        name: the hyperparameter's name, for messages.
        schedule: the schedule, ours or a callable of :class:`~thalweg.schedules.Counts`.
        counts: the counts, which may be traced.

    Returns:
        The number; whether it is in its range shows only in the step.

    Raises:
        HyperparameterError: the schedule cannot be traced, or gives no real number.
    """
    try:
        found = schedule(counts)
        shape, kind = jnp.shape(found), jnp.result_type(found)
    except (jax.errors.JAXTypeError, TypeError) as error:
        raise HyperparameterError(
            f"{name} follows {schedule!r}, which cannot be traced by JAX ({type(error).__name__}); write it with "
            "jax.numpy in place of math or numpy, and with where in place of if (the counts are integer scalars), or "
            f"set the number yourself before each step: state = optimizer.set(state, {name}=...)",
            name=name,
        ) from error
    if shape != () or not (jnp.issubdtype(kind, jnp.floating) or jnp.issubdtype(kind, jnp.integer)):
        raise HyperparameterError(
            f"{name} follows {schedule!r}, which gives shape {shape} and dtype {kind}; it must give a real number",
            name=name,
        )
    return number(found)


def check_traceable(settings: Sequence[Mapping[str, Any]]) -> None:
    """Refuse schedules that cannot be part of a traced step.

    Args:
        settings: for each group its hyperparameters.

    Raises:
        HyperparameterError: one has others inside that follow a metric, or cannot be traced.
    """
    zero = np.int32(0)
    counts = Counts(zero, zero, zero, zero)
    for table in settings:
        for name, value in table.items():
            if isinstance(value, Schedule) and value.state() and not told(value):
                raise HyperparameterError(
                    f"{name} follows {value!r}, which holds a Plateau, and that is told a metric; a compiled step "
                    "would keep what it said when it was compiled. Give the Plateau itself, or a number, and set it: "
                    f"state = optimizer.set(state, {name}=...)",
                    name=name,
                )
            if follows(value):
                jax.eval_shape(lambda counted, name=name, value=value: resolve(name, value, counted), counts)
