"""Chooses an engine by what is searched and how often: the one to take without a reason for another.

==========================================================  =====================================================
the space                                                   engine, and why
==========================================================  =====================================================
finite, with no more points than evaluations                ``random``: draws each point once
only floats, at most 50, up to 50 evaluations for each      ``cobyqa``: models of the reward learn from each of
                                                            few evaluations
only numbers, more than 50 evaluations for each             ``cma_es``: global, and pays off with generations
lists of changing length, 60 evaluations and more           ``evolution``: moves items where the others know only
                                                            places
anything else                                               ``tpe``, in groups of choices that occur together
==========================================================  =====================================================

Reasons for another: rewards that scatter much (not ``cobyqa``), evaluations that run in parallel (``cobyqa`` has one at
a time), samples that can be left out at first (``halving``).
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

from thalweg.errors import SchemaError, SearchError, StateMismatchError
from thalweg.search.budget import Spent
from thalweg.search.cobyqa import MOST_NUMBERS
from thalweg.search.engine import Candidate, Engine, Proposal, Told
from thalweg.search.options import whole
from thalweg.search.space import Space, Values
from thalweg.search.space_compound import Items
from thalweg.search.space_nodes import Grid, Real, Whole
from thalweg.search.values import Json

UNSAID = 100  # evaluations that are assumed where no budget is given
FEW = 50  # evaluations per float
MANY = 50  # evaluations per number
LISTS = 60  # evaluations


def choose(space: Space, evaluations: int | None = None) -> tuple[str, dict[str, Any], str]:
    """The kind of engine, its options, and the reason.

    Args:
        space: what is searched.
        evaluations: how many candidates there will be; 100 if that is not known.

    Example:
        >>> from thalweg.search.auto import choose
        >>> from thalweg.search.space import Space
        >>> choose(Space.of({"type": "number", "minimum": 0, "maximum": 1}), 40)
        ('cobyqa', {}, '1 float and 40 evaluations: models of the reward learn most from few')
    """
    count = UNSAID if evaluations is None else evaluations
    if space.size() <= count:
        return "random", {}, f"{int(space.size())} points and {count} evaluations: each is tried once"
    floats, numbers = _numbers(space, (Real,)), _numbers(space, (Real, Whole, Grid))
    if 0 < floats <= MOST_NUMBERS and count <= FEW * floats:
        what = f"{floats} float{'s' if floats > 1 else ''} and {count} evaluations"
        return "cobyqa", {}, f"{what}: models of the reward learn most from few"
    if numbers > 1 and count > MANY * numbers:
        return "cma_es", {}, f"{numbers} numbers and {count} evaluations: enough for generations"
    lists = any(isinstance(node, Items) and node.shortest < node.longest for node in space.walk())
    if lists and count >= LISTS:
        return "evolution", {}, f"lists of changing length and {count} evaluations: items are moved, cut and joined"
    return "tpe", {"group": True}, "a mixed space: densities of what did well"


def _numbers(space: Space, kinds: tuple[Any, ...]) -> int:
    """How many numbers of some kinds there are, or 0 if something else is to be chosen, too."""
    try:
        return len(space.numeric_only(kinds))
    except SchemaError:
        return 0


class Auto(Engine):
    """The engine that fits the space and the number of evaluations; see the module's table.

    Args:
        space: what is searched.
        seed: of the engine.
        start: the present values.
        start_first: whether they are candidate 0.
        evaluations: how many candidates there will be; None: not known, so 100 are assumed. A study fills it in.

    ``inner`` is the engine that was chosen, ``reason`` says why. A search that goes on from a saved state goes on with
    the engine that was chosen then, and ``evaluations`` is that of then: a larger budget makes it no other search.

    Example:
        >>> from thalweg.search.auto import Auto
        >>> from thalweg.search.space import Space
        >>> engine = Auto(Space.of({"type": "integer", "minimum": 0, "maximum": 10**6}, name="n"), seed=0)
        >>> engine.inner.kind, engine.reason
        ('tpe', 'a mixed space: densities of what did well')
    """

    kind: ClassVar[str] = "auto"

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        start: Values | None = None,
        start_first: bool = True,
        evaluations: int | None = None,
    ) -> None:
        super().__init__(space, seed=seed, start=start, start_first=start_first)
        self.evaluations = None if evaluations is None else whole(evaluations, "evaluations", least=1)
        self.inner, self.reason = self._made()
        self.sequential = self.inner.sequential

    def _made(self) -> tuple[Engine, str]:
        """The engine for the present number of evaluations, and the reason."""
        from thalweg.search.engines import engine_class  # it knows all engines, this one too

        chosen, options, reason = choose(self.space, self.evaluations)
        made: Any = engine_class(chosen)
        return made(self.space, seed=self.seed, start=self.start, start_first=self.start_first, **options), reason

    @property
    def exhausted(self) -> bool:
        """As the engine that was chosen has it."""
        return self.inner.exhausted

    @property
    def asked(self) -> int:
        """As the engine that was chosen has it."""
        return self.inner.asked

    @property
    def pending(self) -> list[Candidate]:
        """As the engine that was chosen has it."""
        return self.inner.pending

    @property
    def spent(self) -> Spent:
        """As the engine that was chosen has it."""
        return self.inner.spent

    def most_ask(self, count: int) -> Spent:
        """As the engine that was chosen has it."""
        return self.inner.most_ask(count)

    def count_from(self, number: int) -> None:
        """Have the engine that was chosen do so."""
        self.inner.count_from(number)

    def close(self) -> None:
        """Close the engine that was chosen."""
        self.inner.close()

    async def ask(self, count: int = 1) -> list[Candidate]:
        """Ask the engine that was chosen."""
        return await self.inner.ask(count)

    def offer(self, values: Values, origin: str) -> Candidate | None:
        """Offer it to the engine that was chosen."""
        return self.inner.offer(values, origin)

    def tell(self, results: Any) -> None:
        """Tell the engine that was chosen."""
        self.inner.tell(results)

    def was_told(self, number: int) -> bool:
        """As the engine that was chosen has it."""
        return self.inner.was_told(number)

    def reward_of(self, number: int) -> float | None:
        """As the engine that was chosen has it."""
        return self.inner.reward_of(number)

    def state(self) -> dict[str, Json]:
        """The state of the engine that was chosen, and what it was chosen for."""
        return {**self._identity(), "chosen": self.inner.kind, "inner": self.inner.state()}

    def restore(self, state: dict[str, Any]) -> None:
        """As for every engine, with the engine that was chosen when the search began."""
        options = state.get("options") if isinstance(state, dict) else None
        twin = copy.copy(self)
        if isinstance(options, dict) and "evaluations" in options:
            try:
                then = options["evaluations"]
                twin.evaluations = None if then is None else whole(then, "evaluations", least=1)
            except SearchError as error:
                raise StateMismatchError(f"the saved search cannot be read: {error} It is damaged.") from error
        twin._check_identity(state)
        twin.inner, twin.reason = twin._made()
        twin.sequential = twin.inner.sequential
        if state.get("chosen") != twin.inner.kind:
            raise StateMismatchError(
                f"the saved search chose the engine {state.get('chosen')!r}, where this release chooses "
                f"{twin.inner.kind!r}; take the engine of then by its name, or begin a new search."
            )
        if not isinstance(state.get("inner"), dict):
            raise StateMismatchError("the saved search has no engine in it; it is damaged.")
        try:
            twin.inner.restore(state["inner"])
        except BaseException:
            twin.inner.close()
            raise
        self.inner.close()
        self.__dict__.update(twin.__dict__)

    async def _propose(self, count: int) -> list[Proposal]:
        return await self.inner._propose(count)

    def _learn(self, results: list[Told]) -> None:
        self.inner._learn(results)

    def _own_state(self) -> dict[str, Json]:
        return self.inner._own_state()

    def _restore_own(self, state: dict[str, Any]) -> None:
        self.inner._restore_own(state)
