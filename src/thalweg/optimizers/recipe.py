"""From what a user asks for (a convention, forms, wrappers, weight decay) to the one rule that is compiled."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.optimizers.elsewhere import A_DECAY, advice
from thalweg.rules import averaged, decayed, lookahead
from thalweg.rules.base import Rule
from thalweg.rules.declaring import Hyperparameter
from thalweg.rules.keeping import kept_with_rule
from thalweg.rules.spelling import unknown

WRAPPERS: dict[str, Callable[[Rule], Rule]] = {"lookahead": lookahead, "ema": averaged}
"""What can go around any rule, by the name that ``wrap`` takes."""


COMMON: Mapping[str, tuple[Any, str]] = {
    "convention": (None, "compute what this library computes, with its defaults: {conventions}."),
    "groups": ((), "hyperparameters of their own for some variables: ``[{{'variables': ['*.bias'], ...}}]``."),
    "wrap": (
        (),
        "texts around the rule, the innermost first: ``'lookahead'``, ``'ema'``; their hyperparameters are "
        "keywords, too ({wrappers}).",
    ),
    "accumulate": (1, "make a step of the mean of so many gradients, every so many calls."),
    "nonfinite": (
        "raise",
        "what to do with a gradient that holds NaN or infinity: ``'raise'``, ``'skip'`` the step, "
        "``'zero'`` the elements, ``'ignore'`` (it is not looked for).",
    ),
    "process_grad": (None, "callable(s) on a gradient before the rule, array to array; or by variable name."),
    "process_model": (None, "callable(s) on the data after the rule, array to array; or by variable name."),
    "name": (None, "a name of your choice, by default ``{name!r}``."),
    "description": ("", "what it is for."),
}
"""The keywords that every optimizer has, with default and meaning."""


def effective(
    base: Rule, given: Mapping[str, Any], *, convention: str | None = None, wrap: Sequence[str] = ()
) -> tuple[Rule, dict[str, Any]]:
    """The rule that computes what was asked for, and the hyperparameters that were given.

    Args:
        base: the rule of the optimizer's class.
        given: options and hyperparameters by name, mixed as keywords are.
        convention: the library whose form and defaults hold where nothing else is given.
        wrap: the names of wrappers, the innermost first.

    Returns:
        The rule, and those of ``given`` that are hyperparameters.

    Raises:
        HyperparameterError: an unknown convention, option, value, wrapper or hyperparameter, naming the nearest.
    """
    around = _names(wrap)
    if convention is not None and not isinstance(convention, str):
        raise unknown(f"convention of {base.name}:", str(convention), base.conventions)
    rule = _around(base, convention, around)
    options = {name: value for name, value in given.items() if name in rule.options}
    rest = {name: value for name, value in given.items() if name not in options}
    for name, option in rule.switches.items():
        if name in rest and option not in options:
            if _is_zero(rest[name]):
                del rest[name]  # what the form without it has
            else:
                options[option] = True
    if type(options.get("decay")) in (int, float):
        may = " or ".join(map(repr, rule.options["decay"]))
        message = f"{base.name}: decay is {options['decay']!r}; it may be {may}, and {A_DECAY}"
        raise HyperparameterError(message, name="decay", value=options["decay"])
    rule = rule.form(**options)
    for name in rest:
        if name not in rule.hyperparameters:
            raise not_there(rule, name, around)
    return rule, rest


def _is_zero(value: Any) -> bool:
    return isinstance(value, int | float | np.generic) and not isinstance(value, bool) and bool(value == 0)


def not_there(rule: Rule, name: str, around: Sequence[str], *, made: bool = False) -> HyperparameterError:
    """The error for what a rule does not take as it is; if another form of it does, it says which.

    Args:
        rule: the rule.
        name: what was given.
        around: the wrappers that are there.
        made: whether the optimizer has been made, and its form is settled.

    Returns:
        The error, ready to be raised.
    """
    if made and (name in COMMON or name in rule.options or name == "rule"):
        return settled(rule, name)
    if name in rule.switches:
        option = rule.switches[name]
        return HyperparameterError(
            f"{rule.name}: {name} means nothing with {option}=False, as this optimizer was made", name=name
        )
    if name in added():
        wrap = [*around, added()[name][0]]
        return HyperparameterError(f"{rule.name}: {name} belongs to a wrapper; ask for it, too: wrap={wrap}", name=name)
    known = [*rule.hyperparameters, *rule.options, *rule.switches, *COMMON]
    return unknown(f"hyperparameter or option of {rule.name}:", name, known, advice=advice(rule, name))


def settled(rule: Rule, name: str) -> HyperparameterError:
    """The error for what cannot be set on an optimizer that has been made."""
    return HyperparameterError(f"{rule.name}: {name} stays as it was given when the optimizer was made", name=name)


def declared(base: Rule) -> dict[str, Any]:
    """Every hyperparameter and option that an optimizer of this rule may be given, with its default.

    Args:
        base: the rule of the optimizer's class.

    Returns:
        The defaults by name.
    """
    rule = decayed(base)
    defaults: dict[str, Any] = {name: h.default for name, h in rule.hyperparameters.items()}
    for name, option in rule.switches.items():
        defaults[name] = rule.form(**{option: True}).hyperparameters[name].default
    return defaults | {name: rule.chosen.get(name, values[0]) for name, values in rule.options.items()}


@functools.cache
def of_wrappers() -> dict[str, float]:
    """The hyperparameters that wrappers add, with their defaults."""
    return {name: h.default for name, (_, h) in added().items()}


@functools.cache
def added() -> Mapping[str, tuple[str, Hyperparameter]]:
    """The hyperparameters that wrappers add, each with the wrapper that it belongs to."""
    from thalweg.rules import sgd

    return {
        name: (wrapper, h)
        for wrapper, wrap in WRAPPERS.items()
        for name, h in wrap(sgd).hyperparameters.items()
        if name not in sgd.hyperparameters
    }


def _names(wrap: Any) -> tuple[str, ...]:
    if isinstance(wrap, str) or not isinstance(wrap, Iterable):
        raise HyperparameterError(f"wrap is {wrap!r}; give a list of names ({', '.join(WRAPPERS)})", name="wrap")
    names = tuple(wrap)
    for name in names:
        if not isinstance(name, str) or name not in WRAPPERS:
            raise unknown("wrapper", str(name), WRAPPERS)
    if len(set(names)) < len(names):
        raise HyperparameterError(f"wrap is {list(names)!r}; each wrapper can be there once", name="wrap")
    return names


@kept_with_rule
def _around(base: Rule, convention: str | None, wrap: tuple[str, ...]) -> Rule:
    rule = decayed(base)
    if convention is not None:
        rule = rule.convention(convention)
    for name in wrap:
        try:
            rule = WRAPPERS[name](rule)
        except TypeError as error:
            raise HyperparameterError(f"wrap={name!r}: {error}", name="wrap") from error
    return rule
