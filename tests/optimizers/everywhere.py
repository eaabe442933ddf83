"""One optimizer on every backend behind one face, for tests of what must hold on all of them.

A face is made of an optimizer's class, its options, and parameters by name as NumPy arrays. It takes gradients by name
and gives values by name, as NumPy arrays of the parameters' dtypes.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np
import pytensor
import torch

from thalweg.errors import HyperparameterError, NonFiniteGradientError
from thalweg.graph import Variable, wait
from thalweg.optimizers import LocalOptimizer, OptimizerSnapshot, get_updater
from thalweg.optimizers.jax import JaxOptimizer
from thalweg.optimizers.pytensor import symbolic
from thalweg.optimizers.torch import TorchOptimizer

Arrays = Mapping[str, Any]
Settings = type[LocalOptimizer]


class Face:
    """One optimizer over parameters by name."""

    name: ClassVar[str]
    compiled = False
    """Whether a value that is refused is told by a flag only, as inside ``jax.jit``."""

    def __init__(self, cls: Settings, start: Arrays, **options: Any) -> None:
        raise NotImplementedError

    def step(self, grads: Arrays) -> None:
        """One step; an error for what is refused."""
        raise NotImplementedError

    def values(self) -> dict[str, np.ndarray]:
        """The parameters, copies."""
        raise NotImplementedError

    def snapshot(self) -> OptimizerSnapshot:
        """The state."""
        raise NotImplementedError

    def restore(self, snapshot: OptimizerSnapshot) -> None:
        """Continue from a state."""
        raise NotImplementedError

    def evaluated(self) -> dict[str, Any]:
        """Where the model is to be evaluated."""
        raise NotImplementedError

    def skipped(self) -> int:
        """How many steps were skipped."""
        return int(self.snapshot().meta["skipped"])


class OnNumPy(Face):
    name = "numpy"

    def __init__(self, cls: Settings, start: Arrays, **options: Any) -> None:
        self.variables = [Variable(array, name=name) for name, array in start.items()]
        self.optimizer = cls(self.variables, **options)

    def step(self, grads: Arrays) -> None:
        wait(self.optimizer.step(grad=dict(grads)))

    def values(self) -> dict[str, np.ndarray]:
        return {str(v.name): np.array(v.data) for v in self.variables}

    def snapshot(self) -> OptimizerSnapshot:
        return self.optimizer.state()

    def restore(self, snapshot: OptimizerSnapshot) -> None:
        self.optimizer.restore(snapshot)

    def evaluated(self) -> dict[str, Any]:
        return self.optimizer.eval_params()


class OfUpdater(Face):
    name = "updater"

    def __init__(self, cls: Settings, start: Arrays, **options: Any) -> None:
        self.weights, self.update = dict(start), get_updater(cls(**options))

    def step(self, grads: Arrays) -> None:
        for name, grad in grads.items():
            self.update(name, grad, self.weights[name])

    def values(self) -> dict[str, np.ndarray]:
        return {name: np.array(weight) for name, weight in self.weights.items()}

    def snapshot(self) -> OptimizerSnapshot:
        return self.update.state()

    def restore(self, snapshot: OptimizerSnapshot) -> None:
        self.update.restore(snapshot)

    def evaluated(self) -> dict[str, Any]:
        return {str(name): array for name, array in self.update.eval_params(self.weights).items()}

    def skipped(self) -> int:
        return max(int(key["state"]["skipped"]) for key in self.snapshot().meta["keys"].values())


class OnTorch(Face):
    name, kernel = "torch", "native"

    def __init__(self, cls: Settings, start: Arrays, **options: Any) -> None:
        self.params = {name: torch.nn.Parameter(torch.tensor(array)) for name, array in start.items()}
        self.optimizer = TorchOptimizer(self.params.items(), cls(**options), kernel=self.kernel)

    def step(self, grads: Arrays) -> None:
        for name, grad in grads.items():
            if np.shape(grad) == self.params[name].shape:
                self.params[name].grad = torch.tensor(grad)
            else:  # PyTorch itself refuses to keep it, in words of its own
                with torch.no_grad():
                    self.params[name].grad = None
                    self.params[name].grad = torch.tensor(grad)
        self.optimizer.step()

    def values(self) -> dict[str, np.ndarray]:
        return {name: param.detach().numpy().copy() for name, param in self.params.items()}

    def snapshot(self) -> OptimizerSnapshot:
        return self.optimizer.snapshot()

    def restore(self, snapshot: OptimizerSnapshot) -> None:
        self.optimizer.restore(snapshot)

    def evaluated(self) -> dict[str, Any]:
        return {name: tensor.numpy() for name, tensor in self.optimizer.eval_params().items()}


class OnTorchShared(OnTorch):
    name, kernel = "torch, shared kernel", "shared"


def double() -> contextlib.AbstractContextManager[Any]:
    """JAX with 64 bits, here only."""
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()


class OnJax(Face):
    name = "jax"

    def __init__(self, cls: Settings, start: Arrays, **options: Any) -> None:
        self.optimizer = JaxOptimizer(cls(**options))
        with double():
            self.params = {name: jnp.array(array) for name, array in start.items()}
            self.state = self.optimizer.init(self.params)

    def step(self, grads: Arrays) -> None:
        with double():
            given = {name: jnp.array(grad) for name, grad in grads.items()}
            self.params, self.state = self._made(given)

    def _made(self, grads: Any) -> Any:
        return self.optimizer.step(self.params, grads, self.state)

    def values(self) -> dict[str, np.ndarray]:
        return {name: np.array(array) for name, array in self.params.items()}

    def snapshot(self) -> OptimizerSnapshot:
        with double():
            return self.optimizer.snapshot(self.params, self.state)

    def restore(self, snapshot: OptimizerSnapshot) -> None:
        with double():
            self.state = self.optimizer.restore(snapshot, self.params)

    def evaluated(self) -> dict[str, Any]:
        with double():
            return {n: np.array(a) for n, a in self.optimizer.eval_params(self.params, self.state).items()}


class OnJaxCompiled(OnJax):
    """The donating step, whose flags are the errors."""

    name, compiled = "jax, jitted", True

    def _made(self, grads: Any) -> Any:
        params, state = self.optimizer.jitted_step(self.params, grads, self.state)
        self.params, self.state = params, state  # what was given is gone
        if not state.usable:
            raise HyperparameterError("the flag says that a number is out of its range")
        if not state.finite and self.optimizer._plan.nonfinite == "raise":
            raise NonFiniteGradientError("the flag says that a gradient is not finite")
        return params, state


class OnPyTensor(Face):
    """Gradients are those of a cost that is linear in the parameters."""

    name = "pytensor"

    def __init__(self, cls: Settings, start: Arrays, **options: Any) -> None:
        self.optimizer = cls(**options)
        self.shared = {name: pytensor.shared(np.array(array), name=name) for name, array in start.items()}
        self.slopes = {name: pytensor.shared(0.0 * np.array(array)) for name, array in start.items()}

    @functools.cached_property
    def function(self) -> Any:
        cost = sum((self.shared[name] * self.slopes[name]).sum() for name in self.shared)
        updates = self.optimizer.update(cost, list(self.shared.values()))
        return pytensor.function([], updates=updates, mode="FAST_COMPILE")

    @functools.cached_property
    def evaluation(self) -> Any:
        assert self.function is not None
        expressions = symbolic(self.optimizer).eval_params()
        return pytensor.function([], [expressions[name] for name in self.shared], mode="FAST_COMPILE")

    def step(self, grads: Arrays) -> None:
        for name, grad in grads.items():
            self.slopes[name].set_value(np.array(grad))
        self.function()

    def values(self) -> dict[str, np.ndarray]:
        return {name: np.array(shared.get_value()) for name, shared in self.shared.items()}

    def snapshot(self) -> OptimizerSnapshot:
        assert self.function is not None
        return symbolic(self.optimizer).state()

    def restore(self, snapshot: OptimizerSnapshot) -> None:
        symbolic(self.optimizer).restore(snapshot, list(self.shared.values()))

    def evaluated(self) -> dict[str, Any]:
        return dict(zip(self.shared, self.evaluation(), strict=True))


FACES: dict[str, type[Face]] = {
    face.name: face for face in (OnNumPy, OfUpdater, OnTorch, OnTorchShared, OnJax, OnJaxCompiled, OnPyTensor)
}
