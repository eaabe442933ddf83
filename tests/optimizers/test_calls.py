"""Many small arrays are updated in one call of the compiled pass, not in one each."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import thalweg as tw
from thalweg.graph import Variable, wait
from thalweg.lowering import Batch

COUNTS = (1, 1000)
SIZE = 20  # all of them together are too small for a second thread


class Counted:
    """A compiled function that counts how often it is called."""

    def __init__(self, function: Any) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *addresses: int) -> int:
        self.calls += 1
        found: int = self.function(*addresses)
        return found


@pytest.fixture
def functions(monkeypatch: pytest.MonkeyPatch) -> list[Counted]:
    """The compiled functions of all batches that are made in a test."""
    found: list[Counted] = []
    make = Batch.__init__

    def counting(self: Any, *given: Any, **named: Any) -> None:
        make(self, *given, **named)
        self._function = Counted(self._function)
        found.append(self._function)

    monkeypatch.setattr(Batch, "__init__", counting)
    return found


def calls(functions: list[Counted]) -> int:
    """How many calls there were since the last time."""
    total = sum(one.calls for one in functions)
    for one in functions:
        one.calls = 0
    return total


@pytest.mark.parametrize("cls", [tw.Adam, tw.LAMB], ids=["adam", "lamb"])  # LAMB sums over each array first
def test_on_numpy(cls: Any, functions: list[Counted]) -> None:
    found = {}
    for count in COUNTS:
        variables = [Variable(np.full(SIZE, 1.0), name=f"x{k}", needs_grad=True) for k in range(count)]
        optimizer = cls(variables, learning_rate=0.125)
        for variable in variables:
            variable.grad = np.full(SIZE, 3.0)
        steps = []
        for step in range(4):
            if step == 2:  # other arrays of gradients: everything is looked at again
                for variable in variables:
                    variable.grad = np.full(SIZE, 3.0)
            wait(optimizer.step())
            steps.append(calls(functions))
        assert len(functions) == 1
        functions.clear()
        found[count] = steps
        assert all(np.array_equal(v.data, variables[0].data) for v in variables)
        assert variables[0].data[0] < 1.0
    assert found[1] == found[1000]
    assert min(found[1000]) >= 1
    assert max(found[1000]) <= 5, found


@pytest.mark.parametrize("cls", [tw.Adam, tw.LAMB], ids=["adam", "lamb"])
def test_on_pytorch_s_parameters(cls: Any, functions: list[Counted]) -> None:
    torch = pytest.importorskip("torch")
    from thalweg.optimizers.torch import TorchOptimizer

    found = {}
    for count in COUNTS:
        params = [torch.nn.Parameter(torch.ones(SIZE)) for _ in range(count)]
        optimizer = TorchOptimizer(params, cls(learning_rate=0.125), kernel="shared")
        steps = []
        for _ in range(3):
            for param in params:
                param.grad = torch.full((SIZE,), 3.0)
            optimizer.step()
            steps.append(calls(functions))
        assert len(functions) == 1
        functions.clear()
        found[count] = steps
        assert all(torch.equal(param, params[0]) for param in params)
        assert params[0][0] < 1.0
    assert found[1] == found[1000]
    assert min(found[1000]) >= 1
    assert max(found[1000]) <= 5, found
