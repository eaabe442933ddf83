"""What was evaluated, and what it cost: nothing that was paid for is paid for again.

Every evaluation (one candidate on one sample) has a row in the run's history, and so has every asking of an engine that
pays for it (:mod:`thalweg.runs.asking`): one that says that it has begun, with
the most that it can cost, and at its end what came of it. A run that goes on after it died finds

- ``done`` and ``failed`` rows: their results are used as they are, nothing is evaluated again
- ``begun`` rows without an end: they were in flight when the process died. They become ``lost``, and are charged with
  the most that they can have cost; at most as many as run at once

A result is charged to the budget when the loop *uses* it, in the order of the jobs, not when it arrives. So the
budget decides the same in a run that was killed and one that was not. A checkpoint has what was charged up to the last
committed iteration: what the one in progress used is used, and charged, again by the run that goes on. Until then what
it knows is paid for: it counts against the limit, and needs nothing more of it.

The limit counts all of it from the beginning. What a run had spent *by an iteration* is another question: what was
lost in iteration 7, or paid for in a final choice after it, is none of what iteration 3 had cost when a run comes
through it once more. So that is counted beside it (``spent_by_now``), each row in its own iteration.

What was paid for and is not asked for any more is charged, too, and counted apart (``unused``): results of an iteration
that the run has gone through without them, since its study was changed, and those of a run that was given up because
nothing but failures had come, which are made again when it goes on. So are failures of the final choice.

A search that began anew may come to values that were scored before, under the same settings: their results are used
again, and a row of the stage ``reused``, which costs nothing, says that the new candidate is judged by them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from thalweg.errors import RunError, SearchError
from thalweg.runs.evaluation import Evaluation
from thalweg.runs.history import HistoryWriter
from thalweg.search.budget import Limits, Spent

SEARCH = "search"
FINAL = "final"
REUSED = "reused"  # a result of before the search began anew, under the candidate of now: no evaluation, and free
ASK = "ask"  # of an engine that pays for it: no evaluation, and charged as soon as it is there
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
        self.lost_asking = False  # whether the last one died while an engine was asked
        self.first = 0
        """The first candidate that is compared; results of those before it are noted again where they are used."""
        self._history = history
        self._spent, self._unused, self._charged, by_now = _read(state)
        self._now, self._by_now = iteration, by_now or self._spent
        self._later: list[tuple[int, Spent]] = []  # what is charged, and belongs to an iteration that is still to come
        self._known: dict[tuple[str, int], Evaluation] = {}
        self._waiting: dict[tuple[str, int], Spent] = {}  # of these, what was not used yet, and is charged then
        self._idle: dict[tuple[str, int], Spent] = {}  # askings that are charged, and were not used yet
        self._last = 0
        self._uncommitted: list[tuple[str, int]] = []  # places that were used for the first time since the last commit
        charged = self._charged
        for row in sorted(rows, key=lambda row: row.id):
            self._last = row.id
            if row.stage == REUSED:
                continue
            if row.status == "begun":
                row = replace(row, status="lost")
                history.evaluation(row)
                self.lost_last += row.stage != ASK
                self.lost_asking = self.lost_asking or row.stage == ASK
            self.lost += row.status == "lost" and row.stage != ASK
            apart = row.ended and row.stage in (FINAL, ASK)
            if apart or not row.ended:
                # Paid for outside of what the loop will come to again.
                cost, at = cost_of(row), _charged_at(row)
                if row.id > self._charged:
                    self._spent += cost
                    self._unused += cost if row.status == "void" else NOTHING
                    self._by_now += cost if at <= iteration else NOTHING
                elif at > iteration and by_now is None:
                    self._by_now = _without(self._by_now, cost)
                if at > iteration:
                    self._later.append((at, cost))
                charged = max(charged, row.id)
            if row.ended:
                self._known[row.key, row.item] = row
                if row.iteration > iteration and row.stage != FINAL:
                    place, kept = (row.key, row.item), self._idle if row.stage == ASK else self._waiting
                    before = self._idle.get(place, NOTHING)  # an asking of which a part was sent again has two rows
                    kept[place] = before + cost_of(row)
        self._charged = charged
        self._committed, self._committed_by_now = self._spent, self._by_now

    @property
    def spent(self) -> Spent:
        """What was charged so far."""
        return self._spent

    @property
    def spent_by_now(self) -> Spent:
        """Of :attr:`spent`, what the iterations up to the present one have cost, with what was lost in them."""
        return self._by_now

    @property
    def paid(self) -> Spent:
        """What was charged so far, and what was paid for besides and waits to be used."""
        return sum(self._waiting.values(), self._spent)

    @property
    def unused(self) -> Spent:
        """Of :attr:`paid`, what was not used."""
        return sum((*self._waiting.values(), *self._idle.values()), self._unused)

    @property
    def failed(self) -> int:
        """How many evaluations have failed, whoever asked for them."""
        return sum(row.stage != ASK and row.status in ("failed", "void") for row in self._known.values())

    @property
    def rewarded(self) -> frozenset[str]:
        """The keys of which an evaluation has a reward; it looks at all of them."""
        return frozenset(row.key for row in self._known.values() if row.status == "done")

    def found(self, job: Job) -> Evaluation | None:
        """The result of a job, if there is one, whoever asked for it."""
        return self._known.get(job.place)

    def affordable(
        self, jobs: Sequence[tuple[Job, Spent]], kept: Mapping[tuple[str, int], Spent]
    ) -> tuple[int, str | None]:
        """How many of the first jobs may begin, and why not more.

        Args:
            jobs: each with the most that it can cost.
            kept: what must be left over after each of them; nothing where it is not named.
        """
        before = self.paid
        planned: set[tuple[str, int]] = set()
        for count, (job, most) in enumerate(jobs):
            if job.place in self._known or job.place in planned:
                continue
            reason = self.limits.refusal(before, most, kept.get(job.place))
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

    def end(self, row: Evaluation, *, soon: bool = False) -> None:
        """It has ended: keep what came of it; ``soon``: another one begins at once, and takes the row along."""
        self._history.evaluation(row, soon=soon)
        self._known[row.key, row.item] = row
        self._waiting[row.key, row.item] = cost_of(row)

    def use(self, job: Job, iteration: int) -> Evaluation:
        """The result of a job, charged if it is used for the first time.

        Args:
            job: of a result that is known.
            iteration: that uses it. A changed study may come to it in another one than the run that made it, and the
                row has to say in which it was charged.
        """
        self._come_to(iteration)
        row = self._known[job.place]
        self._idle.pop(job.place, None)
        if row.stage == SEARCH and row.candidate < self.first:
            self._note(row, job, iteration)
        if self._waiting.pop(job.place, None) is not None:
            self._spent += cost_of(row)
            if row.stage == FINAL:
                self._later.append((_charged_at(row), cost_of(row)))
            else:
                self._by_now += cost_of(row)
            self._uncommitted.append(job.place)
            if row.stage in (FINAL, ASK):
                self._committed += cost_of(row)
                self._charged = max(self._charged, row.id)
            elif row.iteration != iteration:
                row = self._known[job.place] = replace(row, iteration=iteration)
                self._history.evaluation(row)
        return row

    def use_asked(self, iteration: int) -> None:
        """The candidates of an iteration are used, that a checkpoint had: what asking for them has cost is, too."""
        for place in [place for place in self._idle if self._known[place].iteration == iteration]:
            del self._idle[place]

    def give_up(self) -> None:
        """The run ends over its failures. Whoever goes on with it has mended what was wrong, so those that no committed
        iteration has used are made again."""
        self._void([self._known[place] for place in self._uncommitted])

    def give_up_finals(self) -> None:
        """The final choice is made: what failed in it is made again if the run goes on."""
        self._void([row for row in self._known.values() if row.stage == FINAL])

    def scored_in_finals(self, items: range) -> frozenset[str]:
        """The keys of what this run has ever scored on these samples for a final choice or report."""
        finals = (row for row in self._known.values() if row.stage == FINAL and row.status == "done")
        return frozenset(row.key for row in finals if row.item in items)

    def commit(self, iteration: int) -> None:
        """An iteration is done: a checkpoint from now on has what it used, and what it could have used."""
        self._come_to(iteration)
        for kept in (self._waiting, self._idle):
            for place in [place for place in kept if self._known[place].iteration <= iteration]:
                cost = kept.pop(place)
                self._spent += cost if kept is self._waiting else NOTHING
                self._by_now += cost if kept is self._waiting else NOTHING
                self._unused += cost
        self._committed, self._committed_by_now = self._spent, self._by_now
        self._uncommitted.clear()

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps of it; the rows are in the history."""
        found = {**asdict(self._committed), "unused": asdict(self._unused), "charged": self._charged}
        if self._committed_by_now != self._committed:
            found["by_now"] = asdict(self._committed_by_now)
        return found

    def _come_to(self, iteration: int) -> None:
        """What was charged for this iteration before the run came to it is a part of what it had cost by now."""
        if iteration > self._now:
            self._now = iteration
            self._by_now = sum((cost for at, cost in self._later if at <= iteration), self._by_now)
            self._later = [(at, cost) for at, cost in self._later if at > iteration]

    def _note(self, row: Evaluation, job: Job, iteration: int) -> None:
        """A candidate is judged by what was found for one that is not compared any more."""
        self._last += 1
        now = replace(row, id=self._last, iteration=iteration, candidate=job.candidate, stage=REUSED)
        self._history.evaluation(replace(now, tokens=0, money=0.0, seconds=0.0))

    def _void(self, rows: Iterable[Evaluation]) -> None:
        for row in rows:
            if row.status == "failed":
                self._history.evaluation(replace(row, status="void"))


def cost_of(row: Evaluation) -> Spent:
    """What an evaluation, or an asking, is charged with."""
    return Spent(int(row.stage != ASK), row.tokens, row.money)


def _charged_at(row: Evaluation) -> int:
    """The iteration whose cost it is a part of; the final choice comes after its own."""
    return row.iteration + (row.stage == FINAL)


def _without(whole: Spent, part: Spent) -> Spent:
    money = max(0.0, whole.money - part.money)
    return Spent(max(0, whole.evaluations - part.evaluations), max(0, whole.tokens - part.tokens), money)


def _read(state: Mapping[str, Any] | None) -> tuple[Spent, Spent, int, Spent | None]:
    if state is None:
        return NOTHING, NOTHING, 0, None
    try:
        spent = Spent(state["evaluations"], state["tokens"], float(state["money"]))
        if type(state["charged"]) is not int:
            raise TypeError("charged is no number")
        by_now = Spent(**state["by_now"]) if "by_now" in state else None
        return spent, Spent(**state.get("unused", {})), state["charged"], by_now
    except (KeyError, TypeError, ValueError, OverflowError, AttributeError, SearchError) as error:
        raise RunError(f"What the checkpoint says of the budget is damaged: {error}.") from error
