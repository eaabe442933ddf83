"""Search: an engine, the variables that it changes, and what is known of its candidates, behind both faces.

The page's face: the reward of the variables' present values goes in, the next values are assigned::

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
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from thalweg.checkpoints import canonical
from thalweg.errors import SearchError, StateMismatchError
from thalweg.graph import Variable
from thalweg.optimizers.snapshot import OptimizerSnapshot
from thalweg.schedules import OptimizationState
from thalweg.search.alike import Alike
from thalweg.search.bound import BoundSearch
from thalweg.search.budget import Spent
from thalweg.search.engine import Candidate
from thalweg.search.optimizer import Rewarded
from thalweg.search.rewards import Reward, SampleReward
from thalweg.search.structured import StructuredVariable
from thalweg.search.trials import Scored, Trial
from thalweg.search.values import digest_json


class Search(BoundSearch):
    """Searches for the values of structured variables with the highest mean reward.

    Args:
        kind: the engine: ``"auto"``, ``"random"``, ``"tpe"``, ``"cma_es"``, ``"cobyqa"``, ``"evolution"``,
            ``"halving"``, ``"few_shot"`` or ``"rewrite"`` (:mod:`thalweg.search.engines`).
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

    # -- the page's face -----------------------------------------------------------------

    async def apply_optimization(
        self, trainable_variables: Variable | Iterable[Variable], reward: Rewarded = None
    ) -> None:
        """Take the reward of the variables' present values, and assign the next ones to try.

        Args:
            trainable_variables: those whose schema contains this search's are searched together.
            reward: a number, or a list of :class:`SampleReward <thalweg.search.SampleReward>`, or a :class:`Reward
                <thalweg.search.Reward>`; None asks for the first values without a reward. Samples that do not say which
                they are are others at each call.

        Raises:
            SearchError: no variable fits, the reward is not finite, or somebody else changed the variables since.
        """
        self._check_super_called()
        matching = self.matching(trainable_variables)
        given = None if reward is None else Reward.of(reward)
        with self._step(matching):
            self.bind(matching.acted)
            await self._take(given)
            self._count()

    async def fail(
        self, trainable_variables: Variable | Iterable[Variable], error: BaseException | str = "no reason given"
    ) -> None:
        """Take note that the variables' present values could not be evaluated, and assign the next ones to try.

        The candidate is counted as failed and never the best, nor is another one with its values. The engine is told,
        as in a run; most learn no more than that it failed, and samplers leave it out.

        Args:
            trainable_variables: as for :meth:`apply_optimization`.
            error: what was raised, or why there is no reward, for engines that read.

        Raises:
            SearchError: as :meth:`apply_optimization`.

        Example:
            >>> import thalweg as tw
            >>> from thalweg.search import Search, StructuredVariable
            >>> number = {"type": "integer", "minimum": 0, "maximum": 9}
            >>> parts = StructuredVariable({"n": 3}, {"type": "object", "properties": {"n": number}}, name="parts")
            >>> search = Search("random", seed=0)
            >>> for _ in range(10):
            ...     try:
            ...         tw.wait(search.apply_optimization([parts], 6 / parts.get("n")))
            ...     except ZeroDivisionError as error:
            ...         tw.wait(search.fail([parts], error))
            >>> tw.wait(search.finalize_variable_values([parts]))
            >>> parts.json(), search.metrics()["failed"]
            ({'n': 1}, 1)
        """
        self._check_super_called()
        matching = self.matching(trainable_variables)
        text = error if isinstance(error, str) else f"{type(error).__name__}: {error}"
        with self._step(matching):
            self.bind(matching.acted)
            await self._take(text)
            self._count()

    async def _take(self, given: Reward | str | None) -> None:
        """What came of the present values: a reward, or why there is none; None at the very beginning."""
        rewards = (given.samples or (SampleReward(given.value),)) if isinstance(given, Reward) else ()
        numbers, named = self._numbers_of(rewards)
        if self._present is None:
            first = await self._ask(1)
            if given is None:
                self._move(first)
                return
            if not first or not self._is_present(first[0].number):
                raise SearchError(
                    f"{self.name} has proposed nothing yet, so it knows no values that a reward is of; call "
                    "apply_optimization without one first."
                )
            self._present = first[0].number
        number = self._present
        if given is None:
            raise SearchError(
                f"{self.name} waits for the reward of candidate {number}; give it a number, or call fail if there "
                "is none."
            )
        if not self._is_present(number):
            raise SearchError(
                f"The variables of {self.name} no longer have the values of candidate {number}, whose reward is "
                "expected: assign by hand before or after a search, not within it."
            )
        again = self._was_told(number)
        same = self._alike.first(number)
        if isinstance(given, str):
            self._scores.fail(same)
            self._tell([Scored(number, {}, {self._samples: given}, again)])
            self._move(await self._ask(1))
            return
        self._scores.add(same, {one: sample.reward for one, sample in zip(numbers, rewards, strict=True)})
        self._tell([Scored(number, dict(zip(named or range(len(rewards)), rewards, strict=True)), {}, again)])
        self._named |= set(named)
        contenders = self._contenders() if self.rescore and len(rewards) > 1 and not again else []
        if contenders:
            self._present = contenders[0]
            self.assign(contenders[0])
        else:
            self._move(await self._ask(1))
        # Only now: if the engine could not be asked, the same reward is told again, and takes the place of this one.
        self._samples += 0 if named else len(rewards)

    def _numbers_of(self, rewards: Sequence[SampleReward]) -> tuple[list[int], list[int]]:
        """The numbers that samples have among those of this search, and those that they were given."""
        named = [sample.sample for sample in rewards if sample.sample is not None]
        if len(named) not in (0, len(rewards)) or (rewards and (self._samples if named else self._named)):
            raise SearchError(
                f"some samples told to {self.name} say which they are (SampleReward(..., sample=3)), others do not; "
                "give all of them their number, or none."
            )
        if len(set(named)) < len(named):
            raise SearchError(f"a sample is there twice in one reward told to {self.name}: {sorted(named)}.")
        return named or [self._samples + i for i in range(len(rewards))], named

    def _contenders(self) -> list[int]:
        """The candidate that more samples could make the best, if there are samples that it was not scored on."""
        if not self._named:
            return self._scores.contenders(1)
        found = self._scores.contenders(len(self._scores.numbers))
        return [number for number in found if self._named - self._scores.seen(number)][:1]

    async def optimize(self, trainable_variable: StructuredVariable, reward: Any = None) -> None:
        """:meth:`apply_optimization` of one variable."""
        await self.apply_optimization([trainable_variable], reward)

    async def finalize_variable_values(self, trainable_variables: Variable | Iterable[Variable]) -> None:
        """Assign the best values that were found: those with the highest lower confidence bound."""
        self._check_super_called()
        matching = self.matching(trainable_variables)
        with self._step(matching):
            self.bind(matching.acted)
            best = self._scores.best()
            if best is not None:
                self.assign(best)
                self._present = None

    async def finalize(self, trainable_variable: StructuredVariable) -> None:
        """:meth:`finalize_variable_values` of one variable."""
        await self.finalize_variable_values([trainable_variable])

    def _is_present(self, number: int) -> bool:
        return all(digest_json(v.json()) == digest_json(self._values[number][str(v.name)]) for v in self._bound)

    def _move(self, candidates: Sequence[Candidate]) -> None:
        """Go on to a new candidate; where there is none left, to the best."""
        best = self._scores.best()
        present = candidates[0].number if candidates else best
        if present is not None:  # else every candidate has failed, and the variables stay as they are
            self._present = present
            self.assign(present)

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

        Asked again before :meth:`apply` it gives the same: a run that was stopped in between goes on with them.
        """
        if not self._trials:
            fresh = await self._ask(self.candidates)
            trials = [Trial(c, self._known_of(c.number), again=self._was_told(c.number)) for c in fresh]
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
