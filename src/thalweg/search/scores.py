"""What is known of the candidates: their rewards, sample by sample, and how far a mean can be trusted.

With n_i different samples of N behind candidate i, and the standard deviation s pooled over all candidates::

    m_i = Σ_j r_ij / n_i
    s²  = Σ_i Σ_j (r_ij − m_i)² / Σ_i (n_i − 1)
    m_i ± z · s / √n_i · √(1 − n_i / N)

Candidates with equal values are one here, under the number of the first of them: they are the same in all but number.
The last factor is the finite population correction (Cochran, Sampling Techniques, 1977, eq. 2.20): a candidate
that was scored on every sample there is has nothing left to be unsure of. A candidate is judged by its *lower*
bound, so that one which was lucky on a few samples does not win over one which was good on many.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from statistics import NormalDist
from typing import Any

from thalweg.errors import SearchError


class Scores:
    """Rewards by candidate and sample.

    Args:
        samples: N, how many samples there are; None if there is no end of them.
        confidence: of each of the two bounds, between 0.5 and 1.

    Example:
        >>> from thalweg.search.scores import Scores
        >>> scores = Scores(samples=100, confidence=0.95)
        >>> scores.add(0, {j: 0.6 + 0.1 * (j % 3) for j in range(30)})   # good on many samples
        >>> scores.add(1, {0: 0.8})                                      # better on the only one
        >>> scores.best()
        0
        >>> scores.mean(0).__round__(3), scores.count(0)
        (0.7, 30)

    Source: see the module's text.
    """

    def __init__(self, samples: int | None, *, confidence: float = 0.95) -> None:
        if samples is not None and samples < 1:
            raise SearchError(f"samples is {samples}; a reward is of at least one sample.")
        if not 0.5 < confidence < 1.0:
            raise SearchError(f"confidence is {confidence!r}; it lies between 0.5 and 1, such as 0.95.")
        self.samples = samples
        self._z = NormalDist().inv_cdf(confidence)
        self._rewards: dict[int, dict[int, float]] = {}
        self._means: dict[int, float] = {}
        self._squares: dict[int, float] = {}  # sums of squared deviations from the mean
        self._failed: set[int] = set()

    def add(self, number: int, rewards: Mapping[int, float]) -> None:
        """Take rewards of a candidate, by sample; a sample that was there already is replaced.

        Raises:
            SearchError: a sample is none of the N, or a reward is not finite.
        """
        for sample, reward in rewards.items():
            if sample < 0 or (self.samples is not None and sample >= self.samples):
                raise SearchError(f"sample {sample} of candidate {number} is none of the {self.samples}.")
            if not math.isfinite(reward):
                raise SearchError(f"the reward of candidate {number} on sample {sample} is {reward!r}, not finite.")
        if rewards:
            known = self._rewards.setdefault(number, {})
            known.update(rewards)
            # In the order of the samples, so that the bits do not depend on who came first.
            mean = math.fsum(known[sample] for sample in sorted(known)) / len(known)
            self._means[number] = mean
            self._squares[number] = math.fsum((reward - mean) ** 2 for reward in known.values())

    def fail(self, number: int) -> None:
        """An evaluation of the candidate failed: it is never the best."""
        self._failed.add(number)

    def has_failed(self, number: int) -> bool:
        """Whether an evaluation of the candidate has failed."""
        return number in self._failed

    @property
    def failed(self) -> frozenset[int]:
        """The candidates that have failed."""
        return frozenset(self._failed)

    @property
    def numbers(self) -> frozenset[int]:
        """The candidates that something is known of."""
        return frozenset(self._rewards.keys() | self._failed)

    def count(self, number: int) -> int:
        """How many samples are behind a candidate."""
        return len(self._rewards.get(number, ()))

    def seen(self, number: int) -> frozenset[int]:
        """The samples that are behind a candidate."""
        return frozenset(self._rewards.get(number, ()))

    def mean(self, number: int) -> float:
        """The candidate's mean reward over the samples behind it, summed in the order of the samples."""
        return self._means[number]

    def deviation(self) -> float:
        """The standard deviation of a sample's reward, pooled over candidates; 0 while nobody can tell."""
        freedom = sum(len(rewards) - 1 for rewards in self._rewards.values())
        return math.sqrt(math.fsum(self._squares.values()) / freedom) if freedom else 0.0

    def bounds(self, number: int) -> tuple[float, float]:
        """Lower and upper confidence bound of the candidate's mean reward over all N samples."""
        return self._bounds(number, self.deviation())

    def best(self, among: Iterable[int] | None = None) -> int | None:
        """The candidate with the highest lower bound; of equal ones the one that was asked first. None if there
        is none without a failure."""
        ranked = self.ranked(among)
        return ranked[0] if ranked else None

    def ranked(self, among: Iterable[int] | None = None) -> list[int]:
        """The candidates without a failure, the best first, by their lower bounds."""
        deviation = self.deviation()
        numbers = self._rewards.keys() - self._failed
        if among is not None:
            numbers &= set(among)
        return sorted(numbers, key=lambda number: (-self._bounds(number, deviation)[0], number))

    def contenders(self, count: int) -> list[int]:
        """Up to ``count`` candidates that more samples could make, or keep, the best: those whose upper bound
        reaches the best lower bound and that have not seen every sample, the most promising first."""
        ranked = self.ranked()
        if not ranked:
            return []
        deviation = self.deviation()
        bar = self._bounds(ranked[0], deviation)[0]
        open_ones = [n for n in ranked if self._open(n) and self._bounds(n, deviation)[1] >= bar]
        return sorted(open_ones, key=lambda number: (-self._bounds(number, deviation)[1], number))[:count]

    def state(self) -> dict[str, Any]:
        """Everything, as JSON values."""
        rewards = {str(n): [[s, r] for s, r in sorted(rs.items())] for n, rs in sorted(self._rewards.items())}
        return {"samples": self.samples, "rewards": rewards, "failed": sorted(self._failed)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue from :meth:`state`; all or nothing.

        Raises:
            SearchError: it is of other samples, or damaged.
        """
        fresh = Scores(self.samples)
        try:
            if state["samples"] != self.samples:
                raise SearchError(
                    f"The saved rewards are of {state['samples']} samples, and here are {self.samples}; go on with as "
                    "many, or begin a new search."
                )
            for number, pairs in state["rewards"].items():
                fresh.add(int(number), {int(sample): float(reward) for sample, reward in pairs})
            failed = {int(number) for number in state["failed"]}
        except SearchError:
            raise
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise SearchError(f"The saved rewards are damaged: {error!r}.") from error
        self._rewards, self._means, self._squares = fresh._rewards, fresh._means, fresh._squares
        self._failed = failed

    def _open(self, number: int) -> bool:
        return self.samples is None or self.count(number) < self.samples

    def _bounds(self, number: int, deviation: float) -> tuple[float, float]:
        mean, count = self.mean(number), self.count(number)
        unseen = 1.0 if self.samples is None else 1.0 - count / self.samples
        half = self._z * deviation * math.sqrt(unseen / count)
        return mean - half, mean + half
