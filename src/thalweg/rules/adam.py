"""Adam: the mean of the gradient over the root of its mean square, both corrected for their start at zero. ::

    m' = β₁·m + (1 − β₁)·g              m̂ = m' / (1 − β₁ᵗ)
    v' = β₂·v + (1 − β₂)·g²             v̂ = v' / (1 − β₂ᵗ)
    θ' = θ − η·m̂ / (√v̂ + ε)

ε acts after the bias correction, as in algorithm 1 of the paper (and PyTorch, Optax, MXNet). The reordering of
its section 2 is another formula: with ``epsilon_form="hat"`` (Keras, PyCMTensor) ε is beside the uncorrected root,
θ' = θ − η·√(1 − β₂ᵗ) / (1 − β₁ᵗ)·m' / (√v' + ε), which at the first step is as if ε were 1/√(1 − β₂) = 32 times
as large.
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from thalweg.rules.arithmetic import sqrt
from thalweg.rules.base import Array, Number, Rule
from thalweg.rules.ranges import fraction, nonnegative, positive


class Slots(NamedTuple):
    """The state."""

    mean: Array
    mean_square: Array


class Hyper(NamedTuple):
    """The hyperparameters."""

    learning_rate: Annotated[Number, nonnegative, "η, roughly the step's size in the variable's unit"] = 0.001
    beta1: Annotated[Number, fraction, "β₁, the part of the mean that is kept"] = 0.9
    beta2: Annotated[Number, fraction, "β₂, the part of the mean square that is kept"] = 0.999
    epsilon: Annotated[Number, positive, "ε, in the gradient's unit; keeps the division finite"] = 1e-8


class Scalars(NamedTuple):
    """What the text uses."""

    rate: Number
    beta1: Number
    one_minus_beta1: Number
    beta2: Number
    one_minus_beta2: Number
    root_correction: Number
    epsilon: Number


def prepare(t: Number, h: Hyper) -> Scalars:
    """Put the bias corrections into two scalars: η / (1 − β₁ᵗ) and 1 / √(1 − β₂ᵗ)."""
    return Scalars(
        rate=h.learning_rate / (1 - h.beta1**t),
        beta1=h.beta1,
        one_minus_beta1=1 - h.beta1,
        beta2=h.beta2,
        one_minus_beta2=1 - h.beta2,
        root_correction=(1 - h.beta2**t) ** -0.5,
        epsilon=h.epsilon,
    )


def update(param: Array, grad: Array, slots: Slots, h: Scalars) -> tuple[Array, Slots]:
    """θ − η·m̂ / (√v̂ + ε)."""
    mean = h.beta1 * slots.mean + h.one_minus_beta1 * grad
    mean_square = h.beta2 * slots.mean_square + h.one_minus_beta2 * grad * grad
    return param - h.rate * mean / (sqrt(mean_square) * h.root_correction + h.epsilon), Slots(mean, mean_square)


def prepare_hat(t: Number, h: Hyper) -> Scalars:
    """Put both bias corrections into the rate: η·√(1 − β₂ᵗ) / (1 − β₁ᵗ)."""
    return Scalars(
        rate=h.learning_rate * (1 - h.beta2**t) ** 0.5 / (1 - h.beta1**t),
        beta1=h.beta1,
        one_minus_beta1=1 - h.beta1,
        beta2=h.beta2,
        one_minus_beta2=1 - h.beta2,
        root_correction=1.0,
        epsilon=h.epsilon,
    )


adam = Rule(
    name="adam",
    doc=__doc__,
    slots=Slots,
    hyper=Hyper,
    prepare=prepare,
    update=update,
    options={"epsilon_form": ("outside", "hat")},
    variant=lambda epsilon_form: {"prepare": prepare if epsilon_form == "outside" else prepare_hat},
    conventions={
        "torch": {},
        "keras": {"epsilon_form": "hat", "epsilon": 1e-7, "decay": "decoupled"},
        "optax": {},
        "mxnet": {"weight_decay": 1e-5},
        "pycmtensor": {"epsilon_form": "hat"},
    },
    source="D. Kingma, J. Ba, Adam: a method for stochastic optimization, arXiv:1412.6980, 2014, algorithm 1",
)
