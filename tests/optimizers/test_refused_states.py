"""State of other variables is refused also where a rule has no state; groups are told apart by what they hold."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpy as np
import pytest

import thalweg as tw
from tests.optimizers.updating import step
from thalweg.errors import HyperparameterError, StateMismatchError
from thalweg.optimizers import LocalOptimizer, OptimizerSnapshot
from thalweg.optimizers.jax import JaxOptimizer


def sgd(name: str, size: int = 2, dtype: Any = np.float64, **settings: Any) -> LocalOptimizer:
    optimizer = tw.SGD(tw.Variable(np.ones(size, dtype), name=name), **settings)
    tw.wait(optimizer.step(grad=np.ones(size, dtype)))
    return optimizer


@pytest.mark.parametrize(
    ("target", "words"),
    [
        (lambda: sgd("y"), "missing: variable y\n  - unexpected: variable x"),
        (lambda: sgd("x", 3), r"variable x was \{'shape': \[2\], .*, here it is \{'shape': \[3\]"),
        (lambda: sgd("x", 2, np.float32), "variable x was .*'dtype': 'float64'}, here it is .*'dtype': 'float32'}"),
    ],
)
def test_a_rule_without_state_is_of_its_variables_too(target: Any, words: str) -> None:
    optimizer = target()
    before = optimizer.state().meta
    with pytest.raises(StateMismatchError, match=words):
        optimizer.restore(sgd("x", learning_rate=0.5).state())
    assert optimizer.state().meta == before


def test_older_snapshots_do_not_say_what_they_are_of() -> None:
    saved = sgd("x", learning_rate=0.5).state()
    optimizer = sgd("y")
    optimizer.restore(OptimizerSnapshot(saved.arrays, {k: v for k, v in saved.meta.items() if k != "variables"}))
    assert optimizer.learning_rate == 0.5


def test_state_of_16_bit_variables_is_that_of_float32() -> None:
    functional = JaxOptimizer(tw.SGD(learning_rate=0.5))
    params = {"x": jnp.ones(2, jnp.bfloat16)}
    saved = functional.snapshot(params, functional.init(params))
    optimizer = sgd("x", dtype=np.float32)
    optimizer.restore(saved)
    assert optimizer.learning_rate == 0.5
    state = functional.restore(sgd("x", dtype=np.float32, learning_rate=0.25).state(), params)
    assert float(functional.current(state, "learning_rate")) == 0.25


def test_groups_that_hold_nothing_are_told_apart_by_their_order() -> None:
    one, two = np.array([0.1, 0.2]), np.array([0.3, 0.4])
    groups: list[dict[str, Any]] = [{"variables": "x", "beta1": 0.5}]
    groups += [{"variables": "x", "weight_decay": array} for array in (one, two)]
    optimizer = tw.Adam(tw.Variable(np.ones(2), name="x"), groups=groups)
    optimizer.restore(optimizer.state())
    for group, array in zip(optimizer.groups[1:], (one, two), strict=True):
        np.testing.assert_array_equal(group.weight_decay, array)  # type: ignore[arg-type]
    optimizer = tw.Adam(tw.Variable(np.ones(2), name="x"), groups=[*groups, {"variables": "x", "weight_decay": 0.5}])
    optimizer.restore(tw.Adam(tw.Variable(np.ones(2), name="x"), groups=groups).state())
    assert optimizer.groups[3].weight_decay == 0.5


def updated(groups: list[dict[str, Any]], *keys: str) -> Any:
    update = tw.get_updater(tw.SGD(learning_rate=1.0, groups=groups))
    for key in keys:
        step(update, key)
    return update


def test_an_updater_knows_groups_by_their_keys() -> None:
    def groups(*rates: tuple[str, float]) -> list[dict[str, Any]]:
        return [{"variables": name, "learning_rate": rate} for name, rate in rates]

    saved = updated(groups(("a", 0.5), ("b", 0.25), ("c", 0.125)), "a", "b").state()
    target = updated(groups(("c", 9.0), ("b", 9.0), ("a*", 9.0)))
    target.restore(saved)
    assert [step(target, key) for key in "abc"] == [0.5, 0.25, 0.125]
    with pytest.raises(StateMismatchError, match="not the same hold 'b'; put each into the group that it was in"):
        updated(groups(("a", 0.5))).restore(saved)
    with pytest.raises(StateMismatchError, match="write them as they were, in the same order"):
        updated(groups(("a", 0.5))).restore(updated(groups(("b", 0.5))).state())


def test_what_is_set_on_a_jax_optimizer_itself_is_refused() -> None:
    optimizer = JaxOptimizer(tw.Adam())
    with pytest.raises(HyperparameterError, match=r"state = optimizer\.set\(state, learning_rate=\.\.\.\)"):
        optimizer.learning_rate = 0.5  # type: ignore[attr-defined]
    with pytest.raises(HyperparameterError, match=r"JaxOptimizer\(tw\.Adam\(process_grad=\.\.\.\)\)"):
        optimizer.process_grad = np.sign  # type: ignore[attr-defined]
    optimizer.name = "fast"
    with pytest.raises(HyperparameterError, match="fast: lr cannot be set here"):
        optimizer.lr = 0.5  # type: ignore[attr-defined]
