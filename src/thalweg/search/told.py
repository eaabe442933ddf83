"""The page's face of a search: the reward of the variables' present values goes in, the next values are assigned.

::

    await search.apply_optimization(variables, reward)        # or fail(variables, error), if there is no reward
    await search.finalize_variable_values(variables)          # the best

A search goes on after it was finalized, with the candidate that was proposed last and never scored.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

from thalweg.errors import SearchError
from thalweg.graph import Variable
from thalweg.search.bound import BoundSearch
from thalweg.search.candidates import Candidate
from thalweg.search.engines import has_nothing_to_choose
from thalweg.search.optimizer import Rewarded
from thalweg.search.rewards import Reward, SampleReward
from thalweg.search.structured import StructuredVariable
from thalweg.search.trials import Scored


class ToldSearch(BoundSearch):
    """Is told rewards of the variables' present values; see :class:`Search`."""

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
            SearchError: no variable fits, the reward is not finite, there is nothing to choose, or somebody else has
                changed the variables since.
        """
        self._check_super_called()
        matching = self.matching(trainable_variables)
        given = None if reward is None else _judged(Reward.of(reward), self.name)
        with self._step(matching):
            self._bind_to(matching.acted)
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
            self._bind_to(matching.acted)
            await self._take(text)
            self._count()

    def _bind_to(self, variables: Sequence[StructuredVariable]) -> None:
        """Search these from now on, unless the first candidate would be the last."""
        begins = not self._bound
        self.bind(variables)
        engine = self.engine
        if begins and has_nothing_to_choose(engine):
            engine.close()
            self._bound, self._engine = (), None
            places = "; ".join(f"{node.name}: {node.about()}" for node in engine.space.walk())
            raise SearchError(
                f"{self.name} has nothing to choose: {self.kind} draws by the schemas, and they leave no candidate but "
                'the present values. Put an enum, "x-pool" or a range there, or take the engine "rewrite" for texts; '
                f"they have {places[:600]}."
            )

    async def _take(self, given: Reward | str | None) -> None:
        """What came of the present values: a reward, or why there is none; None at the very beginning."""
        rewards = (given.samples or (SampleReward(given.value),)) if isinstance(given, Reward) else ()
        numbers, named = self._numbers_of(rewards)
        if self._present is None:
            if given is None:
                self._move(await self._next())
                return
            self._present = await self._recognized()
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
            self._move(await self._next())
            return
        self._scores.add(same, {one: sample.reward for one, sample in zip(numbers, rewards, strict=True)})
        self._tell([Scored(number, dict(zip(named or range(len(rewards)), rewards, strict=True)), {}, again)])
        self._named |= set(named)
        contenders = self._contenders() if self.rescore and len(rewards) > 1 and not again else []
        if contenders:
            self._present = contenders[0]
            self.assign(contenders[0])
        else:
            self._move(await self._next())
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

    async def _next(self) -> list[Candidate]:
        """The next candidate to try: one that was proposed and never scored, else a new one; none if there is none."""
        waiting = [one for one in self.engine.pending if self._first + one.number in self._values][:1]
        if not waiting:
            asked = await self._ask(1, whatever_it_costs=True)
            if self.stuck is not None:
                raise SearchError(
                    f"{self.name} has nothing to try: {self.stuck} A search draws by the schema: say there what can be "
                    "said, or search other quantities, of which all values fit (a lowest value and a width, not two "
                    "ends). finalize_variable_values gives the best so far."
                )
            return _whole(asked, self.kind)
        number = self._first + waiting[0].number
        return _whole([replace(waiting[0], number=number, values=self.values(number))], self.kind)

    async def _recognized(self) -> int:
        """The candidate that has the variables' present values: the start, or, if a search goes on after
        :meth:`finalize_variable_values`, whichever it is."""
        if not self._values:
            await self._next()
        found = self._present_candidates()
        if not found:
            raise SearchError(
                f"{self.name} has not proposed the variables' present values, so it knows no candidate that a reward "
                "or a failure is of; call apply_optimization without one, which assigns the next candidate."
            )
        return next((number for number in found if not self._was_told(number)), found[0])

    def _present_candidates(self) -> list[int]:
        """The candidates that have the variables' present values: as they are held, or else as they would be."""
        present = {str(variable.name): variable.json() for variable in self._bound}
        return self._alike.with_values(present) or self._alike.with_values(self._held(present)[0])

    def _is_present(self, number: int) -> bool:
        return number in self._present_candidates()

    def _move(self, candidates: Sequence[Candidate]) -> None:
        """Go on to a new candidate; where there is none left, to the best."""
        best = self._scores.best()
        present = candidates[0].number if candidates else best
        if present is not None:  # else every candidate has failed, and the variables stay as they are
            self.assign(present)
            self._present = present


def _judged(reward: Reward, name: str) -> Reward:
    """A reward whose value is what candidates are judged by: the mean of its samples, if it has any."""
    if reward.samples:
        mean, scale = Reward.of(reward.samples).value, max(abs(sample.reward) for sample in reward.samples)
        if not math.isclose(reward.value, mean, rel_tol=1e-9, abs_tol=1e-9 * scale):
            raise SearchError(
                f"a reward told to {name} has the value {reward.value:g} and samples with the mean {mean:g}. {name} "
                "judges by the samples, since it asks how far their mean can be trusted; give Reward.of(samples), or, "
                f"if {reward.value:g} is to become larger, one SampleReward of it with the remarks as its feedback."
            )
    return reward


def _whole(candidates: list[Candidate], kind: str) -> list[Candidate]:
    """Candidates that are to be scored on all samples; other ones only a run can score."""
    if any(candidate.resource < 1.0 for candidate in candidates):
        raise SearchError(
            f"{kind} scores its candidates on shares of the samples, which only a study deals out; take it in a study, "
            "ask the engine itself (thalweg.search.engines.engine_class), or take another kind here."
        )
    return candidates
