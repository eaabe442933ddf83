"""Hyperparameters that are arrays like the parameter: which scalars become arrays, and the rule that reads them so. ::

    h.rate = η / (1 − β₁ᵗ)        η an array  →  rate is an array, beside the parameter and its state in memory

The compiled pass reads numbers by group and arrays by element. So where a scalar is an array the rule gets one more
slot, which holds it and stays as it is; :func:`values` fills it before each step, in double precision, with the
rule's own ``prepare``.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from thalweg.errors import HyperparameterError, RuleError
from thalweg.rules.base import Array, Rule
from thalweg.rules.declaring import extended, plain, taker
from thalweg.rules.keeping import kept_with_rule


@kept_with_rule
def lanes(rule: Rule, name: str) -> tuple[str, ...]:
    """The scalars of a rule that are arrays if a hyperparameter is one.

    Args:
        rule: the rule.
        name: the hyperparameter.

    Returns:
        Their names, in the order of the scalars.

    Raises:
        HyperparameterError: the rule can take a number only: it sums over the whole tensor, or a number that goes
            from step to step depends on it, or its ``prepare`` asks for its value.

    Example:
        >>> from thalweg.rules import adam
        >>> from thalweg.rules.elementwise import lanes
        >>> lanes(adam, "learning_rate"), lanes(adam, "beta1")
        (('rate',), ('rate', 'beta1', 'one_minus_beta1'))
    """
    why = f"{rule.name}: {name} is an array, and this rule takes a number:"
    if rule.measure is not None:
        raise HyperparameterError(f"{why} it sums over the whole tensor", owner=rule.name, name=name)
    usual, found = rule.hyper(), set()
    each = usual._replace(**{name: np.full(2, getattr(usual, name))})
    for t in (1, 2, 10):
        try:
            carried = rule.advance(each, t, None)
            scalars = rule.scalars(each, t, carried)
        except RuleError:
            raise
        except (TypeError, ValueError) as error:
            raise HyperparameterError(
                f"{why} what it prepares asks for its value", owner=rule.name, name=name
            ) from error
        if carried is not None and any(np.ndim(value) for value in carried):
            raise HyperparameterError(f"{why} a number that goes from step to step depends on it", name=name)
        found |= {field for field, value in scalars._asdict().items() if np.ndim(value)}
    return tuple(field for field in scalars._fields if field in found)


def lanes_among(rule: Rule, hyper: Mapping[str, Any]) -> tuple[str, ...]:
    """The scalars of a rule that are arrays with these hyperparameters, sorted.

    Args:
        rule: the rule.
        hyper: checked hyperparameters by name, numbers and arrays.

    Returns:
        Their names.
    """
    return tuple(
        sorted({one for name, value in hyper.items() if isinstance(value, np.ndarray) for one in lanes(rule, name)})
    )


@kept_with_rule
def with_lanes(rule: Rule, names: tuple[str, ...]) -> Rule:
    """The rule with a slot more for each scalar that is an array.

    Args:
        rule: the rule, without a reduction.
        names: the scalars, in their order.

    Returns:
        The rule for the compiled pass; ``rule`` itself if there are none.
    """
    for name in names:
        rule = _with_lane(rule, name)
    return rule


def _with_lane(rule: Rule, name: str) -> Rule:
    usual = rule.hyper()
    known = type(rule.scalars(usual, 1, rule.advance(usual, 1, None)))
    at, count, place = known._fields.index(name), len(known._fields), len(rule.slot_names)
    first, rest, update = taker(0, at), taker(at + 1, count), rule.update
    before, own = rule.slots, taker(0, place)
    slots = extended(rule.slots, f"each_{name}", name="Slots")

    # Compiled code can unpack no empty tuple.
    def alone(h: Any, value: Array) -> Any:
        return known(value)

    def begins(h: Any, value: Array) -> Any:
        return known(value, *rest(h))

    def ends(h: Any, value: Array) -> Any:
        return known(*first(h), value)

    def between(h: Any, value: Array) -> Any:
        return known(*first(h), value, *rest(h))

    put = alone if count == 1 else begins if at == 0 else ends if at == count - 1 else between

    def update_lane(param: Array, grad: Array, given: Any, h: Any) -> Any:
        new, moved = update(param, grad, before(*own(given)), put(h, given[place]))
        return new, slots(*plain(moved), given[place])

    def update_only_lane(param: Array, grad: Array, given: Any, h: Any) -> Any:
        new, _ = update(param, grad, given, put(h, given[place]))
        return new, slots(given[place])

    text, inside = update_lane if place else update_only_lane, (rule, functools.partial(_with_lane, name=name))
    return replace(rule, slots=slots, update=text, start=None, evaluate=None, inside=inside)


def values(rule: Rule, names: tuple[str, ...], hyper: Any, t: int, carried: Any, dtype: np.dtype[Any]) -> list[Any]:
    """What the lanes hold during a step.

    Args:
        rule: the rule, without lanes.
        names: the scalars that are arrays.
        hyper: checked hyperparameters, numbers and arrays.
        t: the step's number, from 1.
        carried: the numbers of the step before.
        dtype: the parameter's.

    Returns:
        For each name an array, or a number, of that dtype.

    Raises:
        HyperparameterError: what the rule computes does not fit into the dtype.
    """
    scalars = rule.scalars(hyper, t, rule.advance(hyper, t, carried))
    with np.errstate(over="ignore"):
        found = [np.asarray(getattr(scalars, name), dtype) for name in names]
    for name, array in zip(names, found, strict=True):
        if not np.isfinite(array).all():
            raise HyperparameterError(
                f"{rule.name}: with these hyperparameters, some of them arrays, what the rule computes from them "
                f"({name}) does not fit into {dtype}; use smaller values",
                owner=rule.name,
            )
    return found


def numbers(hyper: Any) -> Any:
    """Hyperparameters with a number in the place of each array: what the compiled pass prepares beside the lanes."""
    usual = type(hyper)()
    return type(hyper)(
        *(
            (float(value.flat[0]) if value.size else other) if isinstance(value, np.ndarray) else value
            for value, other in zip(hyper, usual, strict=True)
        )
    )


def refuse_other_shapes(
    owner: str, hyper: Mapping[str, Any], shape: Sequence[int], name: str | None = None, *, kind: str = "parameter"
) -> None:
    """Refuse arrays of hyperparameters that are of another shape than a parameter.

    Args:
        owner: whose they are, for the message.
        hyper: hyperparameters by name, or scalars made of them: numbers, arrays, schedules.
        shape: the parameter's.
        name: its name or number, for the message.
        kind: what it is called, for the message.

    Raises:
        HyperparameterError: an array has another shape.
    """
    for given, value in hyper.items():
        if isinstance(value, np.ndarray) and value.ndim and value.shape != tuple(shape):
            whose = f"the {kind}" if name is None else f"{kind} {name!r}"
            raise HyperparameterError(
                f"{owner}: {given} is an array of shape {value.shape}, and {whose} has shape {tuple(shape)}; nothing "
                f"is broadcast: give a number, or an array like the {kind} (for several {kind}s one each, in groups)",
                owner=owner,
                name=given,
                variable=name,
            )
