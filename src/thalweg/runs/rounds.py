"""Evaluating candidates: side by side, in an order that the seed decides, within the budget.

One round takes the candidates of one iteration and the batch's samples::

    jobs   = [(candidate, sample), ...]            by candidate, then sample
    wave   = the longest beginning of the jobs that the budget surely pays for, 1000 at most
    begin the wave's jobs in this order, at most ``concurrency`` at once; charge them in this order; next wave

Which of them ends first has no influence on anything: results are used in the order of the jobs. A job that has a
result already (:mod:`thalweg.runs.ledger`) is not evaluated again. One that raises has failed, and costs only its
candidate. A run that is cancelled begins no more of them, and waits for those in flight, whose results are kept;
cancelled again it gives them up.
"""

from __future__ import annotations

import asyncio
import math
import time
import traceback
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from inspect import isawaitable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.checkpoints.shared import Shared
from thalweg.errors import RunError, ThalwegError
from thalweg.runs.deciding import key_of
from thalweg.runs.evaluation import Evaluation
from thalweg.runs.history import HistoryWriter
from thalweg.runs.ledger import FINAL, SEARCH, Job, Ledger
from thalweg.runs.reserve import Reserve, needs_of
from thalweg.runs.rewards import RewardProblem
from thalweg.runs.shortening import said
from thalweg.runs.turns import Turns
from thalweg.runtime import Runtime
from thalweg.search.budget import Spent
from thalweg.search.rewards import SampleReward
from thalweg.search.trials import Scored, Trial
from thalweg.search.values import copy_json

_STREAM = 0xCA4D1DA7E  # keeps the order of the samples apart from other draws from the seed
_WAVE = 1000  # jobs, at most, as they are charged at one go
TOLD = 5
"""So many failures are written to the events in full; all of them are in the table of evaluations."""


@dataclass(frozen=True)
class Round:
    """What came of one round.

    Args:
        scored: the candidates that were evaluated on all their samples, or failed, in the order of asking.
        stopped: why the budget let no more of them begin; None if all were evaluated.
    """

    scored: tuple[Scored, ...]
    stopped: str | None


