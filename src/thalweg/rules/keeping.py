"""What is made of a rule is kept with that rule: other forms of it, the rule with decay, compiled passes.

A program may make rules without end (``with_defaults`` in a search, say). A table of all of them would keep every one,
with its machine code; a table in the rule goes when the rule does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar


class Keeps(Protocol):
    """A rule, as far as this module knows it."""

    @property
    def made(self) -> dict[Any, Any]:
        """What was made of it."""


R = TypeVar("R", bound=Keeps)
P = ParamSpec("P")
T = TypeVar("T")


def kept_with_rule(function: Callable[Concatenate[R, P], T]) -> Callable[Concatenate[R, P], T]:
    """Have a function of a rule compute its result once for each rule, and return the same object each time.

    Args:
        function: its first argument is a rule; the others can be keys of a dictionary.

    Returns:
        The function, which keeps its results in ``rule.made``.

    Example:
        >>> from thalweg.rules import decayed, sgd
        >>> decayed(sgd) is decayed(sgd)
        True
    """

    @functools.wraps(function)
    def keeping(rule: R, /, *rest: P.args, **named: P.kwargs) -> T:
        key = function, rest, tuple(sorted(named.items()))
        if key not in rule.made:
            # Of two threads that are here at once the first one's result is everybody's.
            rule.made.setdefault(key, function(rule, *rest, **named))
        found: T = rule.made[key]
        return found

    return keeping
