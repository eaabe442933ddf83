"""Adamax: Adam with a decaying maximum of the gradient's size in place of the root of its mean square. ::

    m' = β₁·m + (1 − β₁)·g
    u' = max(β₂·u, |g| + ε)
    θ' = θ − η / (1 − β₁ᵗ) · m' / u'

The paper has no ε and divides by zero where the first gradients are zero; with ε beside |g| (as in PyTorch
and Optax) such an element stays where it is. ``epsilon_form="denominator"`` (Keras, MXNet, PyCMTensor) is
u' = max(β₂·u, |g|) and θ' = θ − η / (1 − β₁ᵗ) · m' / (u' + ε).
"""

from __future__ import annotations

from typing import Annotated, NamedTuple

from thalweg.rules.arithmetic import absolute, maximum
from thalweg.rules.base import Array, Number, Rule
from thalweg.rules.ranges import fraction, nonnegative, positive


class Slots(NamedTuple):
    """The state."""

    mean: Array
    largest: Array


class Hyper(NamedTuple):
    """The hyperparameters."""

    learning_rate: Annotated[Number, nonnegative, "η, the largest step in the variable's unit, roughly"] = 0.002
    beta1: Annotated[Number, fraction, "β₁, the part of the mean that is kept"] = 0.9
    beta2: Annotated[Number, fraction, "β₂, the part of the largest size that is kept"] = 0.999
    epsilon: Annotated[Number, positive, "ε, in the gradient's unit; keeps the division finite"] = 1e-8


class Scalars(NamedTuple):
    """What the text uses."""

    rate: Number
    beta1: Number
    one_minus_beta1: Number
    beta2: Number
    epsilon: Number


def prepare(t: Number, h: Hyper) -> Scalars:
    """Put the bias correction into the rate: η / (1 − β₁ᵗ)."""
    return Scalars(h.learning_rate / (1 - h.beta1**t), h.beta1, 1 - h.beta1, h.beta2, h.epsilon)


def update(param: Array, grad: Array, slots: Slots, h: Scalars) -> tuple[Array, Slots]:
    """θ − η / (1 − β₁ᵗ) · m' / u'."""
    mean = h.beta1 * slots.mean + h.one_minus_beta1 * grad
    largest = maximum(h.beta2 * slots.largest, absolute(grad) + h.epsilon)
    return param - h.rate * mean / largest, Slots(mean, largest)


def update_denominator(param: Array, grad: Array, slots: Slots, h: Scalars) -> tuple[Array, Slots]:
    """θ − η / (1 − β₁ᵗ) · m' / (u' + ε)."""
    mean = h.beta1 * slots.mean + h.one_minus_beta1 * grad
    largest = maximum(h.beta2 * slots.largest, absolute(grad))
    return param - h.rate * mean / (largest + h.epsilon), Slots(mean, largest)


adamax = Rule(
    name="adamax",
    doc=__doc__,
    slots=Slots,
    hyper=Hyper,
    prepare=prepare,
    update=update,
    options={"epsilon_form": ("gradient", "denominator")},
    variant=lambda epsilon_form: {"update": update if epsilon_form == "gradient" else update_denominator},
    conventions={
        "torch": {},
        "keras": {"epsilon_form": "denominator", "learning_rate": 0.001, "epsilon": 1e-7, "decay": "decoupled"},
        "optax": {},
        "mxnet": {"epsilon_form": "denominator", "weight_decay": 1e-5},
        "pycmtensor": {"epsilon_form": "denominator", "learning_rate": 0.001},
    },
    source="D. Kingma, J. Ba, Adam: a method for stochastic optimization, arXiv:1412.6980, 2014, algorithm 2",
)
