"""AMSGrad: Adam whose mean square never falls, so that no rate ever rises. ::

    m' = β₁·m + (1 − β₁)·g
    v' = β₂·v + (1 − β₂)·g²
    w' = max(w, v')
    θ' = θ − η·m' / (√w' + ε)

The paper leaves the bias corrections out. ``correction="after"`` (PyTorch, Keras) corrects as Adam does, m' by
1 − β₁ᵗ and w' by 1 − β₂ᵗ after the maximum was taken; ``correction="before"`` (Optax) takes the maximum of the
corrected v̂, which the large corrections of the first steps then hold up. ``epsilon_form`` is Adam's, and matters
with ``correction="after"`` alone.
"""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

from thalweg.rules.arithmetic import maximum, sqrt
from thalweg.rules.base import Array, Number, Rule
from thalweg.rules.ranges import fraction, nonnegative, positive


class Slots(NamedTuple):
    """The state."""

    mean: Array
    mean_square: Array
    largest_square: Array


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
    square_correction: Number
    root_correction: Number
    epsilon: Number


def update(param: Array, grad: Array, slots: Slots, h: Scalars) -> tuple[Array, Slots]:
    """θ − η·m' / (√w' + ε), w' = max(w, v')."""
    mean = h.beta1 * slots.mean + h.one_minus_beta1 * grad
    mean_square = h.beta2 * slots.mean_square + h.one_minus_beta2 * grad * grad
    largest = maximum(slots.largest_square, mean_square * h.square_correction)
    change = h.rate * mean / (sqrt(largest) * h.root_correction + h.epsilon)
    return param - change, Slots(mean, mean_square, largest)


def variant(correction: str, epsilon_form: str) -> dict[str, Any]:
    """The scalars for one set of options."""

    def prepare(t: Number, h: Hyper) -> Scalars:
        return Scalars(h.learning_rate, h.beta1, 1 - h.beta1, h.beta2, 1 - h.beta2, 1.0, 1.0, h.epsilon)

    def prepare_after(t: Number, h: Hyper) -> Scalars:
        rate, root = h.learning_rate / (1 - h.beta1**t), (1 - h.beta2**t) ** -0.5
        return Scalars(rate, h.beta1, 1 - h.beta1, h.beta2, 1 - h.beta2, 1.0, root, h.epsilon)

    def prepare_after_hat(t: Number, h: Hyper) -> Scalars:
        rate = h.learning_rate * (1 - h.beta2**t) ** 0.5 / (1 - h.beta1**t)
        return Scalars(rate, h.beta1, 1 - h.beta1, h.beta2, 1 - h.beta2, 1.0, 1.0, h.epsilon)

    def prepare_before(t: Number, h: Hyper) -> Scalars:
        rate, square = h.learning_rate / (1 - h.beta1**t), 1 / (1 - h.beta2**t)
        return Scalars(rate, h.beta1, 1 - h.beta1, h.beta2, 1 - h.beta2, square, 1.0, h.epsilon)

    after = prepare_after if epsilon_form == "outside" else prepare_after_hat
    return {"prepare": {"none": prepare, "after": after, "before": prepare_before}[correction]}


amsgrad = Rule(
    name="amsgrad",
    doc=__doc__,
    slots=Slots,
    hyper=Hyper,
    update=update,
    options={"correction": ("none", "after", "before"), "epsilon_form": ("outside", "hat")},
    variant=variant,
    conventions={
        "torch": {"correction": "after"},
        "keras": {"correction": "after", "epsilon_form": "hat", "epsilon": 1e-7, "decay": "decoupled"},
        "optax": {"correction": "before"},
    },
    source="S. Reddi, S. Kale, S. Kumar, On the convergence of Adam and beyond, ICLR 2018, algorithm 2",
    **variant("none", "outside"),
)
