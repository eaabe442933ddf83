"""Rprop: each element has a step of its own, which grows while the gradient keeps its sign and shrinks when it
changes. ::

    s  = g₋·g                            g₋: the gradient before
    Δ' = min(η₊·Δ, Δmax)                 where s > 0
    Δ' = max(η₋·Δ, Δmin), then g := 0    where s < 0
    θ' = θ − Δ'·sign(g)

This is iRprop⁻ (as in PyTorch; Optax 0.2.8 means the same and is one step late): after a change of sign the element
waits for one step, and no step is taken back. It is for gradients of the whole data, not of minibatches.
``learning_rate`` is Δ at the start, and nothing later: it is no schedule, and cannot be set once a step was made. What
limits the steps on the way is ``max_step``, which may be a schedule.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from thalweg.rules.arithmetic import maximum, minimum, sign, where
from thalweg.rules.base import Array, Number, Rule
from thalweg.rules.ranges import Interval, nonnegative, open_fraction, positive

above_one = Interval(1.0, float("inf"), closed_low=False, closed_high=False)


class Slots(NamedTuple):
    """The state: Δ of each element, in the variable's unit, and the gradient before, 0 where the sign changed."""

    step_size: Array
    last_grad: Array


class Hyper(NamedTuple):
    """The hyperparameters."""

    learning_rate: Annotated[Number, nonnegative, "Δ at the start, in the variable's unit; from 0 it is Δmin"] = 0.01
    eta_minus: Annotated[Number, open_fraction, "η₋, the factor on Δ when the sign changes"] = 0.5
    eta_plus: Annotated[Number, above_one, "η₊, the factor on Δ when it stays"] = 1.2
    min_step: Annotated[Number, positive, "Δmin, in the variable's unit"] = 1e-6
    max_step: Annotated[Number, positive, "Δmax, in the variable's unit"] = 50.0


class Scalars(NamedTuple):
    """What the text uses."""

    eta_minus: Number
    eta_plus: Number
    min_step: Number
    max_step: Number
    zero: Number


def start(param: Array, h: Hyper) -> Slots:
    """Every Δ is the learning rate; there was no gradient before."""
    return Slots(h.learning_rate, 0.0)


def prepare(t: Number, h: Hyper) -> Scalars:
    """Add 0; the learning rate has done its work at the start."""
    return Scalars(h.eta_minus, h.eta_plus, h.min_step, h.max_step, 0.0)


def update(param: Array, grad: Array, slots: Slots, h: Scalars) -> tuple[Array, Slots]:
    """θ − Δ'·sign(g), and no step where the sign changed."""
    product = sign(slots.last_grad) * sign(grad)  # of the signs: the product of two small gradients may be 0
    changed = where(product < h.zero, slots.step_size * h.eta_minus, slots.step_size)
    grown = where(product > h.zero, slots.step_size * h.eta_plus, changed)
    step_size = minimum(maximum(grown, h.min_step), h.max_step)
    used = where(product < h.zero, h.zero, grad)
    return param - step_size * sign(used), Slots(step_size, used)


rprop = Rule(
    name="rprop",
    doc=__doc__,
    slots=Slots,
    hyper=Hyper,
    start=start,
    prepare=prepare,
    update=update,
    initial={
        "learning_rate": "the steps grow and shrink by eta_plus and eta_minus; what limits them is max_step, which may "
        "be a schedule"
    },
    conventions={"torch": {}},
    source="M. Riedmiller, H. Braun, A direct adaptive method: RPROP, 1993; C. Igel, M. Hüsken, Improving the Rprop "
    "learning algorithm, 2000, table 4 (iRprop⁻)",
)
