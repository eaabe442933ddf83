"""A rule's texts while another library traces them: what cannot be traced is an error of the rule, and says so."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from thalweg.errors import RuleError, ThalwegError
from thalweg.rules.base import Rule
from thalweg.rules.trying import explain, raised_by_a_text


@contextmanager
def traced(rule: Rule, by: str) -> Iterator[None]:
    """Have what fails in a rule's texts inside be a :class:`~thalweg.errors.RuleError` that names the rule.

    An error that a text raises itself stays what it is.

    Args:
        rule: the rule.
        by: the library, for the message.

    Raises:
        RuleError: a text asked for a value (an ``if``, ``math.sqrt``), called another library, or returned something
            that is none of this one's; the library's own error is its cause.

    Example:
        >>> from thalweg import rules
        >>> from thalweg.errors import RuleError
        >>> from thalweg.lowering.tracing import traced
        >>> try:
        ...     with traced(rules.sgd, "JAX"):
        ...         None.nothing
        ... except RuleError as error:
        ...     print(str(error).partition("\\n")[0])
        rule 'sgd' cannot be traced by JAX: 'NoneType' object has no attribute 'nothing'
    """
    try:
        yield
    except ThalwegError:
        raise
    except (TypeError, ValueError, AttributeError, NameError) as error:
        if raised_by_a_text(error):
            raise
        explain(rule, error, np.ones(2))
        raise RuleError(
            f"rule {rule.name!r} cannot be traced by {by}: {error}\nThe text may use + - * / and the names of "
            "thalweg.rules.arithmetic, and none of the values",
            rule=rule.name,
        ) from error
