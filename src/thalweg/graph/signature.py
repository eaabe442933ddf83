"""What the graph has to know about an operator's methods, found out once per class."""

from __future__ import annotations

import inspect
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thalweg.graph.variable import Variable

if TYPE_CHECKING:
    from thalweg.graph.operator import Operator


@dataclass(frozen=True, slots=True)
class Signature:
    """The parameters of ``forward``, and how ``forward`` and ``adjoint`` want to be called.

    Attributes:
        positional: names of the parameters that can be given by position, in order.
        rest: name of the ``*args`` parameter, or None.
        ranks: place of each parameter that can be given by keyword.
        forward_call, adjoint_call: whether the method names the keyword-only parameter ``call``.
        forward_plain, adjoint_plain: whether the method is a plain function (so a blocking one can go to a
            thread).
    """

    positional: tuple[str, ...]
    rest: str | None
    ranks: dict[str, int]
    forward_call: bool
    adjoint_call: bool
    forward_plain: bool
    adjoint_plain: bool

    def keyword_order(self, names: Iterable[str]) -> list[str]:
        """Sort keyword names as in the signature; those that only ``**kwargs`` takes come last, by name."""
        return sorted(names, key=lambda name: (self.ranks.get(name, math.inf), name))

    def labels(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[str]:
        """Name the Variables among the arguments in gradient order: ``["x", "rest[0]", "weight"]``."""
        known = len(self.positional)
        names = [
            self.positional[i] if i < known else f"{self.rest}[{i - known}]"
            for i, value in enumerate(args)
            if isinstance(value, Variable)
        ]
        return names + [name for name in self.keyword_order(kwargs) if isinstance(kwargs[name], Variable)]


def analyze(operator: Operator) -> Signature:
    """Look at an operator's methods and remember the answer on its class."""
    positional, rest, ranks = [], None, {}
    for rank, parameter in enumerate(_parameters(operator.forward)):
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            positional.append(parameter.name)
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY):
            ranks[parameter.name] = rank
        if parameter.kind is parameter.VAR_POSITIONAL:
            rest = parameter.name
    signature = Signature(
        positional=tuple(positional),
        rest=rest,
        ranks=ranks,
        forward_call=wants_call(operator.forward),
        adjoint_call=wants_call(operator.adjoint),
        forward_plain=not inspect.iscoroutinefunction(operator.forward),
        adjoint_plain=not inspect.iscoroutinefunction(operator.adjoint),
    )
    type(operator)._signature = signature
    return signature


def signature_of(operator: Operator) -> Signature:
    """Return what is known about an operator's class."""
    return operator._signature or analyze(operator)


def wants_call(method: Any) -> bool:
    """Tell whether a method names the keyword-only parameter ``call``."""
    return any(p.name == "call" and p.kind is p.KEYWORD_ONLY for p in _parameters(method))


def _parameters(method: Any) -> list[inspect.Parameter]:
    try:
        return list(inspect.signature(method).parameters.values())
    except ValueError:  # a compiled function that does not tell
        return []
