"""What is a mark of the user's own, and what means something to an optimizer: where it is set nobody reads it."""

from __future__ import annotations

import difflib
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from thalweg.optimizers.recipe import COMMON, WRAPPERS, added
from thalweg.rules import decayed, registry
from thalweg.rules.base import Rule
from thalweg.rules.spelling import USUAL, nearest

FORMS = ("nesterov", "amsgrad", "centered", "dampening", "maximize", "lr_decay", "decoupled_weight_decay")
"""What chooses another form of a rule in PyTorch."""


def _is_wrap(value: Any) -> bool:
    names = [value] if isinstance(value, str) else value if isinstance(value, list | tuple) else ()
    return any(name in WRAPPERS for name in names if isinstance(name, str))


def _is_groups(value: Any) -> bool:
    return isinstance(value, list | tuple) and any(isinstance(one, Mapping) and "variables" in one for one in value)


def _is_of(option: str) -> Callable[[Any], bool]:
    def is_one(value: Any) -> bool:
        return isinstance(value, str) and any(value in rule.options.get(option, ()) for rule in _rules())

    return is_one


_EVERYDAY: Mapping[str, Callable[[Any], bool]] = {
    "wrap": _is_wrap,
    "groups": _is_groups,
    "threshold": lambda value: False,  # RAdam's; a number of anybody's own, too
    **{option: _is_of(option) for option in ("decay", "correction", "weighting")},
}
"""Words that are marks as well as they name what some optimizer of ours takes: whether a value is meant for that."""


def means_something(key: str, value: Any) -> bool:
    """Whether a name with this value is one that some optimizer takes, so that it is no mark of the user's own.

    Args:
        key: the name, of an attribute or in a param group.
        value: what it was set to.
    """
    return key in _elsewhere() and (key not in _EVERYDAY or _EVERYDAY[key](value))


def meant(name: str, known: Iterable[str]) -> str | None:
    """The known name that one stands for beyond doubt, so that it is no mark of the user's own.

    Args:
        name: the name, of an attribute.
        known: the names that exist.

    Returns:
        That name, or ``None``.

    Example:
        >>> from thalweg.optimizers.meaning import meant
        >>> [meant(name, ["learning_rate", "epsilon"]) for name in ("lr", "learning_rat", "description")]
        ['learning_rate', 'learning_rate', None]
    """
    guess = nearest(name, known)
    if guess is None or name in USUAL:
        return guess
    return next(iter(difflib.get_close_matches(name, [guess], cutoff=0.75)), None)


@functools.cache
def _rules() -> tuple[Rule, ...]:
    return tuple(map(decayed, registry.values()))


@functools.cache
def _elsewhere() -> frozenset[str]:
    """The names that some optimizer of ours takes, or PyTorch's chooses a form by."""
    names = {name for rule in _rules() for name in (*rule.hyperparameters, *rule.options, *rule.switches)}
    return frozenset({*names, *added(), *COMMON, *FORMS, "betas"} - {"name", "description"})
