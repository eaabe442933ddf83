"""Where another metric follows, the best one is forgotten and what was reduced stays: on every backend."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax")
torch = pytest.importorskip("torch")
pytensor = pytest.importorskip("pytensor")
import jax.numpy as jnp  # noqa: E402

import thalweg as tw  # noqa: E402
from thalweg.errors import HyperparameterError  # noqa: E402
from thalweg.optimizers.jax import JaxOptimizer  # noqa: E402
from thalweg.optimizers.torch import TorchOptimizer  # noqa: E402
from thalweg.schedules import Chain, Plateau  # noqa: E402


def plateau(initial: float = 1.0, patience: int = 0) -> Plateau:
    return Plateau(initial, factor=0.5, patience=patience)


class OnNumpy:
    def __init__(self, recipe: Any) -> None:
        self.x = {name: tw.Variable(np.zeros(1), name=name, needs_grad=True) for name in "ab"}
        self.optimizer = recipe.bind(list(self.x.values()))

    def tell(self, metric: float | None) -> None:
        """``None``: another metric follows."""
        if metric is None:
            self.optimizer.forget_best()
        else:
            self.optimizer.observe(metric)

    def moved(self) -> list[float]:
        before = [x.data.item() for x in self.x.values()]
        self.step()
        return [old - x.data.item() for old, x in zip(before, self.x.values(), strict=True)]

    def step(self) -> None:
        tw.wait(self.optimizer.step(grad={"a": np.ones(1), "b": np.ones(1)}))


class OnTorch(OnNumpy):
    def __init__(self, recipe: Any) -> None:
        self.x = {name: torch.zeros(1, requires_grad=True) for name in "ab"}  # type: ignore[misc]
        self.optimizer = TorchOptimizer(self.x.items(), recipe)

    def step(self) -> None:
        for x in self.x.values():
            x.grad = torch.ones(1)
        self.optimizer.step()


class OnJax(OnNumpy):
    def __init__(self, recipe: Any) -> None:
        self.x = {"a": jnp.zeros(1), "b": jnp.zeros(1)}
        self.optimizer = JaxOptimizer(recipe)
        self.state = self.optimizer.init(self.x)

    def tell(self, metric: float | None) -> None:
        if metric is None:
            self.state = self.optimizer.forget_best(self.state)
        else:
            self.state = self.optimizer.observe(self.state, metric)

    def moved(self) -> list[float]:
        before = self.x
        self.x, self.state = self.optimizer.step(self.x, {"a": jnp.ones(1), "b": jnp.ones(1)}, self.state)
        return [float(before[name][0] - self.x[name][0]) for name in "ab"]


class OnPytensor(OnNumpy):
    def __init__(self, recipe: Any) -> None:
        self.shared = [pytensor.shared(np.zeros(1), name=name) for name in "ab"]
        self.optimizer = recipe
        updates = recipe.update(sum(one.sum() for one in self.shared), self.shared)
        self.compiled = pytensor.function([], [], updates=updates, mode="FAST_COMPILE")

    def moved(self) -> list[float]:
        before = [one.get_value().item() for one in self.shared]
        self.compiled()
        return [old - one.get_value().item() for old, one in zip(before, self.shared, strict=True)]


class BehindUpdater(OnNumpy):
    def __init__(self, recipe: Any) -> None:
        self.update = tw.get_updater(recipe)
        self.optimizer = self.update.optimizer

    def moved(self) -> list[float]:
        found = []
        for key in "ab":
            weight = np.zeros(1)
            self.update(key, np.ones(1), weight)
            found.append(-weight.item())
        return found


EVERYWHERE = [OnNumpy, OnTorch, OnJax, OnPytensor, BehindUpdater]


def of_a_group(one: Any, other: Any) -> Any:
    return tw.SGD(learning_rate=one, groups=[{"variables": "b", "learning_rate": other}])


@pytest.mark.parametrize("made", EVERYWHERE)
def test_the_best_is_forgotten_and_what_was_reduced_stays(made: Any) -> None:
    here = made(of_a_group(plateau(), plateau(4.0)))
    found = []
    for metric in (1.0, 2.0, None, 9.0, 8.0, 8.5):
        here.tell(metric)
        found.append(metric)
        if metric in (2.0, 8.0):
            assert here.moved() == [0.5, 2.0], found
    assert here.moved() == [0.25, 1.0]


@pytest.mark.parametrize("made", EVERYWHERE)
def test_so_are_the_bad_ones_in_a_row(made: Any) -> None:
    here = made(of_a_group(plateau(patience=1), plateau(4.0, patience=1)))
    for metric in (1.0, 2.0, None, 9.0, 9.0):
        here.tell(metric)
    assert here.moved() == [1.0, 4.0]
    here.tell(9.0)
    assert here.moved() == [0.5, 2.0]


@pytest.mark.parametrize("made", [one for one in EVERYWHERE if one not in (OnJax, OnPytensor)])
def test_one_inside_others_forgets_too(made: Any) -> None:
    one = plateau()
    here = made(of_a_group(Chain([plateau(), 2.0]), Chain([one, Chain([one, 3.0])])))
    for metric in (1.0, 2.0, None, 9.0):
        here.tell(metric)
    assert here.moved() == [1.0, 0.75]
    here.tell(10.0)
    assert here.moved() == [0.5, 0.1875]


def test_on_jax_outside_of_a_trace_and_where_nothing_is_told_nothing_changes() -> None:
    optimizer = JaxOptimizer(tw.SGD(learning_rate=plateau()))
    state = optimizer.observe(optimizer.init(jnp.ones(2)), 1.0)
    with pytest.raises(HyperparameterError, match=r"forget_best .* call it outside of the traced function"):
        jax.jit(optimizer.forget_best)(state)
    assert optimizer.snapshot(jnp.ones(2), state).meta["schedules"]["learning_rate"]["best"] == 1.0
    plain = JaxOptimizer(tw.SGD())
    state = plain.init(jnp.ones(2))
    assert plain.forget_best(state) is state


def test_on_pytorch_also_one_that_was_set_in_a_param_group() -> None:
    here = OnTorch(tw.SGD())
    mine = here.optimizer.param_groups[0]["lr"] = plateau()
    for metric in (1.0, 2.0, None):
        here.tell(metric)
    assert mine.state() == {"best": None, "bad_count": 0, "cooldown_count": 0, "factor": 0.5}


def test_on_pytorch_also_one_that_only_groups_to_come_follow() -> None:
    of_user = {"params": [("c", torch.zeros(1, requires_grad=True))], "lr": 0.25}
    optimizer = TorchOptimizer([of_user], tw.SGD(learning_rate=plateau()))
    optimizer.observe(1.0)
    optimizer.forget_best()
    optimizer.observe(9.0)
    optimizer.add_param_group({"params": [("a", torch.zeros(1, requires_grad=True))]})
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 1.0]
