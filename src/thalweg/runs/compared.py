"""From where on the scores of a search are compared: its beginning, unless something else decides rewards since. And
by what they are compared: the bounds of their means."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import RunError
from thalweg.runs.telling import on_some

BEGAN_ANEW = "search_began_anew"
"""The fact that holds the first candidate, and the last iteration before it, of a search that began anew."""
CONFIDENCE = "search_confidence"
"""The fact that holds the confidence of each of the two bounds that a candidate's mean has."""
ENGINE = "search_engine"
"""The fact that says which engine was chosen, and why, where the study leaves that open; null where it does not."""
SCORED_ON = "search_scored_on"
"""The fact that holds what candidates are scored on: what a sample is called (``item_name``), what a reward is
(``measure``), and how many samples there are to search with (``search``), to choose with (``held_out``) and to report
with (``test``)."""


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


@dataclass(frozen=True)
class ScoredOn:
    """What candidates are scored on, as far as a run says it: runs of before do not.

    Args:
        item_name: what a sample is called.
        measure: what a reward is; empty where nobody has said it.
        search: how many samples there are to search with; None if that is not known.
        held_out: to choose with.
        test: to report with.
    """

    item_name: str = "sample"
    measure: str = ""
    search: int | None = None
    held_out: int | None = None
    test: int | None = None

    @classmethod
    def of(cls, facts: Mapping[str, Any]) -> ScoredOn:
        """As the facts of a run's history have it.

        Example:
            >>> from thalweg.runs.compared import ScoredOn
            >>> ScoredOn.of({"search_scored_on": {"item_name": "fold", "search": 4}}).reward
            'mean reward'
        """
        return cls.read(facts.get(SCORED_ON))

    @classmethod
    def read(cls, found: Any) -> ScoredOn:
        """As one of them has it."""
        kinds: dict[str, type] = {"item_name": str, "measure": str, "search": int, "held_out": int, "test": int}
        entries = found if isinstance(found, dict) else {}
        return cls(**{name: entries[name] for name, kind in kinds.items() if type(entries.get(name)) is kind})

    @property
    def reward(self) -> str:
        """What a mean is of, for an axis."""
        return f"mean reward ({self.measure})" if self.measure else "mean reward"

    def counted(self, part: str, found: Mapping[str, Any]) -> str:
        """On how many samples of a part a mean is, to be said behind it.

        Args:
            part: ``"search"``, ``"held_out"`` or ``"test"``.
            found: what a run says of the mean.
        """
        return on_some(found.get("samples"), getattr(self, part), self.item_name)


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
