"""Nadam: Adam with Nesterov's momentum. ::

    μₜ = β₁·(1 − ½·0.96^(ψ·t))          the schedule of momentum; Mₜ = μ₁·…·μₜ
    m' = β₁·m + (1 − β₁)·g
    v' = β₂·v + (1 − β₂)·g²             v̂ = v' / (1 − β₂ᵗ)
    θ' = θ − η·(μₜ₊₁·m' / (1 − Mₜ₊₁) + (1 − μₜ)·g / (1 − Mₜ)) / (√v̂ + ε)

ψ is ``momentum_decay``: 0.004 in the paper and PyTorch, 1 in Keras. ``momentum_schedule="constant"`` (Optax) has
μ = β₁ throughout.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from thalweg.rules.arithmetic import sqrt
from thalweg.rules.base import Array, Number, Rule
from thalweg.rules.ranges import fraction, nonnegative, positive


class Slots(NamedTuple):
    """The state."""

    mean: Array
    mean_square: Array


class Carried(NamedTuple):
    """The number that goes from step to step."""

    momentum_product: Number = 1.0


class Hyper(NamedTuple):
    """The hyperparameters."""

    learning_rate: Annotated[Number, nonnegative, "η, roughly the step's size in the variable's unit"] = 0.002
    beta1: Annotated[Number, fraction, "β₁, the part of the mean that is kept"] = 0.9
    beta2: Annotated[Number, fraction, "β₂, the part of the mean square that is kept"] = 0.999
    epsilon: Annotated[Number, positive, "ε, in the gradient's unit; keeps the division finite"] = 1e-8
    momentum_decay: Annotated[Number, nonnegative, "ψ, how fast the momentum rises from β₁/2 to β₁"] = 0.004


class Scalars(NamedTuple):
    """What the text uses."""

    mean_rate: Number
    grad_rate: Number
    beta1: Number
    one_minus_beta1: Number
    beta2: Number
    one_minus_beta2: Number
    root_correction: Number
    epsilon: Number


def update(param: Array, grad: Array, slots: Slots, h: Scalars) -> tuple[Array, Slots]:
    """θ − (η₁·m' + η₂·g) / (√v̂ + ε)."""
    mean = h.beta1 * slots.mean + h.one_minus_beta1 * grad
    mean_square = h.beta2 * slots.mean_square + h.one_minus_beta2 * grad * grad
    direction = (h.mean_rate * mean + h.grad_rate * grad) / (sqrt(mean_square) * h.root_correction + h.epsilon)
    return param - direction, Slots(mean, mean_square)


def variant(momentum_schedule: str) -> dict[str, Any]:
    """The numbers for one schedule of momentum."""

    def rising(t: Number, h: Hyper) -> Number:
        return h.beta1 * (1 - 0.5 * 0.96 ** (t * h.momentum_decay))

    def constant(t: Number, h: Hyper) -> Number:
        return h.beta1

    momentum = rising if momentum_schedule == "rising" else constant

    def carry(t: Number, h: Hyper, carried: Carried) -> Carried:
        return Carried(carried.momentum_product * momentum(t, h))

    def prepare(t: Number, h: Hyper, carried: Carried) -> Scalars:
        ahead = momentum(t + 1, h)
        return Scalars(
            h.learning_rate * ahead / (1 - carried.momentum_product * ahead),
            h.learning_rate * (1 - momentum(t, h)) / (1 - carried.momentum_product),
            h.beta1,
            1 - h.beta1,
            h.beta2,
            1 - h.beta2,
            (1 - h.beta2**t) ** -0.5,
            h.epsilon,
        )

    return {"carry": carry, "prepare": prepare}


nadam = Rule(
    name="nadam",
    doc=__doc__,
    slots=Slots,
    hyper=Hyper,
    carried=Carried,
    update=update,
    options={"momentum_schedule": ("rising", "constant")},
    variant=variant,
    conventions={
        "torch": {},
        "keras": {"learning_rate": 0.001, "epsilon": 1e-7, "momentum_decay": 1.0, "decay": "decoupled"},
        "optax": {"momentum_schedule": "constant", "learning_rate": 0.001},
    },
    source="T. Dozat, Incorporating Nesterov momentum into Adam, ICLR workshop 2016, algorithm 2",
    **variant("rising"),
)
