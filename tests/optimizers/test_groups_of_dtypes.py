"""Groups over parameters of several dtypes: a hyperparameter has to fit into the dtypes of those that it is for."""

from __future__ import annotations

from typing import Any

import jax
import numpy as np
import pytest

from tests.optimizers.everywhere import double
from thalweg import optimizers
from thalweg.errors import HyperparameterError
from thalweg.graph import Variable, wait
from thalweg.optimizers import Adam
from thalweg.optimizers.jax import JaxOptimizer


def two_dtypes() -> list[Variable]:
    return [Variable(np.zeros(1, np.float32), name="single"), Variable(np.zeros(1), name="double")]


ONES = {"single": np.ones(1, np.float32), "double": np.ones(1)}


@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("adam", {"beta2": 1 - 1e-9}),  # 1 in float32, which is out of its range
        ("adam", {"learning_rate": 3e37}),  # over 1 - β₁ it does not fit into float32
        ("sgd", {"learning_rate": 1e39}),
        ("lamb", {"learning_rate": 1e39}),
        ("nadam", {"learning_rate": 1e39, "momentum_decay": 0.5}),  # which carries a number from step to step
    ],
)
def test_what_fits_into_float64_only_is_for_variables_of_float64(kind: str, settings: dict[str, float]) -> None:
    both: Any = optimizers.registry[kind](two_dtypes(), groups=[{"variables": "double", **settings}])
    single, double = two_dtypes()
    alone = [optimizers.registry[kind](single), optimizers.registry[kind](double, **settings)]
    for _ in range(3):
        wait(both.step(grad=ONES))
        for optimizer in alone:
            wait(optimizer.step(grad=ONES[optimizer.variable.name]))
    assert [v.data.tobytes() for v in both.variables] == [single.data.tobytes(), double.data.tobytes()]
    assert np.isfinite(double.data).all()
    rows = [row for optimizer in alone for row in optimizer.state().meta["carried"]]
    assert both.state().meta["carried"] == rows


def test_what_fits_into_float64_only_is_for_parameters_of_float64_on_jax() -> None:
    with double():
        grads = jax.tree.map(jax.numpy.asarray, ONES)
        optimizer = JaxOptimizer(Adam(beta2=0.5, groups=[{"variables": "double", "beta2": 0.25}]))
        state = optimizer.set(optimizer.init(grads), group=0, beta2=1 - 1e-9)
        assert optimizer.current(state, "beta2", group=0) == 1 - 1e-9
        with pytest.raises(HyperparameterError, match=r"beta2 = 0.999999999 becomes 1.0 in float32"):
            optimizer.set(state, beta2=1 - 1e-9)
        with pytest.raises(HyperparameterError, match=r"beta1 = 0.999999999 becomes 1.0 in float32"):
            JaxOptimizer(Adam()).set(state, beta1=1 - 1e-9)
        params, _ = optimizer.step(grads, grads, state)
        assert all(np.isfinite(value).all() for value in params.values())


@pytest.mark.parametrize(("kind", "settings"), [("adam", {"beta2": 1 - 1e-9}), ("sgd", {"learning_rate": 1e39})])
@pytest.mark.parametrize("place", ["the optimizer", "a group"])
def test_what_does_not_fit_into_a_variable_that_has_it_is_refused(
    kind: str, settings: dict[str, float], place: str
) -> None:
    own, groups = (settings, []) if place == "the optimizer" else ({}, [{"variables": "single", **settings}])
    optimizer: Any = optimizers.registry[kind](two_dtypes(), groups=groups, **own)
    with pytest.raises(HyperparameterError, match="float32"):
        wait(optimizer.step(grad=ONES))
    assert [v.data.item() for v in optimizer.variables] == [0.0, 0.0]
    for name, value in settings.items():
        setattr(optimizer.groups[0] if groups else optimizer, name, 0.5 if value < 1 else 0.25)
    wait(optimizer.step(grad=ONES))
    assert all(v.data.item() < 0.0 for v in optimizer.variables)
