"""Engines whose inside cannot be written down: their state is the journal of what was asked and told.

Restoring begins anew, asks and tells everything again in the same order, and checks each candidate against the digest
of what it was. The journal is short: how many were asked for, which rewards were told.
"""

from __future__ import annotations

import abc
import copy
from typing import Any

from thalweg.errors import StateMismatchError
from thalweg.search.engine import Engine, Proposal, Told
from thalweg.search.values import Json, digest_json


class ReplayEngine(Engine):
    """Base of engines that are restored by replaying. They propose one candidate at a time."""

    _journal: list[list[Any]]  # ["ask", count] and ["tell", [[number, reward], ...]]
    _known: set[str]  # digests of what was proposed

    @abc.abstractmethod
    def _begin(self) -> None:
        """Make the inside anew: as it is before anything was asked."""

    @abc.abstractmethod
    def _begin_with(self, start: dict[str, Any]) -> None:
        """Candidate 0 is the start: have the inside know."""

    @abc.abstractmethod
    def _next(self, number: int) -> Proposal | None:
        """The next proposal; None if there is none for now."""

    @abc.abstractmethod
    def _hear(self, number: int, reward: float | None, *, again: bool) -> None:
        """Take one reward in."""

    def _fresh(self) -> None:
        """Call this at the end of ``__init__``."""
        self._journal = []
        self._known = set()
        self._begin()

    async def _propose(self, count: int) -> list[Proposal]:
        try:
            proposals = self._several(count)
        except BaseException:
            self._rewind()
            raise
        if proposals:
            self._note_asks(len(proposals))
        return proposals

    def _several(self, count: int) -> list[Proposal]:
        proposals: list[Proposal] = []
        first = self.asked
        if self._starts and self.start is not None:
            self._begin_with(self.start)
            proposals.append(Proposal(self.start, "start"))
            self._known.add(digest_json(self.start))
        while len(proposals) < count and len(self._known) < self.space.size():
            proposal = self._next(first + len(proposals))
            if proposal is None:
                break
            proposals.append(proposal)
            self._known.add(proposal.digest or digest_json(proposal.values))
        return proposals

    def _note_asks(self, count: int) -> None:
        if self._journal and self._journal[-1][0] == "ask":
            self._journal[-1][1] += count
        else:
            self._journal.append(["ask", count])

    def _learn(self, results: list[Told]) -> None:
        for told in results:
            self._hear(told.number, told.reward, again=self.was_told(told.number))
        if results:
            self._journal.append(["tell", [[told.number, told.reward] for told in results]])

    def _own_state(self) -> dict[str, Json]:
        return {"journal": copy.deepcopy(self._journal)}

    def _restore_own(self, state: dict[str, Any]) -> None:
        self._replay(state["journal"])

    def _rewind(self) -> None:
        """Have the inside as the journal says: what failed half-way never was."""
        twin = copy.copy(self)
        twin._replay(self._journal)
        self.close()
        self.__dict__.update(twin.__dict__)

    def _replay(self, journal: list[list[Any]]) -> None:
        """Begin anew and do what the journal says. ``_digests`` is what has to come out."""
        expected, rewards, pending = self._digests, self._rewards, self._pending
        self._digests, self._seen, self._rewards, self._pending = [], {}, {}, {}
        self._asking = False
        self._fresh()
        try:
            self._play(journal, expected)
            if self._digests != expected or self._rewards != rewards or self._pending.keys() != pending.keys():
                raise StateMismatchError("the journal of the saved search does not lead to what was saved with it.")
        except BaseException:
            self.close()
            raise
        self._journal = copy.deepcopy(journal)

    def _play(self, journal: list[list[Any]], expected: list[str]) -> None:
        for what, content in journal:
            if what == "ask":
                if int(content) > len(expected):
                    raise StateMismatchError("the journal of the saved search asks for more than was asked.")
                for proposal in self._several(int(content)):
                    candidate = self._take(proposal)
                    if self._digests[-1] != expected[candidate.number]:
                        raise StateMismatchError(
                            f"replaying the saved search gives another candidate {candidate.number} than was asked "
                            "then: another version of the library behind it, or another machine. Go on with the "
                            "versions of then, or begin a new search."
                        )
            else:
                results = [Told(int(number), reward) for number, reward in content]
                for told in results:
                    self._hear(told.number, told.reward, again=self.was_told(told.number))
                    self._rewards[told.number] = told.reward
                    self._pending.pop(told.number, None)
