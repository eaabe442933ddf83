"""LAMB: Adam's direction, scaled for each tensor to the size of the tensor itself. ::

    m' = β₁·m + (1 − β₁)·g              m̂ = m' / (1 − β₁ᵗ)
    v' = β₂·v + (1 − β₂)·g²             v̂ = v' / (1 − β₂ᵗ)
    r  = m̂ / (√v̂ + ε) + λ·θ
    θ' = θ − η·(‖θ‖/‖r‖)·r              the ratio is 1 where either norm is 0

The norms are Euclidean, over one variable, summed in double precision in a fixed order. φ of the paper is the
identity. With ``decay="decoupled"`` (Keras) λ is not in r: θ shrinks to (1 − η·λ)·θ first.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from thalweg.rules.arithmetic import sqrt, where
from thalweg.rules.base import Array, Number, Rule
from thalweg.rules.ranges import fraction, nonnegative, positive


class Slots(NamedTuple):
    """The state."""

    mean: Array
    mean_square: Array


class Hyper(NamedTuple):
    """The hyperparameters."""

    learning_rate: Annotated[Number, nonnegative, "η, the step's norm as a part of the variable's norm"] = 0.001
    beta1: Annotated[Number, fraction, "β₁, the part of the mean that is kept"] = 0.9
    beta2: Annotated[Number, fraction, "β₂, the part of the mean square that is kept"] = 0.999
    epsilon: Annotated[Number, positive, "ε, in the gradient's unit; keeps the division finite"] = 1e-6
    weight_decay: Annotated[Number, nonnegative, "λ, inside the direction that is scaled"] = 0.0


class Scalars(NamedTuple):
    """What the text uses."""

    rate: Number
    mean_correction: Number
    beta1: Number
    one_minus_beta1: Number
    beta2: Number
    one_minus_beta2: Number
    root_correction: Number
    epsilon: Number
    weight_decay: Number
    kept: Number


def prepare(t: Number, h: Hyper) -> Scalars:
    """Add the bias corrections; the rate still lacks the ratio of the norms."""
    return Scalars(
        h.learning_rate,
        1 / (1 - h.beta1**t),
        h.beta1,
        1 - h.beta1,
        h.beta2,
        1 - h.beta2,
        (1 - h.beta2**t) ** -0.5,
        h.epsilon,
        h.weight_decay,
        1.0,
    )


def prepare_decoupled(t: Number, h: Hyper) -> Scalars:
    """Take the decay out of the direction."""
    return Scalars(
        h.learning_rate,
        1 / (1 - h.beta1**t),
        h.beta1,
        1 - h.beta1,
        h.beta2,
        1 - h.beta2,
        (1 - h.beta2**t) ** -0.5,
        h.epsilon,
        0.0,
        1 - h.learning_rate * h.weight_decay,
    )


def moments(grad: Array, slots: Slots, h: Scalars) -> Slots:
    """m' and v'."""
    mean = h.beta1 * slots.mean + h.one_minus_beta1 * grad
    return Slots(mean, h.beta2 * slots.mean_square + h.one_minus_beta2 * grad * grad)


def direction(param: Array, moved: Slots, h: Scalars) -> Array:
    """r = m̂ / (√v̂ + ε) + λ·θ."""
    scaled = moved.mean * h.mean_correction / (sqrt(moved.mean_square) * h.root_correction + h.epsilon)
    return scaled + h.weight_decay * param


def measure(param: Array, grad: Array, slots: Slots, h: Scalars) -> tuple[Array, Array]:
    """θ² and r²."""
    shrunk = h.kept * param
    step = direction(shrunk, moments(grad, slots, h), h)
    return shrunk * shrunk, step * step


def conclude(h: Scalars, sums: tuple[Number, Number]) -> Scalars:
    """Put ‖θ‖/‖r‖ into the rate."""
    usable = (sums[0] > 0.0) & (sums[1] > 0.0)
    ratio = where(usable, sqrt(sums[0] / where(usable, sums[1], 1.0)), 1.0)
    return Scalars(
        h.rate * ratio,
        h.mean_correction,
        h.beta1,
        h.one_minus_beta1,
        h.beta2,
        h.one_minus_beta2,
        h.root_correction,
        h.epsilon,
        h.weight_decay,
        h.kept,
    )


def update(param: Array, grad: Array, slots: Slots, h: Scalars) -> tuple[Array, Slots]:
    """θ − η·(‖θ‖/‖r‖)·r."""
    moved, shrunk = moments(grad, slots, h), h.kept * param
    return shrunk - h.rate * direction(shrunk, moved, h), moved


lamb = Rule(
    name="lamb",
    doc=__doc__,
    slots=Slots,
    hyper=Hyper,
    prepare=prepare,
    measure=measure,
    conclude=conclude,
    update=update,
    options={"decay": ("inside", "decoupled")},
    variant=lambda decay: {"prepare": prepare if decay == "inside" else prepare_decoupled},
    conventions={"keras": {"epsilon": 1e-7, "decay": "decoupled"}, "optax": {}},
    source="Y. You et al., Large batch optimization for deep learning, ICLR 2020, algorithm 2",
)
