"""RMSProp: the gradient over the root of its running mean square. ::

    a' = ρ·a + (1 − ρ)·g²
    θ' = θ − η·g / (√a' + ε)

The lecture divides by √a' alone; ε outside the root (PyTorch) stays closest to that for small gradients.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from thalweg.rules.arithmetic import sqrt
from thalweg.rules.base import Array, Number, Rule
from thalweg.rules.ranges import fraction, nonnegative, positive


class Slots(NamedTuple):
    """The state."""

    mean_square: Array


class Hyper(NamedTuple):
    """The hyperparameters."""

    learning_rate: Annotated[Number, nonnegative, "η, roughly the step's size in the variable's unit"] = 0.001
    rho: Annotated[Number, fraction, "ρ, the part of the mean square that is kept"] = 0.9
    epsilon: Annotated[Number, positive, "ε, in the gradient's unit; keeps the division finite"] = 1e-8


class Scalars(NamedTuple):
    """What the text uses."""

    learning_rate: Number
    rho: Number
    one_minus_rho: Number
    epsilon: Number


def prepare(t: Number, h: Hyper) -> Scalars:
    """Add 1 − ρ."""
    return Scalars(h.learning_rate, h.rho, 1 - h.rho, h.epsilon)


def update(param: Array, grad: Array, slots: Slots, h: Scalars) -> tuple[Array, Slots]:
    """θ − η·g / (√a' + ε), a' = ρ·a + (1 − ρ)·g²."""
    mean_square = h.rho * slots.mean_square + h.one_minus_rho * grad * grad
    return param - h.learning_rate * grad / (sqrt(mean_square) + h.epsilon), Slots(mean_square)


rmsprop = Rule(
    name="rmsprop",
    slots=Slots,
    hyper=Hyper,
    prepare=prepare,
    update=update,
    source="T. Tieleman, G. Hinton, Lecture 6.5, Neural networks for machine learning, 2012, slide 29",
)
