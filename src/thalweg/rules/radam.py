"""RAdam: Adam that trusts its mean square only once enough gradients were averaged. ::

    ρ∞ = 2 / (1 − β₂) − 1                ρₜ = ρ∞ − 2·t·β₂ᵗ / (1 − β₂ᵗ)
    m' = β₁·m + (1 − β₁)·g               m̂ = m' / (1 − β₁ᵗ)
    v' = β₂·v + (1 − β₂)·g²              v̂ = v' / (1 − β₂ᵗ)
    r² = (ρₜ − 4)·(ρₜ − 2)·ρ∞ / ((ρ∞ − 4)·(ρ∞ − 2)·ρₜ)
    θ' = θ − η·r·m̂ / (√v̂ + ε)           if ρₜ > 4
    θ' = θ − η·m̂                         otherwise

The paper has no ε. ``threshold`` is 5 in PyTorch and Optax. ``epsilon_form="hat"`` (PyTorch) has ε beside the
uncorrected root, √(1 − β₂ᵗ) / (√v' + ε) in place of 1 / (√v̂ + ε). With β₂ ≤ 0.6 the estimate is never trusted.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from thalweg.rules.arithmetic import maximum, sqrt, where
from thalweg.rules.base import Array, Number, Rule
from thalweg.rules.ranges import Interval, fraction, nonnegative, positive

at_least_four = Interval(4.0, float("inf"), closed_high=False)


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
    threshold: Annotated[Number, at_least_four, "the ρₜ above which the mean square is trusted"] = 4.0


class Scalars(NamedTuple):
    """What the text uses."""

    mean_rate: Number
    adaptive_rate: Number
    beta1: Number
    one_minus_beta1: Number
    beta2: Number
    one_minus_beta2: Number
    root_correction: Number
    epsilon: Number


def update(param: Array, grad: Array, slots: Slots, h: Scalars) -> tuple[Array, Slots]:
    """θ − η₁·m' − η₂·m' / (√v̂ + ε), of which one rate is zero."""
    mean = h.beta1 * slots.mean + h.one_minus_beta1 * grad
    mean_square = h.beta2 * slots.mean_square + h.one_minus_beta2 * grad * grad
    scaled = h.adaptive_rate * mean / (sqrt(mean_square) * h.root_correction + h.epsilon)
    return param - (h.mean_rate * mean + scaled), Slots(mean, mean_square)


def rectified(t: Number, h: Hyper) -> tuple[Number, Number, Number]:
    """η₁ for plain momentum, η₂ = η·r for the adaptive step, each without bias correction of v; and 1 − β₂ᵗ."""
    kept = h.beta2**t
    limit = 2 / (1 - h.beta2) - 1
    length = limit - 2 * t * kept / (1 - kept)
    trusted = length > h.threshold
    top, bottom = (length - 4) * (length - 2) * limit, (limit - 4) * (limit - 2) * length
    ratio = where(trusted, top / where(trusted, bottom, 1.0), 0.0)
    rate = h.learning_rate / (1 - h.beta1**t)
    return where(trusted, 0.0, rate), rate * sqrt(maximum(ratio, 0.0)), 1 - kept


def prepare(t: Number, h: Hyper) -> Scalars:
    """Choose between the two steps."""
    mean_rate, adaptive_rate, corrected = rectified(t, h)
    root = corrected**-0.5
    return Scalars(mean_rate, adaptive_rate, h.beta1, 1 - h.beta1, h.beta2, 1 - h.beta2, root, h.epsilon)


def prepare_hat(t: Number, h: Hyper) -> Scalars:
    """Choose between the two steps, with √(1 − β₂ᵗ) in the rate."""
    mean_rate, adaptive_rate, corrected = rectified(t, h)
    rate = adaptive_rate * corrected**0.5
    return Scalars(mean_rate, rate, h.beta1, 1 - h.beta1, h.beta2, 1 - h.beta2, 1.0, h.epsilon)


def variant(epsilon_form: str) -> dict[str, Any]:
    """The scalars for one form."""
    return {"prepare": prepare if epsilon_form == "outside" else prepare_hat}


radam = Rule(
    name="radam",
    doc=__doc__,
    slots=Slots,
    hyper=Hyper,
    prepare=prepare,
    update=update,
    options={"epsilon_form": ("outside", "hat")},
    variant=variant,
    conventions={
        "torch": {"epsilon_form": "hat", "threshold": 5.0},
        "optax": {"threshold": 5.0},
    },
    source="L. Liu et al., On the variance of the adaptive learning rate and beyond, ICLR 2020, algorithm 2",
)
