"""TPE: what did well and what did not are two densities; the next candidate is where their ratio is largest.

::

    l(x): the density of the best γ(n) of n candidates,  g(x): that of the others
    of some draws from l, propose the one with the largest l(x) / g(x)
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

from thalweg.errors import SearchError
from thalweg.search.options import truth, whole
from thalweg.search.optuna_engine import OptunaEngine, optuna
from thalweg.search.space import Space, Values

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


class TPE(OptunaEngine):
    """Tree-structured Parzen estimator, for any space: mixed, conditional, with lists.

    Args:
        space: what is searched.
        seed: of all random choices.
        start: the present values.
        start_first: whether they are candidate 0.
        startup: so many candidates are drawn at random before.
        draws: from l, of which the best is proposed.
        multivariate: one density over all choices that every candidate has, rather than one for each. None is the
            default of the release of Optuna that is installed (True from 5.0 on).
        group: with ``multivariate``, a density for each group of choices that occur together: for conditional spaces.
        constant_liar: keep away from candidates that are not told yet. None is Optuna's default (True from 5.0 on); it
            makes a difference only if several are asked for at once.
        distinct: never propose a point twice.

    Raises:
        SearchError: an option is out of range.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.search.engine import Told
        >>> from thalweg.search.space import Space
        >>> from thalweg.search.tpe import TPE
        >>> engine = TPE(Space.of({"type": "number", "minimum": -5, "maximum": 5}, name="x"), seed=0)
        >>> best = -float("inf")
        >>> for _ in range(40):
        ...     (candidate,) = tw.wait(engine.ask())
        ...     reward = -((candidate.values["x"] - 2.0) ** 2)
        ...     engine.tell([Told(candidate.number, reward)])
        ...     best = max(best, reward)
        >>> best > -0.01
        True

    Source: Bergstra, Bardenet, Bengio and Kégl, Algorithms for hyper-parameter optimization, NeurIPS 2011; the
    multivariate form: Falkner, Klein and Hutter, BOHB, ICML 2018. Optuna's ``TPESampler``: the same points for the same
    seed, with ``start_first=False``.
    """

    kind: ClassVar[str] = "tpe"

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        start: Values | None = None,
        start_first: bool = True,
        startup: int = 10,
        draws: int = 24,
        multivariate: bool | None = None,
        group: bool = False,
        constant_liar: bool | None = None,
        distinct: bool = False,
    ) -> None:
        self.startup = whole(startup, "startup", least=0)
        self.draws = whole(draws, "draws", least=1)
        self.multivariate = None if multivariate is None else truth(multivariate, "multivariate")
        self.group = truth(group, "group")
        self.constant_liar = None if constant_liar is None else truth(constant_liar, "constant_liar")
        if group and multivariate is False:
            raise SearchError("group is for the multivariate form; leave multivariate out or set it to True.")
        super().__init__(space, seed=seed, start=start, start_first=start_first, distinct=distinct)

    def _sampler(self) -> BaseSampler:
        chosen: dict[str, Any] = {"multivariate": self.multivariate, "constant_liar": self.constant_liar}
        if self.group and self.multivariate is None:
            chosen["multivariate"] = True
        return optuna.samplers.TPESampler(
            seed=self.seed,
            n_startup_trials=self.startup,
            n_ei_candidates=self.draws,
            group=self.group,
            warn_independent_sampling=False,
            **{name: value for name, value in chosen.items() if value is not None},
        )