class Rounds:
    """Evaluates the candidates of one run.

    Args:
        problem: what is optimized.
        runtime: where its numeric work runs.
        ledger: what is known, and the budget.
        history: where candidates and failures are recorded.
        seed: the study's seed: the order in which samples are taken where a candidate gets only some of them.
        fingerprint: a digest of what else decides a reward, such as the problem's settings.
        finalists: how many candidates besides the start the final choice is among; the budget keeps back what it needs.
        progress: told of each evaluation that ended: ``progress(done, total)``.
        over: why no evaluation of the search may begin any more, such as that its seconds are over; None if it may.
    """

    def __init__(
        self,
        problem: RewardProblem,
        runtime: Runtime,
        ledger: Ledger,
        history: HistoryWriter,
        *,
        seed: int,
        fingerprint: str,
        finalists: int,
        progress: Callable[[int, int], None],
        over: Callable[[], str | None] = lambda: None,
    ) -> None:
        self.ledger = ledger
        self._over = over
        self._problem = problem
        self._runtime = runtime
        self._history = history
        self._fingerprint = fingerprint
        self._finalists = finalists
        self._progress = progress
        self._reserve = Reserve(finalists)
        self._priced: set[str] = set()  # whose needs in the final choice are known
        self._flushed = Shared()
        self.start = 0
        """The candidate that takes part in the final choice in any case."""
        self._failures, self._refusals, self._succeeded = 0, 0, False
        self._rewarded = ledger.rewarded  # by all processes of this run
        generator = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(_STREAM,)))
        self._order = generator.permutation(problem.items)

    async def evaluate(self, trials: Sequence[Trial], batch: NDArray[np.int64], iteration: int) -> Round:
        """Evaluate the candidates of one iteration on the batch's samples.

        Args:
            trials: the candidates.
            batch: sample indices, increasing.
            iteration: of the run, from 1.

        Raises:
            RunError: nothing but failures: there is nothing to search with.
        """
        jobs: list[Job] = []
        wanted: list[list[Job]] = []
        kept: dict[tuple[str, int], Spent] = {}  # once this job, and all before it, have begun
        for trial in trials:
            candidate = trial.candidate
            if not trial.again:  # else it is known since it was new
                self._history.candidate(candidate.number, iteration, candidate.origin, candidate.values)
            if trial.refused is not None:
                self._note_refusal(candidate.number, trial.refused, iteration)
            items = self._samples(batch, candidate.resource)
            wanted.append(self._jobs(candidate.number, candidate.values, [i for i in items if i not in trial.seen]))
            jobs += wanted[-1]
            await self.price(candidate.number, candidate.values)
            kept |= dict.fromkeys((job.place for job in wanted[-1]), self.kept())
        done, stopped = await self._all(jobs, iteration, SEARCH, kept)
        if self._failures and not self._succeeded:
            self._give_up(done)
        scored = [
            Scored(trial.candidate.number, *_sorted(done, mine), again=trial.again)
            for trial, mine in zip(trials, wanted, strict=True)
            if all(job.place in done for job in mine)  # all of none, too: what was known of it already is told again
        ]
        return Round(tuple(scored), stopped)

    async def finals(self, values: Mapping[int, dict[str, Any]], items: Sequence[int], iteration: int) -> Round:
        """Evaluate candidates on the samples of the final choice or report.

        Args:
            values: of the candidates, by number.
            items: the samples.
            iteration: the last one of the run.
        """
        wanted = {number: self._jobs(number, entry, items) for number, entry in values.items()}
        # What is known first: where the budget ends, it costs no candidate what it has already.
        jobs = sorted((job for jobs in wanted.values() for job in jobs), key=lambda job: self.ledger.found(job) is None)
        done, stopped = await self._all(jobs, iteration, FINAL, {})
        scored = [
            Scored(number, *_sorted(done, mine), again=True)
            for number, mine in wanted.items()
            if all(job.place in done for job in mine)
        ]
        return Round(tuple(scored), stopped)

    def _samples(self, batch: NDArray[np.int64], resource: float) -> list[int]:
        if resource >= 1.0:
            return [int(item) for item in batch]
        inside = set(batch.tolist())
        ordered = [int(item) for item in self._order if int(item) in inside]
        return sorted(ordered[: max(1, round(resource * len(ordered)))])

    def _jobs(self, number: int, values: dict[str, Any], items: Sequence[int]) -> list[Job]:
        key = self._key(values)
        return [Job(number, key, values, item) for item in items]

    def _key(self, values: dict[str, Any]) -> str:
        return key_of(self._fingerprint, values)

    async def recall(self, number: int, values: dict[str, Any]) -> None:
        """Take note of a candidate of before, where a run goes on: its price, and whether it has a reward.

        A reward of other settings of the problem does not count: whoever goes on with settings under which nothing
        but failures comes is told.

        Args:
            number: of the candidate.
            values: of it.
        """
        self._succeeded = self._succeeded or self._key(values) in self._rewarded
        await self.price(number, values)

    async def price(self, number: int, values: dict[str, Any]) -> None:
        """Keep back what a candidate would need in the final choice, which need not be what it needs in the search.

        Args:
            number: of the candidate.
            values: of it.
        """
        limits, problem = self.ledger.limits, self._problem
        if limits.tokens is None and limits.money is None:
            return
        first, last = problem.items + problem.held_out, problem.items + problem.held_out + problem.test
        jobs = self._jobs(number, values, range(problem.items, last))
        if not jobs or jobs[0].key in self._priced:
            return
        once, most = await self._priced_jobs(jobs, problem.once), await self._priced_jobs(jobs, problem.most)
        prices = [(job.item, one, other) for (job, one), (_, other) in zip(once, most, strict=True)]
        self._reserve.take(needs_of(prices, first), start=number == self.start)
        self._priced.add(jobs[0].key)

    async def _priced_jobs(
        self, jobs: Sequence[Job], price: Callable[[dict[str, Any], int], Spent]
    ) -> list[tuple[Job, Spent]]:
        """Each job with what it can cost; others get their turn meanwhile."""
        priced, turns = [], Turns()
        for job in jobs:
            priced.append((job, Spent(1) + price(copy_json(job.values), job.item)))
            await turns()
        return priced

    def kept(self) -> Spent:
        """What must be left over for the final choice."""
        problem = self._problem
        return Spent((self._finalists + 1) * problem.held_out + 2 * problem.test) + self._reserve.kept

    async def _all(
        self, jobs: Sequence[Job], iteration: int, stage: str, kept: Mapping[tuple[str, int], Spent]
    ) -> tuple[dict[tuple[str, int], Evaluation], str | None]:
        priced = await self._priced_jobs(jobs, self._problem.most)
        done: dict[tuple[str, int], Evaluation] = {}
        total = len({job.place for job in jobs})
        over = self._over if stage == SEARCH else lambda: None  # what there is, is chosen from in any case
        while priced:
            count, reason = self.ledger.affordable(priced[:_WAVE], kept)
            if not count:
                return done, reason
            wave, priced = priced[:count], priced[count:]
            await self._run(wave, iteration, stage, len(done), total, over)
            ended = [(job, most) for job, most in wave if self.ledger.found(job) is not None]
            for job, most in ended:  # no await in here: a wave is charged as a whole, or not at all
                first = job.place not in done
                row = done[job.place] = self.ledger.use(job, iteration)
                if first:
                    self._note(job, row, most)
            if len(ended) < len(wave):
                return done, over()
        return done, None

    async def _run(
        self,
        wave: Sequence[tuple[Job, Spent]],
        iteration: int,
        stage: str,
        before: int,
        total: int,
        over: Callable[[], str | None],
    ) -> None:
        todo = {job.place: (job, most) for job, most in reversed(wave) if self.ledger.found(job) is None}
        ordered = [todo[place] for place in dict.fromkeys(job.place for job, _ in wave) if place in todo]
        ended = before + len({job.place for job, _ in wave}) - len(ordered)
        queue = deque(ordered)
        stopping = False

        async def on_disk() -> None:
            await self._flushed(self._history.flush)

        async def work() -> None:
            nonlocal ended
            while queue and not stopping and over() is None:
                job, most = queue.popleft()  # whoever is free takes the next
                row = self.ledger.begin(job, iteration, stage, most)
                noted = _once(on_disk)
                if not self._problem.pays_after(noted) and (most.tokens or most.money):
                    await noted()  # before anything is paid for it is there that it may have been
                found = await self._evaluated(job, row)
                self.ledger.end(found, soon=bool(queue) and not stopping)
                ended += 1
                self._progress(ended, total)
                await asyncio.sleep(0)  # a reward that never waits must not keep everybody else from running
            if stopping:
                await on_disk()  # with the last result, which was to go with another row

        if not ordered:
            return
        count = min(max(1, self._problem.concurrency(self._runtime)), len(ordered))
        tasks = [asyncio.ensure_future(work()) for _ in range(count)]
        cancelled: asyncio.CancelledError | None = None
        try:
            while True:
                try:
                    ready, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_EXCEPTION)
                    break
                except asyncio.CancelledError as error:
                    if cancelled is not None:
                        raise  # the second time: what is in flight is given up
                    cancelled, stopping = error, True  # what is in flight may be paid for: its result is kept
            for task in ready:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        if cancelled is not None:
            raise cancelled

    async def _evaluated(self, job: Job, row: Evaluation) -> Evaluation:
        start = time.monotonic()
        try:
            asked: Any = self._problem.reward(copy_json(job.values), job.item, self._runtime)
            name = f"{type(self._problem).__qualname__}.reward"
            if not isawaitable(asked):
                raise RunError(
                    f"{name} is no coroutine function; write `async def reward(self, values, item, runtime)`."
                )
            reward = await asked
            if not isinstance(reward, SampleReward):
                raise RunError(
                    f"{name} returned {type(reward).__qualname__} instead of a thalweg.search.SampleReward; write "
                    "`return SampleReward(number)`."
                )
        except Exception as error:
            text = f"{type(error).__name__}: {error}"
            if not isinstance(error, ThalwegError):
                text = "".join(traceback.format_exception(error))[-4000:]
            known = getattr(error, "spent", None)
            cost = known if isinstance(known, Spent) else Spent(0, row.tokens, row.money)
            return replace(
                row,
                status="failed",
                error=text,
                tokens=cost.tokens,
                money=cost.money,
                seconds=time.monotonic() - start,
            )
        return replace(
            row,
            status="done",
            reward=float(reward.reward),
            feedback=reward.feedback,
            tokens=reward.tokens,
            money=float(reward.money),
            seconds=time.monotonic() - start,
        )

    def _note(self, job: Job, row: Evaluation, most: Spent) -> None:
        if row.status == "failed":
            self._failures += 1
            if self._failures <= TOLD:
                text = f"candidate {job.candidate} failed on {self._problem.item_name} {job.item}: {said(row.error)}"
                self._history.event("failure", text, iteration=row.iteration, details={"error": row.error})
        else:
            self._succeeded = True
        if row.tokens > most.tokens or (row.money > most.money and not math.isclose(row.money, most.money)):
            text = (
                f"candidate {job.candidate} on {self._problem.item_name} {job.item} cost {row.tokens} tokens, "
                f"{row.money:g} in money; the problem had said at most {most.tokens} and {most.money:g}"
            )
            self._history.event("warning", text, iteration=row.iteration)

    def _note_refusal(self, number: int, why: str, iteration: int) -> None:
        self._refusals += 1
        if self._refusals <= TOLD:
            text = f"candidate {number} is refused and not evaluated: {why}"
            self._history.event("failure", text, iteration=iteration)

    def _give_up(self, done: Mapping[tuple[str, int], Evaluation]) -> None:
        self.ledger.give_up()
        row = next(row for row in done.values() if row.status == "failed")
        raise RunError(
            f"All {self._failures} evaluations have failed, so there is nothing to search with. The first one, "
            f"candidate {row.candidate} on {self._problem.item_name} {row.item}: {said(row.error)}",
            traceback=row.error.strip(),
        )


def _once(wait: Callable[[], Awaitable[None]]) -> Callable[[], Awaitable[None]]:
    """Waits the first time only: an evaluation may send several requests."""
    waited = False

    async def first() -> None:
        nonlocal waited
        if not waited:
            await wait()
            waited = True

    return first


def _sorted(
    done: Mapping[tuple[str, int], Evaluation], jobs: Sequence[Job]
) -> tuple[dict[int, SampleReward], dict[int, str]]:
    rewards: dict[int, SampleReward] = {}
    failed: dict[int, str] = {}
    for job in jobs:
        row = done[job.place]
        if row.reward is not None:
            rewards[job.item] = SampleReward(row.reward, row.feedback, row.tokens, row.money)
        else:
            failed[job.item] = row.error
    return rewards, failed
