"""What the optimizers of PyCMTensor's page have in common: parameters, numbers that can be set, and updates."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thalweg.dialects.betas import Taken, limits, taken_apart
from thalweg.errors import HyperparameterError, OptimizerError, ParameterError
from thalweg.optimizers.local import LocalOptimizer
from thalweg.optimizers.meaning import means_something, meant
from thalweg.optimizers.pytensor import require_pytensor, symbolic
from thalweg.rules.ranges import fraction, number, positive
from thalweg.rules.spelling import unknown

Updates = list[tuple[Any, Any]]

_NUMBERS = {
    "b1": ("beta1", fraction),
    "b2": ("beta2", fraction),
    "m": ("momentum", fraction),
    "rho": ("rho", fraction),
    "epsilon": ("epsilon", positive),
}
"""The page's numbers, each with Thalweg's name for it and its range."""


class Optimizer:
    """Base optimizer class.

    Args:
        params: shared variables of PyTensor, or objects around them such as Betas and Weights.
        name: the optimizer's name.
        b1: exponential decay rate for the 1st moment estimates, in [0, 1).
        b2: exponential decay rate for the 2nd moment estimates, in [0, 1).
        m: acceleration factor, in [0, 1).
        rho: decay or discounting factor, in [0, 1).
        epsilon: what keeps divisions finite, in the unit of the gradient or its square, positive.

    Raises:
        MissingExtraError: PyTensor is not installed.
        ParameterError: the parameters are no list, or one is, or holds, no shared variable.
        HyperparameterError: a number is out of its range, or a bound or status is none; later: one is set that the
            algorithm does not have, or what nobody reads once the optimizer is made (``nesterov``, ``lr``).
        OptimizerError: a parameter is there twice.

    Example:
        >>> import numpy as np
        >>> import pytensor
        >>> from thalweg.dialects.pycmtensor import Optimizer, SGD
        >>> beta = pytensor.shared(np.array(2.0), name="beta")
        >>> sgd = SGD([beta])
        >>> isinstance(sgd, Optimizer), sgd.name, sgd.params == [beta]
        (True, 'SGD', True)

    Source: the API page of PyCMTensor's optimizers, class Optimizer.
    """

    b1: float
    b2: float
    m: float
    rho: float
    epsilon: float
    native: LocalOptimizer
    """The optimizer of Thalweg that does the work; ``thalweg.optimizers.pytensor.symbolic`` saves its state."""

    _rule: type[LocalOptimizer] | None = None
    _settled: tuple[str, ...] = ("params",)
    """What an optimizer is made with for good."""

    def __init__(
        self,
        params: list[Any],
        name: str,
        b1: float = 0.0,
        b2: float = 0.0,
        m: float = 0.0,
        rho: float = 0.0,
        epsilon: float = 1e-08,
    ) -> None:
        require_pytensor()
        if not isinstance(params, list | tuple):
            raise ParameterError(f"{name}: params is a {type(params).__name__}; give a list of parameters")
        self.name, self.params = str(name), list(params)
        self.b1, self.b2, self.m, self.rho, self.epsilon = b1, b2, m, rho, epsilon
        self._parameters: dict[int, Taken] = {}
        for param in self.params:
            taken = taken_apart(param)
            if id(taken.shared) in self._parameters:
                raise OptimizerError(f"{self.name}: parameter {taken.name!r} is there twice")
            self._parameters[id(taken.shared)] = taken
        if self._rule is not None:
            self.native = self._made(self._rule)

    def __setattr__(self, name: str, value: Any) -> None:
        """Set a number, also later: functions that are compiled already follow."""
        if name in _NUMBERS:
            ours, interval = _NUMBERS[name]
            value = number(value, interval, name=name, owner=self.name)
            if hasattr(self, "native"):
                if ours not in self.native.rule.hyperparameters:
                    raise HyperparameterError(
                        f"{self.name} has no {name}, so setting it would change nothing", name=name
                    )
                setattr(self.native, ours, value)
        elif "native" in vars(self) and not (name.startswith("_") or hasattr(type(self), name)):
            self._refuse_attribute(name, value)
        super().__setattr__(name, value)

    def _refuse_attribute(self, name: str, value: Any) -> None:
        """Refuse what nobody would read here; all else is a mark of the user's own."""
        theirs = {ours: page for page, (ours, _) in _NUMBERS.items() if ours in self.native.rule.hyperparameters}
        known = meant(name, [*self._settled, *theirs, *theirs.values(), "learning_rate"])
        if known == "learning_rate":
            instead = "give it to update(cost, params, lr), as a shared variable where it changes"
        elif known in self._settled:
            instead = "it stays as it was given; make another optimizer"
        elif known is not None:
            instead = f"set {theirs.get(known, known)}"
        elif means_something(name, value):
            instead = "this algorithm has none; take Thalweg's own optimizer, which may have it"
        else:
            return
        raise HyperparameterError(f"{self.name}: nobody would read {name}, set here; {instead}", name=name)

    def _made(self, rule: type[LocalOptimizer]) -> LocalOptimizer:
        known = rule.rule.hyperparameters
        given = {ours: getattr(self, theirs) for theirs, (ours, _) in _NUMBERS.items() if ours in known}
        free = [parameter for parameter in self._parameters.values() if parameter.free]
        return rule(convention="pycmtensor", name=self.name, process_model=limits(free), **given)

    def _update(self, cost: Any, params: Sequence[Any], lr: Any) -> Updates:
        if not isinstance(params, list | tuple):
            raise ParameterError(f"{self.name}: params is a {type(params).__name__}; give a list of parameters")
        given = [taken_apart(param) for param in params]
        strange = [p.name for p in given if id(p.shared) not in self._parameters]
        if strange:
            known = ", ".join(repr(parameter.name) for parameter in self._parameters.values())
            raise OptimizerError(
                f"{self.name}: {', '.join(map(repr, strange))} was not given when the optimizer was made, so there is "
                f"no state for it; it was made for {known}",
                unknown=strange,
            )
        free = [self._parameters[id(p.shared)] for p in given]
        free = [parameter for parameter in free if parameter.free]
        if not free:
            raise OptimizerError(f"{self.name}: there is no free parameter to update; all of them have status 1")
        face = symbolic(self.native)
        if not face.parameters:  # parameters that are left out have no bounds to be kept, either
            self.native.process_model = limits(free)
        return face.update(cost, [p.shared for p in free], lr, names=[p.name for p in free])


def known_only(optimizer: Optimizer, kwargs: dict[str, Any], *accepted: str, **own: Any) -> dict[str, Any]:
    """Keywords for the base class, with the name that there is without one; others are refused."""
    kind = type(optimizer).__name__
    for key in kwargs:
        if key not in ("name", *accepted):
            raise unknown(f"parameter of {kind}:", key, ["params", "name", *accepted, *own])
    return {"name": kind, **kwargs}
