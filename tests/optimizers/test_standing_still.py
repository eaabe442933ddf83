"""What is said of a schedule that counts epochs where none has begun: once, by a step, and only where it is true."""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import thalweg as tw
from thalweg.optimizers.updater import Updater
from thalweg.schedules import Chain, Exp, Fixed, Join, Plateau, Schedule, WarmUp


@dataclass(frozen=True)
class Halves(Schedule):
    """The example of Schedule: it has no field of what it counts."""

    kind = "halves"
    initial: float

    def __call__(self, state: Any) -> float:
        return self.initial / (1 + state.completed_iterations)


def plateau() -> Plateau:
    return Plateau(1.0, factor=0.5, patience=0)


MOVE: dict[str, Any] = {
    "a number": 1.0,
    "fixed": Fixed(1.0),
    "plateau": plateau(),
    "a class of the user's": Halves(1.0),
    "a product with a class of the user's": Chain([Halves(1.0), 0.5]),
    "a product with a plateau": Chain([plateau(), 0.5]),
    "a product of a plateau": Chain([plateau()]),
    "a product of numbers": Chain([1.0, 0.5]),
    "steps": Exp(1.0, gamma=0.5, decay_on_iteration=True),
    "what follows a warm-up counts with it": WarmUp(then=Exp(1.0, gamma=0.5), duration=2),
    "a warm-up before a product": WarmUp(then=Chain([Exp(1.0, gamma=0.5)]), duration=2),
    "what is joined counts with it": Join([1.0, Exp(1.0, gamma=0.5)], boundaries=[2], decay_on_iteration=True),
    "a function": lambda state: 1.0,
}
STAND: dict[str, Any] = {
    "epochs": Exp(1.0, gamma=0.5),
    "a factor": Chain([WarmUp(then=1.0, duration=2), Exp(1.0, gamma=0.5)]),
    "a factor of a factor": Chain([0.5, Chain([plateau(), Exp(1.0, gamma=0.5)])]),
    "a warm-up of epochs": WarmUp(then=1.0, duration=2, decay_on_iteration=False),
    "joined": Join([1.0, 0.5], boundaries=[2]),
}


@contextmanager
def told(times: int) -> Iterator[None]:
    """What is told inside: so many warnings, all of which point here."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield
    assert [one.filename for one in caught if "none has begun" in str(one.message)] == [__file__] * times
    assert len(caught) == times


def variable(name: str = "x") -> tw.Variable:
    return tw.Variable(np.ones(2), name=name, needs_grad=True)


def steps(optimizer: Any, count: int) -> None:
    for _ in range(count):
        tw.wait(optimizer.step(grad=np.ones(2)))


@pytest.mark.parametrize("which", MOVE)
def test_nothing_is_said_of_what_counts_no_epochs(which: str) -> None:
    with told(0):
        steps(tw.SGD(variable(), learning_rate=MOVE[which]), 3)


@pytest.mark.parametrize("which", STAND)
def test_what_stands_still_is_told_once(which: str) -> None:
    optimizer = tw.SGD(variable(), learning_rate=STAND[which])
    with told(0):
        steps(optimizer, 1)
    with told(1):
        steps(optimizer, 3)


def test_setting_and_reading_say_nothing() -> None:
    optimizer = tw.SGD(variable(), learning_rate=1.0)
    steps(optimizer, 2)
    with told(0):
        optimizer.learning_rate = Exp(1.0, gamma=0.5)
        assert optimizer.current("learning_rate") == 1.0
        optimizer.optimization_state.begin_epoch()
        steps(optimizer, 2)


def test_one_that_is_set_late_is_told_by_the_next_step() -> None:
    optimizer = tw.SGD(variable(), learning_rate=1.0)
    steps(optimizer, 5)
    optimizer.learning_rate = Exp(1.0, gamma=0.5)
    with told(1):
        steps(optimizer, 2)


def test_a_warning_that_is_an_error_changes_nothing_and_comes_once() -> None:
    x = variable()
    optimizer = tw.SGD(x, learning_rate=Exp(1.0, gamma=0.5))
    steps(optimizer, 1)
    with pytest.raises(UserWarning, match=r"Exp.* of learning_rate counts epochs, and none has begun"):
        steps(optimizer, 1)
    assert (x.data[0], optimizer.iterations) == (0.0, 1)
    steps(optimizer, 1)
    assert (x.data[0], optimizer.iterations) == (-1.0, 2)


def test_a_group_is_looked_at_too() -> None:
    several = [variable("a"), variable("b")]
    optimizer = tw.SGD(several, groups=[{"variables": "b", "learning_rate": Exp(1.0, gamma=0.5)}])
    with told(1):
        for _ in range(3):
            tw.wait(optimizer.step(grad={"a": np.ones(2), "b": np.ones(2)}))


def test_it_points_at_the_line_that_awaits() -> None:
    async def train() -> None:
        optimizer = tw.SGD(variable(), learning_rate=Exp(1.0, gamma=0.5))
        for _ in range(3):
            await optimizer.step(grad=np.ones(2))

    with told(1):
        asyncio.run(train())


def test_an_updater_tells_once_for_all_its_keys() -> None:
    update = Updater(tw.SGD(learning_rate=Exp(1.0, gamma=0.5)))
    weights = {key: np.ones(2) for key in "abc"}
    with told(1):
        for _ in range(3):
            for key, weight in weights.items():
                update(key, np.ones(2), weight)


def test_pytorch_tells_once_at_the_users_line() -> None:
    import torch

    from thalweg.optimizers.torch import TorchOptimizer

    params = [(name, torch.ones(1, requires_grad=True)) for name in "ab"]
    optimizer = TorchOptimizer([{"params": [one]} for one in params], tw.SGD(learning_rate=Exp(1.0, gamma=0.5)))
    for _, param in params:
        param.grad = torch.ones(1)
    with told(1):
        for _ in range(3):
            optimizer.step()


def test_pytorch_says_nothing_when_one_is_added_or_read() -> None:
    import torch

    from thalweg.optimizers.torch import TorchOptimizer

    one = torch.ones(1, requires_grad=True)
    one.grad = torch.ones(1)
    optimizer = TorchOptimizer([("a", one)], tw.SGD(learning_rate=1.0))
    optimizer.step()
    optimizer.step()
    with told(0):
        optimizer.param_groups[0]["lr"] = Exp(1.0, gamma=0.5)
        optimizer.state_dict()
        optimizer.optimization_state.begin_epoch()
        optimizer.step()


def test_nothing_is_said_of_what_no_variable_follows() -> None:
    rates = [{"variables": "x", "learning_rate": 0.5}]
    optimizer = tw.SGD(variable(), learning_rate=Exp(1.0, gamma=0.5), groups=rates)
    with told(0):
        steps(optimizer, 3)
