"""CMA-ES: a normal distribution from which a generation is drawn, and which the better half of it moves and reshapes.

::

    x ~ m + σ·N(0, C)        m ← Σ wᵢ·xᵢ over the better half,   C and σ ← from the steps that m made

Numbers only: branches, choices and the items of lists of changing length are drawn at random beside it, and a space
without numbers is refused.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from thalweg.errors import MissingExtraError, SchemaError, SearchError
from thalweg.search.options import truth, whole
from thalweg.search.optuna_engine import OptunaEngine, optuna
from thalweg.search.space import Space, Values
from thalweg.search.space_nodes import Grid, Real, Whole

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler

try:
    import cmaes as cmaes
except ModuleNotFoundError as error:
    if error.name != "cmaes":
        raise
    raise MissingExtraError(
        "CMA-ES needs cmaes, which is not installed; install it with: pip install 'thalweg[search]'", extra="search"
    ) from error


class CMAES(OptunaEngine):
    """Covariance matrix adaptation, for spaces of numbers and budgets of some hundred evaluations and more.

    Args:
        space: what is searched.
        seed: of all random choices.
        start: the present values.
        start_first: whether they are candidate 0. The distribution begins in the middle of the space all the same.
        startup: so many candidates are drawn at random before.
        population: of a generation; None is 4 + ⌊3·ln(dimensions)⌋.
        margin: keep integers and grids from being stuck on one value.
        separable: a diagonal C, for many dimensions.
        adapt_rate: adapt the learning rate, for noisy and multimodal rewards.
        distinct: never propose a point twice.

    Raises:
        SearchError: an option is out of range, or two exclude each other.
        SchemaError: the space has no numbers.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.search.cma_es import CMAES
        >>> from thalweg.search.engine import Told
        >>> from thalweg.search.space import Space
        >>> number = {"type": "number", "minimum": -5, "maximum": 5}
        >>> engine = CMAES(Space.of({"properties": {"a": number, "b": number}}, name="x"), seed=0, population=8)
        >>> best = -float("inf")
        >>> for _ in range(20):
        ...     candidates = tw.wait(engine.ask(8))
        ...     rewards = [-((one.values["x"]["a"] - 2) ** 2) - one.values["x"]["b"] ** 2 for one in candidates]
        ...     engine.tell([Told(one.number, reward) for one, reward in zip(candidates, rewards)])
        ...     best = max(best, *rewards)
        >>> best > -0.1
        True

    Source: Hansen, The CMA evolution strategy: a tutorial, arXiv:1604.00772. With margin: Hamano et al., GECCO 2022.
    With an adapted rate: Nomura, Akimoto and Ono, GECCO 2023. Optuna's ``CmaEsSampler``: the same points for the same
    seed, with ``start_first=False``.
    """

    kind: ClassVar[str] = "cma_es"

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        start: Values | None = None,
        start_first: bool = True,
        startup: int = 1,
        population: int | None = None,
        margin: bool = False,
        separable: bool = False,
        adapt_rate: bool = False,
        distinct: bool = False,
    ) -> None:
        self.startup = whole(startup, "startup", least=0)
        self.population = None if population is None else whole(population, "population", least=3)
        self.margin = truth(margin, "margin")
        self.separable = truth(separable, "separable")
        self.adapt_rate = truth(adapt_rate, "adapt_rate")
        if margin + separable + adapt_rate > 1:
            raise SearchError("margin, separable and adapt_rate are three forms of CMA-ES; choose one of them.")
        if not any(isinstance(node, Real | Whole | Grid) for node in space.walk()):
            raise SchemaError("CMA-ES moves numbers, and this space has none; use tpe or evolution.")
        super().__init__(space, seed=seed, start=start, start_first=start_first, distinct=distinct)

    def _sampler(self) -> BaseSampler:
        return optuna.samplers.CmaEsSampler(
            seed=self.seed,
            n_startup_trials=self.startup,
            popsize=self.population,
            with_margin=self.margin,
            use_separable_cma=self.separable,
            lr_adapt=self.adapt_rate,
            warn_independent_sampling=False,
        )
