"""Errors for a name that nobody knows, naming the nearest one that exists."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from thalweg.errors import HyperparameterError


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
    """
    names = list(known)
    usual = {"lr": "learning_rate", "eta": "learning_rate", "b1": "beta1", "b2": "beta2", "eps": "epsilon"}
    if usual.get(name) in names:
        return usual[name]
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    return close[0] if close else None


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
    """
    names = sorted(known)
    guess = nearest(name, names)
    question = f"; did you mean {guess!r}?" if guess else ";"
    listing = ", ".join(names) or "none"
    return HyperparameterError(
        f"there is no {what} {name!r}{question} (known: {listing})", name=name, nearest=guess, known=names
    )
