"""A schedule that is made with a name that it does not know, or without one that it needs: the error a table gives."""

from __future__ import annotations

import functools
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
        >>> print(fault(Cosine, [0.1, 3, 0.01], {}))
        schedule 'cosine' takes initial without a name, and the others by name; write period=3, minimum=0.01
    """
    kind = str(getattr(cls, "kind", cls.__name__))
    parameters = list(_signature(cls).parameters.values())
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):  # it sees for itself
        return None
    known = [p.name for p in parameters]
    undeclared = _undeclared(cls)
    for name in named:
        if name in undeclared and name not in known:
            return _undecorated(kind, cls, name)
        if name not in known:
            return unknown(f"parameter of schedule {kind!r}", str(name), known, advice=ADVICE.get(str(name)))
    first = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    given = {*first[: len(positional)], *named}
    left = [p.name for p in parameters if p.name not in given]
    missing = [p.name for p in parameters if p.name in left and p.default is p.empty]
    if len(positional) > len(first):
        free = missing + [name for name in left if name not in missing]
        if undeclared and not free:
            return _undecorated(kind, cls, undeclared[0])
        return _too_many(kind, first, positional[len(first) :], free, others=len(known) > len(first))
    for name in first[: len(positional)]:
        if name in named:
            return HyperparameterError(f"schedule {kind!r} is given {name!r} twice", name=name)
    if missing:
        return HyperparameterError(f"schedule {kind!r} needs {missing[0]!r}, which has no default", name=missing[0])
    return None


def _signature(cls: Any) -> inspect.Signature:
    whole = inspect.signature(cls.__init__)
    return whole.replace(parameters=list(whole.parameters.values())[1:])


def _too_many(
    kind: str, first: Sequence[str], surplus: Sequence[Any], free: Sequence[str], *, others: bool
) -> HyperparameterError:
    """Values without a name that no parameter takes so: those that are free take them by name, in their order."""
    if not first:
        takes = "takes all parameters by name" if others else "takes no parameters"
    else:
        takes = f"takes {', '.join(first)} without a name, and {'the others by name' if others else 'nothing else'}"
    write = ", ".join(f"{name}={value!r}" for name, value in zip(free, surplus, strict=False))
    out = ", ".join(map(repr, surplus[len(free) :]))
    advice = " and ".join([f"write {write}"] * bool(write) + [f"leave out {out}"] * bool(out))
    return HyperparameterError(f"schedule {kind!r} {takes}; {advice}", name=next(iter(free), None))


def _undeclared(cls: type) -> list[str]:
    """What would be parameters if the classes that say so were dataclasses."""
    plain = [c for c in cls.__mro__ if issubclass(c, Called) and not {"__dataclass_fields__", "__init__"} & {*vars(c)}]
    return [name for c in plain for name, kind in inspect.get_annotations(c).items() if "ClassVar" not in str(kind)]


def _undecorated(kind: str, cls: type, name: str) -> HyperparameterError:
    owner = next(c for c in cls.__mro__ if name in inspect.get_annotations(c))
    return HyperparameterError(
        f"schedule {kind!r}: {name!r} is no parameter, since {owner.__name__} is no dataclass; write "
        f"@dataclass(frozen=True) above class {owner.__name__}",
        name=name,
    )


class Called:
    """What is made with arguments that are looked at when Python refuses them.

    It is a base and no metaclass, which a class with another one could not have. ``@dataclass`` writes ``__init__``
    when the class is there already: so it is guarded when the first instance is made.
    """

    if not TYPE_CHECKING:  # who checks types reads __init__

        def __new__(cls, /, *positional: Any, **named: Any) -> Any:  # noqa: D102  # says what __init__ does
            if not hasattr(cls.__init__, _MARK):
                _guard(cls)
            make = super().__new__
            return make(cls) if make is object.__new__ else make(cls, *positional, **named)


_MARK = "_says_what_is_wrong"


def _guard(cls: Any) -> None:
    """Let ``__init__`` say what is wrong with its arguments, where it stands, if that is a class of ours."""
    owner = next(c for c in cls.__mro__ if "__init__" in vars(c))
    if not issubclass(owner, Called):
        return
    init = owner.__init__

    @functools.wraps(init)
    def guarded(self: Any, /, *positional: Any, **named: Any) -> None:
        try:
            init(self, *positional, **named)
        except TypeError:
            outermost = type(self).__init__ is guarded  # else these arguments are not the user's
            found = fault(type(self), positional, named) if outermost else None
            if found is None:
                raise
            raise found from None

    setattr(guarded, _MARK, True)
    owner.__init__ = guarded
