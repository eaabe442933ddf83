"""Successive halving: many candidates on few samples, and the better ones of these on more.

::

    rung k scores on the share r·ηᵏ of the samples, up to all of them
    whoever is among the best 1/η of a rung is scored on the next

Nobody waits for a rung to be full: a candidate rises as soon as it is among the best of those that are there.
"""

from __future__ import annotations

from typing import Any, ClassVar

from thalweg.errors import SearchError, StateMismatchError
from thalweg.search.budget import Spent
from thalweg.search.engine import Candidate, Engine, Proposal, Told
from thalweg.search.options import real
from thalweg.search.space import Space, Values
from thalweg.search.values import Json, copy_json


class Halving(Engine):
    """Asynchronous successive halving over another engine, which proposes the new candidates.

    Args:
        space: what is searched.
        seed: of the other engine.
        start: the present values.
        start_first: whether they are candidate 0.
        least: r, the share of the samples that new candidates are scored on.
        factor: η, by how much the share grows, and what share of a rung rises.
        sampler: the kind of the engine that proposes: random, tpe, cma_es or evolution. It learns each candidate's
            reward on the most samples that there is.

    Raises:
        SearchError: an option is out of range.

    A candidate that rises comes again with its number and a larger ``resource``. Tell it then what it is worth on all
    the samples of that share.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.search.engine import Told
        >>> from thalweg.search.halving import Halving
        >>> from thalweg.search.space import Space
        >>> engine = Halving(Space.of({"type": "number", "minimum": 0, "maximum": 1}, name="x"), seed=0)
        >>> shares = []
        >>> for _ in range(40):
        ...     (candidate,) = tw.wait(engine.ask())
        ...     shares.append(round(candidate.resource, 3))
        ...     engine.tell([Told(candidate.number, -abs(candidate.values["x"] - 0.7))])
        >>> {share: shares.count(share) for share in sorted(set(shares))}
        {0.111: 26, 0.333: 10, 1.0: 4}

    Source: Li, Jamieson, Rostamizadeh, Gonina, Ben-tzur, Hardt, Recht and Talwalkar, A system for massively parallel
    hyperparameter tuning, MLSys 2020, algorithm 2.
    """

    kind: ClassVar[str] = "halving"

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        start: Values | None = None,
        start_first: bool = True,
        least: float = 1 / 9,
        factor: float = 3.0,
        sampler: str = "random",
    ) -> None:
        from thalweg.search.engines import engine_class  # it knows all engines, this one too

        super().__init__(space, seed=seed, start=start, start_first=start_first)
        self.least = real(least, "least", above=0.0, most=1.0)
        self.factor = real(factor, "factor", above=1.0)
        if sampler not in ("random", "tpe", "cma_es", "evolution"):
            raise SearchError(f"sampler is {sampler!r}; it is random, tpe, cma_es or evolution.", option="sampler")
        self.sampler = sampler
        self._make = engine_class(sampler)
        self._inner = self._made()
        self._rungs: list[dict[int, float | None]] = [{}]  # the rewards of each rung, by number
        self._rung: dict[int, int] = {}  # where each candidate is, or is being scored
        self._values: dict[int, Values] = {}

    def _made(self) -> Engine:
        return self._make(self.space, seed=self.seed, start=self.start, start_first=self.start_first)

    def share(self, rung: int) -> float:
        """The share of the samples of a rung."""
        return min(self.least * self.factor**rung, 1.0)

    @property
    def exhausted(self) -> bool:
        """Whether no new candidate is left, and none to rise."""
        return self._inner.exhausted and not self._pending and not self._rising(1)

    @property
    def spent(self) -> Spent:
        """What the other engine has spent."""
        return self._inner.spent

    def count_from(self, number: int) -> None:
        """As for every engine; the other one is told, too."""
        super().count_from(number)
        self._inner.count_from(number)

    def close(self) -> None:
        """Close the other engine."""
        self._inner.close()

    async def _propose(self, count: int) -> list[Proposal]:
        rising = self._rising(count)
        new = await self._inner.ask(count - len(rising)) if count > len(rising) else []
        proposals = []
        for number, values in rising.items():
            self._rung[number] += 1
            share = self.share(self._rung[number])
            proposals.append(Proposal(values, f"{self.called(number)} rose", share, number))
        for one in new:
            self._rung[one.number] = 0
            proposals.append(Proposal(one.values, one.origin, self.share(0)))
        return proposals

    def _offered(self, values: Values, origin: str) -> Proposal | None:
        taken = self._inner.offer(values, origin)
        if taken is None:
            return None
        self._rung[taken.number] = 0
        return Proposal(taken.values, origin, self.share(0))

    def _rising(self, most: int) -> dict[int, Values]:
        """Who is among the best of its rung and has not risen yet: from the highest rung down."""
        found: dict[int, Values] = {}
        for rung in reversed(range(len(self._rungs))):
            if self.share(rung) >= 1.0:
                continue
            scores = {number: reward for number, reward in self._rungs[rung].items() if reward is not None}
            best = sorted(scores, key=lambda number: (-scores[number], number))[: int(len(scores) / self.factor)]
            for number in best:
                if len(found) < most and self._rung[number] == rung and number not in self._pending:
                    found[number] = self._values[number]
        return found

    def _take(self, proposal: Proposal) -> Candidate:
        candidate = super()._take(proposal)
        self._values[candidate.number] = copy_json(candidate.values)
        return candidate

    def _learn(self, results: list[Told]) -> None:
        self._inner.tell(results)
        for told in results:
            rung = self._rung[told.number]
            while len(self._rungs) <= rung:
                self._rungs.append({})
            self._rungs[rung][told.number] = told.reward

    def _own_state(self) -> dict[str, Json]:
        return {
            "rungs": [[[number, reward] for number, reward in rung.items()] for rung in self._rungs],
            "rung": [[number, rung] for number, rung in self._rung.items()],
            "values": [[number, copy_json(values)] for number, values in self._values.items()],
            "inner": self._inner.state(),
        }

    def _restore_own(self, state: dict[str, Any]) -> None:
        rungs = [{int(number): reward for number, reward in rung} for rung in state["rungs"]]
        rung = {int(number): int(where) for number, where in state["rung"]}
        values = {int(number): copy_json(values) for number, values in state["values"]}
        if not rung.keys() == values.keys() == set(range(self.asked)) or not rungs:
            raise StateMismatchError("the saved rungs are not those of the saved candidates.")
        inner = self._made()
        inner.restore(state["inner"])
        if inner.asked != self.asked:
            raise StateMismatchError("the saved search has more candidates than the engine that proposed them.")
        self._rungs, self._rung, self._values, self._inner = rungs, rung, values, inner
