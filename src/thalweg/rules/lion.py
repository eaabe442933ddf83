"""Lion: only the sign of a mean of gradients. ::

    c  = β₁·m + (1 − β₁)·g
    θ' = θ − η·sign(c)
    m' = β₂·m + (1 − β₂)·g

Every element moves by η, whatever the size of its gradient, unless c is 0. Weight decay is decoupled, as in the
paper.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from thalweg.rules.arithmetic import sign
from thalweg.rules.base import Array, Number, Rule
from thalweg.rules.ranges import fraction, nonnegative


class Slots(NamedTuple):
    """The state."""

    mean: Array


class Hyper(NamedTuple):
    """The hyperparameters."""

    learning_rate: Annotated[Number, nonnegative, "η, the size of every step in the variable's unit"] = 0.0001
    beta1: Annotated[Number, fraction, "β₁, the part of the mean in the step"] = 0.9
    beta2: Annotated[Number, fraction, "β₂, the part of the mean that is kept"] = 0.99


class Scalars(NamedTuple):
    """What the text uses."""

    learning_rate: Number
    beta1: Number
    one_minus_beta1: Number
    beta2: Number
    one_minus_beta2: Number


def prepare(t: Number, h: Hyper) -> Scalars:
    """Add 1 − β₁ and 1 − β₂."""
    return Scalars(h.learning_rate, h.beta1, 1 - h.beta1, h.beta2, 1 - h.beta2)


def update(param: Array, grad: Array, slots: Slots, h: Scalars) -> tuple[Array, Slots]:
    """θ − η·sign(β₁·m + (1 − β₁)·g)."""
    direction = sign(h.beta1 * slots.mean + h.one_minus_beta1 * grad)
    return param - h.learning_rate * direction, Slots(h.beta2 * slots.mean + h.one_minus_beta2 * grad)


lion = Rule(
    name="lion",
    doc=__doc__,
    slots=Slots,
    hyper=Hyper,
    prepare=prepare,
    update=update,
    decay="decoupled",
    conventions={
        "keras": {"learning_rate": 0.001},
        "optax": {"weight_decay": 0.001},
    },
    source="X. Chen et al., Symbolic discovery of optimization algorithms, arXiv:2302.06675, 2023, algorithm 2",
)
