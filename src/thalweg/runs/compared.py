"""From where on the scores of a search are compared: its beginning, unless something else decides rewards since. And
by what they are compared: the bounds of their means."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import RunError

BEGAN_ANEW = "search_began_anew"
"""The fact that holds the first candidate, and the last iteration before it, of a search that began anew."""
CONFIDENCE = "search_confidence"
"""The fact that holds the confidence of each of the two bounds that a candidate's mean has."""


def compared_from(facts: Mapping[str, Any]) -> tuple[int, int]:
    """The first candidate whose score is compared with others, and the last iteration before it.

    Args:
        facts: of a run's history.

    Raises:
        RunError: they are damaged.

    Example:
        >>> from thalweg.runs.compared import compared_from
        >>> compared_from({}), compared_from({"search_began_anew": {"first": 12, "iteration": 6}})
        ((0, 0), (12, 6))
    """
    found = facts.get(BEGAN_ANEW)
    if found is None:
        return 0, 0
    first, iteration = (found.get(name) for name in ("first", "iteration")) if isinstance(found, dict) else (None, None)
    if type(first) is not int or type(iteration) is not int:
        raise RunError(f"The history does not say where its search began anew, but {found!r:.80}: it is damaged.")
    return first, iteration


def compared(columns: Mapping[str, NDArray[Any]], facts: Mapping[str, Any], name: str) -> NDArray[np.float64]:
    """A column of the history, NaN where it is of scores that are not compared any more.

    Args:
        columns: of the history.
        facts: of the same.
        name: of the column.

    Example:
        >>> import numpy as np
        >>> from thalweg.runs.compared import compared
        >>> columns = {"iteration": np.array([1, 2]), "best": np.array([0.9, 0.2])}
        >>> compared(columns, {"search_began_anew": {"first": 3, "iteration": 1}}, "best")
        array([nan, 0.2])
    """
    return np.where(columns["iteration"] > compared_from(facts)[1], columns[name], np.nan)


def level_of(facts: Mapping[str, Any]) -> str:
    """How sure the bounds of a mean are, in words; nothing if the history does not say.

    Args:
        facts: of a run's history.

    Example:
        >>> from thalweg.runs.compared import level_of
        >>> level_of({"search_confidence": 0.95}), level_of({})
        (' (95 % each, 90 % between them)', '')
    """
    confidence = facts.get(CONFIDENCE)
    if not isinstance(confidence, float) or not 0.5 < confidence < 1.0:
        return ""
    return f" ({100 * confidence:g} % each, {200 * confidence - 100:g} % between them)"
