"""Gradient descent with momentum, bound to Variables. The formula is in ``thalweg.rules.momentum``."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.graph import Variable
from thalweg.optimizers.local import LocalOptimizer
from thalweg.optimizers.pipeline import Hook
from thalweg.optimizers.settings import Scheduled, Setting
from thalweg.rules.momentum import momentum


class Momentum(LocalOptimizer):
    """v′ = μ·v − η·g;  θ′ = θ + v′.

    Args:
        variables: a Variable, several with distinct names, or ``None``; float32 or float64, updated in place.
        learning_rate: η, the step in units of variable per unit of gradient; a number or a schedule.
        momentum: μ, the part of the last step that is kept, in [0, 1); a number or a schedule.
        process_grad: callable(s) on a gradient before the rule, array to array.
        process_model: callable(s) on the data after the rule, array to array.
        name: a name of your choice, by default ``"momentum"``.
        description: what it is for.

    Raises:
        HyperparameterError: a hyperparameter is out of its range, or a hook is not callable.
        ParameterError: a variable's data cannot be updated in place.
        OptimizerError: several variables without distinct names.

    Example:
        >>> import numpy as np
        >>> import thalweg.optimizers as opt
        >>> from thalweg.graph import Variable, wait
        >>> x = Variable(np.array([1.0, 2.0]), name="x", needs_grad=True)
        >>> optimizer = opt.Momentum(x)
        >>> wait(optimizer.step(grad=np.array([0.5, -0.5]))).data.round(6)
        array([0.995, 2.005])

    Source: B. Polyak, Some methods of speeding up the convergence of iteration methods, 1964; Sutskever
    et al., On the importance of initialization and momentum in deep learning, 2013, eq. 1-2.
    """

    rule = momentum
    learning_rate = Setting()
    momentum = Setting()

    def __init__(
        self,
        variables: Variable | Sequence[Variable] | None = None,
        *,
        learning_rate: Scheduled = 0.01,
        momentum: Scheduled = 0.9,
        process_grad: Hook = None,
        process_model: Hook = None,
        name: str | None = None,
        description: str = "",
    ) -> None:
        super().__init__(
            variables,
            hyperparameters={"learning_rate": learning_rate, "momentum": momentum},
            process_grad=process_grad,
            process_model=process_model,
            name=name,
            description=description,
        )
