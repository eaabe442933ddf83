"""The optimizers by name: a rule each. Signature and docstring come from the rule.

A new rule's class is a row here, and its name in ``__init__.py``.
"""

from __future__ import annotations

from thalweg import rules
from thalweg.optimizers.local import LocalOptimizer


class GradientDescent(LocalOptimizer):  # noqa: D101, its docstring is made of its rule's
    rule = rules.gradient_descent


class SGD(LocalOptimizer):  # noqa: D101
    rule = rules.sgd


class Momentum(LocalOptimizer):  # noqa: D101
    rule = rules.momentum


class Nesterov(LocalOptimizer):  # noqa: D101
    rule = rules.nesterov


class AdaGrad(LocalOptimizer):  # noqa: D101
    rule = rules.adagrad


class RMSProp(LocalOptimizer):  # noqa: D101
    rule = rules.rmsprop


class Adadelta(LocalOptimizer):  # noqa: D101
    rule = rules.adadelta


class Adam(LocalOptimizer):  # noqa: D101
    rule = rules.adam


class AMSGrad(LocalOptimizer):  # noqa: D101
    rule = rules.amsgrad


class AdamW(LocalOptimizer):  # noqa: D101
    rule = rules.adamw


class Adamax(LocalOptimizer):  # noqa: D101
    rule = rules.adamax


class Nadam(LocalOptimizer):  # noqa: D101
    rule = rules.nadam


class RAdam(LocalOptimizer):  # noqa: D101
    rule = rules.radam


class Lion(LocalOptimizer):  # noqa: D101
    rule = rules.lion


class Rprop(LocalOptimizer):  # noqa: D101
    rule = rules.rprop


class LAMB(LocalOptimizer):  # noqa: D101
    rule = rules.lamb


class ScheduleFreeAdamW(LocalOptimizer):  # noqa: D101
    rule = rules.schedule_free_adamw


registry: dict[str, type[LocalOptimizer]] = {
    cls.rule.name: cls
    for cls in vars().copy().values()
    if isinstance(cls, type) and issubclass(cls, LocalOptimizer) and cls is not LocalOptimizer
}
"""The kinds of optimizer by the name that study files and configs use. Add your own before building."""
