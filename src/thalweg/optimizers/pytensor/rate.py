"""The learning rate that ``update(cost, params, lr)`` is given: a number, an array, or something of PyTensor's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.lowering.pytensor import Expression, library
from thalweg.optimizers.configured import ConfiguredOptimizer
from thalweg.optimizers.pytensor.shared import SharedParameter
from thalweg.rules.elementwise import lanes, refuse_other_shapes
from thalweg.rules.namespaces import library_of
from thalweg.rules.ranges import number_or_array


class Rate(NamedTuple):
    """A learning rate in place of the optimizer's own.

    Args:
        expression: float64, a scalar, or like the parameters.
        known: what it is now; ``None`` where only a compiled function will know it.
    """

    expression: Expression
    known: float | np.ndarray | None


def read(optimizer: ConfiguredOptimizer, lr: Any) -> Rate | None:
    """What was given, checked as far as it is known.

    Args:
        optimizer: the optimizer.
        lr: a number, an array, a shared variable of one, or an expression; ``None`` is the optimizer's own rate.

    Returns:
        The rate, or ``None``.

    Raises:
        HyperparameterError: the rule has no learning rate, or not one for each element, or it is no real number, or
            out of its range.
    """
    rule = optimizer.rule
    if lr is None:
        return None
    if "learning_rate" not in rule.hyperparameters:
        raise HyperparameterError(f"{rule.name} has no learning rate, so lr means nothing", name="lr")
    pt, value = library("pytensor.tensor"), lr
    if library_of(lr) == "pytensor":
        if not hasattr(lr, "ndim") or not str(lr.dtype).startswith(("float", "int", "uint")):
            raise HyperparameterError(
                f"{optimizer.name}: lr is {lr!r} ({getattr(lr, 'type', None)}); give a real scalar, or an array like "
                "the parameter",
                name="lr",
            )
        constant = isinstance(lr, library("pytensor.graph.basic").Constant)
        value = lr.data if constant else lr.get_value() if hasattr(lr, "get_value") else None
        if lr.ndim:
            lanes(rule, "learning_rate")  # refuses what the rule can take as a number only
            value = value if value is None else np.asarray(value, np.float64)
    if value is None and "learning_rate" in rule.initial:
        raise HyperparameterError(
            f"{optimizer.name}: {rule.name} reads learning_rate at its first step only, and lr is an expression, which "
            f"may be another number in each step: give a number; {rule.initial['learning_rate']}",
            name="lr",
        )
    if value is None:
        return Rate(pt.cast(lr, "float64"), None)
    interval = rule.hyperparameters["learning_rate"].interval
    known = number_or_array(value, interval, name="lr", owner=optimizer.name)
    if isinstance(known, np.ndarray):
        lanes(rule, "learning_rate")
    return Rate(pt.cast(lr, "float64") if hasattr(lr, "get_value") else pt.constant(np.float64(known)), known)


def own(optimizer: ConfiguredOptimizer) -> list[Any]:
    """The optimizer's own learning rate, and its groups' where they have one.

    Args:
        optimizer: the optimizer.

    Returns:
        Numbers, and ``(n, ...)`` lists for arrays, that can be compared; schedules as they are.
    """
    rates = [
        settings.get("learning_rate") for settings in (optimizer._settings, *(g.settings for g in optimizer._groups))
    ]
    return [rate.tolist() if isinstance(rate, np.ndarray) else rate for rate in rates]


def refuse_others(optimizer: ConfiguredOptimizer) -> None:
    """Refuse a rate beside a schedule or rates of groups, which it would put aside without a word.

    Args:
        optimizer: the optimizer.

    Raises:
        HyperparameterError: the optimizer's own rate is a schedule, or a group has one of its own.
    """
    first, *others = own(optimizer)
    what = "groups with rates of their own" if any(rate is not None for rate in others) else None
    what = "a schedule of it" if callable(first) else what
    if what is not None:
        raise HyperparameterError(
            f"{optimizer.name}: lr is given to update, and the optimizer has {what}, which lr would put aside: leave "
            "lr out, or make the optimizer without",
            name="lr",
        )


def fitted(optimizer: ConfiguredOptimizer, rate: Rate, parameters: Sequence[SharedParameter]) -> Rate:
    """A rate that is a number, or has the shape of every parameter.

    Args:
        optimizer: the optimizer.
        rate: the rate.
        parameters: what it is for.

    Returns:
        The rate; where it is an array that is not known yet, a compiled function raises the error.

    Raises:
        HyperparameterError: it has another shape than a parameter, or leaves its range in a parameter's dtype.
    """
    pt, found = library("pytensor.tensor"), rate.expression
    if "learning_rate" in optimizer.rule.initial:
        message = f"{optimizer.name}: {optimizer.rule.name} reads lr at its first step only, and it is another than "
        found = _checked(found, pt.all(pt.eq(found, rate.known)), f"{message}when update was called; nothing changed")
    for parameter in parameters if rate.known is not None else ():
        optimizer.rule.check_rounded({"learning_rate": rate.known}, parameter.dtype)
    if not found.ndim:
        return rate._replace(expression=found)
    for parameter in parameters:
        if rate.known is not None:
            refuse_other_shapes(optimizer.name, {"lr": rate.known}, parameter.shape, parameter.name)
        message = f"{optimizer.name}: lr has another shape than parameter {parameter.name!r}; nothing is broadcast"
        if found.ndim != len(parameter.shape):
            raise HyperparameterError(
                f"{message}: {found.ndim} axes, and the parameter has shape {parameter.shape}", name="lr"
            )
        same = pt.all(pt.eq(found.shape, parameter.shared.shape))
        found = _checked(found, same, message)
    return rate._replace(expression=found)


def _checked(expression: Expression, condition: Expression, message: str) -> Expression:
    """The expression, or an error where a condition does not hold."""
    return library("pytensor.raise_op").CheckAndRaise(HyperparameterError, message)(expression, condition)
