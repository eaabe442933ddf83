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

_REFUSED = "refused"


class ReplayEngine(Engine):
    """Base of engines that are restored by replaying. They propose one candidate at a time."""

    # ["ask", count], ["offer", [values, origin]] and ["tell", [[number, reward], [number, None, "refused"], ...]]
    _journal: list[list[Any]]
    _known: set[str]  # digests of what was proposed

    @abc.abstractmethod
    def _begin(self) -> None:
        """Make the inside anew: as it is before anything was asked."""

    @abc.abstractmethod
    def _next(self, number: int) -> Proposal | None:
        """The next proposal; None if there is none for now."""

    @abc.abstractmethod
    def _go_to(self, number: int, values: dict[str, Any]) -> None:
        """A candidate is the start, or a point that somebody else has found: have the inside know."""

    @abc.abstractmethod
    def _hear(self, told: Told, *, again: bool) -> None:
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
            self._go_to(0, self.start)
            proposals.append(Proposal(self.start, "start"))
            self._known.add(digest_json(self.start))
        while len(proposals) < count and not self._all_in(self._known):
            proposal = self._next(first + len(proposals))
            if proposal is None:
                break
            proposals.append(proposal)
            self._known.add(proposal.digest or digest_json(proposal.values))
        return proposals

    def _offered(self, values: dict[str, Any], origin: str) -> Proposal:
        try:
            proposal = self._accepted(values, origin)
        except BaseException:
            self._rewind()
            raise
        self._journal.append(["offer", [copy.deepcopy(values), origin]])
        return proposal

    def _accepted(self, values: dict[str, Any], origin: str) -> Proposal:
        self._go_to(self.asked, values)
        digest = digest_json(values)
        self._known.add(digest)
        return Proposal(values, origin, digest=digest)

    def _note_asks(self, count: int) -> None:
        if self._journal and self._journal[-1][0] == "ask":
            self._journal[-1][1] += count
        else:
            self._journal.append(["ask", count])

    def _learn(self, results: list[Told]) -> None:
        for told in results:
            self._hear(told, again=self.was_told(told.number))
        if results:
            self._journal.append(["tell", [_entry(told) for told in results]])

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
                    self._take_as(proposal, expected)
            elif what == "offer":
                values, origin = content
                self._take_as(self._accepted(copy.deepcopy(values), origin), expected)
            else:
                results = [_told(*entry) for entry in content]
                for told in results:
                    self._hear(told, again=self.was_told(told.number))
                    self._rewards[told.number] = told.reward
                    self._pending.pop(told.number, None)

    def _take_as(self, proposal: Proposal, expected: list[str]) -> None:
        candidate = self._take(proposal)
        if self._digests[-1] != expected[candidate.number]:
            raise StateMismatchError(
                f"replaying the saved search gives another candidate {candidate.number} than was asked then: another "
                "version of the library behind it, or another machine. Go on with the versions of then, or begin a new "
                "search."
            )


def _entry(told: Told) -> list[Any]:
    return [told.number, None, _REFUSED] if told.refused else [told.number, told.reward]


def _told(number: Any, reward: float | None, how: str = "") -> Told:
    return Told(int(number), reward, refused=how == _REFUSED)
