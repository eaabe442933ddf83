"""Random search: every candidate is drawn anew, without regard to rewards.

Each choice is uniform, in the logarithm where that is the scale (Bergstra and Bengio, Random search for
hyper-parameter optimization, JMLR 13, 2012). The sampler is Optuna's, so that a comparison with the other engines of
Optuna begins at the same points. In a finite space nothing is drawn twice, until everything was drawn.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from thalweg.search.optuna_engine import OptunaEngine, optuna
from thalweg.search.space import Space, Values

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class RandomSearch(OptunaEngine):
    """Draws candidates at random, each point of a finite space once.

    Args:
        space: what is searched.
        seed: of the draws.
        start: the present values.
        start_first: whether they are candidate 0.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.search.random_search import RandomSearch
        >>> from thalweg.search.space import Space
        >>> engine = RandomSearch(Space.of({"enum": ["a", "b", "c"]}, name="x"), seed=0)
        >>> sorted(candidate.values["x"] for candidate in tw.wait(engine.ask(5)))
        ['a', 'b', 'c']
        >>> engine.exhausted
        True

    Source: Optuna's ``RandomSampler``: the same points for the same seed, with ``start_first=False`` and repetitions
    left out.
    """

    kind: ClassVar[str] = "random"

    def __init__(self, space: Space, *, seed: int, start: Values | None = None, start_first: bool = True) -> None:
        super().__init__(space, seed=seed, start=start, start_first=start_first, distinct=True)

    def _sampler(self) -> BaseSampler:
        return optuna.samplers.RandomSampler(seed=self.seed)
