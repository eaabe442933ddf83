"""Schedule-Free while β₁ changes: x is found with the β₁ that made y, on every backend."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

pytest.importorskip("jax")
pytest.importorskip("torch")
pytest.importorskip("pytensor")

import torch

import thalweg as tw
from tests.optimizers import everywhere
from thalweg.errors import HyperparameterError
from thalweg.graph import Variable, wait
from thalweg.optimizers.torch import TorchOptimizer
from thalweg.schedules import Piecewise

START, RATE = np.array([1.0, -2.0, 0.5]), 0.125
EACH = np.array([0.9, 0.5, 0.25])


def gradients(number: int) -> Iterator[np.ndarray]:
    print("seed 8")
    rng = np.random.default_rng(8)
    for _ in range(number):
        yield 1.0 + rng.normal(size=START.shape)


def paper(betas: list[Any]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """y and x after each step of algorithm 1, with x, y and z each stored, for a β₁ of each step."""
    x, y, z, v, total = START.copy(), START.copy(), START.copy(), np.zeros_like(START), 0.0
    for t, (beta1, grad) in enumerate(zip(betas, gradients(len(betas)), strict=True), start=1):
        v = 0.999 * v + 0.001 * grad**2
        rate = RATE * np.sqrt(1 - 0.999**t)
        z = z - rate * grad / (np.sqrt(v) + 1e-8)
        total += rate**2
        x = (1 - rate**2 / total) * x + rate**2 / total * z
        y = (1 - beta1) * z + beta1 * x
        yield y, x


def follows(face: everywhere.Face, betas: list[Any], first: int = 0) -> None:
    """Whether a face that has made ``first`` steps goes on as the paper does."""
    for k, (grad, (y, x)) in enumerate(zip(gradients(len(betas)), paper(betas), strict=True)):
        if k < first:
            continue
        face.step({"x": grad})
        np.testing.assert_allclose(face.values()["x"], y, rtol=1e-10)
        np.testing.assert_allclose(face.evaluated()["x"], x, rtol=1e-10)


@pytest.mark.parametrize("backend", everywhere.FACES)
def test_a_schedule_of_it_is_the_papers(backend: str) -> None:
    falling = Piecewise(0.9, boundaries=[3, 5], levels=[0.5, 0.75], decay_on_iteration=True)
    face = everywhere.FACES[backend](tw.ScheduleFreeAdamW, {"x": START.copy()}, learning_rate=RATE, beta1=falling)
    follows(face, [0.9] * 3 + [0.5] * 2 + [0.75] * 3)


@pytest.mark.parametrize("backend", everywhere.FACES)
def test_an_array_of_it_is_the_papers(backend: str) -> None:
    face = everywhere.FACES[backend](tw.ScheduleFreeAdamW, {"x": START.copy()}, learning_rate=RATE, beta1=EACH)
    follows(face, [EACH] * 5)


@pytest.mark.parametrize("backend", everywhere.FACES)
def test_a_state_without_it_goes_on_as_it_was(backend: str) -> None:
    """Of a version that carried three numbers; its β₁ was a constant."""
    made = everywhere.FACES[backend]
    first = made(tw.ScheduleFreeAdamW, {"x": START.copy()}, learning_rate=RATE)
    for grad in gradients(3):
        first.step({"x": grad})
    snapshot = first.snapshot()
    metas = [key["state"] for key in snapshot.meta["keys"].values()] if "keys" in snapshot.meta else [snapshot.meta]
    for meta in metas:
        meta["carried"] = [row[:3] for row in meta["carried"]]
    second = made(tw.ScheduleFreeAdamW, first.values(), learning_rate=RATE)
    second.restore(snapshot)
    np.testing.assert_array_equal(second.evaluated()["x"], first.evaluated()["x"])
    follows(second, [0.9] * 6, first=3)


def test_setting_it_does_not_move_the_average() -> None:
    optimizer = tw.ScheduleFreeAdamW(Variable(START.copy(), name="x"), learning_rate=RATE)
    betas = [0.9] * 3 + [0.5] * 3
    for k, (grad, (y, x)) in enumerate(zip(gradients(6), paper(betas), strict=True)):
        before = optimizer.eval_params()["x"]
        optimizer.beta1 = betas[k]
        np.testing.assert_array_equal(optimizer.eval_params()["x"], before)
        wait(optimizer.step(grad=grad))
        np.testing.assert_allclose(optimizer.variable.data, y, rtol=1e-10)
        np.testing.assert_allclose(optimizer.eval_params()["x"], x, rtol=1e-10)


def test_an_array_of_it_stays_once_a_step_was_made() -> None:
    """The numbers that are carried cannot hold it."""
    optimizer = tw.ScheduleFreeAdamW(Variable(START.copy(), name="x"), learning_rate=RATE)
    optimizer.beta1 = EACH
    optimizer.beta1 = 0.75
    wait(optimizer.step(grad=np.ones(3)))
    with pytest.raises(HyperparameterError, match="beta1 is, or was, an array, and the coming step needs"):
        optimizer.beta1 = EACH
    assert optimizer.beta1 == 0.75


@pytest.mark.parametrize("kernel", ["native", "shared"])
def test_a_scheduler_of_pytorchs_that_cycles_it_is_followed(kernel: str) -> None:
    param = torch.nn.Parameter(torch.tensor(START))
    optimizer = TorchOptimizer([param], tw.ScheduleFreeAdamW(learning_rate=RATE), kernel=kernel)
    betas = [0.9, 0.8, 0.7, 0.8]
    for beta1, grad, (y, x) in zip(betas, gradients(4), paper(betas), strict=True):
        table = optimizer.param_groups[0]
        table["betas"] = (beta1, table["betas"][1])
        param.grad = torch.tensor(grad)
        optimizer.step()
        np.testing.assert_allclose(param.detach(), y, rtol=1e-10)
        (average,) = optimizer.eval_params().values()
        np.testing.assert_allclose(average, x, rtol=1e-10)
