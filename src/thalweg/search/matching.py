"""Which of the variables that an optimizer is given it acts on, and why it leaves the others alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from thalweg.errors import SearchError
from thalweg.graph import Variable
from thalweg.search.structured import StructuredVariable


@dataclass(frozen=True)
class Matching:
    """Which variables an optimizer acts on, and which it leaves alone.

    Attributes:
        acted: those that it acts on, in the order in which they were given.
        left: the others, each with the reason.
    """

    acted: tuple[StructuredVariable, ...]
    left: tuple[tuple[Variable, str], ...]


def match(
    variables: Variable | Iterable[Variable], contains: Callable[[StructuredVariable], bool], name: str
) -> Matching:
    """Sort variables into those that an optimizer acts on and the others.

    Args:
        variables: one or several.
        contains: whether a variable's schema contains the optimizer's.
        name: the optimizer's, for messages.

    Raises:
        SearchError: something is no variable, or is there twice.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.search.matching import match
        >>> match(tw.Variable(1.0, name="x"), lambda variable: True, "halve").left[0][1]
        'it holds an array'
    """
    given = (variables,) if isinstance(variables, Variable) else tuple(variables)
    acted: list[StructuredVariable] = []
    left: list[tuple[Variable, str]] = []
    for place, variable in enumerate(given):
        if not isinstance(variable, Variable):
            raise SearchError(f"variable {place} given to {name!r} is a {type(variable).__name__}; expected variables.")
        if any(variable is other for other in given[:place]):
            raise SearchError(f"{variable!r} is given to {name!r} twice; give each variable once.")
        if not isinstance(variable, StructuredVariable):
            left.append((variable, "it holds an array"))
        elif not variable.trainable:
            left.append((variable, "it is not trainable"))
        elif not contains(variable):
            left.append((variable, "its schema does not contain the optimizer's"))
        else:
            acted.append(variable)
    return Matching(tuple(acted), tuple(left))
