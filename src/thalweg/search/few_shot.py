"""Choosing few-shot examples: which samples a program is shown, in which order.

Examples stand in arrays of different items from a list (``items: {"enum": [...]}, uniqueItems, maxItems``), as the
programs of :mod:`thalweg.problems.programs` have them. An example is scored by what came of showing it, or by how well
the program did on it as a sample::

    credit_i  = Σ_c (r_c − r̄) / (n_i + 1)      over the n_i candidates c that showed example i; r̄: mean of all
    success_i = mean reward of the program on the samples that are example i, over the candidates that were scored on
                them; unknown: the mean

and chosen by one of

=============  ======================================================================================
``random``     each the same
``best``       the highest scores
``softmax``    one after the other, each with probability ∝ exp(score / temperature)
``diverse``    one by softmax, then those that are least like the ones before, by shared trigrams
=============  ======================================================================================

A share of the candidates changes one example of the best candidate so far instead. A candidate changes the examples of
one place; the place that was changed least is next. No candidate is proposed twice, and two with different examples are
different candidates.

Source: the selections are those of few-shot optimizers such as Synalinks' ``RandomFewShot``. Where we differ:
candidates are told apart by their examples, places that were never visited come first, scores are of single samples,
and random numbers are of a seed.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np

from thalweg.errors import SearchError
from thalweg.search.engine import Engine, Proposal, Told
from thalweg.search.options import real
from thalweg.search.shelves import credit, entries, find_shelves, known, put, softmax_order
from thalweg.search.space import Space, Values
from thalweg.search.values import Json, copy_json, digest_json

METHODS = ("random", "best", "softmax", "diverse")
SCORES = ("credit", "success")
DRAWS = 200  # attempts to find a selection that was not there before


class FewShot(Engine):
    """Chooses the examples that a program is shown.

    Args:
        space: with at least one array of different items from a list. Whatever else it has stays as in ``start``.
        seed: of the draws.
        start: the present values.
        start_first: whether they are candidate 0.
        method: ``"random"``, ``"best"``, ``"softmax"`` or ``"diverse"``.
        score: what examples are scored by, ``"credit"`` or ``"success"``. For the latter the list of a place has to be
            that of the samples, in their order; samples that are the same example are scored together.
        temperature: of the softmax, in the unit of the reward.
        neighbors: the share of candidates, 0 to 1, that change one example of the best one so far; not with ``random``.
        full: the share of selections, 0 to 1, that have as many examples as can be shown; of the others each number
            from 1 on is as likely.

    Raises:
        SearchError: an option is wrong, or there is no place for examples.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.search.engine import Told
        >>> from thalweg.search.few_shot import FewShot
        >>> from thalweg.search.space import Space
        >>> trees = {"enum": ["ash", "bay", "elm", "fir"]}
        >>> shown = {"type": "array", "items": trees, "uniqueItems": True, "maxItems": 2}
        >>> schema = {"type": "object", "properties": {"examples": shown}}
        >>> engine = FewShot(Space.of(schema, name="step"), seed=0, start={"step": {"examples": []}}, method="best")
        >>> for _ in range(10):
        ...     (candidate,) = tw.wait(engine.ask())
        ...     shown = candidate.values["step"]["examples"]
        ...     engine.tell([Told(candidate.number, float("elm" in shown) + float("ash" in shown))])
        >>> max(engine.reward_of(number) for number in range(10))
        2.0
    """

    kind: ClassVar[str] = "few_shot"

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        start: Values | None = None,
        start_first: bool = True,
        method: str = "softmax",
        score: str = "credit",
        temperature: float = 0.05,
        neighbors: float = 0.3,
        full: float = 0.5,
    ) -> None:
        super().__init__(space, seed=seed, start=start, start_first=start_first)
        for name, value, names in (("method", method, METHODS), ("score", score, SCORES)):
            if value not in names:
                raise SearchError(f"{name} is {value!r}; it is one of {', '.join(names)}.", option=name)
        self.method = method
        self.score = score
        self.temperature = real(temperature, "temperature", above=0.0)
        for name, share in (("neighbors", neighbors), ("full", full)):
            if isinstance(share, bool) or not isinstance(share, int | float) or not 0 <= share <= 1:
                raise SearchError(f"{name} is {share!r}; it is a share from 0 to 1.", option=name)
        self.neighbors = float(neighbors)
        self.full = float(full)
        self.shelves = find_shelves(space)
        if not self.shelves:
            raise SearchError(
                "there is no place for examples: the engine few_shot looks for arrays with uniqueItems whose items are "
                "an enum, within objects. A program's steps have them if their examples are trainable."
            )
        self._entries = [entries(space, shelf) for shelf in self.shelves]  # which example a sample is
        self._around: Values = self.start if self.start is not None else space.sample(np.random.default_rng(seed))
        self._picks: list[list[list[int]]] = []  # of each candidate, for each shelf: places in its examples
        self._visits = [0] * len(self.shelves)
        self._samples: dict[int, dict[int, float]] = {}  # by candidate, by sample
        self._likeness: dict[int, list[frozenset[str]]] = {}

    async def _propose(self, count: int) -> list[Proposal]:
        proposals: list[Proposal] = []
        picks, visits, seen = list(self._picks), list(self._visits), set(self._seen)
        for _ in range(count):
            if not picks and self._starts:
                assert self.start is not None
                values, origin = self.start, "the start"
                chosen = [known(shelf, values) for shelf in self.shelves]
            else:
                rng = np.random.default_rng([self.seed, len(picks)])
                found = self._fresh(rng, visits, seen)
                if found is None:
                    self._nothing_left = True
                    break
                values, origin, chosen, place = found
                visits[place] += 1
            picks.append(chosen)
            seen.add(digest_json(values))
            proposals.append(Proposal(copy_json(values), origin))
        self._picks, self._visits = picks, visits
        return proposals

    def _fresh(
        self, rng: np.random.Generator, visits: list[int], seen: set[str]
    ) -> tuple[Values, str, list[list[int]], int] | None:
        """A selection that was not there before, of the place that was changed least; else of another one."""
        best = self._best()
        base = self._picks[best] if best is not None else [[] for _ in self.shelves]
        for place in sorted(range(len(self.shelves)), key=lambda index: (visits[index], index)):
            shelf = self.shelves[place]
            near = best is not None and self.method != "random" and rng.random() < self.neighbors
            for attempt in range(DRAWS):
                if near and best is not None and attempt < DRAWS // 2:
                    picked = self._neighbor(rng, place, base[place])
                    origin = f"an example of {self.called(best)} changed"
                else:
                    length = shelf.longest
                    if rng.random() >= self.full or attempt >= DRAWS // 4:
                        length = int(rng.integers(max(shelf.shortest, min(1, shelf.longest)), shelf.longest + 1))
                    picked, origin = self._select(rng, place, length, attempt), self.method
                chosen = [*base[:place], picked, *base[place + 1 :]]
                values = self._values(chosen, best)
                if digest_json(values) not in seen:
                    return values, origin, chosen, place
        return None

    def _values(self, chosen: list[list[int]], best: int | None) -> Values:
        values: Values = copy_json(self._around)
        for shelf, picked in zip(self.shelves, chosen, strict=True):
            put(values, shelf, picked)
        return values

    def _best(self) -> int | None:
        """The told candidate with the highest reward, the first of equals."""
        told = [(reward, -number) for number, reward in self._rewards.items() if reward is not None]
        return -max(told)[1] if told else None

    # -- choosing ------------------------------------------------------------------------

    def _select(self, rng: np.random.Generator, place: int, length: int, attempt: int) -> list[int]:
        """Places of examples, by the method. Later attempts are freer, so that they end."""
        number = len(self.shelves[place].examples)
        if self.method == "random":
            return [int(index) for index in rng.permutation(number)[:length]]
        scores = self._scores(place)
        if self.method == "best":
            ranked = np.lexsort((rng.random(number), -scores))
            pool = ranked[: min(number, length + attempt)]
            return [int(index) for index in rng.permutation(pool)[:length]]
        order = softmax_order(rng, scores, self.temperature * (1 + attempt / 10))
        if self.method == "softmax":
            return order[:length]
        return self._spread(place, order, length)

    def _spread(self, place: int, order: list[int], length: int) -> list[int]:
        """The first, then always the one whose nearest chosen one is farthest; the order decides between equals."""
        grams = self._grams(place)
        picked: list[int] = order[:1]
        while len(picked) < length:
            rest = [index for index in order if index not in picked]
            far = [min(_distance(grams[index], grams[other]) for other in picked) for index in rest]
            picked.append(rest[far.index(max(far))])
        return picked[:length]

    def _neighbor(self, rng: np.random.Generator, place: int, picked: list[int]) -> list[int]:
        """The best one's, with one replaced, added, taken out or moved."""
        shelf = self.shelves[place]
        others = [index for index in self._select(rng, place, len(shelf.examples), 0) if index not in picked]
        changed = list(picked)
        moves = ["replace"] * bool(picked and others) * 2 + ["add"] * bool(others and len(picked) < shelf.longest)
        moves += ["drop"] * bool(len(picked) > max(shelf.shortest, 1)) + ["swap"] * bool(len(picked) > 1)
        if not moves:
            return changed
        move = moves[int(rng.integers(len(moves)))]
        at = int(rng.integers(len(picked) + (move == "add")))
        if move == "replace":
            changed[at] = others[0]
        elif move == "add":
            changed.insert(at, others[0])
        elif move == "drop":
            del changed[at]
        else:
            to = (at + 1 + int(rng.integers(len(picked) - 1))) % len(picked)
            changed[at], changed[to] = changed[to], changed[at]
        return changed

    def _scores(self, place: int) -> np.ndarray[Any, np.dtype[np.float64]]:
        """The score of each example of a place."""
        number = len(self.shelves[place].examples)
        if self.score == "success":
            sums, counts = np.zeros(number), np.zeros(number)
            examples = dict(enumerate(self._entries[place]))
            for rewards in self._samples.values():
                for item, reward in rewards.items():
                    if (example := examples.get(item)) is not None:
                        sums[example] += reward
                        counts[example] += 1
            mean = sums.sum() / max(counts.sum(), 1)
            return np.where(counts > 0, sums / np.maximum(counts, 1), mean)
        told = [(self._picks[c][place], reward) for c, reward in sorted(self._rewards.items()) if reward is not None]
        return credit(number, told)

    def _grams(self, place: int) -> list[frozenset[str]]:
        if place not in self._likeness:
            texts = [digestible(example) for example in self.shelves[place].examples]
            self._likeness[place] = [frozenset(t[k : k + 3] for k in range(max(len(t) - 2, 1))) for t in texts]
        return self._likeness[place]

    # -- learning and state --------------------------------------------------------------

    def _learn(self, results: list[Told]) -> None:
        samples = {number: dict(rewards) for number, rewards in self._samples.items()}
        for told in results:
            samples.setdefault(told.number, {}).update(told.samples)
        self._samples = samples

    def _own_state(self) -> dict[str, Json]:
        return {
            "picks": copy_json(self._picks),
            "visits": list(self._visits),
            "samples": [
                [number, [[item, reward] for item, reward in sorted(rewards.items())]]
                for number, rewards in sorted(self._samples.items())
            ],
        }

    def _restore_own(self, state: dict[str, Any]) -> None:
        self._picks = [
            [
                [_index(index, len(shelf.examples)) for index in picked]
                for shelf, picked in zip(self.shelves, one, strict=True)
            ]
            for one in state["picks"]
        ]
        self._visits = [int(count) for count in state["visits"]]
        if len(self._visits) != len(self.shelves) or len(self._picks) != len(self._digests):
            raise ValueError("its candidates or places are incomplete")
        self._samples = {int(n): {int(item): float(reward) for item, reward in rows} for n, rows in state["samples"]}
        self._likeness = dict(self._likeness)


def digestible(example: Json) -> str:
    """The texts and numbers of an example, in one line, in lower case."""
    if isinstance(example, dict):
        return " ".join(digestible(part) for part in example.values())
    if isinstance(example, list):
        return " ".join(digestible(part) for part in example)
    return str(example).lower()


def _distance(one: frozenset[str], other: frozenset[str]) -> float:
    union = len(one | other)
    return 1.0 - len(one & other) / union if union else 0.0


def _index(value: Any, number: int) -> int:
    index = int(value)
    if not 0 <= index < number:
        raise ValueError(f"there is no example {index}")
    return index
