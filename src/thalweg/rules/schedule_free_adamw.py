"""Schedule-Free AdamW: averaging in place of a learning rate that falls. ::

    γₜ = η·√(1 − β₂ᵗ)·min(1, t/T)       T: the steps of warming up
    v' = β₂·v + (1 − β₂)·g²
    z' = z − γₜ·(g / (√v' + ε) + λ·y)
    c  = γₜ² / (γ₁² + … + γₜ²)
    x' = (1 − c)·x + c·z'
    y' = (1 − β₁)·z' + β₁·x'

The parameter θ that is stored, and where gradients are to be taken, is y. The model is to be evaluated at x, which
is not stored: x = (y − (1 − β₁)·z) / β₁ (``eval_params``), with the β₁ of the step that made y. It is carried to the
next step, so that β₁ may change, by a schedule, too. Three forms differ between libraries:

- ``correction="variance"`` (Optax, Keras) corrects v by 1 − β₂ᵗ and leaves γₜ = η·min(1, t/T), which differs in where
  ε is, and gives the first steps more weight;
- ``weighting="largest"`` (Optax) has the largest rate so far in place of γₜ in c, ``"uniform"`` (Keras) c = 1/t;
- ``decay_at="point"`` (Keras) shrinks y to (1 − η·λ)·y first, and leaves z alone.

Optax takes the rate of the step after for its weights, which is not the same once the rate changes.

An optimizer takes no ``process_model`` with it: bounds would hold y where it is, z would go on, and x, which is
computed from the two, would leave the bounds on the other side. Where a model has to stay in a set, use AdamW and a
schedule.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from thalweg.rules.arithmetic import if_number, maximum, minimum, sqrt, where
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
    beta1_before: Number = 0.0
    beta1_made: Number = 0.0


BETA1 = ("beta1_before", "beta1_made")
"""The β₁ of the step before, which made the y that this one begins with, and that of this one."""

NONE = 0.0
"""In their place before the first step, where y, z and x are the same, and where β₁ is an array, which a number cannot
hold: the β₁ of whoever asks."""


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
    one_minus_before: Number
    inverse_before: Number
    beta2: Number
    one_minus_beta2: Number
    root_correction: Number
    epsilon: Number
    weight_decay: Number
    kept: Number


def start(param: Array, h: Hyper) -> Slots:
    """Let z begin where the parameter is."""
    return Slots(param, 0.0)


def update(param: Array, grad: Array, slots: Slots, h: Scalars) -> tuple[Array, Slots]:
    """y' = (1 − β₁)·z' + β₁·x'."""
    mean_square = h.beta2 * slots.mean_square + h.one_minus_beta2 * grad * grad
    average = (h.kept * param - h.one_minus_before * slots.iterate) * h.inverse_before
    step = grad / (sqrt(mean_square) * h.root_correction + h.epsilon) + h.weight_decay * param
    iterate = slots.iterate - h.rate * step
    average = h.one_minus_share * average + h.share * iterate
    return h.one_minus_beta1 * iterate + h.beta1 * average, Slots(iterate, mean_square)


def evaluate(param: Array, state: Any, h: Hyper) -> Array:
    """x = (y − (1 − β₁)·z) / β₁."""
    made = state.beta1_made
    beta1 = made + (made <= NONE) * h.beta1  # a number on PyTorch, too, where ``where`` of numbers is a NumPy array
    return (param - (1 - beta1) * state.iterate) / beta1


def known(beta1: Number, h: Hyper) -> Number:
    """A carried β₁, or that of the hyperparameters."""
    return where(beta1 > NONE, beta1, h.beta1)


def warmed_up(t: Number, h: Hyper) -> Number:
    """η·min(1, t/T)."""
    return h.learning_rate * minimum(1.0, t / maximum(h.warmup_steps, 1.0))


def variant(correction: str, weighting: str, decay_at: str) -> dict[str, Any]:
    """The numbers for one set of options."""

    def rate_corrected(t: Number, h: Hyper) -> Number:
        return warmed_up(t, h) * (1 - h.beta2**t) ** 0.5

    rate = rate_corrected if correction == "rate" else warmed_up

    def no_correction(t: Number, h: Hyper) -> Number:
        return 1.0

    def variance_correction(t: Number, h: Hyper) -> Number:
        return (1 - h.beta2**t) ** -0.5

    root_correction = no_correction if correction == "rate" else variance_correction

    def weight_of_rate(now: Number, largest: Number) -> Number:
        return now * now

    def weight_of_largest(now: Number, largest: Number) -> Number:
        return largest * largest

    def weight_of_one(now: Number, largest: Number) -> Number:
        return 1.0

    weigh = {"rate": weight_of_rate, "largest": weight_of_largest, "uniform": weight_of_one}[weighting]

    def carry(t: Number, h: Hyper, carried: Carried) -> Carried:
        now = rate(t, h)
        largest = maximum(carried.largest_rate, now)
        weight = weigh(now, largest)
        made = if_number(h.beta1, h.beta1, NONE)
        return Carried(carried.weight_sum + weight, weight, largest, carried.beta1_made, made)

    def inside(h: Hyper) -> tuple[Number, Number]:
        return h.weight_decay, 1.0

    def before(h: Hyper) -> tuple[Number, Number]:
        return 0.0, 1 - h.learning_rate * h.weight_decay

    decay = inside if decay_at == "iterate" else before

    def prepare(t: Number, h: Hyper, carried: Carried) -> Scalars:
        total = carried.weight_sum
        share = where(total > 0.0, carried.weight / where(total > 0.0, total, 1.0), 0.0)
        before = known(carried.beta1_before, h)
        return Scalars(
            rate(t, h),
            share,
            1 - share,
            h.beta1,
            1 - h.beta1,
            1 / h.beta1,  # of the step after, as 1 / before: what does not fit is refused in this one
            1 - before,
            1 / before,
            h.beta2,
            1 - h.beta2,
            root_correction(t, h),
            h.epsilon,
            *decay(h),
        )

    return {"carry": carry, "prepare": prepare}


schedule_free_adamw = Rule(
    name="schedule_free_adamw",
    doc=__doc__,
    slots=Slots,
    hyper=Hyper,
    carried=Carried,
    start=start,
    update=update,
    evaluate=evaluate,
    derived=True,
    lagged=frozenset({"beta1"}),
    options={
        "correction": ("rate", "variance"),
        "weighting": ("rate", "largest", "uniform"),
        "decay_at": ("iterate", "point"),
    },
    variant=variant,
    conventions={
        "optax": {"correction": "variance", "weighting": "largest"},
        "keras": {"correction": "variance", "weighting": "uniform", "decay_at": "point"},
    },
    source="A. Defazio et al., The road less scheduled, NeurIPS 2024, algorithm 1",
    **variant("rate", "rate", "iterate"),
)
