"""What goes to and fro between an engine and whoever asks it: a proposal, which with a number is a candidate, and what
the candidate was worth."""

from __future__ import annotations

from dataclasses import dataclass

from thalweg.search.space import Values


@dataclass(frozen=True)
class Candidate:
    """A point to be scored.

    Args:
        number: counted from 0 in the order of asking.
        values: a JSON value for each variable; yours to keep.
        origin: where it comes from: ``"tpe"``, ``"mutation of 3"``.
        resource: the share of the samples, in (0, 1], that it is to be scored on. A candidate that was told on few may
            come again, under its number, with a larger share.

    Example:
        >>> from thalweg.search import Candidate
        >>> Candidate(0, {"x": 2.0}, "start").resource
        1.0
    """

    number: int
    values: Values
    origin: str
    resource: float = 1.0


@dataclass(frozen=True)
class Told:
    """What a candidate was worth.

    Args:
        number: the candidate's.
        reward: finite, higher is better; None if the evaluation failed.
        feedback: remarks of single samples, for engines that read.
        samples: (sample, reward) of those that were scored, for engines that look at single samples.
        refused: whether there is no reward because the values themselves are not allowed: ``tpe`` keeps away from
            there, whereas it learns nothing of an evaluation that failed.

    Example:
        >>> from thalweg.search import Told
        >>> Told(0, 0.75).reward, Told(1, None).reward is None
        (0.75, True)
    """

    number: int
    reward: float | None
    feedback: tuple[str, ...] = ()
    samples: tuple[tuple[int, float], ...] = ()
    refused: bool = False


@dataclass(frozen=True)
class Proposal:
    """What an engine proposes, before it has a number.

    ``number`` is that of a candidate to be scored on more; ``digest`` that of the values, if it is known already.

    Example:
        >>> from thalweg.search import Proposal
        >>> Proposal({"x": 2.0}, "mutation of 3").number is None
        True
    """

    values: Values
    origin: str
    resource: float = 1.0
    number: int | None = None
    digest: str = ""
