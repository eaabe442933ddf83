"""One table of schedules: adding one adds a row. Each row is held against the libraries that have it.

The oracles are the libraries themselves, in double precision: the learning rate that PyTorch's optimizer has after k
steps of its scheduler, Optax's function of k, and Keras's.
"""

import functools
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import pytest

from thalweg.schedules import (
    Chain,
    Cosine,
    Cyclic,
    Exp,
    Fixed,
    Inv,
    Join,
    OneCycle,
    Piecewise,
    Plateau,
    Polynomial,
    Schedule,
    Step,
    WarmUp,
)

N = 400


def torch(name: str, *, lr: float = 0.3, **arguments: object) -> Callable[[int], np.ndarray]:
    def make(optimizer):
        import torch

        return getattr(torch.optim.lr_scheduler, name)(optimizer, **arguments)

    return torch_made(make, lr=lr)


def torch_made(make: Callable, *, lr: float = 0.3) -> Callable[[int], np.ndarray]:
    def run(n: int) -> np.ndarray:
        import torch

        optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=lr)
        scheduler = make(optimizer)
        rates = []
        for k in range(n):
            if k:
                optimizer.step()
                scheduler.step()
            rates.append(optimizer.param_groups[0]["lr"])
        return np.array(rates)

    return run


def optax(name: str, *arguments: object, **named: object) -> Callable[[int], np.ndarray]:
    return optax_made(lambda optax: getattr(optax, name)(*arguments, **named))


def optax_made(make: Callable) -> Callable[[int], np.ndarray]:
    def run(n: int) -> np.ndarray:
        optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
        with jax.enable_x64(True):
            schedule = make(optax)
            # Not under vmap or jit: there its own stairs are one count late at multiples of 49 (see counting.py).
            return np.array([float(schedule(k)) for k in range(n)])

    return run


KERAS: list[tuple[str, tuple[object, ...], dict[str, object]]] = []
"""The schedules of Keras that rows ask for."""

KERAS_ON_TORCH = """
import json, sys
import keras
keras.config.set_floatx("float64")
calls, n = json.loads(sys.argv[1])
made = [getattr(keras.optimizers.schedules, name)(*given, **named) for name, given, named in calls]
print(json.dumps([[float(schedule(float(k))) for k in range(n)] for schedule in made]))
"""


def keras(name: str, *arguments: object, **named: object) -> Callable[[int], np.ndarray]:
    KERAS.append((name, arguments, named))
    index = len(KERAS) - 1
    return lambda n: np.array(keras_values()[index][:n])


@functools.cache
def keras_values() -> list[list[float]]:
    """All of them in a process of its own: Keras has one backend a process, and on JAX this would take minutes."""
    if importlib.util.find_spec("keras") is None:
        pytest.skip("Keras is not installed")
    with tempfile.TemporaryDirectory() as home:  # where an import of Keras leaves a file
        environment = {**os.environ, "KERAS_BACKEND": "torch", "KERAS_HOME": home}
        command = [sys.executable, "-c", KERAS_ON_TORCH, json.dumps([KERAS, N])]
        process = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def sequential(optimizer):
    from torch.optim.lr_scheduler import ExponentialLR, LinearLR, SequentialLR, StepLR

    parts = [
        LinearLR(optimizer, start_factor=0.1, total_iters=40),
        ExponentialLR(optimizer, gamma=0.98),
        StepLR(optimizer, step_size=50, gamma=0.5),
    ]
    return SequentialLR(optimizer, parts, milestones=[40, 150])


def chained(optimizer):
    from torch.optim.lr_scheduler import ChainedScheduler, ConstantLR, ExponentialLR, StepLR

    parts = [
        ConstantLR(optimizer, factor=0.25, total_iters=30),
        ExponentialLR(optimizer, gamma=0.99),
        StepLR(optimizer, step_size=70, gamma=0.5),
    ]
    return ChainedScheduler(parts, optimizer)


@dataclass(frozen=True)
class Row:
    """A schedule and what other libraries have for it; ``until``: for how many counts they are equal."""

    schedule: Schedule
    oracles: dict[str, Callable[[int], np.ndarray]] = field(default_factory=dict)
    until: int = N

    def agrees(self, found: np.ndarray, expected: np.ndarray) -> None:
        """To 1e-12, or to a few units in the last place of the largest value, where both subtract to almost nothing."""
        np.testing.assert_allclose(found, expected, rtol=1e-12, atol=2e-15 * np.max(np.abs(expected)))


ONE_CYCLE = {"max_lr": 0.3, "total_steps": N, "cycle_momentum": False}
CYCLIC = {"base_lr": 0.1, "max_lr": 0.7, "step_size_up": 30, "cycle_momentum": False}

