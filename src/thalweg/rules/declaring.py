"""Hyperparameters as data, and named tuples that are made of them."""

from __future__ import annotations

import functools
import hashlib
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Annotated, Any, NamedTuple

from thalweg.errors import RuleError
from thalweg.rules.ranges import Interval


@dataclass(frozen=True)
class Hyperparameter:
    """One declared hyperparameter.

    Args:
        name: how it is spelled.
        default: the rule's default.
        interval: where it is valid.
        doc: what it means, with its unit where it has one.
    """

    name: str
    default: float
    interval: Interval
    doc: str


def named_tuple(name: str, declared: Iterable[Hyperparameter]) -> type[Any]:
    """A ``Hyper`` made of declarations: what a rule's file writes as a class.

    Args:
        name: the class's name.
        declared: the hyperparameters, in order.

    Returns:
        A named tuple class with annotations and defaults.
    """
    several = list(declared)
    unique = _unique(name, [h.name for h in several])
    made = NamedTuple(unique, [(h.name, Annotated[Any, h.interval, h.doc]) for h in several])  # type: ignore[misc]
    made.__new__.__defaults__ = tuple(h.default for h in several)
    made._field_defaults = {h.name: h.default for h in several}
    return typing.cast("type[Any]", made)


def extended(base: type[Any], *fields: str, name: str) -> type[Any]:
    """The named tuple ``base`` with more fields at its end.

    Args:
        base: a named tuple class, possibly empty.
        fields: the names of the fields to add.
        name: the class's name.

    Returns:
        A named tuple class.
    """
    names = [*base._fields, *fields]
    return typing.cast("type[Any]", NamedTuple(_unique(name, names), [(n, Any) for n in names]))


def _unique(name: str, fields: Iterable[str]) -> str:
    """A class name of its own for each set of fields: numba tells classes by their names."""
    return f"{name}_{hashlib.blake2b(' '.join(fields).encode(), digest_size=4).hexdigest()}"


@functools.cache
def taker(begin: int, end: int | None) -> Callable[[Any], tuple[Any, ...]]:
    """A function that takes some of a named tuple's values, so that another can be made of them and some more.

    Args:
        begin: the first that is taken.
        end: the first that is not.

    Returns:
        A function from named tuple to tuple; compiled loops know by its ``part`` what it does.
    """

    def take(values: Any) -> tuple[Any, ...]:
        return tuple(values)[begin:end]

    take.part = begin, end  # type: ignore[attr-defined]
    return take


plain = taker(0, None)
"""All values of a named tuple, as a tuple."""


def declarations(hyper: type[Any]) -> dict[str, Hyperparameter]:
    """The declared hyperparameters by name, read off the annotations of a named tuple.

    Args:
        hyper: each field is ``Annotated[Number, Interval, "what it means"]`` and has a default.

    Returns:
        The declarations, in order.

    Raises:
        RuleError: a field is annotated in another way.
    """
    hints = typing.get_type_hints(hyper, include_extras=True)
    declared = {}
    for name in hyper._fields:
        hint = hints[name]
        if typing.get_origin(hint) is not Annotated or len(hint.__metadata__) != 2:
            raise RuleError(f"{hyper.__module__}: annotate {name} as Annotated[Number, Interval, 'meaning']")
        interval, doc = hint.__metadata__
        declared[name] = Hyperparameter(name, hyper._field_defaults[name], interval, doc)
    return declared
