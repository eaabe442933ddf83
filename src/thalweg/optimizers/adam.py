"""Adam, bound to Variables. The formula is in ``thalweg.rules.adam``."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.graph import Variable
from thalweg.optimizers.local import LocalOptimizer
from thalweg.optimizers.pipeline import Hook
from thalweg.optimizers.settings import Scheduled, Setting
from thalweg.rules.adam import adam


class Adam(LocalOptimizer):
    """θ′ = θ − η·m̂ / (√v̂ + ε).

    Args:
        variables: a Variable, several with distinct names, or ``None``; float32 or float64, updated in place.
        learning_rate: η, roughly the step's size in the variable's unit; a number or a schedule.
        beta1: β₁, the part of the mean that is kept, in [0, 1); a number or a schedule.
        beta2: β₂, the part of the mean square that is kept, in [0, 1); a number or a schedule.
        epsilon: ε, in the gradient's unit, positive; a number or a schedule.
        process_grad: callable(s) on a gradient before the rule, array to array.
        process_model: callable(s) on the data after the rule, array to array.
        name: a name of your choice, by default ``"adam"``.
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
        >>> optimizer = opt.Adam(x)
        >>> wait(optimizer.step(grad=np.array([0.5, -0.5]))).data.round(6)
        array([0.999, 2.001])

    Source: D. Kingma, J. Ba, Adam: a method for stochastic optimization, arXiv:1412.6980, 2014, algorithm
    1.
    """

    rule = adam
    learning_rate = Setting()
    beta1 = Setting()
    beta2 = Setting()
    epsilon = Setting()

    def __init__(
        self,
        variables: Variable | Sequence[Variable] | None = None,
        *,
        learning_rate: Scheduled = 0.001,
        beta1: Scheduled = 0.9,
        beta2: Scheduled = 0.999,
        epsilon: Scheduled = 1e-8,
        process_grad: Hook = None,
        process_model: Hook = None,
        name: str | None = None,
        description: str = "",
    ) -> None:
        super().__init__(
            variables,
            hyperparameters={
                "learning_rate": learning_rate,
                "beta1": beta1,
                "beta2": beta2,
                "epsilon": epsilon,
            },
            process_grad=process_grad,
            process_model=process_model,
            name=name,
            description=description,
        )
