"""COBYQA: quadratic models of the reward within a trust region that shrinks as they fit.

::

    m(x) = the quadratic through the best 2n + 1 points with the least change of its second derivatives
    x⁺ = argmin m(x) for ‖x − x*‖ ≤ Δ within the bounds;   Δ grows where m foretold well, and shrinks where not

For few floats, little noise and budgets of some ten evaluations per float, it reaches what samplers need hundreds for.

The losses y (minus the rewards) are bent before they are modeled, since a quadratic fits badly where they grow faster::

    w = (y − a)/s + κ,   t(y) = √(w + δ) − √δ for w > 0,   else w/(2√δ)

with a the least and a + s the median of the first points', κ = 0.1, δ = 0.02: smooth and increasing, so what is better
stays better; far above a like a root, and below a linear.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from importlib import import_module
from typing import Any, ClassVar

import numpy as np

from thalweg.errors import MissingExtraError, SchemaError, SearchError, ValueMismatchError
from thalweg.search.candidates import Proposal, Told
from thalweg.search.options import real, truth, whole
from thalweg.search.replaying import ReplayEngine
from thalweg.search.space import Space, Values
from thalweg.search.turned import Objective, Turned

MOST_NUMBERS = 50  # beyond it a step takes long, and the first model alone 2n + 1 evaluations
ENDLESS = 10**6
KAPPA, DELTA = 0.1, 0.02

Point = tuple[float, ...]  # in the unit box


class COBYQA(ReplayEngine):
    """Derivative-free trust-region search, one candidate at a time.

    The start and the middle of the space are scored first; the search begins at the better of the two. When the trust
    region has shrunk to ``precision`` it begins anew at a random point. All axes are scaled to 0 to 1, logarithmic
    ones in their logarithm.

    Args:
        space: what is searched: floats only, at most 50.
        seed: of the points where it begins anew.
        start: the present values.
        start_first: whether they are candidate 0. Without, the search begins in the middle.
        radius: of the first trust region, as a share of each axis.
        precision: of the last one.
        points: how many points the first model is of, n + 1 to (n+1)(n+2)/2; None is 2n + 1.
        bend: bend the losses as the module's text has it; without, they are modeled as they are.

    Raises:
        SchemaError: something else than floats is to be chosen, or there are too many.
        SearchError: an option is out of range.
        MissingExtraError: the installed SciPy is older than 1.14.

    A failed evaluation counts as worse than everything so far. A reward that is told again is where the search may
    begin anew, and what it gives if the point comes again; the models that were made with the old one stay.

    Example:
        >>> import thalweg as tw
        >>> from thalweg.search.cobyqa import COBYQA
        >>> from thalweg.search.engine import Told
        >>> from thalweg.search.space import Space
        >>> number = {"type": "number", "minimum": -5, "maximum": 5}
        >>> engine = COBYQA(Space.of({"properties": {"a": number, "b": number}}, name="x"), seed=0)
        >>> best = -float("inf")
        >>> for _ in range(25):
        ...     (candidate,) = tw.wait(engine.ask())
        ...     a, b = candidate.values["x"]["a"], candidate.values["x"]["b"]
        ...     reward = -((a - 2.0) ** 2) - (b + a) ** 2
        ...     engine.tell([Told(candidate.number, reward)])
        ...     best = max(best, reward)
        >>> best > -1e-3
        True
        >>> engine.close()

    Source: Ragonneau, Model-based derivative-free optimization methods and software, PhD thesis, The Hong Kong
    Polytechnic University, 2022; as SciPy has it.
    """

    kind: ClassVar[str] = "cobyqa"
    sequential = True

    def __init__(
        self,
        space: Space,
        *,
        seed: int,
        start: Values | None = None,
        start_first: bool = True,
        radius: float = 0.3,
        precision: float = 1e-4,
        points: int | None = None,
        bend: bool = True,
    ) -> None:
        super().__init__(space, seed=seed, start=start, start_first=start_first)
        self._dims = space.continuous()
        n = len(self._dims)
        if n > MOST_NUMBERS:
            raise SchemaError(
                f"COBYQA is for at most {MOST_NUMBERS} numbers, and the space has {n}; use cma_es or tpe."
            )
        self.radius = real(radius, "radius", above=0.0, most=0.5)
        self.precision = real(precision, "precision", above=0.0)
        if self.precision > self.radius:
            raise SearchError(f"precision {precision:g} is larger than the first radius {radius:g}.")
        self.points = None if points is None else whole(points, "points", least=n + 1, most=(n + 1) * (n + 2) // 2)
        self.bend = truth(bend, "bend")
        self._minimize = _minimizer()
        self._line: Turned | None = None
        self._fresh()

    def close(self) -> None:
        """End the thread. The next ``ask`` takes up where this one ended, by replaying."""
        if self._line is not None:
            self._line.close()
            self._line = None
            self._closed = True

    # -- the inside ----------------------------------------------------------------------

    def _begin(self) -> None:
        self._line = None
        self._closed = False
        self._round = 0  # how often the search began
        self._losses: dict[Point, float | None] = {}  # minus the reward; None where nothing to compare with succeeded
        self._asked: dict[int, Point] = {}  # by number
        self._begins: list[Point] = []  # where this round may begin
        self._design: list[Point] = []  # the points of this round's first model
        self._bent: Callable[[float], float] = _straight
        self._open: Point | None = None  # what the minimizer waits for

    def _go_to(self, number: int, values: dict[str, Any]) -> None:
        try:
            answers = self.space.encode(values)
        except ValueMismatchError:
            return
        point = tuple(dim.to_unit(float(answers[dim.name] or 0.0)) for dim in self._dims)
        self._asked[number] = point
        self._begins.append(point)

    async def _propose(self, count: int) -> list[Proposal]:
        if self._closed:
            self._rewind()
        return await super()._propose(1)

    def _next(self, number: int) -> Proposal | None:
        middle = (0.5,) * len(self._dims)
        while True:
            if self._line is None:
                if self._round == 0 and middle not in self._losses:
                    return self._proposal(number, middle, "the middle of the space")
                begin = self._best_begin()
                if begin is None:  # everything failed so far, or a new round: somewhere else
                    rng = np.random.default_rng([self.seed, number])
                    return self._proposal(number, tuple(rng.random(len(self._dims)).tolist()), "random")
                if self.bend:
                    self._design = self._design or self._first_points(begin)
                    new = [point for point in self._design if self._losses.get(point) is None]
                    if new:
                        return self._proposal(number, new[0], self.kind)
                    self._bent = bent([loss for point in self._design if (loss := self._losses[point]) is not None])
                self._line = Turned(self._from(begin))
            elif self._open is not None:
                self._line.answer(self._bent(self._losses[self._open] or 0.0))
                self._open = None
            asked = self._line.ask()
            if asked is None:
                self._line.close()
                self._line, self._begins, self._design, self._round = None, [], [], self._round + 1
                continue
            self._open = _point(asked)
            if self._losses.get(self._open) is None:
                return self._proposal(number, self._open, self.kind)

    def _proposal(self, number: int, point: Point, origin: str) -> Proposal:
        self._asked[number] = point
        if origin != self.kind:
            self._begins.append(point)
        named = {dim.name: dim.from_unit(u) for dim, u in zip(self._dims, point, strict=True)}
        return Proposal(self.space.decode(dict(named)), origin)

    def _best_begin(self) -> Point | None:
        scored = [(loss, point) for point in self._begins if (loss := self._losses.get(point)) is not None]
        return min(scored, key=lambda pair: pair[0])[1] if scored else None

    def _first_points(self, begin: Point) -> list[Point]:
        """The points of the first model. They do not depend on any reward, so the minimizer is asked with none."""
        line = Turned(self._from(begin))
        found: list[Point] = []
        for _ in range(self.points or 2 * len(begin) + 1):
            asked = line.ask()
            if asked is None:
                break
            found.append(_point(asked))
            line.answer(0.0)
        line.close()
        return list(dict.fromkeys(found))

    def _from(self, begin: Point) -> Callable[[Objective], Any]:
        """The minimizer from a point on. It is given no reference to this engine, so that its thread holds none."""
        minimize, n = self._minimize, len(begin)
        options = {
            "radius_init": self.radius,
            "radius_final": self.precision,
            "maxfev": ENDLESS,
            "maxiter": ENDLESS,
            "nb_points": self.points or 2 * n + 1,
        }
        bounds = np.array([(0.0, 1.0)] * n)
        return lambda objective: minimize(objective, np.array(begin), bounds=bounds, options=dict(options))

    def _hear(self, told: Told, *, again: bool) -> None:
        point = self._asked.get(told.number)
        if point is None:
            return
        self._losses[point] = self._failed_loss() if told.reward is None else -told.reward

    def _failed_loss(self) -> float | None:
        """Worse than everything so far, on the scale of what there is; None if nothing has succeeded."""
        known = [loss for loss in self._losses.values() if loss is not None]
        if not known:
            return None
        worst, best = max(known), min(known)
        worse = worst + max(worst - best, 1e-3 * abs(worst), 1e-9)
        return worse if math.isfinite(worse) else worst


def bent(losses: list[float]) -> Callable[[float], float]:
    """The function t of the module's text, for the losses of the first points.

    Example:
        >>> from thalweg.search.cobyqa import bent
        >>> t = bent([1.0, 2.0, 3.0])
        >>> [round(t(y), 2) for y in (0.0, 1.0, 2.0, 101.0)]
        [-3.18, 0.2, 0.92, 9.86]
    """
    least = min(losses)
    spread = statistics.median(losses) - least
    if not 0.0 < spread < math.inf:
        return _straight

    def t(loss: float) -> float:
        w = (loss - least) / spread + KAPPA
        return math.sqrt(w + DELTA) - math.sqrt(DELTA) if w > 0.0 else w / (2.0 * math.sqrt(DELTA))

    return t


def _straight(loss: float) -> float:
    return loss


def _point(asked: np.ndarray) -> Point:
    return tuple(np.clip(asked, 0.0, 1.0).tolist())


def _minimizer() -> Callable[..., Any]:
    """COBYQA without SciPy's lock around it.

    ``scipy.optimize.minimize(method="COBYQA")`` holds a lock of the module for as long as it runs, and ours runs until
    a search ends: a second search, or anybody else's call, would wait for ever. The algorithm itself keeps nothing
    outside of its call. If a later SciPy has it elsewhere, the package ``cobyqa``, which SciPy has it from, will do.
    """
    for name in ("scipy._lib.cobyqa", "cobyqa"):
        try:
            found: Callable[..., Any] = import_module(name).minimize
        except ModuleNotFoundError:
            continue
        return found
    raise MissingExtraError(
        "COBYQA is not in this SciPy; install it with: pip install 'scipy>=1.14', or pip install cobyqa", extra="search"
    )
