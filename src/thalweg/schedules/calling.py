"""A schedule that is made with a name that it does not know, or without one that it needs: the error a table gives."""

from __future__ import annotations

import abc
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from thalweg.errors import HyperparameterError
from thalweg.rules.spelling import unknown

ADVICE: dict[str, str] = {
    "optimizer": "leave it out, and give the schedule to the optimizer: learning_rate=...",
    "last_epoch": "leave it out, what is counted is the optimizer's and is saved with it",
    "verbose": "leave it out; plot(n) draws the schedule",
    "warmup_steps": "a warm-up is WarmUp(then, duration=warmup_steps)",
    "num_warmup_steps": "a warm-up is WarmUp(then, duration=num_warmup_steps)",
    "alpha": "give minimum=alpha * initial",
    "end_factor": "a warm-up ends at what follows, WarmUp(then, duration=..., fraction=start_factor)",
    "staircase": "tw.schedules.Step goes down in steps",
    "steps_per_epoch": "give the product, duration=epochs * steps_per_epoch, and decay_on_iteration=True",
    "lr_lambda": "any function is a schedule: learning_rate=lambda state: 0.1 / (1 + state.completed_iterations)",
    "transition_begin": "what comes before is a schedule in Join",
    "m_mul": "multiply with another schedule in Chain",
    "cycle_momentum": "give momentum a schedule of its own",
    "base_momentum": "give momentum a schedule of its own",
    "max_momentum": "give momentum a schedule of its own",
}
"""What schedules elsewhere are given and ours are not: what to do here."""


def fault(cls: type, positional: Sequence[Any], named: Mapping[str, Any]) -> HyperparameterError | None:
    """What is wrong with the arguments that a schedule is to be made of, if it is their names or number.

    Args:
        cls: the schedule's class.
        positional: the arguments without a name.
        named: those with.

    Returns:
        The error, ready to be raised, or ``None``.

    Example:
        >>> from thalweg.schedules import Cosine
        >>> from thalweg.schedules.calling import fault
        >>> print(fault(Cosine, [0.1], {"T_max": 3}))
        there is no parameter of schedule 'cosine' 'T_max'; did you mean 'period'? (known: decay_on_iteration, ...)
        >>> print(fault(Cosine, [0.1], {}))
        schedule 'cosine' needs 'period', which has no default
        >>> print(fault(Cosine, [0.1, 3], {}))
        schedule 'cosine' takes initial without a name, and the others by name; write period=3
    """
    kind = str(getattr(cls, "kind", cls.__name__))
    parameters = list(_signature(cls).parameters.values())
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):  # it sees for itself
        return None
    known = [p.name for p in parameters]
    for name in named:
        if name not in known:
            return unknown(f"parameter of schedule {kind!r}", str(name), known, advice=ADVICE.get(str(name)))
    first = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    given = {*first[: len(positional)], *named}
    left = [p.name for p in parameters if p.name not in given]
    missing = [p.name for p in parameters if p.name in left and p.default is p.empty]
    if len(positional) > len(first):
        name = next(iter(missing + left), "name")
        return HyperparameterError(
            f"schedule {kind!r} takes {', '.join(first)} without a name, and the others by name; "
            f"write {name}={positional[len(first)]!r}",
            name=name,
        )
    for name in first[: len(positional)]:
        if name in named:
            return HyperparameterError(f"schedule {kind!r} is given {name!r} twice", name=name)
    if missing:
        return HyperparameterError(f"schedule {kind!r} needs {missing[0]!r}, which has no default", name=missing[0])
    return None


def _signature(cls: Any) -> inspect.Signature:
    whole = inspect.signature(cls.__init__)
    return whole.replace(parameters=list(whole.parameters.values())[1:])


class Called(abc.ABCMeta):
    """Classes whose instances are made with arguments that are looked at when Python refuses them."""

    if not TYPE_CHECKING:  # who checks types reads __init__

        def __call__(cls, *positional: Any, **named: Any) -> Any:  # noqa: D102  # says what __init__ does
            try:
                return super().__call__(*positional, **named)
            except TypeError:
                found = fault(cls, positional, named)
                if found is None:
                    raise
                raise found from None

    @property
    def __signature__(cls) -> inspect.Signature:
        """That of ``__init__``."""
        return _signature(cls)
