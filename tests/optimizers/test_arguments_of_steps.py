"""What only a step on NumPy takes, and what a step on another backend says to it."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

import thalweg as tw
from thalweg.errors import HyperparameterError, NonFiniteGradientError, OptimizerError
from thalweg.graph import Variable, wait

ARGUMENTS: dict[str, Any] = {"step_size": 0.5, "grad": np.ones(2), "processed_grad": np.ones(2)}


@pytest.mark.parametrize("name", ARGUMENTS)
@pytest.mark.parametrize("kernel", ["shared", "native"])
def test_on_pytorch(name: str, kernel: str) -> None:
    torch = pytest.importorskip("torch")
    from thalweg.optimizers.torch import TorchOptimizer

    x = torch.nn.Parameter(torch.ones(2))
    x.grad = torch.ones(2)
    optimizer = TorchOptimizer([x], tw.SGD(learning_rate=0.25), kernel=kernel)
    with pytest.raises(OptimizerError, match=f"sgd: step takes {name} on NumPy only; .*(param_groups|grad)"):
        optimizer.step(**{name: ARGUMENTS[name]})
    with pytest.raises(OptimizerError, match=r"takes a closure, and was given a (float|ndarray); .*param_groups"):
        optimizer.step(ARGUMENTS[name])
    with pytest.raises(TypeError, match="unexpected keyword argument 'closures'"):
        optimizer.step(closures=None)
    assert x.tolist() == [1.0, 1.0]
    optimizer.step()
    assert x.tolist() == [0.75, 0.75]


@pytest.mark.parametrize("name", ARGUMENTS)
def test_on_jax(name: str) -> None:
    jax = pytest.importorskip("jax")
    from thalweg.optimizers.jax import JaxOptimizer

    optimizer, x = JaxOptimizer(tw.SGD(learning_rate=0.25)), jax.numpy.ones(2)
    state = optimizer.init(x)
    instead = (
        "optimizer.set(state, learning_rate=...)" if name == "step_size" else "optimizer.step(params, grads, state)"
    )
    with pytest.raises(OptimizerError, match=f"step takes {name} on NumPy only; .*{re.escape(instead)}"):
        optimizer.step(x, x, state, **{name: ARGUMENTS[name]})
    with pytest.raises(TypeError, match="unexpected keyword argument 'rate'"):
        optimizer.step(x, x, state, rate=1.0)
    assert optimizer.step(x, x, state)[0].tolist() == [0.75, 0.75]


@pytest.mark.parametrize("name", ARGUMENTS)
def test_on_pytensor(name: str) -> None:
    pytensor = pytest.importorskip("pytensor")

    x = pytensor.shared(np.ones(2), name="x")
    for optimizer in (tw.SGD([x], learning_rate=0.25), tw.SGD(learning_rate=0.25)):
        if not optimizer._symbols:
            optimizer.update((x**2).sum(), [x])
        with pytest.raises(OptimizerError, match="is used on PyTensor, where compiled functions make the steps"):
            wait(optimizer.step(**{name: ARGUMENTS[name]}))
    assert x.get_value().tolist() == [1.0, 1.0]


def test_what_process_model_returns_is_written_as_it_is_and_shows_in_the_next_gradient() -> None:
    """The policy for what is not finite is about gradients, as the docs say."""
    x = Variable(np.array([-1.0, 4.0]), name="x", needs_grad=True)
    optimizer = tw.SGD(x, learning_rate=0.0, process_model=lambda data: np.where(data < 0, np.nan, data))
    wait(optimizer.step(grad=np.ones(2)))
    np.testing.assert_array_equal(x.data, [np.nan, 4.0])
    assert optimizer.skipped == optimizer.zeroed == 0
    with pytest.raises(NonFiniteGradientError, match="'x', iteration 2"):
        wait(optimizer.step(grad=2 * x.data))


def test_an_array_of_rates_is_none_of_a_schedule_s() -> None:
    x, rates = Variable(np.ones(2), name="x"), np.array([0.5, 0.25])
    np.testing.assert_array_equal(tw.SGD(x, learning_rate=rates).current("learning_rate"), rates)
    for function in (tw.get_learning_rate, tw.get_momentum):
        with pytest.raises(HyperparameterError, match="give a real number"):
            function(rates, tw.OptimizationState())
