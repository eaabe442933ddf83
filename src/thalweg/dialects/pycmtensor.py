"""The names of PyCMTensor's page on optimizers, on Thalweg's engine and PyTensor.

The formulas, arguments and defaults are the page's. What differs: Adamax counts from 1, so that its first step does not
divide by zero; state is found by the parameter, not by its place in the list; a bound of 0 is a bound; a parameter of
zero is used, or refused where it means nothing (``epsilon``); a gradient that is not finite is an error of the compiled
function, and changes nothing; a keyword that is not known is refused. Nothing is written to the home folder.

Parameters are shared variables of PyTensor, or objects around one like the page's Betas and Weights
(:mod:`thalweg.dialects.betas`): those with ``status`` 1 are fixed and left out, ``lb`` and ``ub`` are bounds.
"""

from __future__ import annotations

from typing import Any

from thalweg.dialects.pycmtensor_base import Optimizer, Updates, known_only
from thalweg.errors import HyperparameterError
from thalweg.optimizers import named

__all__ = ["SGD", "AdaGrad", "Adadelta", "Adam", "Adamax", "Momentum", "Optimizer", "RMSProp"]


class _Moments(Optimizer):
    """What Adam and Adamax have in common: two moments, and t."""

    def __init__(self, params: list[Any], b1: float = 0.9, b2: float = 0.999, **kwargs: Any) -> None:
        super().__init__(params, b1=b1, b2=b2, **known_only(self, kwargs, "epsilon", b1=b1, b2=b2))

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
        super().__init__(params, rho=rho, **known_only(self, kwargs, "epsilon", rho=rho))

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
        super().__init__(params, rho=rho, **known_only(self, kwargs, "epsilon", rho=rho))

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

    _settled = ("params", "nesterov")

    def __init__(self, params: list[Any], momentum: float = 0.9, nesterov: bool = True, **kwargs: Any) -> None:
        if not isinstance(nesterov, bool):
            raise HyperparameterError(f"Momentum: nesterov is {nesterov!r}; give True or False", name="nesterov")
        self._rule = named.Nesterov if nesterov else named.Momentum
        super().__init__(params, m=momentum, **known_only(self, kwargs, momentum=momentum, nesterov=nesterov))

    @property
    def momentum(self) -> float:
        """The acceleration factor, which is ``m``, too."""
        return self.m

    @momentum.setter
    def momentum(self, value: float) -> None:
        self.m = value

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
        super().__init__(params, **known_only(self, kwargs, "epsilon"))

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
        super().__init__(params, **known_only(self, kwargs))

    def update(self, cost: Any, params: list[Any], lr: Any = 0.001) -> Updates:
        """Generate (param, param_new) for each parameter; the rest as in :meth:`Adam.update`."""
        return self._update(cost, params, lr)
