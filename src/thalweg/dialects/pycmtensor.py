"""The names of PyCMTensor's page on optimizers, on Thalweg's engine and PyTensor.

The formulas, arguments and defaults are the page's. What differs: Adamax counts from 1, so that its first step does not
divide by zero; state is found by the parameter, not by its place in the list; a bound of 0 is a bound; a parameter of
zero is used, or refused where it means nothing (``epsilon``); a gradient that is not finite is an error of the compiled
function, and changes nothing; a keyword that is not known is refused. Nothing is written to the home folder.

Parameters are shared variables of PyTensor, or objects around one like the page's Betas and Weights
(:mod:`thalweg.dialects.betas`): those with ``status`` 1 are fixed and left out, ``lb`` and ``ub`` are bounds.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from thalweg.dialects.betas import Taken, limits, taken_apart
from thalweg.errors import HyperparameterError, OptimizerError, ParameterError
from thalweg.optimizers import named
from thalweg.optimizers.local import LocalOptimizer
from thalweg.optimizers.pytensor import require_pytensor, symbolic
from thalweg.rules.ranges import fraction, number, positive
from thalweg.rules.spelling import unknown

__all__ = ["SGD", "AdaGrad", "Adadelta", "Adam", "Adamax", "Momentum", "Optimizer", "RMSProp"]

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
            algorithm does not have.
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
        super().__setattr__(name, value)

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


class _Moments(Optimizer):
    """What Adam and Adamax have in common: two moments, and t."""

    def __init__(self, params: list[Any], b1: float = 0.9, b2: float = 0.999, **kwargs: Any) -> None:
        super().__init__(params, b1=b1, b2=b2, **_known(self, kwargs, "epsilon", b1=b1, b2=b2))

    def update(self, cost: Any, params: list[Any], lr: Any = 0.001) -> Updates:
        """Caller to the optimizer class to generate a list of updates.

        Args:
            cost: a scalar expression of the cost function, where the derivatives are calculated.
            params: a list of Betas and/or Weights, all of them known to the optimizer, in any order.
            lr: learning rate, a number or a scalar of PyTensor. Defaults to 0.001.

        Returns:
            A list of tuples of (p, p_t), (m, m_t), (v, v_t) for each free parameter, and (t, t_new).

        Raises:
            OptimizerError: a parameter was not given when the optimizer was made, or none is free.
            MissingGradientError: the cost does not depend on a parameter.
            HyperparameterError: the learning rate is out of its range.
        """
        return self._update(cost, params, lr)


class Adam(_Moments):
    """An optimizer that implements the Adam algorithm. ::

        m' = b1·m + (1 − b1)·g
        v' = b2·v + (1 − b2)·g²
        p' = p − lr·√(1 − b2ᵗ) / (1 − b1ᵗ)·m' / (√v' + ε)

    Args:
        params: a list of Betas and/or Weights, or shared variables.
        b1: exponential decay rate for the 1st moment estimates, in [0, 1). Defaults to 0.9.
        b2: exponential decay rate for the 2nd moment estimates, in [0, 1). Defaults to 0.999.
        kwargs: ``name`` and ``epsilon`` (1e-8, in the gradient's unit) of :class:`Optimizer`.

    Raises:
        HyperparameterError: a number is out of its range, or a keyword is unknown (naming the nearest).
        ParameterError: a parameter is, or holds, no shared variable.

    Example:
        >>> import numpy as np
        >>> import pytensor
        >>> from thalweg.dialects.pycmtensor import Adam
        >>> beta = pytensor.shared(np.array(2.0), name="beta")
        >>> updates = Adam([beta]).update((beta - 5.0) ** 2, [beta], lr=0.5)
        >>> _ = pytensor.function([], updates=updates, mode="FAST_COMPILE")()
        >>> float(beta.get_value().round(6))
        2.5

    Source: the API page of PyCMTensor's optimizers, class Adam; Kingma et al., 2014, arXiv:1412.6980.
    """

    _rule = named.Adam


class Adamax(_Moments):
    """An optimizer that implements the Adamax algorithm, a variant of the Adam algorithm. ::

        m' = b1·m + (1 − b1)·g
        v' = max(b2·v, |g|)
        p' = p − lr / (1 − b1ᵗ)·m' / (v' + ε)

    Args:
        params: a list of Betas and/or Weights, or shared variables.
        b1: exponential decay rate for the 1st moment estimates, in [0, 1). Defaults to 0.9.
        b2: exponential decay rate for the 2nd moment estimates, in [0, 1). Defaults to 0.999.
        kwargs: ``name`` and ``epsilon`` (1e-8, in the gradient's unit) of :class:`Optimizer`.

    Raises:
        HyperparameterError: a number is out of its range, or a keyword is unknown (naming the nearest).

    Example:
        >>> import numpy as np
        >>> import pytensor
        >>> from thalweg.dialects.pycmtensor import Adamax
        >>> beta = pytensor.shared(np.array(2.0), name="beta")
        >>> [v.name for v, _ in Adamax([beta]).update(beta**2, [beta])]
        ['beta', 'beta/mean', 'beta/largest', 'Adamax/t']

    Source: the API page of PyCMTensor's optimizers, class Adamax; Kingma et al., 2014, arXiv:1412.6980. There t is 0
    in the first step, which divides by 1 − b1⁰ = 0; here it is 1.
    """

    _rule = named.Adamax


class Adadelta(Optimizer):
    """An optimizer that implements the Adadelta algorithm, with an adaptive learning rate per dimension. ::

        a' = ρ·a + (1 − ρ)·g²
        s  = g·√(d + ε) / √(a' + ε)
        d' = ρ·d + (1 − ρ)·s²
        p' = p − lr·s

    Args:
        params: a list of Betas and/or Weights, or shared variables.
        rho: the decay rate for learning rate, in [0, 1). Defaults to 0.95.
        kwargs: ``name`` and ``epsilon`` (1e-8, which is inside the roots) of :class:`Optimizer`.

    Raises:
        HyperparameterError: a number is out of its range, or a keyword is unknown (naming the nearest).

    Example:
        >>> import numpy as np
        >>> import pytensor
        >>> from thalweg.dialects.pycmtensor import Adadelta
        >>> beta = pytensor.shared(np.array(2.0), name="beta")
        >>> len(Adadelta([beta]).update(beta**2, [beta]))
        3

    Source: the API page of PyCMTensor's optimizers, class Adadelta; Zeiler, 2012, arXiv:1212.5701.
    """

    _rule = named.Adadelta

    def __init__(self, params: list[Any], rho: float = 0.95, **kwargs: Any) -> None:
        super().__init__(params, rho=rho, **_known(self, kwargs, "epsilon", rho=rho))

    def update(self, cost: Any, params: list[Any], lr: Any = 1.0) -> Updates:
        """Generate (param, param_new), (a, a_t), (d, d_t) for each parameter; the rest as in :meth:`Adam.update`."""
        return self._update(cost, params, lr)


class RMSProp(Optimizer):
    """An optimizer that implements the RMSprop algorithm. ::

        a' = ρ·a + (1 − ρ)·g²
        p' = p − lr·g / √(a' + ε)

    Args:
        params: a list of Betas and/or Weights, or shared variables.
        rho: discounting factor for the history/coming gradient, in [0, 1). Defaults to 0.9.
        kwargs: ``name`` and ``epsilon`` (1e-8, which is inside the root) of :class:`Optimizer`.

    Raises:
        HyperparameterError: a number is out of its range, or a keyword is unknown (naming the nearest).

    Example:
        >>> import numpy as np
        >>> import pytensor
        >>> from thalweg.dialects.pycmtensor import RMSProp
        >>> beta = pytensor.shared(np.array(2.0), name="beta")
        >>> len(RMSProp([beta]).update(beta**2, [beta]))
        2

    Source: the API page of PyCMTensor's optimizers, class RMSProp; Hinton, 2012, lecture 6.
    """

    _rule = named.RMSProp

    def __init__(self, params: list[Any], rho: float = 0.9, **kwargs: Any) -> None:
        super().__init__(params, rho=rho, **_known(self, kwargs, "epsilon", rho=rho))

    def update(self, cost: Any, params: list[Any], lr: Any = 0.001) -> Updates:
        """Generate (param, param_new), (a, a_t) for each parameter; the rest as in :meth:`Adam.update`."""
        return self._update(cost, params, lr)


class Momentum(Optimizer):
    """An optimizer that implements the Momentum algorithm. ::

        v' = momentum·v − lr·g
        p' = p + momentum·v' − lr·g         nesterov
        p' = p + v'                         otherwise

    Args:
        params: a list of Betas and/or Weights, or shared variables.
        momentum: acceleration factor in the relevant direction, in [0, 1). Defaults to 0.9.
        nesterov: whether to apply Nesterov momentum. Defaults to True, as in the page's signature (its text says
            False).
        kwargs: ``name`` of :class:`Optimizer`.

    Raises:
        HyperparameterError: a number is out of its range, or a keyword is unknown (naming the nearest).

    Example:
        >>> import numpy as np
        >>> import pytensor
        >>> from thalweg.dialects.pycmtensor import Momentum
        >>> beta = pytensor.shared(np.array(2.0), name="beta")
        >>> updates = Momentum([beta], nesterov=False).update(3.0 * beta, [beta], lr=0.5)
        >>> _ = pytensor.function([], updates=updates, mode="FAST_COMPILE")()
        >>> float(beta.get_value())
        0.5

    Source: the API page of PyCMTensor's optimizers, class Momentum; Sutskever et al., 2013.
    """

    def __init__(self, params: list[Any], momentum: float = 0.9, nesterov: bool = True, **kwargs: Any) -> None:
        if not isinstance(nesterov, bool):
            raise HyperparameterError(f"Momentum: nesterov is {nesterov!r}; give True or False", name="nesterov")
        self._rule = named.Nesterov if nesterov else named.Momentum
        super().__init__(params, m=momentum, **_known(self, kwargs, momentum=momentum, nesterov=nesterov))

    def update(self, cost: Any, params: list[Any], lr: Any = 0.001) -> Updates:
        """Generate (param, param_new), (v, v_t) for each parameter; the rest as in :meth:`Adam.update`."""
        return self._update(cost, params, lr)


class AdaGrad(Optimizer):
    """An optimizer that implements the Adagrad algorithm, with rates that fall as a parameter is updated. ::

        a' = a + g²
        p' = p − lr·g / √(a' + ε)

    Args:
        params: a list of Betas and/or Weights, or shared variables.
        kwargs: ``name`` and ``epsilon`` (1e-8, which is inside the root) of :class:`Optimizer`.

    Raises:
        HyperparameterError: a number is out of its range, or a keyword is unknown (naming the nearest).

    Example:
        >>> import numpy as np
        >>> import pytensor
        >>> from thalweg.dialects.pycmtensor import AdaGrad
        >>> beta = pytensor.shared(np.array(2.0), name="beta")
        >>> len(AdaGrad([beta]).update(beta**2, [beta]))
        2

    Source: the API page of PyCMTensor's optimizers, class AdaGrad; Duchi et al., 2011.
    """

    _rule = named.AdaGrad

    def __init__(self, params: list[Any], **kwargs: Any) -> None:
        super().__init__(params, **_known(self, kwargs, "epsilon"))

    def update(self, cost: Any, params: list[Any], lr: Any = 1.0) -> Updates:
        """Generate (param, param_new), (a, a_t) for each parameter; the rest as in :meth:`Adam.update`."""
        return self._update(cost, params, lr)


class SGD(Optimizer):
    """An optimizer that implements the stochastic gradient algorithm: p' = p − lr·g.

    Args:
        params: a list of Betas and/or Weights, or shared variables.
        kwargs: ``name`` of :class:`Optimizer`.

    Raises:
        HyperparameterError: a keyword is unknown (naming the nearest).

    Example:
        >>> import numpy as np
        >>> import pytensor
        >>> from thalweg.dialects.pycmtensor import SGD
        >>> beta = pytensor.shared(np.array(2.0), name="beta")
        >>> y = beta * 4.0 + 3.0
        >>> step = pytensor.function([], y, updates=SGD([beta]).update(y, [beta], lr=1.0), mode="FAST_COMPILE")
        >>> float(step()), float(beta.get_value()), float(step())
        (11.0, -2.0, -5.0)

    Source: the API page of PyCMTensor's optimizers, class SGD.
    """

    _rule = named.SGD

    def __init__(self, params: list[Any], **kwargs: Any) -> None:
        super().__init__(params, **_known(self, kwargs))

    def update(self, cost: Any, params: list[Any], lr: Any = 0.001) -> Updates:
        """Generate (param, param_new) for each parameter; the rest as in :meth:`Adam.update`."""
        return self._update(cost, params, lr)


def _known(optimizer: Optimizer, kwargs: dict[str, Any], *accepted: str, **own: Any) -> dict[str, Any]:
    """Keywords for the base class, with the name that there is without one; others are refused."""
    kind = type(optimizer).__name__
    for key in kwargs:
        if key not in ("name", *accepted):
            raise unknown(f"parameter of {kind}:", key, ["params", "name", *accepted, *own])
    return {"name": kind, **kwargs}
