"""What is wrong with a rule's texts, found by trying them on one number, or two, once a backend has failed with them.

A backend says it in its own words (a number that cannot be unpacked, a trace without length). Nothing is tried before:
a text may draw random numbers, or call a library that is not to be started yet. What the trial takes for a fault is one
on every backend; where it finds none the backend's own error stands, and so does what a text raises itself.
"""

from __future__ import annotations

import dis
import inspect
import re
import traceback
from collections.abc import Callable, Sequence
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

from thalweg.errors import RuleError, ThalwegError
from thalweg.rules.spelling import nearest

if TYPE_CHECKING:
    from thalweg.rules.base import Rule

_LIBRARIES = ("numpy", "jax", "jaxlib", "torch", "pytensor", "numba", "thalweg")
_NO_NUMBER = re.compile(
    "truth value of an array|boolean value of tensor|boolean conversion of traced array"
    "|only (length-1|0-dimensional|scalar) arrays|only one element tensors|cannot be converted to (scalar|python)",
    re.IGNORECASE,
)
"""What the libraries say where one number is asked of an array: by an ``if``, by ``math``, by ``float``."""


def explain(rule: Rule, error: Exception, *arrays: Any) -> None:
    """Raise what is wrong with a rule, if that can be told, in the place of what a backend raised.

    Args:
        rule: the rule, in the form that was run.
        error: what the backend raised; the caller raises it if this returns.
        arrays: of two ones each, NumPy's first, where the texts are given arrays; compiled code has one number at a
            time. They are tried where a library refused to make a number of an array.

    Raises:
        RuleError: a text takes or returns something else than it is to, reads a name that is not there, or cannot be
            computed with arrays; it says what and where.

    Example:
        >>> from dataclasses import replace
        >>> from thalweg import rules
        >>> from thalweg.rules.trying import explain
        >>> rule = replace(rules.momentum, update=lambda param, grad, slots, h: param - grad)
        >>> explain(rule, TypeError("cannot unpack"))
        Traceback (most recent call last):
        thalweg.errors.RuleError: rule 'momentum': update returns a float64; it returns the new parameter and ...
    """
    if (isinstance(error, ThalwegError) and not isinstance(error, RuleError)) or raised_by_a_text(error):
        return
    found = fault(rule, *(arrays if _asks_for_a_number(error) else ()))
    if found is not None:
        raise found from error


def fault(rule: Rule, *arrays: Any) -> RuleError | None:
    """What is wrong with a rule's texts, each run once, in float64, at the defaults.

    Args:
        rule: the rule; one that is around another is looked at from the inside.
        arrays: on which they are run as well.

    Returns:
        The error, to be raised; ``None`` if nothing was found.
    """
    if rule.inside is not None and (found := fault(rule.inside[0], *arrays)) is not None:
        return found
    with np.errstate(all="ignore"):
        for one in (np.float64(1.0), *arrays):
            try:
                _try(rule, one)
            except RuleError as error:
                return error
            except Exception:  # another library's text, say
                return None
    return None


def unpacked(rule: Rule, result: Any) -> tuple[Any, tuple[Any, ...]]:
    """What an update returned: the new parameter, and as many slots as the rule has.

    Args:
        rule: the rule.
        result: what its update returned.

    Returns:
        The parameter and the slots.

    Raises:
        RuleError: it is something else. An array, which could be taken apart by its rows, is none of them.
    """
    try:
        return _unpacked(rule, result)
    except RuleError as error:
        explain(rule, error)  # in float64, so that it says the same everywhere
        raise


def _unpacked(rule: Rule, result: Any) -> tuple[Any, tuple[Any, ...]]:
    what = _results(rule)
    if not isinstance(result, tuple) and hasattr(result, "ndim"):
        raise _returns(rule, "update", result, what)
    new, moved = _counted(rule, "update", result, 2, what)
    if isinstance(new, tuple):
        raise _returns(rule, "update", new, what, "for the parameter ")
    if not isinstance(moved, tuple) and getattr(moved, "ndim", None) == getattr(new, "ndim", 0):
        raise _returns(rule, "update", moved, what, "for slots ")
    return new, _counted(rule, "update", moved, len(rule.slot_names), what, "for slots ")


