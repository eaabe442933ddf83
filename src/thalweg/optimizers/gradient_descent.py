"""Gradient descent, bound to Variables. The formula is in ``thalweg.rules.gradient_descent``."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.graph import Variable
from thalweg.optimizers.local import LocalOptimizer
from thalweg.optimizers.pipeline import Hook
from thalweg.optimizers.settings import Scheduled, Setting
from thalweg.rules.gradient_descent import gradient_descent


class GradientDescent(LocalOptimizer):
    """θ′ = θ − η·g.

    With the default η = 1 the gradient, or what ``process_grad`` made of it, is the step.

    Args:
        variables: a Variable, several with distinct names, or ``None``; float32 or float64, updated in place.
        learning_rate: η, the step in units of variable per unit of gradient; a number or a schedule.
        process_grad: callable(s) on a gradient before the rule, array to array.
        process_model: callable(s) on the data after the rule, array to array.
        name: a name of your choice, by default ``"gradient_descent"``.
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
        >>> optimizer = opt.GradientDescent(x)
        >>> wait(optimizer.step(grad=np.array([0.5, -0.5]))).data.round(6)
        array([0.5, 2.5])

    Source: A. Cauchy, Méthode générale pour la résolution des systèmes d'équations simultanées, 1847.
    """

    rule = gradient_descent
    learning_rate = Setting()

    def __init__(
        self,
        variables: Variable | Sequence[Variable] | None = None,
        *,
        learning_rate: Scheduled = 1.0,
        process_grad: Hook = None,
        process_model: Hook = None,
        name: str | None = None,
        description: str = "",
    ) -> None:
        super().__init__(
            variables,
            hyperparameters={"learning_rate": learning_rate},
            process_grad=process_grad,
            process_model=process_model,
            name=name,
            description=description,
        )
