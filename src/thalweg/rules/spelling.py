"""Errors for a name that nobody knows, naming the nearest one that exists."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from thalweg.errors import HyperparameterError

_CLOSE = 0.57  # of 1; "learning_rate" and "multivariate" have 0.56, "beta1" and "b1" 0.571
USUAL = {
    "lr": "learning_rate",
    "eta": "learning_rate",
    "step_size": "learning_rate",
    "b1": "beta1",
    "b2": "beta2",
    "eps": "epsilon",
}
"""What other libraries call a hyperparameter."""


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that ``name`` most likely stands for, or ``None``.

    Args:
        name: what was written.
        known: the names that exist.

    Returns:
        The closest known name, if any is close.

    Example:
        >>> from thalweg.rules.spelling import nearest
        >>> nearest("learning_rat", ["learning_rate", "beta1"])
        'learning_rate'
        >>> nearest("lr", ["learning_rate", "beta1"])
        'learning_rate'
        >>> nearest("beta1", ["b1", "b2"])
        'b1'
        >>> nearest("relative", ["abs", "rel"])
        'rel'
        >>> nearest("adma", ["adam", "adamax"])
        'adam'
    """
    names = list(known)
    if name in names:
        return name
    usual = [one for one in names if USUAL.get(name) == one or USUAL.get(one) == name]
    if usual:
        return usual[0]
    mixed = [one for one in names if sorted(one) == sorted(name)]  # letters that changed places
    if mixed:
        return mixed[0]
    close = difflib.get_close_matches(name, names, n=1, cutoff=_CLOSE)
    longer = [one for one in names if len(one) > 2 and name.startswith(one)]
    return next(iter(close + longer), None)


def unknown(what: str, name: str, known: Iterable[str]) -> HyperparameterError:
    """The error for an unknown name.

    Args:
        what: what was looked for, for instance ``"hyperparameter of adam"``.
        name: what was written.
        known: the names that exist.

    Returns:
        The error, ready to be raised; ``details["nearest"]`` holds the suggestion.

    Example:
        >>> from thalweg.rules.spelling import unknown
        >>> print(unknown("schedule", "expp", ["exp", "fixed"]))
        there is no schedule 'expp'; did you mean 'exp'? (known: exp, fixed)
        >>> print(unknown("schedule", "foo", ["exp", "fixed"]))
        there is no schedule 'foo' (known: exp, fixed)
    """
    names = sorted(known)
    guess = nearest(name, names)
    question = f"; did you mean {guess!r}?" if guess else ""
    listing = ", ".join(names) or "none"
    return HyperparameterError(
        f"there is no {what} {name!r}{question} (known: {listing})", name=name, nearest=guess, known=names
    )
