"""The one face of every search: ask for candidates, tell what they were worth.

::

    candidates = await engine.ask(4)
    engine.tell([Told(candidate.number, reward) for candidate, reward in ...])

Rewards: higher is better. Candidates are numbered from 0; the next may be asked for before the last are told. A
candidate may be told again, with a better-founded reward. What an engine has seen, and all that decides its next
candidate, is its ``state()``: JSON, from which ``restore`` goes on to the same candidates.
"""

from __future__ import annotations

import abc
import copy
import inspect
import math
from collections.abc import Awaitable, Callable, Sequence, Set
from typing import Any, ClassVar

from thalweg.errors import SearchError, StateMismatchError, ValueMismatchError
from thalweg.search.budget import Spent
from thalweg.search.candidates import Candidate as Candidate
from thalweg.search.candidates import Proposal as Proposal
from thalweg.search.candidates import Told as Told
from thalweg.search.options import truth, whole
from thalweg.search.space import Space, Values
from thalweg.search.values import Json, copy_json, digest_json

VERSION = 1


class Engine(abc.ABC):
    """Base of all engines; see the module's text.

    Args:
        space: what is searched.
        seed: of all random choices, 0 to 2³² − 1.
        start: the present values; kept in the space's normal form, so that ``1`` is no other point than ``1.0``.
        start_first: whether the present values, if given, are candidate 0.

    Raises:
        SearchError: an option is wrong, or the engine cannot search this space.
        ValueMismatchError: the start does not fit the space's schemas.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.search import Space, Told
        >>> from thalweg.search.engines import engine_class
        >>> space = Space.of({"type": "number", "minimum": 0, "maximum": 1})
        >>> engine = engine_class("random")(space, seed=0)
        >>> for candidate in tw.wait(engine.ask(3)):
        ...     (value,) = candidate.values.values()
        ...     engine.tell([Told(candidate.number, -((value - 0.5) ** 2))])
        >>> engine.asked, engine.pending
        (3, [])

    To write one, implement ``_propose``, ``_learn``, ``_own_state`` and ``_restore_own``. Options are keyword-only
    arguments with defaults, kept as attributes of the same name.
    """

    kind: ClassVar[str] = ""
    sequential: bool = False  # whether a candidate has to be told before the next can be asked for

    def __init__(self, space: Space, *, seed: int, start: Values | None = None, start_first: bool = True) -> None:
        whole(seed, "seed", least=0, most=2**32 - 1)
        truth(start_first, "start_first")
        if start is not None:
            space.check(start)
        self.space = space
        self.seed = seed
        self.start: Values | None = None if start is None else space.normal_form(start)
        self.start_first = start_first
        self.refusal: Callable[[Values], str | None] | None = None  # why the variables refuse a point, if they do
        self._outside = _outside(space, self.start)
        self._digests: list[str] = []  # of the candidates' values
        self._seen: dict[str, int] = {}  # the first candidate with that digest
        self._rewards: dict[int, float | None] = {}
        self._pending: dict[int, Candidate] = {}
        self._asking = False
        self._counted_from = 0
        self._nothing_left = False  # gone through, where branches overlap and the size is only a bound

    @classmethod
    def options(cls) -> dict[str, Json]:
        """The options of this engine, with their defaults."""
        parameters = inspect.signature(cls.__init__).parameters.values()
        fixed = ("self", "space", "seed", "start")
        return {one.name: one.default for one in parameters if one.name not in fixed}

    def count_from(self, number: int) -> None:
        """Have texts for people, such as ``"mutation of 12"``, add this to their numbers, as other candidates were
        there before. The numbers themselves begin with 0."""
        self._counted_from = number

    def called(self, number: int) -> int:
        """The number of a candidate in texts for people."""
        return self._counted_from + number

    @property
    def exhausted(self) -> bool:
        """Whether the space is finite and every point of it was asked for; ``ask`` then gives nothing."""
        return self._nothing_left or self._all_in(self._seen.keys())

    @property
    def starts_outside(self) -> bool:
        """Whether there is a start, and it is none of the space's points, such as a text that is not in its pool."""
        return bool(self._outside)

    def _all_in(self, seen: Set[str]) -> bool:
        """Whether digests are those of all points of the space; a start outside takes the place of none."""
        return len(seen) - (self._outside in seen) >= self.space.size()

    @property
    def asked(self) -> int:
        """How many candidates there are."""
        return len(self._digests)

    @property
    def pending(self) -> list[Candidate]:
        """The candidates that were asked for and not yet told, by number."""
        return [copy.deepcopy(self._pending[number]) for number in sorted(self._pending)]

    @property
    def spent(self) -> Spent:
        """What asking has cost so far: nothing, unless the engine asks a model."""
        return Spent()

    @property
    def paid(self) -> Spent:
        """What asking has cost in this process: :attr:`spent` without answers that were there already."""
        return self.spent

    def pays_after(self, noted: Callable[[], Awaitable[None]]) -> None:
        """Be told what to await in this task before anything is paid for; it raises if nothing may be.

        Args:
            noted: has it noted on the disk that something may be paid for.
        """
        return

    def most_ask(self, count: int) -> Spent:
        """The most that the next ``ask(count)`` may cost."""
        return Spent()

    def metrics(self) -> dict[str, float]:
        """Counts that belong into the history of a run, such as answers of a model that had to be replaced."""
        return {}

    def close(self) -> None:
        """Give back what the engine holds: threads, connections. It can be asked again afterwards."""
        return

    async def ask(self, count: int = 1) -> list[Candidate]:
        """New candidates: all or none, if it fails or is cancelled.

        Args:
            count: how many.

        Returns:
            At most so many: fewer from an engine that needs answers first, or from a space that has no more.

        Raises:
            SearchError: another ``ask`` is under way; or the engine waits for a candidate to be told.
        """
        whole(count, "count", least=1)
        if self._asking:
            raise SearchError("an ask is under way; await it before the next.")
        if self.sequential and self._pending:
            raise SearchError(
                f"{self.kind} proposes one candidate at a time; tell candidate {next(iter(self._pending))} first."
            )
        self._asking = True
        try:
            proposals = [] if self.exhausted else await self._propose(count)
        finally:
            self._asking = False
        return [self._take(proposal) for proposal in proposals]

    def offer(self, values: Values, origin: str) -> Candidate | None:
        """Take a point that somebody else has found as the next candidate, and learn from it like from any other.

        Args:
            values: a point of the space, in its normal form.
            origin: where it comes from.

        Returns:
            The candidate; None from an engine that tries nothing but its own ideas.
        """
        proposal = self._offered(copy_json(values), origin)
        return None if proposal is None else self._take(proposal)

    def _take(self, proposal: Proposal) -> Candidate:
        number = proposal.number
        values = copy_json(proposal.values)
        if number is None:
            number = len(self._digests)
            digest = proposal.digest or digest_json(values)
            self._digests.append(digest)
            self._seen.setdefault(digest, number)
        candidate = Candidate(number, values, proposal.origin, proposal.resource)
        self._pending[number] = candidate
        return Candidate(number, copy_json(values), proposal.origin, proposal.resource)

    def tell(self, results: Sequence[Told]) -> None:
        """Learn what candidates were worth. Their order in ``results`` is what counts.

        Args:
            results: of pending candidates; or of told ones, with a new reward in place of the old.

        Raises:
            SearchError: a number is unknown or there twice, or a reward is not finite. Nothing was learnt then.
        """
        checked = [self._checked(told) for told in results]
        numbers: set[int] = set()
        for told in checked:
            if told.number in numbers:
                raise SearchError(f"candidate {told.number} is told twice at once; tell its final reward.")
            numbers.add(told.number)
        self._learn(checked)
        for told in checked:
            self._rewards[told.number] = told.reward
            self._pending.pop(told.number, None)

    def was_told(self, number: int) -> bool:
        """Whether a candidate was told before; within ``_learn``, before what is being learnt."""
        return number in self._rewards

    def reward_of(self, number: int) -> float | None:
        """The last reward that a candidate was told with; None if there is none, or it failed."""
        return self._rewards.get(number)

    def _checked(self, told: Told) -> Told:
        if not isinstance(told, Told):
            raise SearchError(f"tell takes Told(number, reward), got {told!r}.")
        known = isinstance(told.number, int) and not isinstance(told.number, bool)
        if not known or not 0 <= told.number < len(self._digests):
            raise SearchError(
                f"candidate {told.number!r} was never asked for; there are {len(self._digests)}, from 0.",
                number=told.number,
            )
        reward = told.reward
        if reward is not None:
            if isinstance(reward, bool) or not isinstance(reward, int | float) or not math.isfinite(reward):
                raise SearchError(
                    f"the reward of candidate {told.number} is {reward!r}; it is a finite number, or None if the "
                    "evaluation failed.",
                    number=told.number,
                )
            reward = float(reward)
        if not all(isinstance(text, str) for text in told.feedback):
            raise SearchError(f"the feedback of candidate {told.number} is {told.feedback!r}; it is text.")
        if told.refused and reward is not None:
            raise SearchError(
                f"candidate {told.number} is told as refused with the reward {reward}; give one of both.",
                number=told.number,
            )
        return Told(told.number, reward, tuple(told.feedback), tuple(told.samples), bool(told.refused))

    # -- for engines ---------------------------------------------------------------------

    @abc.abstractmethod
    async def _propose(self, count: int) -> list[Proposal]:
        """At most ``count`` proposals; the first ever has to be the start if :attr:`_starts`."""

    def _offered(self, values: Values, origin: str) -> Proposal | None:
        """What :meth:`offer` is to take in, noted like a proposal of the engine's own; None if it cannot be."""
        return None

    @abc.abstractmethod
    def _learn(self, results: list[Told]) -> None:
        """Take rewards in. They were checked; :meth:`was_told` tells those that come again."""

    @abc.abstractmethod
    def _own_state(self) -> dict[str, Json]:
        """What decides the next candidate, besides what the base class keeps: numbers, rewards, pending ones."""

    @abc.abstractmethod
    def _restore_own(self, state: dict[str, Any]) -> None:
        """Take :meth:`_own_state` back, on a shallow copy of the engine: assign, change nothing in place.

        Raises:
            StateMismatchError: it does not fit.
        """

    @property
    def _starts(self) -> bool:
        """Whether the next proposal has to be the start."""
        return not self._digests and self.start_first and self.start is not None

    # -- state ---------------------------------------------------------------------------

    def _identity(self) -> dict[str, Json]:
        chosen = {name: copy_json(getattr(self, name)) for name in type(self).options()}
        return {
            "version": VERSION,
            "kind": self.kind,
            "space": self.space.digest,
            "seed": self.seed,
            "start": digest_json(self.start),
            "options": chosen,
        }

    def _check_identity(self, state: Any) -> None:
        for key, mine in self._identity().items():
            theirs = state.get(key) if isinstance(state, dict) else None
            if theirs != mine and key in ("space", "start"):  # digests, which say nothing to people
                raise StateMismatchError(
                    f"the saved search has another {key} than this one; go on with the {key} of then, or begin a new "
                    "search."
                )
            if theirs != mine:
                raise StateMismatchError(
                    f"the saved search has {key} {theirs!r}, this one {mine!r}; make the engine as it was made then."
                )

    def state(self) -> dict[str, Json]:
        """All that decides the next candidates, as JSON."""
        return {
            **self._identity(),
            "digests": list(self._digests),
            "rewards": [[number, reward] for number, reward in self._rewards.items()],
            "pending": [
                {"number": one.number, "values": copy_json(one.values), "origin": one.origin, "resource": one.resource}
                for one in self._pending.values()
            ],
            "nothing_left": self._nothing_left,
            "engine": self._own_state(),
        }

    def begin_anew(self) -> None:
        """Forget what was asked and told; what the engine was given besides, such as a model, it keeps."""
        chosen: dict[str, Any] = {name: getattr(self, name) for name in type(self).options()}
        twin = type(self)(self.space, seed=self.seed, start=self.start, **chosen)
        try:
            self.restore(twin.state())
        finally:
            twin.close()

    def restore(self, state: dict[str, Any]) -> None:
        """Go on where a ``state()`` was taken: the same candidates follow.

        Raises:
            StateMismatchError: it is of another kind, space, seed, start or of other options, or is damaged. The engine
                is as before then.
        """
        self._check_identity(state)
        twin = copy.copy(self)
        try:
            twin._digests = [str(digest) for digest in state["digests"]]
            twin._seen = {}
            for number, digest in enumerate(twin._digests):
                twin._seen.setdefault(digest, number)
            twin._rewards = {int(number): reward for number, reward in state["rewards"]}
            found = [
                Candidate(int(one["number"]), copy_json(one["values"]), str(one["origin"]), float(one["resource"]))
                for one in state["pending"]
            ]
            twin._pending = {one.number: one for one in found}
            twin._nothing_left = bool(state["nothing_left"])
            untold = set(range(len(twin._digests))) - twin._rewards.keys()
            if not untold <= twin._pending.keys() or max(twin._pending, default=-1) >= len(twin._digests):
                raise StateMismatchError("the saved search has lost candidates; it is damaged.")
            twin._restore_own(copy.deepcopy(state["engine"]))
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            if isinstance(error, StateMismatchError):
                raise
            raise StateMismatchError(f"the saved search cannot be read ({error!r}); it is damaged.") from error
        self.__dict__.update(twin.__dict__)


def _outside(space: Space, start: Values | None) -> str:
    """The digest of a start that is none of the space's points; else no text."""
    if start is None:
        return ""
    try:
        space.encode(start)
    except ValueMismatchError:
        return digest_json(start)
    return ""
