"""What a problem must be once it was built; said before anything uses it."""

from __future__ import annotations

from collections.abc import Mapping
from numbers import Integral, Real
from typing import Any

import numpy as np

from thalweg.errors import StudyError
from thalweg.runs.problem import Problem

_DRAWN = (np.random.PCG64, np.random.PCG64DXSM, np.random.MT19937, np.random.Philox, np.random.SFC64)


def check_built(problem: Any, wanted: type[Problem]) -> None:
    """Refuse what a problem's ``build`` returned, before anything uses it.

    Raises:
        StudyError: it is no problem, or lacks what every problem has.
    """
    name = wanted.__qualname__
    if not isinstance(problem, Problem):
        raise StudyError(f"{name}.build returned {kind_of(problem)}, no problem. End it with `return cls(...)`.")
    items, variables = getattr(problem, "items", None), getattr(problem, "variables", None)
    if isinstance(items, bool) or not isinstance(items, Integral):
        raise StudyError(
            f"{name}.items is {kind_of(items)}, no whole number: it says how many items (shots, samples) there are."
        )
    if items < 1:
        raise StudyError(f"{name}.items is {items}: a problem has one item (shot, sample) at least.")
    _make_plain(problem, "items", name)
    for key in ("held_out", "test") if problem.rewarded else ():
        count = getattr(problem, key, None)
        if isinstance(count, bool) or not isinstance(count, Integral) or count < 0:
            raise StudyError(f"{name}.{key} is {count!r:.40}; it is a number of samples, 0 or more.")
        _make_plain(problem, key, name)
    if not isinstance(problem.summary_captions, Mapping):
        raise StudyError(
            f"{name}.summary_captions is {kind_of(problem.summary_captions)}; it is a dictionary of texts."
        )
    if not isinstance(variables, (tuple, list)):
        raise StudyError(
            f"{name}.variables is {kind_of(variables)}; it is a tuple of the variables to be fitted, also for one: "
            "`self.variables = (self.x,)`."
        )
    _check_generators(problem, f"{name}.generators")


def _check_generators(problem: Problem, name: str) -> None:
    """Refuse generators that no checkpoint can hold, or that a search would draw from."""
    found: Any = problem.generators
    if not isinstance(found, Mapping):
        raise StudyError(f"{name} is {kind_of(found)}; it is a dictionary of numpy.random.Generator by name.")
    if found and problem.rewarded:
        raise StudyError(
            f"{name} is not empty, and rewards of candidates that are evaluated side by side cannot draw from one "
            "generator: have each draw from np.random.default_rng([seed, item])."
        )
    for key, generator in found.items():
        if not isinstance(key, str):
            raise StudyError(f"{name} has {key!r:.80}, which is no name: name them with text.")
        if not isinstance(generator, np.random.Generator):
            raise StudyError(
                f"{name} has {kind_of(generator)} for {key!r}; give a numpy.random.Generator: "
                "np.random.default_rng(seed)."
            )
        if type(generator.bit_generator) not in _DRAWN:
            raise StudyError(
                f"{name} has for {key!r} {kind_of(generator.bit_generator)}, whose state cannot be saved; take one of "
                f"NumPy's: {', '.join(kind.__name__ for kind in _DRAWN)}."
            )


def _make_plain(problem: Problem, key: str, name: str) -> None:
    """Have a whole number of NumPy's be Python's, which can be written down."""
    count = getattr(problem, key)
    if type(count) is int:
        return
    try:
        setattr(problem, key, int(count))
    except AttributeError as error:
        text = f"{name}.{key} is {kind_of(count)} that cannot be set; return int(...), a number of Python's."
        raise StudyError(text) from error


def ranges_of(problem: Problem) -> Mapping[str, tuple[float, float]]:
    """What a problem's ``ranges`` returned.

    Raises:
        StudyError: it is no table of two numbers by name, the least first.
    """
    ranges: Any = problem.ranges()
    name = f"{type(problem).__qualname__}.ranges"
    if not isinstance(ranges, Mapping):
        raise StudyError(
            f"{name} returned {kind_of(ranges)} instead of a dictionary of pairs by the variable's name; end it with "
            "`return {...}`, which may be empty."
        )
    for variable, pair in ranges.items():
        if not _is_range(pair):
            raise StudyError(
                f"{name} has {pair!r:.80} for {variable!r}; give (least, largest), two numbers in the variable's unit, "
                "infinite where there is no limit."
            )
    return ranges


def _is_range(pair: Any) -> bool:
    try:
        least, most = pair
    except (TypeError, ValueError):
        return False
    return isinstance(least, Real) and isinstance(most, Real) and bool(least <= most)  # NaN is neither


def kind_of(value: Any) -> str:
    """What something is that should be something else, for a message.

    Example:
        >>> from thalweg.runs.built import kind_of
        >>> kind_of(None), kind_of([1.0])
        ('None', 'an object of type list')
    """
    return "None" if value is None else f"an object of type {type(value).__qualname__}"
