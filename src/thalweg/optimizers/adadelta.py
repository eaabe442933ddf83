"""Adadelta, bound to Variables. The formula is in ``thalweg.rules.adadelta``."""

from __future__ import annotations

from collections.abc import Sequence

from thalweg.graph import Variable
from thalweg.optimizers.local import LocalOptimizer
from thalweg.optimizers.pipeline import Hook
from thalweg.optimizers.settings import Scheduled, Setting
from thalweg.rules.adadelta import adadelta


class Adadelta(LocalOptimizer):
    """s = g·√(d + ε) / √(a′ + ε);  θ′ = θ − η·s.

    Args:
        variables: a Variable, several with distinct names, or ``None``; float32 or float64, updated in place.
        learning_rate: η, a factor on the paper's step, without unit; a number or a schedule.
        rho: ρ, the part of the mean squares that is kept, in [0, 1); a number or a schedule.
        epsilon: ε, the square of the size of the first steps, positive; a number or a schedule.
        process_grad: callable(s) on a gradient before the rule, array to array.
        process_model: callable(s) on the data after the rule, array to array.
        name: a name of your choice, by default ``"adadelta"``.
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
        >>> optimizer = opt.Adadelta(x)
        >>> wait(optimizer.step(grad=np.array([0.5, -0.5]))).data.round(6)
        array([0.995528, 2.004472])

    Source: M. Zeiler, ADADELTA: an adaptive learning rate method, arXiv:1212.5701, 2012, algorithm 1.
    """

    rule = adadelta
    learning_rate = Setting()
    rho = Setting()
    epsilon = Setting()

    def __init__(
        self,
        variables: Variable | Sequence[Variable] | None = None,
        *,
        learning_rate: Scheduled = 1.0,
        rho: Scheduled = 0.95,
        epsilon: Scheduled = 1e-6,
        process_grad: Hook = None,
        process_model: Hook = None,
        name: str | None = None,
        description: str = "",
    ) -> None:
        super().__init__(
            variables,
            hyperparameters={"learning_rate": learning_rate, "rho": rho, "epsilon": epsilon},
            process_grad=process_grad,
            process_model=process_model,
            name=name,
            description=description,
        )
