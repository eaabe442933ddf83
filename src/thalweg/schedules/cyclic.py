"""Up and down between two values, again and again: cyclical learning rates. ::

    η = η₀ + (η_peak − η₀)·x·scale

x rises from 0 to 1 in ``up`` counts and falls back to 0 in ``down``. The scale is 1 ("triangular"), ½ᵏ in the cycle
k = 0, 1, … ("triangular2"), or γᵗ ("exp_range").

t counts completed iterations (or epochs). L. N. Smith, Cyclical Learning Rates for Training Neural Networks, WACV
2017, section 3.2, https://arxiv.org/abs/1506.01186.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from typing import Any, ClassVar

from thalweg.errors import HyperparameterError
from thalweg.rules.arithmetic import where
from thalweg.rules.ranges import Interval, counts, finite
from thalweg.schedules.base import Schedule
from thalweg.schedules.counting import count, plain, whole_periods
from thalweg.schedules.powers import power
from thalweg.schedules.state import State

_SCALES: Mapping[str, Callable[[float, Any, Any], Any]] = {
    "triangular": lambda gamma, cycle, t: 1.0,
    "triangular2": lambda gamma, cycle, t: 0.5**cycle,
    "exp_range": lambda gamma, cycle, t: power(gamma, t),
}


@dataclass(frozen=True)
class Cyclic(Schedule):
    """η = η₀ + (η_peak − η₀)·x·scale: up in ``up`` counts, down in ``down``, and again.

    Args:
        initial: η₀, where each cycle begins, in the unit of the hyperparameter it is for.
        peak: η_peak, the top of the first cycle, in the unit of η₀ (below it for a momentum that goes the other way).
        up: how many iterations or epochs the way up takes, a whole number.
        down: the same for the way down; ``None`` means as many as up.
        mode: ``"triangular"``, ``"triangular2"`` (each cycle half as high as the one before it) or ``"exp_range"``
            (γᵗ times as high).
        gamma: γ, per iteration or epoch, above 0 and at most 1; needs the mode "exp_range".
        decay_on_iteration: count iterations, which is the default here; ``False`` counts epochs.

    Raises:
        HyperparameterError: ``up`` or ``down`` is no positive whole number, the mode is unknown (naming the nearest),
            γ is out of range or given with another mode, or a value is not a finite number.

    Example:
        >>> from thalweg.schedules import Cyclic
        >>> Cyclic(1.0, peak=3.0, up=2).values(7)
        array([1., 2., 3., 2., 1., 2., 3.])
        >>> Cyclic(1.0, peak=3.0, up=2, mode="triangular2").values(7)
        array([1. , 2. , 3. , 2. , 1. , 1.5, 2. ])

    PyTorch's ``CyclicLR`` is the same without its cycled momentum; give the momentum a schedule of its own.
    """

    kind: ClassVar[str] = "cyclic"
    ranges: ClassVar[dict[str, Interval]] = {
        "initial": finite,
        "peak": finite,
        "up": counts,
        "down": counts,
        "gamma": Interval(0.0, 1.0, closed_low=False),
    }
    choices: ClassVar[dict[str, tuple[str, ...]]] = {"mode": tuple(_SCALES)}
    initial: float
    _: KW_ONLY
    peak: float
    up: int = 2000
    down: int | None = None
    mode: str = "triangular"
    gamma: float = 1.0
    decay_on_iteration: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gamma != 1.0 and self.mode != "exp_range":
            raise HyperparameterError(
                f"schedule {self.kind}: gamma is {self.gamma} and mode {self.mode!r}, so it would have no effect; "
                "give mode='exp_range', or leave gamma out",
                name="gamma",
                value=self.gamma,
            )

    def __call__(self, state: State) -> float:
        """η₀ + (η_peak − η₀)·x·scale."""
        t = count(state, iterations=self.decay_on_iteration)
        down = self.up if self.down is None else self.down
        length = self.up + down
        cycle = whole_periods(t, length)
        done = t - length * cycle
        height = where(done <= self.up, done / self.up, (length - done) / down)
        return plain(self.initial + (self.peak - self.initial) * height * _SCALES[self.mode](self.gamma, cycle, t))