def fitting(rule: Rule, new: Any, moved: Sequence[Any], shape: tuple[int, ...]) -> None:
    """Refuse what an update returned if it is of another shape; a slot may be set to a number.

    Args:
        rule: the rule.
        new: the new parameter.
        moved: the new slots.
        shape: the parameter's shape.

    Raises:
        RuleError: it says which is, and of what shape.
    """
    named = {"the parameter": new, **{f"slot {name}": slot for name, slot in zip(rule.slot_names, moved, strict=False)}}
    for name, value in named.items():
        found = tuple(np.shape(value))
        if found != tuple(shape) and (found or value is new):
            raise RuleError(
                f"rule {rule.name!r}: update returns for {name} shape {found}; it is {tuple(shape)}, the parameter's",
                rule=rule.name,
            )


def terms(rule: Rule, measured: Any, shape: tuple[int, ...] | None = None) -> tuple[Any, ...]:
    """What a measure returned: terms, each to be summed over the tensor.

    Args:
        rule: the rule.
        measured: what its ``measure`` returned.
        shape: the parameter's; without it the terms' are not looked at.

    Returns:
        The terms, arrays of that shape or numbers. A number is a term of each element, to be summed as often.

    Raises:
        RuleError: it is something else. An array, which could be taken apart by its rows, is none of them.
    """
    what = "a tuple of terms, each to be summed"
    if getattr(measured, "ndim", None):
        found = _returns(rule, "measure", measured, what)
        explain(rule, found)  # in float64, so that it says the same everywhere
        raise found
    several = _counted(rule, "measure", measured, None, what)
    for number, term in enumerate(several):
        size = tuple(np.shape(term))
        if shape is not None and size not in ((), tuple(shape)):
            raise RuleError(
                f"rule {rule.name!r}: measure returns for term {number} shape {size}; it is {tuple(shape)}, the "
                "parameter's, or a number for each element",
                rule=rule.name,
            )
    return several


def starts(rule: Rule, begun: Any) -> tuple[Any, ...]:
    """What a start returned: one for each slot.

    Args:
        rule: the rule.
        begun: what its ``start`` returned.

    Returns:
        The starts.

    Raises:
        RuleError: it is something else. An array, which could be taken apart by its rows, is none of them.
    """
    what = f"where each slot starts ({_names(rule.slot_names)})"
    if getattr(begun, "ndim", None):
        raise _returns(rule, "start", begun, f"{what}: write a tuple, one for each slot")
    return _counted(rule, "start", begun, len(rule.slot_names), what)


def _try(rule: Rule, one: Any) -> None:
    hyper, real = rule.hyper(), float if one.ndim else np.float64
    if rule.start is not None:
        starts(rule, _call(rule, "start", rule.start, "param, h", one, hyper))
    carried: tuple[Any, ...] = ()
    if rule.carried is not None and rule.carry is not None:
        carried = (_call(rule, "carry", rule.carry, "t, h, carried", 1, hyper, rule.carried()),)
        names = rule.carried_names
        _counted(rule, "carry", carried[0], len(names), f"the rule's named tuple of what is carried ({_names(names)})")
    scalars = hyper
    if rule.prepare is not None:
        takes = "t, h, carried" if carried else "t, h"
        scalars = _call(rule, "prepare", rule.prepare, takes, 1, hyper, *carried)
        what = "a named tuple of the numbers that update reads"
        if not hasattr(scalars, "_fields"):
            raise _returns(rule, "prepare", scalars, what)
        for field, value in scalars._asdict().items():
            if isinstance(value, tuple | list):
                raise _returns(rule, "prepare", value, what, f"for {field} ")
    slots = rule.slots(*(one for _ in rule.slot_names))
    h = type(scalars)(*map(real, scalars))
    if rule.measure is not None and rule.conclude is not None:
        measured = terms(rule, _call(rule, "measure", rule.measure, "param, grad, slots, h", one, one, slots, h))
        sums = tuple(term.sum() if hasattr(term, "sum") else term for term in measured)
        concluded = _call(rule, "conclude", rule.conclude, "h, sums", scalars, sums)
        if not hasattr(concluded, "_fields"):
            _counted(rule, "conclude", concluded, len(h), "what prepare returned, completed")
            concluded = type(h)(*concluded)
        h = type(concluded)(*map(real, concluded))
    new, moved = _unpacked(rule, _call(rule, "update", rule.update, "param, grad, slots, h", one, one, slots, h))
    if one.ndim:
        fitting(rule, new, moved, tuple(one.shape))


