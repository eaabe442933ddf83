"""Search: an engine, the variables that it changes, and what is known of its candidates, behind both faces.

The page's face (:mod:`thalweg.search.told`): the reward of the variables' present values goes in, the next values are
assigned::

    await search.apply_optimization(variables, reward)        # or fail(variables, error), if there is no reward
    await search.finalize_variable_values(variables)          # the best

The run loop's face: several candidates go out, what came of each on each sample comes in::

    trials = await search.propose()
    await search.apply(feedback)

Both ask and tell the same engine (:mod:`thalweg.search.engine`), and both judge candidates by the lower confidence
bound of their mean reward (:mod:`thalweg.search.scores`). Besides new candidates, those that more samples could make
the best are scored again on other samples: a lucky batch does not win for ever.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np

from thalweg.checkpoints import canonical
from thalweg.errors import SearchError, StateMismatchError
from thalweg.optimizers.snapshot import OptimizerSnapshot
from thalweg.schedules import OptimizationState
from thalweg.search.alike import Alike
from thalweg.search.budget import Spent
from thalweg.search.candidates import Candidate
from thalweg.search.told import ToldSearch
from thalweg.search.trials import Scored, Trial


class Search(ToldSearch):
    """Searches for the values of structured variables with the highest mean reward.

    Args:
        kind: the engine: ``"auto"``, ``"random"``, ``"tpe"``, ``"cma_es"``, ``"cobyqa"``, ``"evolution"``,
            ``"halving"`` (in a study only), ``"few_shot"`` or ``"rewrite"`` (:mod:`thalweg.search.engines`).
        options: of the engine, by name.
        evaluations: how many candidates there will be, if that is known; ``"auto"`` chooses by it. A run fills it in.
        candidates: how many new ones an iteration of a run tries, at least 1.
        rescore: how many earlier ones it scores again at most, of those that more samples could make the best.
        finalists: how many of the best take part in the final choice, at least 1.
        confidence: of the bounds that candidates are judged by, between 0.5 and 1.
        seed: of the engine, 0 to 2³² − 1.
        schema: only variables whose schema contains this one are searched; default: all that hold an object.
        data_model: the same, as a Pydantic model.
        name: default: made from the class's name.
        description: default: the first line of this text.

    Raises:
        SearchError: an option is unknown, or out of its range.
        MissingExtraError: the engine needs a library that is not installed.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.search import Search, StructuredVariable
        >>> number = {"type": "number", "minimum": -5, "maximum": 5}
        >>> point = StructuredVariable({"x": 4.0}, {"type": "object", "properties": {"x": number}}, name="point")
        >>> search = Search("tpe", seed=0)
        >>> for _ in range(40):
        ...     tw.wait(search.apply_optimization([point], -((point.json()["x"] - 1.0) ** 2)))
        >>> tw.wait(search.finalize_variable_values([point]))
        >>> abs(point.json()["x"] - 1.0) < 0.3
        True
    """

    # -- the loop's face -----------------------------------------------------------------

    @property
    def hyperparameters(self) -> tuple[str, ...]:
        """None that could change from block to block."""
        return ()

    def most_propose(self) -> Spent:
        """The most that the next :meth:`propose` may cost."""
        return Spent() if self._trials else self.engine.most_ask(self.candidates)

    @property
    def spent(self) -> Spent:
        """What proposing has cost so far."""
        return self.engine.spent

    @property
    def paid(self) -> Spent:
        """What proposing has cost in this process: :attr:`spent` without answers that were there already."""
        return self.engine.paid

    @property
    def waiting(self) -> bool:
        """Whether candidates were proposed that :meth:`apply` was not told of."""
        return bool(self._trials)

    @property
    def exhausted(self) -> bool:
        """Whether there is nothing left to try."""
        return self.engine.exhausted and not self._trials

    async def propose(self) -> list[Trial]:
        """The candidates of the next iteration: new ones, and those that are scored again.

        Asked again before :meth:`apply` it gives the same: a run that was stopped in between goes on with them. There
        are none where nothing is found any more that the variables accept; ``stuck`` says so then.
        """
        if not self._trials:
            fresh = await self._ask(self.candidates)
            if self.stuck is not None and not fresh:
                return []
            trials = [
                Trial(c, self._known_of(c.number), self._was_told(c.number), self._refused.get(c.number)) for c in fresh
            ]
            asked = {self._alike.first(candidate.number) for candidate in fresh}
            for number in self._scores.contenders(self.rescore + len(asked)):
                if number not in asked and sum(trial.again for trial in trials) < self.rescore:
                    candidate = Candidate(number, self.values(number), "scored again")
                    trials.append(Trial(candidate, self._scores.seen(number), again=True))
            self._trials = trials
        return list(self._trials)

    def _known_of(self, number: int) -> frozenset[int]:
        """The samples that a candidate need not be scored on: what is behind it; all, if its values have failed."""
        first, samples = self._alike.first(number), self._scores.samples
        if samples is not None and self._scores.has_failed(first):
            return frozenset(range(samples))
        return self._scores.seen(first) if self._was_told(number) else frozenset()

    async def apply(self, feedback: Any) -> None:
        """Learn from a round, and give the variables the best values that are known.

        Args:
            feedback: an object with ``rewards``, a sequence of :class:`Scored`.

        Raises:
            SearchError: a candidate is none of the proposed ones.
        """
        proposed = {trial.candidate.number for trial in self._trials}
        rounds: Sequence[Scored] = feedback.rewards
        strange = [scored.number for scored in rounds if scored.number not in proposed]
        if strange:
            raise SearchError(f"{self.name} proposed {sorted(proposed)}, and is told of {strange}.")
        for scored in rounds:
            first = self._alike.first(scored.number)
            if scored.failed:
                self._scores.fail(first)
            self._scores.add(first, {item: sample.reward for item, sample in scored.rewards.items()})
        # One that came again may have been scored on all its samples before; the engine waits for it all the same.
        pending = self._pending()
        self._tell([one for one in rounds if one.rewards or one.failed or one.number in pending])
        waiting = self._pending()
        self._trials = [trial for trial in self._trials if trial.candidate.number in waiting]
        best = self._scores.best()
        if best is not None:
            self.assign(best)
        self._count()
        self.optimization_state.begin_step()

    def observe(self, loss: float) -> None:
        """A search has no schedules that follow the loss."""

    def reset(self, *, counters: bool = True) -> None:
        """Forget everything; the variables' present values are the next start."""
        variables, samples = self._bound, self._scores.samples
        self._bound, self._engine, self._present, self._samples, self._first = (), None, None, 0, 0
        self._values, self._alike, self._trials, self._named = {}, Alike(), [], set()
        if variables:
            self.bind(variables, samples=samples)
        if counters:
            self.optimization_state = OptimizationState()

    def best_of(self, count: int) -> list[int]:
        """The candidates of the final choice: the best ones, and the start. No two have the same values."""
        chosen = self._scores.ranked()[:count]
        start = self.first
        return chosen if start in chosen or start not in self._scores.ranked() else [*chosen, start]

    def metrics(self) -> dict[str, float]:
        """For the history: the best candidate's mean reward with its bounds, and how many were tried and failed."""
        told = [n for first in self._scores.failed for n in self._alike.of(first) if self._was_told(n)]
        found: dict[str, float] = {"candidates": self.asked, "failed": len(told)}
        best = self._scores.best()
        if best is not None:
            low, high = self._scores.bounds(best)
            found |= {"best": self._scores.mean(best), "best_low": low, "best_high": high, "best_candidate": best}
        return found | self.engine.metrics()

    def state(self) -> OptimizerSnapshot:
        """What a run's checkpoint holds: the JSON of :meth:`save_own_variables`, as bytes."""
        store: dict[str, Any] = {}
        self.save_own_variables(store)
        return OptimizerSnapshot({"search": np.frombuffer(canonical(store), np.uint8)}, {"kind": self.kind})

    def restore(self, snapshot: OptimizerSnapshot) -> None:
        """Go on from :meth:`state`; all or nothing.

        Raises:
            StateMismatchError: it does not fit.
        """
        if snapshot.meta.get("kind") != self.kind:
            raise StateMismatchError(
                f"the saved state is of the engine {snapshot.meta.get('kind')!r}, and this search has {self.kind!r}; "
                "go on with the same engine and options, or begin a new run."
            )
        self.load_own_variables(_store_of(snapshot))

    def begin_anew_after(self, snapshot: OptimizerSnapshot) -> None:
        """Go on after :meth:`state` without its rewards: the start is the next candidate, and numbers go on.

        Raises:
            StateMismatchError: it is none of a search.
        """
        self._begin_anew(_store_of(snapshot))


def _store_of(snapshot: OptimizerSnapshot) -> dict[str, Any]:
    data = snapshot.arrays.get("search")
    if data is None or data.dtype != np.uint8:
        raise StateMismatchError("the saved state is none of a search; it is damaged.")
    try:
        store = json.loads(data.tobytes())
    except (ValueError, RecursionError) as error:
        raise StateMismatchError(f"the saved search is no JSON ({error}); it is damaged.") from error
    if not isinstance(store, dict):
        raise StateMismatchError(f"the saved search is a {type(store).__name__}; it is damaged.")
    return store
