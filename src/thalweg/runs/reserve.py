"""What is kept back for the final choice, while nobody knows yet who takes part in it.

At the end the F best candidates and the start are scored on the held-out samples, the winner and the start on the test
samples. Whoever they are, with the most n_c that candidate c can cost on all samples of a part if nothing has to be
repeated, and the most r that an evaluation can cost more if something has to::

    held out:  n_start + the sum of the F largest n_c
    test:      n_start + the largest n_c                          over all candidates but the start
    and        the largest r, so that the last one may begin

is enough, and it is needed in the worst case, so this much is kept back. Repetitions (of requests that broke off, say)
are paid for by what others leave of it, as most cost less than the most that they can.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable
from dataclasses import dataclass

from thalweg.search.budget import Spent

NOTHING = Spent()


@dataclass(frozen=True)
class Needs:
    """The most tokens and money that one candidate can cost in the final choice.

    Args:
        held_out: on all held-out samples together, if nothing has to be repeated.
        test: on all test samples together, the same.
        repeated: what an evaluation can cost more if something has to be.
    """

    held_out: Spent = NOTHING
    test: Spent = NOTHING
    repeated: Spent = NOTHING


def needs_of(prices: Iterable[tuple[int, Spent, Spent]], test_begins: int) -> Needs:
    """The needs of a candidate.

    Args:
        prices: (sample, the most that it can cost if nothing is repeated, the most in any case) of all held-out and
            test samples.
        test_begins: the first test sample.

    Example:
        >>> from thalweg.runs.reserve import needs_of
        >>> from thalweg.search.budget import Spent
        >>> needs = needs_of([(8, Spent(1, 10), Spent(1, 20)), (9, Spent(1, 12), Spent(1, 24))], test_begins=9)
        >>> needs.held_out.tokens, needs.test.tokens, needs.repeated.tokens
        (10, 12, 12)
    """
    parts: tuple[list[Spent], list[Spent]] = ([], [])
    tokens, money = 0, 0.0
    for item, once, most in prices:
        parts[item >= test_begins].append(once)
        tokens, money = max(tokens, most.tokens - once.tokens), max(money, most.money - once.money)
    held_out, test = (Spent(0, sum(one.tokens for one in part), math.fsum(one.money for one in part)) for part in parts)
    return Needs(held_out, test, Spent(0, tokens, money))


class Reserve:
    """Adds up what the final choice needs at most.

    Args:
        finalists: how many candidates take part in it, besides the start.

    Example:
        >>> from thalweg.runs.reserve import Needs, Reserve
        >>> from thalweg.search.budget import Spent
        >>> reserve = Reserve(finalists=2)
        >>> reserve.take(Needs(Spent(tokens=10), Spent(tokens=1)), start=True)
        >>> for tokens in (50, 70, 60):
        ...     reserve.take(Needs(Spent(tokens=tokens), Spent(tokens=tokens)))
        >>> reserve.kept.tokens  # 10 + 70 + 60 held out, 1 + 70 in the test
        211
    """

    def __init__(self, finalists: int) -> None:
        self._start = Needs()
        # Of tokens and of money each, as who is dearest in one need not be in the other.
        self._held_out = (_Largest(finalists), _Largest(finalists))
        self._test = (_Largest(1), _Largest(1))
        self._repeated = (_Largest(1), _Largest(1))

    def take(self, needs: Needs, *, start: bool = False) -> None:
        """A candidate may take part.

        Args:
            needs: what it can cost.
            start: whether it is the one that takes part in any case.
        """
        sums = [(self._repeated, needs.repeated)]
        if start:
            self._start = needs
        else:
            sums += [(self._held_out, needs.held_out), (self._test, needs.test)]
        for largest, spent in sums:
            largest[0].take(spent.tokens)
            largest[1].take(spent.money)

    @property
    def kept(self) -> Spent:
        """What has to be left over; evaluations are not counted here."""
        start, others = self._start, (self._held_out, self._test, self._repeated)
        tokens = [start.held_out.tokens, start.test.tokens, *(n for largest in others for n in largest[0].values)]
        money = [start.held_out.money, start.test.money, *(n for largest in others for n in largest[1].values)]
        return Spent(0, int(sum(tokens)), math.fsum(money))


class _Largest:
    """The largest of the numbers that were taken, so many."""

    def __init__(self, count: int) -> None:
        self._count = count
        self.values: list[float] = []  # a heap

    def take(self, value: float) -> None:
        if len(self.values) < self._count:
            heapq.heappush(self.values, value)
        else:
            heapq.heappushpop(self.values, value)
