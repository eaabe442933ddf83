"""How a table of a study file becomes one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.graph import Variable
from thalweg.optimizers.local import LocalOptimizer
from thalweg.optimizers.named import registry
from thalweg.rules.spelling import unknown


def build(
    spec: Mapping[str, Any] | str,
    variables: Variable | Sequence[Variable] | None = None,
    arrays: Mapping[str, np.ndarray] | None = None,
    *,
    callables: Mapping[str, Callable[..., Any]] | None = None,
) -> LocalOptimizer:
    """An optimizer from its table, the inverse of ``get_config``.

    Args:
        spec: ``kind``, the hyperparameters (numbers or tables of schedules), ``process_grad`` and
            ``process_model`` (tables of transforms, or lists of them), ``name``, ``description``. Everything
            but ``kind`` is optional. The kind by itself will do.
        variables: what to bind it to, if anything yet.
        arrays: the arrays that a transform may name, for instance ``{"mask": ...}``.
        callables: users' own callables, by the name under which ``spec`` mentions them.

    Returns:
        The optimizer.

    Raises:
        HyperparameterError: it is no table; an unknown kind, key, schedule, transform or array (naming the
            nearest), or a value out of its range.

    Example:
        >>> from thalweg.optimizers import build
        >>> build({
        ...     "kind": "gradient_descent",
        ...     "learning_rate": {"kind": "exp", "initial": 10, "gamma": 0.9},
        ...     "process_grad": [{"kind": "smooth", "sigma": 2}, {"kind": "normalize"}],
        ...     "process_model": {"kind": "bounds", "lower": 1400, "upper": 1700},
        ... })
        GradientDescent(unbound; learning_rate=Exp(initial=10.0, gamma=0.9, decay_on_iteration=False), weight_decay=0.0)
    """
    if isinstance(spec, str):
        spec = {"kind": spec}
    if not isinstance(spec, Mapping):
        raise HyperparameterError(
            f"an optimizer's table is {spec!r}; give one such as {{'kind': 'adam', 'learning_rate': 0.01}}, or 'adam'"
        )
    kind = spec.get("kind")
    if not isinstance(kind, str) or kind not in registry:
        raise unknown("optimizer", str(kind), registry)
    return registry[kind].from_config(spec, variables, arrays=arrays, callables=callables)
