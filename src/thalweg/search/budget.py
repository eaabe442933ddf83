"""What a search may cost, and what it has cost: limits that are kept, not aimed at.

An evaluation is one candidate on one sample. Before it begins, the most that it can cost is reserved; afterwards
the reservation is settled with what it did cost::

    begin only if   spent + reserved + most ≤ limit      for evaluations, tokens and money each

so a limit is never passed, whatever the answers are.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from thalweg.errors import SearchError


@dataclass(frozen=True)
class Spent:
    """An amount of the things that have to be paid for.

    Args:
        evaluations: a candidate on a sample each.
        tokens: of prompts and answers together.
        money: in the currency of the price list.

    Example:
        >>> from thalweg.search.budget import Spent
        >>> Spent(1, tokens=20) + Spent(1, money=0.5)
        Spent(evaluations=2, tokens=20, money=0.5)
    """

    evaluations: int = 0
    tokens: int = 0
    money: float = 0.0

    def __post_init__(self) -> None:
        for name in ("evaluations", "tokens", "money"):
            value = getattr(self, name)
            number = isinstance(value, int | float) if name == "money" else isinstance(value, int)
            if isinstance(value, bool) or not number or not math.isfinite(value) or value < 0:
                raise SearchError(f"{name} is {value!r}; what was spent is a finite number that is not negative.")

    def __add__(self, other: Spent) -> Spent:
        return Spent(self.evaluations + other.evaluations, self.tokens + other.tokens, self.money + other.money)


@dataclass(frozen=True)
class Limits:
    """The most that may be spent; None is no limit.

    Args:
        evaluations: as :class:`Spent` counts them.
        tokens: the same.
        money: the same.

    Example:
        >>> from thalweg.search.budget import Limits, Spent
        >>> limits = Limits(tokens=100)
        >>> limits.refusal(Spent(tokens=60), Spent(1, tokens=50))
        'the budget of 100 tokens: 60 are spent, and the next step may take 50'
        >>> limits.refusal(Spent(tokens=60), Spent(1, tokens=40)) is None
        True
    """

    evaluations: int | None = None
    tokens: int | None = None
    money: float | None = None

    def refusal(self, spent: Spent, most: Spent, kept: Spent | None = None) -> str | None:
        """Why something that may cost ``most`` must not begin, or None if it may.

        Args:
            spent: what was spent, or is reserved.
            most: what it may cost.
            kept: what must be left over for the final choice.
        """
        later = kept or Spent()
        for name in ("evaluations", "tokens", "money"):
            limit, before, now, back = (getattr(one, name) for one in (self, spent, most, later))
            if limit is not None and now > 0 and before + back + now > limit:
                amounts = [f"{value:,.6g}" if name == "money" else f"{value:,}" for value in (limit, before, now, back)]
                what = f"{amounts[0]} {name}" if name != "money" else f"{amounts[0]} in money"
                verb = "is" if name == "money" else "are"
                choice = f", up to {amounts[3]} {verb} kept back for the final choice" if back else ""
                return (
                    f"the budget of {what}: {amounts[1]} {verb} spent{choice}, and the next step may take {amounts[2]}"
                )
        return None
