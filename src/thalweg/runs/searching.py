"""A search in a run: candidates go out, rewards come in; at the end one of the best is chosen on other samples.

::

    each iteration:   trials = search.propose();  round = rounds.evaluate(trials, batch);  search.apply(round)
    at the end:       finalists = the best by their lower bounds, and the start
                      winner    = the one with the highest mean reward on the held-out samples
                      report    = winner against start on the test samples, which nothing else has seen, unless an
                                  earlier final choice of the run was reported on them: how many were is kept

The winner's mean on the held-out samples is the largest of several, so it flatters; the one on the test samples does
not. How far the difference can be trusted: :mod:`thalweg.runs.paired`.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.errors import RunError
from thalweg.runs.asking import Asking
from thalweg.runs.compared import BEGAN_ANEW, CONFIDENCE, ENGINE, SCORED_ON, compared_from
from thalweg.runs.deciding import fingerprint_of, key_of
from thalweg.runs.evaluation import Evaluation
from thalweg.runs.history import HistoryWriter
from thalweg.runs.ledger import Ledger
from thalweg.runs.paired import paired_difference
from thalweg.runs.problem import Feedback
from thalweg.runs.rewards import RewardProblem
from thalweg.runs.rounds import TOLD, Round, Rounds
from thalweg.runs.seconds import Seconds
from thalweg.runs.settings import BudgetSettings
from thalweg.runs.telling import several
from thalweg.runtime import Runtime
from thalweg.search.budget import Limits, Spent
from thalweg.search.ready import Search
from thalweg.search.trials import Scored


class Searching:
    """What the loop has for a search in the place of gradients.

    Args:
        problem: what is optimized.
        search: bound to the problem's variables.
        runtime: where numeric work runs.
        history: where candidates, evaluations and the choice are recorded.
        budget: the study's.
        seed: the study's.
        decided: what else decides a reward; JSON.
        rows: the evaluations that are known, of a run that goes on.
        ledger: what the checkpoint says of the budget, or None.
        iteration: of that checkpoint.
        progress: told of each evaluation that ended.
        began: :func:`time.monotonic` at the run's beginning, for the budget of seconds.
    """

    def __init__(
        self,
        problem: RewardProblem,
        search: Search,
        *,
        runtime: Runtime,
        history: HistoryWriter,
        budget: BudgetSettings,
        seed: int,
        decided: Mapping[str, Any],
        rows: Sequence[Evaluation] = (),
        ledger: Mapping[str, Any] | None = None,
        iteration: int = 0,
        progress: Callable[[int, int], None],
        began: float,
    ) -> None:
        limits = Limits(budget.evaluations, budget.tokens, budget.money)
        self.stopped: str | None = None
        self._limits = {**asdict(limits), "seconds": budget.seconds}
        # Why the last iteration was not whole; the loop asks before an iteration only.
        before = ledger or {}
        self._cut: str | None = before.get("cut") if before.get("limits") == self._limits else None
        # Candidates that the variables refuse: those that are told of. In the place of others there came new ones.
        self._refused = self._refused_before = int(before.get("refused", 0))
        self.outcome: dict[str, Any] = {}
        self._problem = problem
        self._search = search
        self._history = history
        self._seed = seed
        self._iteration = iteration
        self._last_samples = 0  # that the reward of the last iteration is of
        self._recalled = False
        self._decided = dict(decided)
        self._goes_on, self._anew = ledger is not None, before.get(BEGAN_ANEW)
        fingerprint = self._fingerprint = fingerprint_of(decided)
        history.fact(CONFIDENCE, search.confidence)
        parts = {"search": problem.items, "held_out": problem.held_out, "test": problem.test}
        self._scored_on = {"item_name": problem.item_name, "measure": problem.measure, **parts}
        history.fact(SCORED_ON, self._scored_on)
        self._ledger = Ledger(history, rows, limits=limits, state=ledger, iteration=iteration)
        if self._ledger.lost_last:
            count = self._ledger.lost_last
            text = f"{count} evaluations were in flight when the run died; they are charged, and made again"
            history.event("warning", text, iteration=iteration)
        if self._ledger.lost_asking:
            text = "an engine was being asked when the run died; that is charged with its bound, and asked again"
            history.event("warning", text, iteration=iteration)
        self._rounds = Rounds(
            problem,
            runtime,
            self._ledger,
            history,
            seed=seed,
            fingerprint=fingerprint,
            finalists=search.finalists,
            progress=progress,
            over=Seconds(budget.seconds, began).over,
        )
        self._asking = Asking(search, self._ledger, history, fingerprint=fingerprint, kept=self._rounds.kept)

    async def feedback(self, batch: NDArray[np.int64], iteration: int) -> Feedback | None:
        """What came of the next candidates; None if there are none, or the budget pays for none: see ``stopped``.

        Args:
            batch: the samples.
            iteration: that begins, from 1.

        Raises:
            RunError: nothing but failures.
        """
        if not self._recalled:  # what the candidates of before can cost decides what is kept back
            # By now the search is where the checkpoint has it.
            self._rounds.start = self._ledger.first = self._search.first
            begins = not self._goes_on or compared_from({BEGAN_ANEW: self._anew})[0] != self._search.first
            self._say_since_when()
            self._say_engine(begins)
            for number in sorted(self._search.scores.numbers):
                await self._rounds.recall(number, self._search.values(number))
            self._recalled = True
        trials, reason = await self._asking.candidates(iteration)
        if reason is not None:
            self.stopped = reason
            return None
        if not trials:
            self.stopped = self._search.stuck or "every candidate there is has been tried"
            return None
        self._iteration = iteration
        self._refused = self._refused_before + sum(trial.refused is not None for trial in trials)
        found = await self._rounds.evaluate(trials, batch, iteration)
        if found.scored or self._cut is None:  # else nothing began since it was cut, by a process that died
            self._cut = found.stopped
        self.stopped = self._cut
        if not found.scored:
            return None
        reward, self._last_samples = self._reward(found.scored)
        return Feedback(-len(batch) * reward, {}, rewards=found.scored)

    def _say_since_when(self) -> None:
        """Where the search began anew, for whoever reads the history, in which it may be said of a process that died
        before its first checkpoint."""
        first = self._search.first
        if compared_from({BEGAN_ANEW: self._anew})[0] != first:
            self._anew = {"first": first, "iteration": self._iteration} if first else None
        self._history.fact(BEGAN_ANEW, self._anew)

    def _say_engine(self, begins: bool) -> None:
        """Which engine was chosen, where the study leaves that open."""
        text = chosen_engine(self._search.engine)
        self._history.fact(ENGINE, text)
        if text and begins:
            self._history.event("engine", text, iteration=self._iteration)

    def commit(self) -> None:
        """The step is made: what it used is charged for good."""
        self._ledger.commit(self._iteration)
        self._refused_before = self._refused

    def metrics(self) -> dict[str, float]:
        """For the history, after the step; what was lost in an iteration that is still to come is not of this one."""
        spent = self._ledger.spent_by_now
        found = {**self._search.metrics(), "evaluations": float(spent.evaluations)}
        if "best_candidate" in found:
            found["best_samples"] = float(self._search.scores.count(int(found["best_candidate"])))
            found |= {"last_samples": float(self._last_samples), "samples": float(self._problem.items)}
        if spent.tokens:
            found["tokens"] = float(spent.tokens)
        if spent.money:
            found["money"] = spent.money
        return found

    def state(self) -> dict[str, Any]:
        """For the checkpoint."""
        about = {"decided_by": self._decided, "cut": self._cut, "limits": self._limits, BEGAN_ANEW: self._anew}
        return {**self._ledger.state(), **about, "refused": self._refused_before}

    async def conclude(self, iteration: int) -> None:
        """Choose the winner on the held-out samples, give its values to the variables, and compare it on the test
        samples with the start. Without a candidate to choose it only says what was spent, and why it stopped.

        Args:
            iteration: the last one.
        """
        self._say_since_when()
        if self._ledger.failed > TOLD:
            text = f"{self._ledger.failed} evaluations have failed in all; the table of evaluations has each of them"
            self._history.event("failure", text, iteration=iteration)
        if self._refused > TOLD:
            text = f"{self._refused} candidates were refused in all, and none of them was evaluated"
            self._history.event("failure", text, iteration=iteration)
        scores, problem, start = self._search.scores, self._problem, self._search.first
        self.stopped = self.stopped or self._cut
        finalists = self._search.best_of(self._search.finalists)
        if not finalists:
            self._record({})  # what was paid for is said, whatever came of it
            return
        winner, chosen_on = finalists[0], "the samples of the search"
        held: dict[int, dict[int, float]] = {}
        incomplete: list[str] = []
        if problem.held_out:
            items = range(problem.items, problem.items + problem.held_out)
            found = await self._finals(finalists, items, iteration)
            held = _complete(found)
            incomplete += self._explain(found, "held-out")
            if held:
                ranked = sorted(held, key=lambda number: (-_mean(held[number]), finalists.index(number)))
                winner, chosen_on = ranked[0], f"{problem.held_out} held-out {several(problem.item_name)}"
        low, high = scores.bounds(winner)
        chosen: dict[str, Any] = {
            "winner": {
                "candidate": winner,
                "values": self._search.values(winner),
                "search": {"mean": scores.mean(winner), "low": low, "high": high, "samples": scores.count(winner)},
            },
            "start": None,
            "chosen_on": chosen_on,
            "finalists": {str(number): _mean(held[number]) for number in finalists if number in held},
        }
        if start in scores.ranked():
            search = {"mean": scores.mean(start), "samples": scores.count(start)}
            chosen["start"] = {"candidate": start, "search": search}
        if winner in held:
            chosen["winner"]["held_out"] = _described(held[winner])
        if start in held and chosen["start"]:
            chosen["start"]["held_out"] = _described(held[start])
        incomplete += await self._report(chosen, winner, iteration)
        if incomplete:
            chosen["incomplete"] = incomplete
        self._search.assign(winner)
        self._record(chosen)
        self._ledger.give_up_finals()

    def so_far(self) -> dict[str, Any]:
        """Before the final choice: the best candidate of the search, if any, what was spent and what has failed."""
        scores, best = self._search.scores, self._search.scores.best()
        found: dict[str, Any] = {"spent": asdict(self._ledger.paid), "failed": self._ledger.failed}
        found["scored_on"] = self._scored_on
        if best is not None:
            low, high = scores.bounds(best)
            search = {"mean": scores.mean(best), "low": low, "high": high, "samples": scores.count(best)}
            found["best"] = {"candidate": best, "values": self._search.values(best), "search": search}
        return found

    def _record(self, chosen: dict[str, Any]) -> None:
        """Say what was chosen, and what the search has cost."""
        chosen["scored_on"] = self._scored_on
        chosen["spent"], unused = asdict(self._ledger.paid), self._ledger.unused
        if unused != Spent():
            chosen["unused"] = asdict(unused)
        chosen["lost_in_flight"] = self._ledger.lost
        chosen["stopped"] = self.stopped
        chosen["failed"] = self._ledger.failed
        chosen |= {"refused": self._refused} if self._refused else {}
        if self._search.first:
            chosen["not_compared"] = self._search.first  # candidates of before the search began anew
        self._history.fact("search", chosen)
        self.outcome = chosen

    async def _report(self, chosen: dict[str, Any], winner: int, iteration: int) -> list[str]:
        problem, start = self._problem, self._search.first
        if not problem.test:
            return []
        first = problem.items + problem.held_out
        items = range(first, first + problem.test)
        numbers = [winner] if winner == start or chosen["start"] is None else [winner, start]
        found = await self._finals(numbers, items, iteration)
        others = self._ledger.scored_in_finals(items) - {self._key(number) for number in numbers}
        if others:
            chosen["tested_before"] = len(others)
        tested = _complete(found)
        if winner in tested:
            chosen["winner"]["test"] = _described(tested[winner])
        if start in tested and chosen["start"]:
            chosen["start"]["test"] = _described(tested[start])
        if winner in tested and start in tested and winner != start:
            chosen["difference"] = await asyncio.to_thread(paired_difference, tested[winner], tested[start], self._seed)
        return self._explain(found, "test")

    def _key(self, number: int) -> str:
        return key_of(self._fingerprint, self._search.values(number))

    async def _finals(self, numbers: Sequence[int], items: Sequence[int], iteration: int) -> Round:
        return await self._rounds.finals({n: self._search.values(n) for n in numbers}, items, iteration)

    def _explain(self, found: Round, part: str) -> list[str]:
        """Say which means are missing, and why."""
        texts = [] if found.stopped is None else [found.stopped]
        for one in found.scored:
            if one.failed:
                count, total = len(one.failed), len(one.failed) + len(one.rewards)
                texts.append(
                    f"candidate {one.number} failed on {count} of {total} {part} {several(self._problem.item_name)}, "
                    f"so it has no mean there; what failed is made again when the run goes on. The first: {_cause(one)}"
                )
        for text in texts:
            self._history.event("warning", f"the final choice is incomplete: {text}")
        self.stopped = self.stopped or found.stopped
        return texts

    def _reward(self, scored: Sequence[Scored]) -> tuple[float, int]:
        """The mean reward of the round's best candidate, and how many samples it is of; of the best before, if all of
        them failed. While every candidate has failed, the best mean over what one did not fail on."""
        whole = [(_mean(_rewards(one)), len(one.rewards)) for one in scored if one.rewards and not one.failed]
        if whole:
            return max(whole)
        scores = self._search.scores
        best = scores.best()
        if best is not None:
            return scores.mean(best), scores.count(best)
        partly = [(_mean(_rewards(one)), len(one.rewards)) for one in scored if one.rewards]
        partly = partly or [(scores.mean(n), scores.count(n)) for n in scores.numbers if scores.count(n)]
        if not partly:
            self._ledger.give_up()
            cause = next((_cause(one) for one in scored if one.failed), "these values had failed before")
            raise RunError(f"No evaluation has succeeded since the search began: {cause}")
        return max(partly)


def chosen_engine(engine: Any) -> str | None:
    """Which engine ``auto`` has chosen, and why; None of any other.

    Example:
        >>> from thalweg.runs.searching import chosen_engine
        >>> from thalweg.search.auto import Auto
        >>> from thalweg.search.space import Space
        >>> chosen_engine(Auto(Space.of({"type": "integer", "minimum": 0, "maximum": 9}, name="n"), seed=0))
        'random, chosen by auto for 10 points and 100 evaluations: each is tried once'
    """
    reason = getattr(engine, "reason", None)
    return None if reason is None else f"{engine.inner.kind}, chosen by auto for {reason}"


def final_evaluations(problem: RewardProblem, search: Search) -> int:
    """How many evaluations the final choice and report make at most."""
    finalists = search.finalists + 1  # the start takes part
    return (finalists * problem.held_out if problem.held_out else 0) + 2 * problem.test


def _complete(found: Round) -> dict[int, dict[int, float]]:
    return {one.number: _rewards(one) for one in found.scored if not one.failed}


def _rewards(one: Scored) -> dict[int, float]:
    return {item: sample.reward for item, sample in one.rewards.items()}


def _cause(one: Scored) -> str:
    """The last line of the first failure."""
    return (next(iter(one.failed.values())).strip() or "no message").splitlines()[-1]


def _mean(rewards: Mapping[int, float]) -> float:
    return math.fsum(rewards[item] for item in sorted(rewards)) / len(rewards)


def _described(rewards: Mapping[int, float]) -> dict[str, float]:
    values = np.array([rewards[item] for item in sorted(rewards)])
    error = float(values.std(ddof=1) / math.sqrt(len(values))) if len(values) > 1 else 0.0
    return {"mean": _mean(rewards), "standard_error": error, "samples": len(values)}
