"""One step of an optimizer as PyTensor expressions: gradient → ``process_grad`` → rule → ``process_model``. ::

    [(θ, θ'), (slot, slot'), …, (carried, carried'), …, (count, count'), (t, t')]

For each parameter itself and then its slots; t at the end, and only if something depends on it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from thalweg.errors import HyperparameterError, MissingGradientError, NonFiniteGradientError, OptimizerError
from thalweg.lowering.pytensor import Expression, Gate, Part, all_finite, depends, doubles, inside, library, lower
from thalweg.optimizers.configured import ConfiguredOptimizer
from thalweg.optimizers.pytensor_shared import Held, SharedParameter, apply_hook
from thalweg.optimizers.settings import to_config
from thalweg.rules.arithmetic import isfinite, where
from thalweg.rules.namespaces import library_of
from thalweg.rules.ranges import number
from thalweg.schedules import Counts, Schedule

Updates = list[tuple[Any, Any]]
"""Pairs of a shared variable and the expression for what it becomes."""


class Built(NamedTuple):
    """A step as a graph.

    Args:
        updates: the pairs.
        counted: whether t is among them.
        traced: the config of each schedule that the graph holds, by group and hyperparameter.
    """

    updates: Updates
    counted: bool
    traced: dict[tuple[int, str], Any]


def gradients(cost: Any, parameters: Sequence[SharedParameter]) -> dict[str, Expression]:
    """The gradients of a cost, by the parameters' names.

    Args:
        cost: a real scalar expression.
        parameters: the parameters.

    Returns:
        An expression for each, of its parameter's dtype.

    Raises:
        OptimizerError: the cost is no real scalar expression.
        MissingGradientError: the cost does not depend on a parameter.
    """
    if library_of(cost) != "pytensor" or getattr(cost, "ndim", None) != 0 or not cost.dtype.startswith("float"):
        found = getattr(cost, "type", type(cost).__name__)
        raise OptimizerError(f"cost is {cost!r} ({found}); give a real scalar expression of PyTensor, cost.sum() say")
    wrt = [parameter.shared for parameter in parameters]
    grads = library().grad(cost, wrt, disconnected_inputs="ignore", return_disconnected="none")
    apart = [p.name for p, grad in zip(parameters, grads, strict=True) if grad is None]
    if apart:
        raise MissingGradientError(
            f"the cost does not depend on {', '.join(map(repr, apart))}; leave it out of params, or see that the cost "
            "is made of this very shared variable",
            variables=apart,
        )
    cast = library("pytensor.tensor").cast
    return {p.name: cast(grad, p.shared.dtype) for p, grad in zip(parameters, grads, strict=True)}


def build(
    optimizer: ConfiguredOptimizer,
    held: Held,
    parameters: Sequence[SharedParameter],
    grads: dict[str, Expression],
    rate: Expression | None,
) -> Built:
    """One step.

    Args:
        optimizer: the optimizer.
        held: its numbers.
        parameters: its parameters, in the order that the updates are to have.
        grads: their gradients.
        rate: a learning rate in place of its own, a float64 scalar.

    Returns:
        The updates, and what the graph holds for good.

    Raises:
        HyperparameterError: a schedule or hook that a graph cannot hold.
    """
    pt, rule, gate = library("pytensor.tensor"), optimizer.rule, Gate()
    hypers, traced = hyperparameters(optimizer, held, rate, gate)
    shared = {p.name: p.shared for p in parameters}
    used = apply_hook(optimizer._process_grad, grads, shared)
    bad = pt.constant(np.int64(0))
    for name, grad in used.items():
        if optimizer._nonfinite == "raise":
            message = f"{optimizer.name}: the gradient of {name!r} holds NaN or infinity; nothing was changed"
            gate.require(all_finite(grad), NonFiniteGradientError, message)
        elif optimizer._nonfinite in (
            "skip",
            "zero",
        ):  # zeros where a step will be skipped: nothing invalid is computed
            used[name] = where(isfinite(grad), grad, pt.zeros((), dtype=grad.dtype))
            if optimizer._nonfinite == "skip":
                gate.select(all_finite(grad))
            else:
                bad = bad + pt.sum(~isfinite(grad), dtype="int64")

    parts = [Part(p.shared, used[p.name], _slots(p, hypers[p.group], held.t), p.group) for p in parameters]
    lowered = lower(rule, parts, hypers, pt.cast(held.t, "float64") + 1, held.carried)
    params = dict(zip(shared, lowered.params, strict=True))
    params = apply_hook(optimizer._process_model, params, params)

    updates = []
    for parameter, slots in zip(parameters, lowered.slots, strict=True):
        updates += [(parameter.shared, params[parameter.name]), *zip(parameter.held, slots, strict=True)]
    for variables, numbers in zip(held.carried, lowered.carried, strict=True):
        updates += zip(variables, numbers, strict=True)
    updates = [(variable, _typed(gate(new, variable), variable)) for variable, new in updates]
    if optimizer._nonfinite == "skip":
        updates.append((held.skipped, held.skipped + gate(pt.constant(np.int64(0)), pt.constant(np.int64(1)))))
    if optimizer._nonfinite == "zero":
        updates.append((held.zeroed, gate(held.zeroed + bad, held.zeroed)))
    counted = depends((new for _, new in updates), held.t)
    if counted:
        updates.append((held.t, gate(held.t + 1, held.t)))
    return Built(updates, counted, traced)


def hyperparameters(
    optimizer: ConfiguredOptimizer, held: Held, rate: Expression | None, gate: Gate
) -> tuple[list[Any], dict[tuple[int, str], Any]]:
    """For each group its hyperparameters as float64 scalars, and what schedules are in them.

    Args:
        optimizer: the optimizer.
        held: its numbers.
        rate: a learning rate in place of its own.
        gate: what gets the conditions that numbers from elsewhere have to meet.

    Returns:
        An instance of the rule's ``hyper`` for each group, and the schedules' configs.

    Raises:
        HyperparameterError: a schedule that a graph cannot hold.
    """
    rule, traced, hypers = optimizer.rule, {}, []
    if rate is not None:
        _require(optimizer, gate, "lr", rate, "learning_rate")
    for group in range(held.groups):
        values = {}
        for name, value in held.settings(group).items():
            if name == "learning_rate" and rate is not None:
                values[name] = rate
            elif callable(value):
                values[name] = _traced(optimizer, held, name, value)
                _require(optimizer, gate, f"the schedule of {name}", values[name], name)
                traced[group, name] = to_config(value)
            else:
                values[name] = held.number(group, name)
        hypers.append(rule.hyper(**values))
    return hypers, traced


def _require(optimizer: ConfiguredOptimizer, gate: Gate, what: str, value: Expression, name: str) -> None:
    """Have a number that only the compiled function knows be in its range."""
    interval = optimizer.rule.hyperparameters[name].interval
    if isinstance(value, library("pytensor.graph.basic").Constant):  # it was checked as a number
        return
    message = f"{optimizer.name}: {what} is outside its range {interval}, or not finite; nothing was changed"
    gate.require(inside(value, interval), HyperparameterError, message)


def _traced(optimizer: ConfiguredOptimizer, held: Held, name: str, schedule: Any) -> Expression:
    """A schedule as a function of t."""
    pt, interval = library("pytensor.tensor"), optimizer.rule.hyperparameters[name].interval
    epoch, batch = pt.lscalar("curr_epoch"), pt.lscalar("curr_batch")
    counts = Counts(optimizer.optimization_state.batch_size, epoch, batch, held.t + held.offset + 1)
    instead = (
        f"{optimizer.name}: give the number as a shared variable instead, update(cost, params, lr=rate), and set that "
        f"before each step; {name} is {schedule!r}"
    )
    with doubles():
        try:
            value = schedule(counts)
        except (TypeError, ValueError, AttributeError) as error:
            raise HyperparameterError(f"{instead}, which does not work on expressions: {error}", name=name) from error
    if library_of(value) != "pytensor":
        if isinstance(schedule, Schedule) and not schedule.state():
            constant = number(value, interval, name=name, owner=optimizer.name)
            return pt.constant(np.float64(constant))
        raise HyperparameterError(f"{instead}, whose value is {value!r} whatever the counts are", name=name)
    if depends([value], epoch) or depends([value], batch):
        raise HyperparameterError(
            f"{instead}, which counts epochs or batches, and a compiled function knows its own steps only", name=name
        )
    if value.ndim != 0:
        raise HyperparameterError(f"{instead}, whose value is no scalar", name=name)
    return pt.cast(value, "float64")


def _slots(parameter: SharedParameter, hyper: Any, t: Expression) -> tuple[Expression, ...]:
    """The slots before the step. One that starts at the parameter starts at what it is in the first step."""
    pt, param = library("pytensor.tensor"), parameter.shared
    with doubles():
        starts = parameter.rule.beginning(param, hyper)
    return tuple(
        pt.switch(pt.eq(t, 0), pt.cast(start, param.dtype), variable)
        if library_of(start) == "pytensor" and depends([start], param)
        else variable
        for start, variable in zip(starts, parameter.held, strict=True)
    )


def _typed(expression: Expression, like: Any) -> Expression:
    """An expression that says of its shape what the shared variable says."""
    if expression.type.shape == like.type.shape:
        return expression
    return library("pytensor.tensor").specify_shape(expression, like.type.shape)