def _call(rule: Rule, name: str, text: Callable[..., Any], takes: str, *given: Any) -> Any:
    """What a text returns."""
    try:
        return text(*given)
    except (TypeError, ValueError, RuntimeError) as error:
        if raised_by_a_text(error):
            raise
        signature = _signature(text)
        if isinstance(error, TypeError) and signature is not None and not _takes(signature, given):
            message = f"rule {rule.name!r}: {name} takes {signature}; it is called with ({takes})"
        elif any(getattr(one, "ndim", 0) for one in given) and _asks_for_a_number(error):
            message = (
                f"rule {rule.name!r}: {name} cannot be computed with arrays: {error}; it may use + - * / and the names "
                f"of thalweg.rules.arithmetic, as where in the place of an if ({_place(error)})"
            )
        else:
            raise
        raise RuleError(message, rule=rule.name) from error
    except NameError as error:
        raise RuleError(f"rule {rule.name!r}: {name}: {error} ({_place(error)})", rule=rule.name) from error
    except AttributeError as error:
        fields = getattr(error.obj, "_fields", None) if any(error.obj is one for one in given) else None
        if fields is None:
            raise
        guess = nearest(str(error.name), fields)
        question = f"did you mean {guess!r}? It" if guess else "it"
        raise RuleError(
            f"rule {rule.name!r}: {name} reads {error.name!r}, which is not there; {question} may read "
            f"{_names(fields) or 'nothing'} ({_place(error)})",
            rule=rule.name,
            name=error.name,
            nearest=guess,
        ) from error


def raised_by_a_text(error: Exception) -> bool:
    """Whether an error comes from a ``raise`` that is in none of the libraries.

    Args:
        error: the error, as it was caught.

    Returns:
        Whether a user's own code raised it.
    """
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    if trace is None or trace.tb_lasti < 0:
        return False
    return (
        not of_a_library(trace.tb_frame) and trace.tb_frame.f_code.co_code[trace.tb_lasti] == dis.opmap["RAISE_VARARGS"]
    )


def of_a_library(frame: FrameType) -> bool:
    """Whether it is code of ours, or of an array library.

    Args:
        frame: where the code is run.

    Returns:
        False for a user's own.
    """
    return str(frame.f_globals.get("__name__", "")).partition(".")[0] in _LIBRARIES


def _asks_for_a_number(error: Exception) -> bool:
    """Whether an array library refuses to make one number, or one truth value, of an array."""
    concrete = any(kind.__name__ == "ConcretizationTypeError" for kind in type(error).__mro__)  # JAX's
    return concrete or _NO_NUMBER.search(str(error)) is not None


def _place(error: Exception) -> str:
    """Where it was raised."""
    place = traceback.extract_tb(error.__traceback__)[-1]
    return f"{place.filename}, line {place.lineno}"


def _signature(text: Callable[..., Any]) -> inspect.Signature | None:
    """What a text takes itself, whatever a decorator says that it wraps."""
    try:
        return inspect.signature(text, follow_wrapped=False)
    except (TypeError, ValueError):
        return None


def _takes(signature: inspect.Signature, given: tuple[Any, ...]) -> bool:
    try:
        signature.bind(*given)
    except TypeError:
        return False
    return True


def _counted(rule: Rule, name: str, got: Any, count: int | None, what: str, part: str = "") -> tuple[Any, ...]:
    """What a text returned as a tuple of so many: a list, an array or a generator will do, and no table of names."""
    if isinstance(got, dict | str):
        raise _returns(rule, name, got, what, part)
    try:
        several = got if isinstance(got, tuple) else tuple(got)
    except TypeError as error:
        raise _returns(rule, name, got, what, part) from error
    if count is not None and len(several) != count:
        raise _returns(rule, name, got, what, part, len(several))
    return several


def _returns(rule: Rule, name: str, got: Any, what: str, part: str = "", count: int | None = None) -> RuleError:
    kind = "None" if got is None else f"a {type(got).__name__}"
    size = "" if count is None else f" of {count}"
    return RuleError(f"rule {rule.name!r}: {name} returns {part}{kind}{size}; it returns {what}", rule=rule.name)


def _results(rule: Rule) -> str:
    return f"the new parameter and the new slots, (param, Slots({_names(rule.slot_names)}))"


def _names(names: tuple[str, ...]) -> str:
    return ", ".join(names)
