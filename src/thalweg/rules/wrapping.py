"""A rule inside another text: more hyperparameters and scalars, perhaps a slot more, in the same pass.

The rule's own texts are given more hyperparameters and scalars than they know (longer named tuples), which is no harm:
they read by name. The slots and the carried numbers, which they may return as they got them, are their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import replace
from typing import Any

import numpy as np

from thalweg.errors import RuleError
from thalweg.rules.base import Array, NoSlots, Number, Rule
from thalweg.rules.declaring import Hyperparameter, extended, named_tuple, plain, taker
from thalweg.rules.trying import explain, fitting


def with_scalars(
    rule: Rule,
    extra: Sequence[Hyperparameter],
    names: Sequence[str],
    values: Callable[..., tuple[Number, ...]],
    *,
    carrying: bool = False,
) -> dict[str, Any]:
    """The fields of ``rule`` with more hyperparameters, and more scalars for the text around it.

    Args:
        rule: the rule inside.
        extra: the hyperparameters that are added.
        names: the names of the scalars that are added.
        values: ``values(t, h)``, a tuple of those scalars.
        carrying: ``values`` is ``values(t, h, carried)``: they depend on numbers of :func:`with_carried`.

    Returns:
        ``hyper``, ``prepare`` and ``conclude``.

    Raises:
        RuleError: the rule has a hyperparameter or scalar of one of these names.
    """
    hyper, inner, conclude = rule.hyper(), rule.prepare, rule.conclude
    known = type(rule.scalars(hyper, 1, rule.advance(hyper, 1, None)))
    try:
        taken = {h.name for h in extra} & set(rule.hyperparameters) or set(names) & set(known._fields)
    except AttributeError as error:
        explain(rule, error)
        raise
    if taken:
        raise RuleError(f"rule {rule.name!r} has {', '.join(sorted(taken))} already; wrap it only once")
    scalars = extended(known, *names, name="Scalars")
    known_count, count = len(known._fields), len(known._fields) + len(names)
    first, rest = taker(0, known_count), taker(known_count, count)

    def of_hyper(t: Number, h: Any, carried: Any) -> Any:
        return first(h)

    def of_count(t: Number, h: Any, carried: Any) -> Any:
        return first(inner(t, h))  # type: ignore[misc]

    def of_carried(t: Number, h: Any, carried: Any) -> Any:
        return first(inner(t, h, carried))  # type: ignore[misc]

    own = of_hyper if inner is None else of_carried if rule.carried else of_count

    def prepare(t: Number, h: Any) -> Any:
        return scalars(*own(t, h, 0.0), *values(t, h))

    def prepare_carried(t: Number, h: Any, carried: Any) -> Any:
        return scalars(*own(t, h, carried), *values(t, h))

    def prepare_carrying(t: Number, h: Any, carried: Any) -> Any:
        return scalars(*own(t, h, carried), *values(t, h, carried))

    def conclude_more(h: Any, sums: Any) -> Any:
        return scalars(*first(conclude(h, sums)), *rest(h))  # type: ignore[misc]

    return {
        "hyper": named_tuple("Hyper", [*rule.hyperparameters.values(), *extra]),
        "prepare": prepare_carrying if carrying else prepare_carried if rule.carried else prepare,
        "conclude": None if conclude is None else conclude_more,
    }


def with_carried(
    rule: Rule, names: Sequence[str], advance: Callable[[Number, Any, Any], tuple[Number, ...]]
) -> dict[str, Any]:
    """The fields of ``rule`` with more numbers that go from step to step; they start at 0.

    Args:
        rule: the rule inside.
        names: the numbers' names.
        advance: ``advance(t, h, carried)``, a tuple of what they are during step t.

    Returns:
        ``carried`` and ``carry``.

    Raises:
        RuleError: the rule has a number of one of these names.
    """
    taken = set(names) & set(rule.carried_names)
    if taken:
        raise RuleError(f"rule {rule.name!r} has {', '.join(sorted(taken))} already; wrap it only once")
    carried, inner = extended(rule.carried or NoSlots, *names, name="Carried"), rule.carry
    known, own = rule.carried, taker(0, len(rule.carried_names))
    starts = (*(rule.carried() if rule.carried else ()), *(0.0 for _ in names))
    carried.__new__.__defaults__ = starts
    carried._field_defaults = dict(zip(carried._fields, starts, strict=True))

    def carry(t: Number, h: Any, before: Any) -> Any:
        return carried(*advance(t, h, before))

    def carry_more(t: Number, h: Any, before: Any) -> Any:
        return carried(*plain(inner(t, h, known(*own(before)))), *advance(t, h, before))  # type: ignore[misc]

    return {"carried": carried, "carry": carry if inner is None else carry_more}


def with_slot(
    rule: Rule, slot: str, after: Callable[[Array, Array, Array, Any], tuple[Array, Array]]
) -> dict[str, Any]:
    """The fields of ``rule`` with one more slot, which starts at the parameter and is updated after the rule.

    Args:
        rule: the rule inside.
        slot: the slot's name.
        after: ``after(param, new, slot, h) -> (new, slot)``, elementwise; ``param`` is the model as it is when the
            step begins, ``new`` what the rule made of it.

    Returns:
        ``slots``, ``start`` and ``update``.

    Raises:
        RuleError: the rule has a slot of this name.
    """
    if slot in rule.slot_names:
        raise RuleError(f"rule {rule.name!r} has a slot {slot!r} already; wrap it only once")
    slots, update, begin = extended(rule.slots, slot, name="Slots"), rule.update, rule.start
    place, known = len(rule.slot_names), rule.slots
    zeros, own, kept = (0.0,) * place, taker(0, place), _of_its_shape(rule)

    def start(param: Array, h: Any) -> Any:
        return slots(*(zeros if begin is None else begin(param, h)), param)

    def update_more(param: Array, grad: Array, given: Any, h: Any) -> Any:
        moved, inner = update(param, grad, known(*own(given)), h)
        new, last = after(param, kept(moved, param), given[place], h)
        return new, slots(*plain(inner), last)

    def update_first(param: Array, grad: Array, given: Any, h: Any) -> Any:
        moved, _ = update(param, grad, given, h)
        new, last = after(param, kept(moved, param), given[place], h)
        return new, slots(last)

    return {"slots": slots, "start": start, "update": update_more if zeros else update_first}


def _of_its_shape(rule: Rule) -> Callable[[Array, Array], Array]:
    """A function that refuses what the update of the rule inside returned, if the text around would broadcast it.

    Compiled loops, which have one element at a time, know by its ``thalweg_element`` that it is nothing to them.
    """

    def kept(new: Array, param: Array) -> Array:
        seen = _SEEN.get()
        if seen is not None:
            seen.append((rule, new))
            return new
        try:
            fitting(rule, new, (), np.shape(param))
        except RuleError as error:
            explain(rule, error)  # a bare array, say, that was taken apart by its rows
            raise
        return new

    kept.thalweg_element = lambda new, param: lambda new, param: new  # type: ignore[attr-defined]
    return kept


_SEEN: ContextVar[list[tuple[Rule, Any]] | None] = ContextVar("seen", default=None)


@contextmanager
def seen_inside() -> Iterator[list[tuple[Rule, Any]]]:
    """Have what the updates of rules inside others return remembered, where a shape is not known yet.

    Yields:
        The rules inside and what their updates returned; whoever asked for it looks at the shapes.
    """
    seen: list[tuple[Rule, Any]] = []
    token = _SEEN.set(seen)
    try:
        yield seen
    finally:
        _SEEN.reset(token)


def around(rule: Rule, fields: dict[str, Any], wrap: Callable[[Rule], Rule]) -> Rule:
    """``rule`` with other fields, whose other forms are the wrapped forms of ``rule``.

    Args:
        rule: the rule inside.
        fields: from :func:`with_scalars`, :func:`with_carried` and :func:`with_slot`.
        wrap: what makes the wrapped rule of a rule.

    Returns:
        The wrapped rule.
    """
    names = tuple(fields)

    def variant(**options: Any) -> dict[str, Any]:
        made = wrap(rule.form(**options))
        several = {*names, "slots", "update", "measure", "carried", "carry", "inside"}
        return {name: getattr(made, name) for name in several}

    return replace(rule, **fields, variant=variant if rule.options else None, inside=(rule, wrap))
