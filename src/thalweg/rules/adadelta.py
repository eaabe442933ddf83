"""Adadelta: the step's own running size takes the place of a learning rate. ::

    a' = ρ·a + (1 − ρ)·g²
    s  = g·√(d + ε) / √(a' + ε)
    d' = ρ·d + (1 − ρ)·s²
    θ' = θ − η·s

η = 1 is the paper's method. ε is inside both roots, as in the paper; it also sets the size of the first step.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from thalweg.rules.arithmetic import sqrt
from thalweg.rules.base import Array, Number, Rule
from thalweg.rules.ranges import fraction, nonnegative, positive


class Slots(NamedTuple):
    """The state."""

    mean_square: Array
    mean_square_step: Array


class Hyper(NamedTuple):
    """The hyperparameters."""

    learning_rate: Annotated[Number, nonnegative, "η, a factor on the paper's step, without unit"] = 1.0
    rho: Annotated[Number, fraction, "ρ, the part of the mean squares that is kept"] = 0.95
    epsilon: Annotated[Number, positive, "ε, the square of the size of the first steps"] = 1e-6


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
    """θ − η·s, s = g·√(d + ε) / √(a' + ε)."""
    mean_square = h.rho * slots.mean_square + h.one_minus_rho * grad * grad
    step = grad * sqrt(slots.mean_square_step + h.epsilon) / sqrt(mean_square + h.epsilon)
    mean_square_step = h.rho * slots.mean_square_step + h.one_minus_rho * step * step
    return param - h.learning_rate * step, Slots(mean_square, mean_square_step)


adadelta = Rule(
    name="adadelta",
    doc=__doc__,
    slots=Slots,
    hyper=Hyper,
    prepare=prepare,
    update=update,
    conventions={
        "torch": {"rho": 0.9},
        "keras": {"learning_rate": 0.001, "epsilon": 1e-7, "decay": "decoupled"},
        "optax": {"rho": 0.9},
        "pycmtensor": {"epsilon": 1e-8},
    },
    source="M. Zeiler, ADADELTA: an adaptive learning rate method, arXiv:1212.5701, 2012, algorithm 1",
)
