"""What was evaluated, and what it cost: nothing that was paid for is paid for again.

Every evaluation (one candidate on one sample) has a row in the run's history: one that says that it has begun, with
the most that it can cost, and at its end what came of it. A run that goes on after it died finds

- ``done`` and ``failed`` rows: their results are used as they are, nothing is evaluated again
- ``begun`` rows without an end: they were in flight when the process died. They become ``lost``, and are charged with
  the most that they can have cost; at most as many as run at once

A result is charged to the budget when the loop *uses* it, in the order of the jobs, not when it arrives. So the
budget decides the same in a run that was killed and one that was not. A checkpoint has what was charged up to the last
committed iteration: what the one in progress used is used, and charged, again by the run that goes on.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from thalweg.errors import RunError, SearchError
from thalweg.runs.evaluation import Evaluation
from thalweg.runs.history import HistoryWriter
from thalweg.search.budget import Limits, Spent

FINAL = "final"
NOTHING = Spent()


@dataclass(frozen=True)
class Job:
    """One candidate on one sample.

    Args:
        candidate: its number.
        key: digest of its values and of the problem.
        values: by variable name; JSON.
        item: the sample.
    """

    candidate: int
    key: str
    values: dict[str, Any]
    item: int

    @property
    def place(self) -> tuple[str, int]:
        """What decides the result."""
        return self.key, self.item


@dataclass(frozen=True)
class Needs:
    """The most tokens and money that the dearest candidate can cost in the final choice.

    Args:
        held_out: on all held-out samples together.
        test: on all test samples together.
    """

    held_out: Spent = NOTHING
    test: Spent = NOTHING

    def or_more(self, other: Needs) -> Needs:
        """The larger of both, number by number."""
        return Needs(_larger(self.held_out, other.held_out), _larger(self.test, other.test))


class Ledger:
    """The evaluations of one run, and the budget.

    Args:
        history: where the rows go.
        rows: those that are there already, of a run that goes on.
        limits: the budget.
        state: what :meth:`state` said when the checkpoint was taken, or None at the beginning.
        iteration: of that checkpoint: rows up to there are used and charged.

    Raises:
        RunError: the state or the rows are damaged.
    """

    def __init__(
        self,
        history: HistoryWriter,
        rows: Iterable[Evaluation] = (),
        *,
        limits: Limits | None = None,
        state: Mapping[str, Any] | None = None,
        iteration: int = 0,
    ) -> None:
        self.limits = limits or Limits()
        self.lost = 0  # by all processes of this run that died
        self.lost_last = 0  # by the last one
        self._history = history
        self._spent, self._charged, self.needs = _read(state)
        self._known: dict[tuple[str, int], Evaluation] = {}
        self._used: set[tuple[str, int]] = set()
        self._last = 0
        charged = self._charged
        for row in sorted(rows, key=lambda row: row.id):
            self._last = row.id
            if row.status == "begun":
                row = replace(row, status="lost")
                history.evaluation(row)
                self.lost_last += 1
            self.lost += row.status == "lost"
            if row.status == "lost" or (row.ended and row.stage == FINAL):
                # Paid for outside of what the loop will come to again.
                if row.id > self._charged:
                    self._spent += cost_of(row)
                charged = max(charged, row.id)
            if row.ended:
                self._known[row.key, row.item] = row
                if row.stage == FINAL or row.iteration <= iteration:
                    self._used.add((row.key, row.item))
        self._charged = charged
        self._committed = self._spent

    @property
    def spent(self) -> Spent:
        """What was charged so far."""
        return self._spent

    @property
    def successes(self) -> int:
        """How many evaluations have a reward."""
        return sum(row.status == "done" for row in self._known.values())

    def found(self, job: Job) -> Evaluation | None:
        """The result of a job, if there is one, whoever asked for it."""
        return self._known.get(job.place)

    def affordable(self, jobs: Sequence[tuple[Job, Spent]], kept: Spent) -> tuple[int, str | None]:
        """How many of the first jobs may begin, and why not more.

        Args:
            jobs: each with the most that it can cost.
            kept: what must be left over afterwards.
        """
        before, planned = self._spent, set(self._used)
        for count, (job, most) in enumerate(jobs):
            if job.place in planned:
                continue
            reason = self.limits.refusal(before, most, kept)
            if reason is not None:
                return count, reason
            planned.add(job.place)
            before += most
        return len(jobs), None

    def begin(self, job: Job, iteration: int, stage: str, most: Spent) -> Evaluation:
        """A job begins; the row is handed to the history, and not waited for."""
        self._last += 1
        row = Evaluation(
            self._last,
            iteration,
            job.candidate,
            job.key,
            job.item,
            stage,
            "begun",
            tokens=most.tokens,
            money=most.money,
        )
        self._history.evaluation(row)
        return row

    def end(self, row: Evaluation) -> None:
        """It has ended: keep what came of it."""
        self._history.evaluation(row)
        self._known[row.key, row.item] = row

    def use(self, job: Job) -> Evaluation:
        """The result of a job, charged if it is used for the first time."""
        row = self._known[job.place]
        if job.place not in self._used:
            self._used.add(job.place)
            self._spent += cost_of(row)
            if row.stage == FINAL:
                self._committed += cost_of(row)
                self._charged = max(self._charged, row.id)
        return row

    def charge(self, spent: Spent) -> None:
        """Something else was paid for: what an engine asked a language model. A checkpoint has its answer at once."""
        self._spent += spent
        self._committed += spent

    def commit(self) -> None:
        """An iteration is done: a checkpoint from now on has what it used."""
        self._committed = self._spent

    def keep_back(self, needs: Needs) -> None:
        """Some candidate needs so much in the final choice: see to it that it is there."""
        self.needs = self.needs.or_more(needs)

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it; the rows are in the history."""
        spent = self._committed
        return {
            "evaluations": spent.evaluations,
            "tokens": spent.tokens,
            "money": spent.money,
            "charged": self._charged,
            "needs": asdict(self.needs),
        }


def _larger(one: Spent, other: Spent) -> Spent:
    return Spent(0, max(one.tokens, other.tokens), max(one.money, other.money))


def cost_of(row: Evaluation) -> Spent:
    """What an evaluation is charged with."""
    return Spent(1, row.tokens, row.money)


def _read(state: Mapping[str, Any] | None) -> tuple[Spent, int, Needs]:
    if state is None:
        return Spent(), 0, Needs()
    try:
        spent = Spent(state["evaluations"], state["tokens"], float(state["money"]))
        if type(state["charged"]) is not int:
            raise TypeError("charged is no number")
        needs = state.get("needs", {})
        return spent, state["charged"], Needs(**{name: Spent(**needs[name]) for name in needs})
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, SearchError) as error:
        raise RunError(f"What the checkpoint says of the budget is damaged: {error}.") from error
