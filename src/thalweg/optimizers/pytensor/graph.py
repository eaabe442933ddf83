"""One step of an optimizer as PyTensor expressions: gradient → ``process_grad`` → rule → ``process_model``. ::

    [(θ, θ'), (slot, slot'), …, (carried, carried'), …, (sum, sum'), …, (count, count'), (t, t')]

For each parameter itself and then its slots; t at the end, and only if something depends on it. Sums of gradients are
there if a step is made of several: every call then computes a whole step, which is selected where it is due.
"""

from __future__ import annotations

import functools
import operator
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from thalweg.errors import HyperparameterError, MissingGradientError, NonFiniteGradientError, OptimizerError
from thalweg.lowering.comparing import by_value
from thalweg.lowering.pytensor import Expression, Gate, Part, all_finite, depends, doubles, inside, library, lower
from thalweg.lowering.tracing import traced
from thalweg.optimizers.configured import ConfiguredOptimizer
from thalweg.optimizers.pipeline import Pipeline
from thalweg.optimizers.pytensor.shared import Held, SharedParameter, apply_hook
from thalweg.optimizers.settings import told
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
        traced: the schedules that the graph holds, by group and hyperparameter.
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
        rate: a learning rate in place of its own, float64, a scalar or like each of the parameters.

    Returns:
        The updates, and what the graph holds for good.

    Raises:
        HyperparameterError: a schedule or hook that a graph cannot hold.
    """
    pt, rule, gate = library("pytensor.tensor"), optimizer.rule, Gate()
    hypers, traced = hyperparameters(optimizer, held, rate, gate)
    shared = {p.name: p.shared for p in parameters}
    before = optimizer._nonfinite == "zero" and optimizer._process_grad.hook is not None  # which would spread a NaN
    raw = _looked_at(optimizer, grads, gate) if before or optimizer.accumulate > 1 else Looked(grads)
    gathered = _gathered(optimizer, held, parameters, raw) if optimizer.accumulate > 1 else Gathered(raw.grads)
    due = gathered.due
    hooked = _hooked(optimizer, optimizer._process_grad, gathered.grads, shared, gate)
    used = _looked_at(optimizer, hooked, gate, due)

    parts = [Part(p.shared, used.grads[p.name], _slots(p, hypers[p.group], held.t, rate), p.group) for p in parameters]
    lowered = lower(rule, parts, hypers, pt.cast(held.t, "float64") + 1, held.carried)
    params = dict(zip(shared, lowered.params, strict=True))
    params = _hooked(optimizer, optimizer._process_model, params, params, gate)

    always = gate.unselected()  # for what changes also where no step is made
    for condition in (due, used.fine):
        if condition is not None:
            gate.select(condition)
    updates = []
    for parameter, slots in zip(parameters, lowered.slots, strict=True):
        updates += [(parameter.shared, params[parameter.name]), *zip(parameter.held, slots, strict=True)]
    for variables, numbers in zip(held.carried, lowered.carried, strict=True):
        updates += zip(variables, numbers, strict=True)
    updates = [(variable, _typed(gate(new, variable), variable)) for variable, new in updates]
    updates += [(variable, _typed(always(new, variable), variable)) for variable, new in gathered.updates]
    if used.fine is not None:
        missed = ~used.fine
        if due is not None and raw.fine is not None:
            missed = ~raw.fine | (due & missed)
        updates.append((held.skipped, always(held.skipped + pt.cast(missed, "int64"), held.skipped)))
    if optimizer._nonfinite == "zero":
        last = used.bad if due is None else pt.switch(due, used.bad, 0)
        updates.append((held.zeroed, always(held.zeroed + raw.bad + last, held.zeroed)))
    counted = depends((new for _, new in updates), held.t)
    if counted:
        updates.append((held.t, gate(held.t + 1, held.t)))
    return Built(updates, counted, traced)


def _hooked(
    optimizer: ConfiguredOptimizer,
    hook: Pipeline,
    arrays: dict[str, Expression],
    params: dict[str, Expression],
    gate: Gate,
) -> dict[str, Expression]:
    """What a hook makes of arrays, which must keep their shapes: a sum that kept its axis would be broadcast unseen."""
    found, pt = apply_hook(hook, arrays, params), library("pytensor.tensor")
    for name, new in found.items():
        given = arrays[name]
        if new is given:
            continue
        message = f"{optimizer.name}: {hook.what} of {name!r} returned another shape than it was given"
        if any(None not in (a, b) and a != b for a, b in zip(new.type.shape, given.type.shape, strict=True)):
            raise HyperparameterError(f"{message}: {new.type.shape}, not {given.type.shape}", name=hook.what)
        if new.type.shape != given.type.shape or None in new.type.shape:
            same = pt.all(pt.eq(new.shape, given.shape)) if new.ndim else pt.constant(np.bool_(True))
            gate.require(same, HyperparameterError, f"{message}; nothing was changed")
    return found


class Looked(NamedTuple):
    """Gradients after they were looked at.

    Args:
        grads: the gradients to go on with, by name.
        bad: how many elements were taken as zero.
        fine: whether a step can be made of them, where those that are not finite are skipped.
    """

    grads: dict[str, Expression]
    bad: Expression = 0
    fine: Expression | None = None


class Gathered(NamedTuple):
    """The mean of the gradients of several micro-batches.

    Args:
        grads: the means, by name; they are of use where a step is due.
        due: whether it is; ``None`` if it always is.
        updates: the pairs that gather them.
    """

    grads: dict[str, Expression]
    due: Expression | None = None
    updates: Sequence[tuple[Any, Any]] = ()


def _looked_at(
    optimizer: ConfiguredOptimizer, grads: dict[str, Expression], gate: Gate, due: Expression | None = None
) -> Looked:
    """Look for what is not finite, where a step is due, and do what was asked for."""
    pt, policy = library("pytensor.tensor"), optimizer._nonfinite
    if policy == "ignore":
        return Looked(grads)
    if policy == "raise":
        for name, grad in grads.items():
            message = f"{optimizer.name}: the gradient of {name!r} holds NaN or infinity; nothing was changed"
            fine = all_finite(grad) if due is None else all_finite(grad) | ~due
            gate.require(fine, NonFiniteGradientError, message)
        return Looked(grads)
    # Zeros also where a step will be skipped: nothing invalid is computed
    used = {name: where(isfinite(grad), grad, pt.zeros((), dtype=grad.dtype)) for name, grad in grads.items()}
    if policy == "skip":
        return Looked(used, fine=functools.reduce(operator.and_, map(all_finite, grads.values())))
    counts = [pt.sum(~isfinite(grad), dtype="int64") for grad in grads.values()]
    return Looked(used, bad=functools.reduce(operator.add, counts))


def _gathered(
    optimizer: ConfiguredOptimizer, held: Held, parameters: Sequence[SharedParameter], raw: Looked
) -> Gathered:
    """One gradient more. ::

    sum' = g if it is the first, else sum + g        micro' = micro + 1, or 0 where a step is due
    """
    pt, micro, count = library("pytensor.tensor"), held.micro, optimizer.accumulate
    totals = {p.name: pt.switch(pt.eq(micro, 0), raw.grads[p.name], p.gathered + raw.grads[p.name]) for p in parameters}
    means = {name: total / pt.constant(np.asarray(count, total.dtype)) for name, total in totals.items()}
    due, after = pt.ge(micro + 1, count), pt.switch(pt.ge(micro + 1, count), 0, micro + 1)
    updates = [(p.gathered, totals[p.name]) for p in parameters] + [(micro, after)]
    if raw.fine is None:
        return Gathered(means, due, updates)
    return Gathered(means, due & raw.fine, [(old, pt.switch(raw.fine, new, old)) for old, new in updates])


def hyperparameters(
    optimizer: ConfiguredOptimizer, held: Held, rate: Expression | None, gate: Gate
) -> tuple[list[Any], dict[tuple[int, str], Any]]:
    """For each group its hyperparameters, float64 scalars or arrays, and what schedules are in them.

    Args:
        optimizer: the optimizer.
        held: its numbers.
        rate: a learning rate in place of its own.
        gate: what gets the conditions that numbers from elsewhere have to meet.

    Returns:
        An instance of the rule's ``hyper`` for each group, and the schedules.

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
            elif callable(value) and not told(value):
                values[name] = _traced(optimizer, held, name, value)
                _require(optimizer, gate, f"the schedule of {name}", values[name], name)
                traced[group, name] = value
            else:
                values[name] = held.number(group, name)
                if callable(value):
                    traced[group, name] = value
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
    counts = Counts(optimizer._optimization_state.batch_size, epoch, batch, held.t + held.offset + 1)
    instead = (
        f"{optimizer.name}: give the number as a shared variable instead, update(cost, params, lr=rate), and set that "
        f"before each step; {name} is {schedule!r}"
    )
    if isinstance(schedule, Schedule) and schedule.state():
        raise HyperparameterError(f"{instead}, which holds a Plateau, and a graph would not see it move", name=name)
    with doubles():
        try:
            with by_value():
                value = schedule(counts)
        except (TypeError, ValueError, AttributeError) as error:
            raise HyperparameterError(f"{instead}, which does not work on expressions: {error}", name=name) from error
    if library_of(value) != "pytensor":
        if isinstance(schedule, Schedule):
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


def _slots(parameter: SharedParameter, hyper: Any, t: Expression, rate: Expression | None) -> tuple[Expression, ...]:
    """The slots before the step.

    One that starts at the parameter, or at a rate that only this graph knows, starts at what that is in the first step.
    What starts at the optimizer's own hyperparameters is there already (:meth:`Symbolic.refresh`).
    """
    pt, param = library("pytensor.tensor"), parameter.shared
    seen = [param] if rate is None else [param, rate]
    with doubles(), traced(parameter.rule, "PyTensor"), by_value():
        starts = parameter.rule.beginning(param, hyper)
    return tuple(
        pt.switch(pt.eq(t, 0), pt.cast(start, param.dtype), variable)
        if library_of(start) == "pytensor" and any(depends([start], one) for one in seen)
        else variable
        for start, variable in zip(starts, parameter.held, strict=True)
    )


def _typed(expression: Expression, like: Any) -> Expression:
    """An expression that says of its shape what the shared variable says."""
    if expression.type.shape == like.type.shape:
        return expression
    return library("pytensor.tensor").specify_shape(expression, like.type.shape)
