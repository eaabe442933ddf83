"""RMSProp: the gradient over the root of its running mean square. ::

    a' = ρ·a + (1 − ρ)·g²
    θ' = θ − η·g / (√a' + ε)

The lecture divides by √a' alone; ε outside the root (PyTorch) stays closest to that for small gradients.
``epsilon_form="inside"`` is √(a' + ε) (Keras, Optax, PyCMTensor, MXNet). Two additions of A. Graves:

- ``centered=True``: a' − m'² in place of a', m' = ρ·m + (1 − ρ)·g, an estimate of the variance; where rounding makes
  it negative (as gradients that hardly change do) it is 0, where the libraries' root is NaN;
- ``momentum`` above zero: v' = μ·v + η·g/√…, θ' = θ − v', with the rate inside the buffer, or, with
  ``rate_in_buffer=False`` (PyTorch), v' = μ·v + g/√…, θ' = θ − η·v'.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, NamedTuple

from thalweg.rules.arithmetic import maximum, sqrt
from thalweg.rules.base import Array, Number, Rule
from thalweg.rules.ranges import fraction, nonnegative, positive


class Slots(NamedTuple):
    """The state."""

    mean_square: Array


class CenteredSlots(NamedTuple):
    """The state with the mean."""

    mean_square: Array
    mean: Array


class MomentumSlots(NamedTuple):
    """The state with momentum."""

    mean_square: Array
    velocity: Array


class CenteredMomentumSlots(NamedTuple):
    """The state with both."""

    mean_square: Array
    mean: Array
    velocity: Array


class Hyper(NamedTuple):
    """The hyperparameters."""

    learning_rate: Annotated[Number, nonnegative, "η, roughly the step's size in the variable's unit"] = 0.001
    rho: Annotated[Number, fraction, "ρ, the part of the mean square that is kept"] = 0.9
    epsilon: Annotated[Number, positive, "ε, in the gradient's unit (inside the root: its square); bounds the rate"] = (
        1e-8
    )


class MomentumHyper(NamedTuple):
    """The hyperparameters with momentum."""

    learning_rate: Annotated[Number, nonnegative, "η, roughly the step's size in the variable's unit"] = 0.001
    rho: Annotated[Number, fraction, "ρ, the part of the mean square that is kept"] = 0.9
    epsilon: Annotated[Number, positive, "ε, in the gradient's unit (inside the root: its square); bounds the rate"] = (
        1e-8
    )
    momentum: Annotated[Number, fraction, "μ, the part of the last step that is kept"] = 0.0


class Scalars(NamedTuple):
    """What the text uses."""

    learning_rate: Number
    rho: Number
    one_minus_rho: Number
    epsilon: Number
    zero: Number


class MomentumScalars(NamedTuple):
    """What the text uses with momentum."""

    learning_rate: Number
    rho: Number
    one_minus_rho: Number
    epsilon: Number
    zero: Number
    momentum: Number


def prepare(t: Number, h: Hyper) -> Scalars:
    """Add 1 − ρ, and 0."""
    return Scalars(h.learning_rate, h.rho, 1 - h.rho, h.epsilon, 0.0)


def prepare_momentum(t: Number, h: MomentumHyper) -> MomentumScalars:
    """Add 1 − ρ, and 0."""
    return MomentumScalars(h.learning_rate, h.rho, 1 - h.rho, h.epsilon, 0.0, h.momentum)


def outside(square: Array, epsilon: Number) -> Array:
    """√a + ε."""
    return sqrt(square) + epsilon


def inside(square: Array, epsilon: Number) -> Array:
    """√(a + ε)."""
    return sqrt(square + epsilon)


def variance(mean_square: Array, mean: Array, h: Scalars | MomentumScalars) -> Array:
    """max(a' − m'², 0)."""
    return maximum(mean_square - mean * mean, h.zero)


def rate_inside(velocity: Array, direction: Array, h: MomentumScalars) -> tuple[Array, Array]:
    """The step and the buffer: v' and v' = μ·v + η·d."""
    moved = h.momentum * velocity + h.learning_rate * direction
    return moved, moved


def rate_outside(velocity: Array, direction: Array, h: MomentumScalars) -> tuple[Array, Array]:
    """The step and the buffer: η·v' and v' = μ·v + d."""
    moved = h.momentum * velocity + direction
    return h.learning_rate * moved, moved


def update(param: Array, grad: Array, slots: Slots, h: Scalars) -> tuple[Array, Slots]:
    """θ − η·g / (√a' + ε), a' = ρ·a + (1 − ρ)·g²."""
    mean_square = h.rho * slots.mean_square + h.one_minus_rho * grad * grad
    return param - h.learning_rate * grad / outside(mean_square, h.epsilon), Slots(mean_square)


def variant(centered: bool, with_momentum: bool, epsilon_form: str, rate_in_buffer: bool) -> dict[str, Any]:
    """The texts for one set of options."""
    root = outside if epsilon_form == "outside" else inside
    step = rate_inside if rate_in_buffer else rate_outside

    def plain(param: Array, grad: Array, slots: Slots, h: Scalars) -> tuple[Array, Slots]:
        mean_square = h.rho * slots.mean_square + h.one_minus_rho * grad * grad
        return param - h.learning_rate * grad / root(mean_square, h.epsilon), Slots(mean_square)

    def about_mean(param: Array, grad: Array, slots: CenteredSlots, h: Scalars) -> tuple[Array, CenteredSlots]:
        mean_square = h.rho * slots.mean_square + h.one_minus_rho * grad * grad
        mean = h.rho * slots.mean + h.one_minus_rho * grad
        change = h.learning_rate * grad / root(variance(mean_square, mean, h), h.epsilon)
        return param - change, CenteredSlots(mean_square, mean)

    def moving(param: Array, grad: Array, slots: MomentumSlots, h: MomentumScalars) -> tuple[Array, MomentumSlots]:
        mean_square = h.rho * slots.mean_square + h.one_minus_rho * grad * grad
        change, velocity = step(slots.velocity, grad / root(mean_square, h.epsilon), h)
        return param - change, MomentumSlots(mean_square, velocity)

    def both(
        param: Array, grad: Array, slots: CenteredMomentumSlots, h: MomentumScalars
    ) -> tuple[Array, CenteredMomentumSlots]:
        mean_square = h.rho * slots.mean_square + h.one_minus_rho * grad * grad
        mean = h.rho * slots.mean + h.one_minus_rho * grad
        change, velocity = step(slots.velocity, grad / root(variance(mean_square, mean, h), h.epsilon), h)
        return param - change, CenteredMomentumSlots(mean_square, mean, velocity)

    texts: dict[tuple[bool, bool], tuple[type[Any], Callable[..., Any]]] = {
        (False, False): (Slots, plain),
        (True, False): (CenteredSlots, about_mean),
        (False, True): (MomentumSlots, moving),
        (True, True): (CenteredMomentumSlots, both),
    }
    slots, text = texts[centered, with_momentum]
    hyper, scalars = (MomentumHyper, prepare_momentum) if with_momentum else (Hyper, prepare)
    return {"slots": slots, "update": text, "hyper": hyper, "prepare": scalars}


rmsprop = Rule(
    name="rmsprop",
    doc=__doc__,
    slots=Slots,
    hyper=Hyper,
    prepare=prepare,
    update=update,
    options={
        "centered": (False, True),
        "with_momentum": (False, True),
        "epsilon_form": ("outside", "inside"),
        "rate_in_buffer": (True, False),
    },
    variant=variant,
    switches={"momentum": "with_momentum"},
    conventions={
        "torch": {"rate_in_buffer": False, "learning_rate": 0.01, "rho": 0.99},
        "keras": {"epsilon_form": "inside", "epsilon": 1e-7, "decay": "decoupled"},
        "optax": {"epsilon_form": "inside"},
        "mxnet": {"epsilon_form": "inside", "weight_decay": 1e-5},
        "pycmtensor": {"epsilon_form": "inside"},
    },
    source="T. Tieleman, G. Hinton, Lecture 6.5, Neural networks for machine learning, 2012, slide 29; centered and "
    "with momentum: A. Graves, Generating sequences with recurrent neural networks, arXiv:1308.0850, 2013, eq. 38-41",
)
