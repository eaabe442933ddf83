"""What a new run would be refused for, and how it is said where a run goes on that must not be lost.

A problem that refuses says the cause rather than what follows from it: a start in km/s has waves that no grid can hold.
Where a run goes on, that cause may be what it is only told of, and what follows from it is what stops it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

from thalweg.errors import ThalwegError
from thalweg.runs.differences import is_inside

Error = TypeVar("Error", bound=ThalwegError)

_BEHIND = "behind"


def behind(cause: Error, error: ThalwegError) -> Error:
    """The cause, to be raised in the place of what follows from it; it knows what that is.

    Example:
        >>> from thalweg.errors import DispersionError, StudyError
        >>> from thalweg.runs.objecting import behind, what_stops
        >>> cause, error = StudyError("The start is in km/s."), DispersionError("The grid is too coarse.")
        >>> with what_stops():
        ...     raise behind(cause, error)
        Traceback (most recent call last):
        ...
        thalweg.errors.DispersionError: The grid is too coarse. A new run would be refused: The start is in km/s.
    """
    cause.details[_BEHIND] = error
    return cause


@contextmanager
def what_stops() -> Iterator[None]:
    """Say what stops a run that goes on before what a new run would be refused for."""
    try:
        yield
    except ThalwegError as cause:
        error = cause.details.get(_BEHIND)
        if not isinstance(error, ThalwegError):
            raise
        raise type(error)(f"{error} A new run would be refused: {cause}", **error.details) from None


def follows(keys: Iterable[str], changed: Iterable[str], blocks: int) -> bool:
    """Whether something that follows from keys is there since a change of the study.

    Args:
        keys: dotted paths of keys or tables.
        changed: the dotted paths of what has changed.
        blocks: how many there were before; all of one that is new has changed.

    Example:
        >>> from thalweg.runs.objecting import follows
        >>> follows(["problem.wavelet", "problem.steps"], ["problem.wavelet.cycles"], 2)
        True
        >>> follows(["blocks.1.frequency"], ["blocks.1.iterations"], 2)
        False
        >>> follows(["blocks.1.frequency"], ["blocks.1.iterations"], 1)
        True
    """
    changed = list(changed)
    for key in keys:
        table, *place = key.split(".")
        if table == "blocks" and place and place[0].isdigit() and int(place[0]) >= blocks:
            return True
        if any(is_inside(other, key) or is_inside(key, other) for other in changed):
            return True
    return False