TABLE = {
    "fixed": Row(Fixed(0.3), {"torch": torch("ConstantLR", factor=1.0), "optax": optax("constant_schedule", 0.3)}),
    "exp": Row(
        Exp(0.3, gamma=0.98),
        {
            "torch": torch("ExponentialLR", gamma=0.98),
            "optax": optax("exponential_decay", 0.3, 1, 0.98),
            "keras": keras("ExponentialDecay", 0.3, 1, 0.98),
        },
    ),
    "inv": Row(Inv(0.3, gamma=0.9, power=1.0), {"keras": keras("InverseTimeDecay", 0.3, 1, 0.9)}),
    "inv root": Row(
        Inv(0.3, gamma=0.9, power=0.5, decay_on_iteration=True),
        {"torch": torch("LambdaLR", lr_lambda=lambda t: (1 + 0.9 * t) ** -0.5)},
    ),
    "step": Row(
        Step(0.3, period=49, gamma=0.7),
        {
            "torch": torch("StepLR", step_size=49, gamma=0.7),
            "optax": optax("exponential_decay", 0.3, 49, 0.7, staircase=True),
            "keras": keras("ExponentialDecay", 0.3, 49, 0.7, staircase=True),
        },
    ),
    "piecewise": Row(
        Piecewise(0.3, boundaries=[30, 31, 200], factor=0.1),
        {
            "torch": torch("MultiStepLR", milestones=[30, 31, 200], gamma=0.1),
            "optax": optax("piecewise_constant_schedule", 0.3, {30: 0.1, 31: 0.1, 200: 0.1}),
        },
    ),
    "piecewise factors": Row(
        Piecewise(0.3, boundaries=[30, 200], factor=[2.0, 0.1], decay_on_iteration=True),
        {"optax": optax("piecewise_constant_schedule", 0.3, {30: 2.0, 200: 0.1})},
    ),
    "piecewise levels": Row(  # Keras's changes at t > b
        Piecewise(0.3, boundaries=[30, 200], levels=[0.6, 0.1]),
        {"keras": keras("PiecewiseConstantDecay", [29, 199], [0.3, 0.6, 0.1])},
    ),
    "polynomial": Row(
        Polynomial(0.3, duration=300, power=2.5),
        {"torch": torch("PolynomialLR", total_iters=300, power=2.5)},
    ),
    "polynomial root": Row(
        Polynomial(0.3, duration=298, final=0.1, power=0.5),
        {
            "optax": optax("polynomial_schedule", 0.3, 0.1, 0.5, 298),
            "keras": keras("PolynomialDecay", 0.3, 298, 0.1, 0.5),
        },
    ),
    "polynomial up": Row(
        Polynomial(0.1, duration=300, final=0.3),
        {
            "torch": torch("LinearLR", start_factor=1 / 3, total_iters=300),
            "optax": optax("linear_schedule", 0.1, 0.3, 300),
        },
    ),
    "cosine": Row(
        Cosine(0.3, period=300, minimum=0.01),
        {
            "optax": optax("cosine_decay_schedule", 0.3, 300, 0.01 / 0.3),
            "keras": keras("CosineDecay", 0.3, 300, 0.01 / 0.3),
        },
    ),
    "cosine once": Row(  # PyTorch's goes up again after 300
        Cosine(0.3, period=300, decay_on_iteration=True),
        {"torch": torch("CosineAnnealingLR", T_max=300), "optax": optax("cosine_decay_schedule", 0.3, 300)},
        until=301,
    ),
    "cosine restarts": Row(
        Cosine(0.3, period=49, minimum=0.01, restarts=True),
        {
            "torch": torch("CosineAnnealingWarmRestarts", T_0=49, eta_min=0.01),
            "optax": optax_made(
                lambda o: o.join_schedules(
                    [o.cosine_decay_schedule(0.3, 49, 0.01 / 0.3)] * 9, [49 * k for k in range(1, 9)]
                )
            ),
            "keras": keras("CosineDecayRestarts", 0.3, 49, t_mul=1.0, alpha=0.01 / 0.3),
        },
    ),
    "cosine longer restarts": Row(
        Cosine(0.3, period=10, minimum=0.01, restarts=True, t_mult=2),
        {
            "torch": torch("CosineAnnealingWarmRestarts", T_0=10, T_mult=2, eta_min=0.01),
            "optax": optax_made(
                lambda o: o.join_schedules(
                    [o.cosine_decay_schedule(0.3, 10 * 2**k, 0.01 / 0.3) for k in range(6)],
                    [10 * (2**k - 1) for k in range(1, 6)],
                )
            ),
        },
    ),
    "one cycle": Row(
        OneCycle(0.3, duration=N),
        {
            "torch": torch("OneCycleLR", **ONE_CYCLE),
            "optax": optax("cosine_onecycle_schedule", N - 1, 0.3, pct_start=119.5 / 399),
        },
    ),
    "one cycle linear": Row(
        OneCycle(0.3, duration=N, pct_start=0.317, div_factor=10.0, final_div_factor=100.0, annealing="linear"),
        {
            "torch": torch(
                "OneCycleLR",
                pct_start=0.317,
                div_factor=10.0,
                final_div_factor=100.0,
                anneal_strategy="linear",
                **ONE_CYCLE,
            )
        },
    ),
    "one cycle three phases": Row(
        OneCycle(0.3, duration=N, three_phase=True, decay_on_iteration=False),
        {"torch": torch("OneCycleLR", three_phase=True, **ONE_CYCLE)},
    ),
    "one cycle three lines": Row(
        OneCycle(0.3, duration=N, pct_start=0.4, three_phase=True, annealing="linear"),
        {
            "torch": torch("OneCycleLR", pct_start=0.4, three_phase=True, anneal_strategy="linear", **ONE_CYCLE),
            "optax": optax("linear_onecycle_schedule", N - 1, 0.3, 159.5 / 399, 318.5 / 399),
        },
    ),
    "cyclic": Row(Cyclic(0.1, peak=0.7, up=30), {"torch": torch("CyclicLR", **CYCLIC)}),
    "cyclic saw": Row(
        Cyclic(0.1, peak=0.7, up=30, down=19, decay_on_iteration=False),
        {"torch": torch("CyclicLR", step_size_down=19, **CYCLIC)},
    ),
    "cyclic triangular2": Row(
        Cyclic(0.1, peak=0.7, up=30, mode="triangular2"), {"torch": torch("CyclicLR", mode="triangular2", **CYCLIC)}
    ),
    "cyclic exp_range": Row(
        Cyclic(0.1, peak=0.7, up=30, down=19, mode="exp_range", gamma=0.99),
        {"torch": torch("CyclicLR", step_size_down=19, mode="exp_range", gamma=0.99, **CYCLIC)},
    ),
    "warm-up": Row(
        WarmUp(Cosine(0.3, period=250, minimum=0.02), duration=50, initial=0.05),
        {
            "optax": optax("warmup_cosine_decay_schedule", 0.05, 0.3, 50, 300, 0.02),
            "keras": keras("CosineDecay", 0.05, 250, 0.02 / 0.3, warmup_target=0.3, warmup_steps=50),
        },
    ),
    "warm-up from 0": Row(
        WarmUp(0.3, duration=50, decay_on_iteration=False), {"optax": optax("warmup_constant_schedule", 0.0, 0.3, 50)}
    ),
    "warm-up from a fraction": Row(
        WarmUp(0.3, duration=50, fraction=0.25),
        {"torch": torch("LinearLR", start_factor=0.25, total_iters=50)},
    ),
    "warm-up then decay": Row(
        WarmUp(Exp(0.3, gamma=0.98), duration=50),
        {"optax": optax("warmup_exponential_decay_schedule", 0.0, 0.3, 50, 1, 0.98)},
    ),
    "join": Row(
        Join(
            [Polynomial(0.03, final=0.3, duration=40), Exp(0.3, gamma=0.98), Step(0.3, period=50, gamma=0.5)],
            boundaries=[40, 150],
        ),
        {
            "torch": torch_made(sequential),
            "optax": optax_made(
                lambda o: o.join_schedules(
                    [
                        o.linear_schedule(0.03, 0.3, 40),
                        o.exponential_decay(0.3, 1, 0.98),
                        o.exponential_decay(0.3, 50, 0.5, staircase=True),
                    ],
                    [40, 150],
                )
            ),
        },
    ),
    "chain": Row(
        Chain([Piecewise(0.25, boundaries=[30], levels=[1.0]), Exp(0.3, gamma=0.99), Step(1.0, period=70, gamma=0.5)]),
        {"torch": torch_made(chained)},
    ),
    "nested": Row(
        Join(
            [
                WarmUp(Chain([Cosine(1.0, period=60), 0.3]), duration=40),
                Chain([Join([0.1, Exp(1.0, gamma=0.9)], boundaries=[50]), 2.0]),
            ],
            boundaries=[150],
            decay_on_iteration=True,
        ),
        {
            "optax": optax_made(
                lambda o: o.join_schedules(
                    [
                        o.warmup_cosine_decay_schedule(0.0, 0.3, 40, 100),
                        o.constant_schedule(0.2),
                        o.exponential_decay(2.0, 1, 0.9),
                    ],
                    [150, 200],
                )
            )
        },
    ),
    "plateau": Row(Plateau(0.3), {"torch": torch("ConstantLR", factor=1.0)}),  # the rest is in test_plateau.py
}
