"""A rule's texts tried on one number before anybody runs them: what they return, and what they read that is not there.

Each backend would find that out in its own words (a number that cannot be unpacked, a trace without length), or not
at all. Whatever else fails here is left to the backend: it may be something that it can do.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.errors import RuleError
from thalweg.rules.keeping import kept_with_rule
from thalweg.rules.spelling import nearest

if TYPE_CHECKING:
    from thalweg.rules.base import Rule


@kept_with_rule
def tried(rule: Rule) -> None:
    """Run each text of a rule once, in float64, at its defaults.

    Args:
        rule: the rule.

    Raises:
        RuleError: a text takes or returns something else than it is to, or reads a name that what it is given does not
            have; it says what and where.

    Example:
        >>> from dataclasses import replace
        >>> from thalweg import rules
        >>> from thalweg.rules.trying import tried
        >>> tried(replace(rules.momentum, update=lambda param, grad, slots, h: param - grad))
        Traceback (most recent call last):
        thalweg.errors.RuleError: rule 'momentum': update returns a float64; it returns the new parameter and ...
    """
    with np.errstate(all="ignore"):
        try:
            _try(rule)
        except RuleError:
            raise
        except Exception:  # another library's text, say: see above
            return


def _try(rule: Rule) -> None:
    one, hyper = np.float64(1.0), rule.hyper()
    if rule.start is not None:
        start = _call(rule, "start", rule.start, "param, h", one, hyper)
        _counted(rule, "start", start, len(rule.slot_names), f"where each slot starts ({_names(rule.slot_names)})")
    carried: tuple[Any, ...] = ()
    if rule.carried is not None and rule.carry is not None:
        carried = (_call(rule, "carry", rule.carry, "t, h, carried", 1, hyper, rule.carried()),)
        names = rule.carried_names
        _counted(rule, "carry", carried[0], len(names), f"the rule's named tuple of what is carried ({_names(names)})")
    scalars = hyper
    if rule.prepare is not None:
        takes = "t, h, carried" if carried else "t, h"
        scalars = _call(rule, "prepare", rule.prepare, takes, 1, hyper, *carried)
        if not hasattr(scalars, "_fields"):
            raise _returns(rule, "prepare", scalars, "a named tuple of the numbers that update reads")
    slots = rule.slots(*(one for _ in rule.slot_names))
    h = type(scalars)(*map(np.float64, scalars))
    if rule.measure is not None and rule.conclude is not None:
        terms = _call(rule, "measure", rule.measure, "param, grad, slots, h", one, one, slots, h)
        if not isinstance(terms, tuple):
            raise _returns(rule, "measure", terms, "a tuple of terms, each to be summed")
        scalars = _call(rule, "conclude", rule.conclude, "h, sums", scalars, terms)
        _counted(rule, "conclude", scalars, len(h), "what prepare returned, completed")
        h = type(h)(*map(np.float64, scalars))
    result = _call(rule, "update", rule.update, "param, grad, slots, h", one, one, slots, h)
    what = f"the new parameter and the new slots, (param, Slots({_names(rule.slot_names)}))"
    _counted(rule, "update", result, 2, what)
    _counted(rule, "update", result[1], len(rule.slot_names), what, "for slots ")


def _call(rule: Rule, name: str, text: Callable[..., Any], takes: str, *given: Any) -> Any:
    """What a text returns."""
    try:
        signature = inspect.signature(text)
    except (TypeError, ValueError):
        signature = None
    if signature is not None:
        try:
            signature.bind(*given)
        except TypeError as error:
            message = f"rule {rule.name!r}: {name} takes {signature}; it is called with ({takes})"
            raise RuleError(message, rule=rule.name) from error
    try:
        return text(*given)
    except AttributeError as error:
        fields = getattr(error.obj, "_fields", None) if any(error.obj is one for one in given) else None
        if fields is None:
            raise
        guess = nearest(str(error.name), fields)
        question = f"; did you mean {guess!r}?" if guess else ";"
        place = traceback.extract_tb(error.__traceback__)[-1]
        raise RuleError(
            f"rule {rule.name!r}: {name} reads {error.name!r}, which is not there{question} There are {_names(fields)} "
            f"({place.filename}, line {place.lineno})",
            rule=rule.name,
            name=error.name,
            nearest=guess,
        ) from error


def _counted(rule: Rule, name: str, got: Any, count: int, what: str, part: str = "") -> None:
    if not isinstance(got, tuple | list) or len(got) != count:
        raise _returns(rule, name, got, what, part)


def _returns(rule: Rule, name: str, got: Any, what: str, part: str = "") -> RuleError:
    kind = "None" if got is None else f"a {type(got).__name__}"
    size = f" of {len(got)}" if isinstance(got, tuple | list) else ""
    return RuleError(f"rule {rule.name!r}: {name} returns {part}{kind}{size}; it returns {what}", rule=rule.name)


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names)
