"""What is given to a search and belongs to its engine: an option, which goes into ``options``."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from thalweg.errors import SearchError
from thalweg.rules.spelling import nearest
from thalweg.search.engines import engine_options


def refuse_misplaced(owner: str, kind: str, given: Mapping[str, Any], known: Collection[str]) -> None:
    """Raise if something that a search does not take is an option of its engine, or is spelled nearly like one.

    Args:
        owner: the search's class, for the message.
        kind: its engine.
        given: what it was given and does not take, by name.
        known: the names of what it takes.

    Raises:
        SearchError: there is such an option, and nothing that the search takes is nearer; or there is no such engine.

    Example:
        >>> from thalweg.search.misplaced import refuse_misplaced
        >>> refuse_misplaced("Search", "tpe", {"startup": 3}, ["kind", "options", "seed"])
        Traceback (most recent call last):
        thalweg.errors.SearchError: Search takes no 'startup', engine 'tpe' does: give options={'startup': 3}
        >>> refuse_misplaced("Search", "tpe", {"start_up": 3}, ["kind", "options", "seed"])
        Traceback (most recent call last):
        thalweg.errors.SearchError: Search takes no 'start_up', engine 'tpe' takes 'startup': give options=...
    """
    for name, value in given.items():
        options = engine_options(kind)
        guess = nearest(name, [*options, *known])
        if guess in options:
            does = "does" if guess == name else f"takes {guess!r}"
            raise SearchError(
                f"{owner} takes no {name!r}, engine {kind!r} {does}: give options={{{guess!r}: {value!r}}}",
                argument=name,
                nearest=guess,
            )
