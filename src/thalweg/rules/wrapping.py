"""A rule inside another text: more hyperparameters and scalars, perhaps a slot more, in the same pass.

The rule's own texts are given more than they know (longer named tuples), which is no harm: they read by name.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from thalweg.rules.base import Array, Number, Rule
from thalweg.rules.declaring import Hyperparameter, extended, named_tuple, plain, taker


def with_scalars(
    rule: Rule,
    extra: Sequence[Hyperparameter],
    names: Sequence[str],
    values: Callable[[Number, Any], tuple[Number, ...]],
) -> dict[str, Any]:
    """The fields of ``rule`` with more hyperparameters, and more scalars for the text around it.

    Args:
        rule: the rule inside.
        extra: the hyperparameters that are added.
        names: the names of the scalars that are added.
        values: ``values(t, h)``, a tuple of those scalars.

    Returns:
        ``hyper``, ``prepare`` and ``conclude``.

    Raises:
        TypeError: the rule has a hyperparameter or scalar of one of these names.
    """
    hyper, inner, conclude = rule.hyper(), rule.prepare, rule.conclude
    known = type(rule.scalars(hyper, 1, rule.advance(hyper, 1, None)))
    taken = {h.name for h in extra} & set(rule.hyperparameters) or set(names) & set(known._fields)
    if taken:
        raise TypeError(f"rule {rule.name!r} has {', '.join(sorted(taken))} already; wrap it only once")
    scalars = extended(known, *names, name="Scalars")
    known_count, count = len(known._fields), len(known._fields) + len(names)
    first, rest = taker(0, known_count), taker(known_count, count)

    def prepare_plain(t: Number, h: Any) -> Any:
        return scalars(*first(h), *values(t, h))

    def prepare(t: Number, h: Any) -> Any:
        return scalars(*plain(inner(t, h)), *values(t, h))  # type: ignore[misc]

    def prepare_carried(t: Number, h: Any, carried: Any) -> Any:
        return scalars(*plain(inner(t, h, carried)), *values(t, h))  # type: ignore[misc]

    def conclude_more(h: Any, sums: Any) -> Any:
        return scalars(*plain(conclude(h, sums)), *rest(h))  # type: ignore[misc]

    return {
        "hyper": named_tuple("Hyper", [*rule.hyperparameters.values(), *extra]),
        "prepare": prepare_plain if inner is None else prepare_carried if rule.carried else prepare,
        "conclude": None if conclude is None else conclude_more,
    }


def with_slot(
    rule: Rule, slot: str, after: Callable[[Array, Array, Array, Any], tuple[Array, Array]]
) -> dict[str, Any]:
    """The fields of ``rule`` with one more slot, which starts at the parameter and is updated after the rule.

    Args:
        rule: the rule inside.
        slot: the slot's name.
        after: ``after(param, new, slot, h) -> (new, slot)``, elementwise; ``new`` is what the rule made of ``param``.

    Returns:
        ``slots``, ``start`` and ``update``.

    Raises:
        TypeError: the rule has a slot of this name.
    """
    if slot in rule.slot_names:
        raise TypeError(f"rule {rule.name!r} has a slot {slot!r} already; wrap it only once")
    slots, update, begin = extended(rule.slots, slot, name="Slots"), rule.update, rule.start
    place = len(rule.slot_names)
    zeros = (0.0,) * place

    def start(param: Array, h: Any) -> Any:
        return slots(*(zeros if begin is None else begin(param, h)), param)

    def update_more(param: Array, grad: Array, given: Any, h: Any) -> Any:
        moved, inner = update(param, grad, given, h)
        new, last = after(param, moved, given[place], h)
        return new, slots(*plain(inner), last)

    def update_first(param: Array, grad: Array, given: Any, h: Any) -> Any:
        moved, _ = update(param, grad, given, h)
        new, last = after(param, moved, given[place], h)
        return new, slots(last)

    return {"slots": slots, "start": start, "update": update_more if zeros else update_first}


def around(rule: Rule, fields: dict[str, Any], wrap: Callable[[Rule], Rule]) -> Rule:
    """``rule`` with other fields, whose other forms are the wrapped forms of ``rule``.

    Args:
        rule: the rule inside.
        fields: from :func:`with_scalars` and :func:`with_slot`.
        wrap: what makes the wrapped rule of a rule.

    Returns:
        The wrapped rule.
    """
    names = tuple(fields)

    def variant(**options: Any) -> dict[str, Any]:
        made = wrap(rule.form(**options))
        return {name: getattr(made, name) for name in {*names, "slots", "update", "measure", "carried", "carry"}}

    return replace(rule, **fields, variant=variant if rule.options else None)
