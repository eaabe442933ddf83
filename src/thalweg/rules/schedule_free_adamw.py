"""Schedule-Free AdamW: averaging in place of a learning rate that falls. ::

    γₜ = η·√(1 − β₂ᵗ)·min(1, t/T)       T: the steps of warming up
    v' = β₂·v + (1 − β₂)·g²
    z' = z − γₜ·(g / (√v' + ε) + λ·y)
    c  = γₜ² / (γ₁² + … + γₜ²)
    x' = (1 − c)·x + c·z'
    y' = (1 − β₁)·z' + β₁·x'

The parameter that is stored, and where gradients are to be taken, is y. The model is to be evaluated at x, which
is not stored: x = (y − (1 − β₁)·z) / β₁ (``eval_params``). ``correction="variance"`` (Optax) corrects v by 1 − β₂ᵗ
and leaves γₜ = η·min(1, t/T), which differs in where ε is, and gives the first steps more weight.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from thalweg.rules.arithmetic import maximum, minimum, sqrt, where
from thalweg.rules.base import Array, Number, Rule
from thalweg.rules.ranges import fraction, nonnegative, open_fraction, positive


class Slots(NamedTuple):
    """The state."""

    iterate: Array
    mean_square: Array


class Carried(NamedTuple):
    """The numbers that go from step to step."""

    weight_sum: Number = 0.0
    weight: Number = 0.0
    largest_rate: Number = 0.0


class Hyper(NamedTuple):
    """The hyperparameters."""

    learning_rate: Annotated[Number, nonnegative, "η, roughly the step's size in the variable's unit"] = 0.0025
    beta1: Annotated[Number, open_fraction, "β₁, the part of the average in where gradients are taken"] = 0.9
    beta2: Annotated[Number, fraction, "β₂, the part of the mean square that is kept"] = 0.999
    epsilon: Annotated[Number, positive, "ε, in the gradient's unit; keeps the division finite"] = 1e-8
    weight_decay: Annotated[Number, nonnegative, "λ, decoupled, at y"] = 0.0
    warmup_steps: Annotated[Number, nonnegative, "T, the steps over which the rate rises to η"] = 0.0


class Scalars(NamedTuple):
    """What the text uses."""

    rate: Number
    share: Number
    one_minus_share: Number
    beta1: Number
    one_minus_beta1: Number
    inverse_beta1: Number
    beta2: Number
    one_minus_beta2: Number
    root_correction: Number
    epsilon: Number
    weight_decay: Number


def start(param: Array, h: Hyper) -> Slots:
    """Let z begin where the parameter is."""
    return Slots(param, 0.0)


def update(param: Array, grad: Array, slots: Slots, h: Scalars) -> tuple[Array, Slots]:
    """y' = (1 − β₁)·z' + β₁·x'."""
    mean_square = h.beta2 * slots.mean_square + h.one_minus_beta2 * grad * grad
    average = (param - h.one_minus_beta1 * slots.iterate) * h.inverse_beta1
    step = grad / (sqrt(mean_square) * h.root_correction + h.epsilon) + h.weight_decay * param
    iterate = slots.iterate - h.rate * step
    average = h.one_minus_share * average + h.share * iterate
    return h.one_minus_beta1 * iterate + h.beta1 * average, Slots(iterate, mean_square)


def evaluate(param: Array, slots: Slots, h: Hyper) -> Array:
    """x = (y − (1 − β₁)·z) / β₁."""
    return (param - (1 - h.beta1) * slots.iterate) / h.beta1


def warmed_up(t: Number, h: Hyper) -> Number:
    """η·min(1, t/T)."""
    return h.learning_rate * minimum(1.0, t / maximum(h.warmup_steps, 1.0))


def variant(correction: str) -> dict[str, Any]:
    """The numbers for one way to correct the start of v at zero."""

    def rate_corrected(t: Number, h: Hyper) -> Number:
        return warmed_up(t, h) * (1 - h.beta2**t) ** 0.5

    rate = rate_corrected if correction == "rate" else warmed_up

    def no_correction(t: Number, h: Hyper) -> Number:
        return 1.0

    def variance_correction(t: Number, h: Hyper) -> Number:
        return (1 - h.beta2**t) ** -0.5

    root_correction = no_correction if correction == "rate" else variance_correction

    def carry(t: Number, h: Hyper, carried: Carried) -> Carried:
        largest = maximum(carried.largest_rate, rate(t, h))
        weight = rate(t, h) ** 2 if correction == "rate" else largest**2
        return Carried(carried.weight_sum + weight, weight, largest)

    def prepare(t: Number, h: Hyper, carried: Carried) -> Scalars:
        total = carried.weight_sum
        share = where(total > 0.0, carried.weight / where(total > 0.0, total, 1.0), 0.0)
        return Scalars(
            rate(t, h),
            share,
            1 - share,
            h.beta1,
            1 - h.beta1,
            1 / h.beta1,
            h.beta2,
            1 - h.beta2,
            root_correction(t, h),
            h.epsilon,
            h.weight_decay,
        )

    return {"carry": carry, "prepare": prepare}


schedule_free_adamw = Rule(
    name="schedule_free_adamw",
    slots=Slots,
    hyper=Hyper,
    carried=Carried,
    start=start,
    update=update,
    evaluate=evaluate,
    options={"correction": ("rate", "variance")},
    variant=variant,
    conventions={"optax": {"correction": "variance"}},
    source="A. Defazio et al., The road less scheduled, NeurIPS 2024, algorithm 1",
    **variant("rate"),
)
