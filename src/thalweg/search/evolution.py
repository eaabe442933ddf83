"""Evolution: the better candidates have offspring, by mutation and crossover that keep nested values valid.

::

    parents: the best of some that are drawn from the population (a tournament)
    child:   crossover of two with probability c, else a copy of one;  then 1 + Poisson(m) mutations
    population: the best P that were told

It needs no notion of distance, so it searches values of any shape: lists that grow and shrink, branches within
branches.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from thalweg.errors import StateMismatchError, ValueMismatchError
from thalweg.search.engine import Engine, Proposal, Told
from thalweg.search.evolution_steps import crossed, mutated
from thalweg.search.options import real, whole
from thalweg.search.space import Space, Values
from thalweg.search.values import Json, copy_json, digest_json

TRIES = 20  # at a child that was not there before


class Evolution(Engine):
    """A population of values, for spaces with structure: nested, conditional, lists of any length.

    Args:
        space: what is searched.
        seed: of all random choices. Those of candidate k come from a generator of their own, made of (seed, k).
        start: the present values.
        start_first: whether they are candidate 0.
        population: how many parents there are. A small one, as the default, learns fast; take 20 to 50 for a thousand
            evaluations, or for rewards that scatter.
        startup: so many candidates are drawn at random before the first child; None is half the population.
        tournament: how many are drawn for a place as parent, of which the best gets it: more, more greedily.
        crossover: the share of children that have two parents.
        mutations: m, how many mutations a child has on average besides the first. A crossover may have none.

    Raises:
        SearchError: an option is out of range.

    The population is kept by candidates' numbers. A member that is told again has its new reward from then on; twice
    as many as there are parents are kept for that.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.search.engine import Told
        >>> from thalweg.search.evolution import Evolution
        >>> from thalweg.search.space import Space
        >>> letters = {"type": "array", "items": {"enum": list("abcdefgh")}, "maxItems": 8}
        >>> engine = Evolution(Space.of(letters, name="word"), seed=0)
        >>> best = 0.0
        >>> for _ in range(400):
        ...     (candidate,) = tw.wait(engine.ask())
        ...     reward = sum(a == b for a, b in zip(candidate.values["word"], "facade"))
        ...     reward -= abs(len(candidate.values["word"]) - 6)
        ...     engine.tell([Told(candidate.number, reward)])
        ...     best = max(best, reward)
        >>> best
        6

    Source: tournament selection and steady-state replacement: Goldberg and Deb, Foundations of genetic algorithms,
    1991; subtree crossover: Koza, Genetic programming, 1992. The operators are ours.
    """

    kind: ClassVar[str] = "evolution"

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        start: Values | None = None,
        start_first: bool = True,
        population: int = 10,
        startup: int | None = None,
        tournament: int = 3,
        crossover: float = 0.5,
        mutations: float = 0.5,
    ) -> None:
        super().__init__(space, seed=seed, start=start, start_first=start_first)
        self.population = whole(population, "population", least=2)
        self.startup = None if startup is None else whole(startup, "startup", least=1)
        self.tournament = whole(tournament, "tournament", least=1)
        self.crossover = real(crossover, "crossover", above=-1e-300, most=1.0)
        self.mutations = real(mutations, "mutations", above=-1e-300)
        self._pool: dict[int, tuple[float, Values]] = {}  # the best, by number, best first

    async def _propose(self, count: int) -> list[Proposal]:
        proposals: list[Proposal] = []
        known: set[str] = set()  # besides those that were asked for before
        first = self.asked
        if self._starts and self.start is not None:
            proposals.append(Proposal(self.start, "start"))
            known.add(digest_json(self.start))
        while len(proposals) < count:
            proposal = self._child(first + len(proposals), known)
            if proposal is None:
                self._nothing_left = True
                break
            proposals.append(proposal)
            known.add(digest_json(proposal.values))
        return proposals

    def _offered(self, values: Values, origin: str) -> Proposal:
        return Proposal(values, origin)

    def _child(self, number: int, known: set[str]) -> Proposal | None:
        rng = np.random.default_rng([self.seed, number])
        startup = self.population // 2 if self.startup is None else self.startup
        parents = list(self._pool)[: self.population]
        if number >= startup and parents:
            for _ in range(TRIES):
                proposal = self._offspring(parents, rng)
                digest = digest_json(proposal.values)
                if digest not in known and digest not in self._seen:
                    return proposal
        unseen = self.space.unseen(known | self._seen.keys(), rng)
        return None if unseen is None else Proposal(unseen, "random")

    def _offspring(self, parents: list[int], rng: np.random.Generator) -> Proposal:
        mother = self._winner(parents, rng)
        values, origin = self._pool[mother][1], f"mutation of {self.called(mother)}"
        changes = 1 + int(rng.poisson(self.mutations))
        others = [number for number in parents if number != mother]
        if others and rng.random() < self.crossover:
            father = self._winner(others, rng)
            values = {
                name: crossed(node, values[name], self._pool[father][1][name], rng)
                for name, node in self.space.nodes.items()
            }
            origin = f"crossover of {self.called(mother)} and {self.called(father)}"
            changes -= 1
        for _ in range(changes):
            values = self._mutated(values, rng)
        return Proposal(values, origin)

    def _mutated(self, values: Values, rng: np.random.Generator) -> Values:
        """One mutation, in one of the variables that have something to change."""
        names = [name for name, node in self.space.nodes.items() if node.size() > 1]
        if not names:
            return values
        name = names[int(rng.integers(len(names)))]
        return {**values, name: mutated(self.space.nodes[name], values[name], rng)}

    def _winner(self, parents: list[int], rng: np.random.Generator) -> int:
        """The best of some: parents are in order, so the first of them."""
        return parents[int(rng.integers(len(parents), size=self.tournament).min())]

    def _learn(self, results: list[Told]) -> None:
        pool = dict(self._pool)
        for told in results:
            if told.number in self._pending:
                values = self._expressed(self._pending[told.number].values)
            else:
                values = pool[told.number][1] if told.number in pool else None
            pool.pop(told.number, None)
            if values is not None and told.reward is not None:
                pool[told.number] = (told.reward, values)
        best = sorted(pool.items(), key=lambda entry: (-entry[1][0], entry[0]))
        self._pool = dict(best[: 2 * self.population])

    def _expressed(self, values: Values) -> Values | None:
        """The values as the space has them, with what is optional filled in; None if it cannot express them."""
        try:
            return self.space.decode(self.space.encode(values))
        except ValueMismatchError:
            return None

    def _own_state(self) -> dict[str, Json]:
        return {"pool": [[number, reward, copy_json(values)] for number, (reward, values) in self._pool.items()]}

    def _restore_own(self, state: dict[str, Any]) -> None:
        pool = {int(number): (float(reward), copy_json(values)) for number, reward, values in state["pool"]}
        for number, (reward, values) in pool.items():
            if self._rewards.get(number) != reward or self._expressed(values) is None:
                raise StateMismatchError(
                    f"member {number} of the saved population is not the candidate of that number."
                )
        self._pool = pool
