"""What is made with a name that it does not know, or without one that it needs: the error that its table gives."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from thalweg.errors import HyperparameterError
from thalweg.rules.spelling import unknown


def fault(cls: type[Called], positional: Sequence[Any], named: Mapping[str, Any]) -> HyperparameterError | None:
    """What is wrong with the arguments that something is to be made of, if it is their names or number.

    Args:
        cls: its class, a :class:`Called`.
        positional: the arguments without a name.
        named: those with.

    Returns:
        The error, ready to be raised, or ``None``.

    Example:
        >>> from thalweg.schedules import Cosine
        >>> from thalweg.rules.calling import fault
        >>> print(fault(Cosine, [0.1], {"T_max": 3}))
        there is no parameter of schedule 'cosine' 'T_max'; did you mean 'period'? (known: decay_on_iteration, ...)
        >>> print(fault(Cosine, [0.1], {}))
        schedule 'cosine' needs 'period', which has no default
        >>> print(fault(Cosine, [0.1, 3], {}))
        schedule 'cosine' takes initial without a name, and the others by name; write period=3
        >>> print(fault(Cosine, [0.1, 3, 0.01], {}))
        schedule 'cosine' takes initial without a name, and the others by name; write period=3, minimum=0.01
    """
    owner = f"{cls.noun} {getattr(cls, 'kind', cls.__name__)!r}"
    parameters = list(_signature(cls).parameters.values())
    if any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):  # it sees for itself
        return None
    known = [p.name for p in parameters]
    undeclared = _undeclared(cls)
    for name in sorted(named, key=lambda name: name not in cls.advice):  # which tells more than another spelling
        if name in undeclared and name not in known:
            return _undecorated(owner, cls, name)
        if name not in known:
            return unknown(f"parameter of {owner}", str(name), known, advice=cls.advice.get(str(name)))
    first = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
    given = {*first[: len(positional)], *named}
    left = [p.name for p in parameters if p.name not in given]
    missing = [p.name for p in parameters if p.name in left and p.default is p.empty]
    if len(positional) > len(first):
        free = missing + [name for name in left if name not in missing]
        if undeclared and not free:
            return _undecorated(owner, cls, undeclared[0])
        return _too_many(owner, first, positional[len(first) :], free, others=len(known) > len(first))
    for name in first[: len(positional)]:
        if name in named:
            return HyperparameterError(f"{owner} is given {name!r} twice", name=name)
    if missing:
        return HyperparameterError(f"{owner} needs {missing[0]!r}, which has no default", name=missing[0])
    return None


def kind_of(made: Called) -> str:
    """The name in study files of something that was made.

    Args:
        made: a schedule or a transform.

    Returns:
        Its ``kind``.

    Raises:
        HyperparameterError: its class has none.

    Example:
        >>> from thalweg.rules.calling import kind_of
        >>> from thalweg.schedules import Fixed
        >>> kind_of(Fixed(0.1))
        'fixed'
    """
    kind = getattr(made, "kind", None)
    if not isinstance(kind, str):
        name = type(made).__name__
        raise HyperparameterError(
            f'{made.noun} {name} has no kind, its name in study files; write kind = "..." in class {name}', name="kind"
        )
    return kind


def _signature(cls: Any) -> inspect.Signature:
    if cls.__init__ is object.__init__:
        return inspect.Signature()
    whole = inspect.signature(cls.__init__)
    return whole.replace(parameters=list(whole.parameters.values())[1:])


def _too_many(
    owner: str, first: Sequence[str], surplus: Sequence[Any], free: Sequence[str], *, others: bool
) -> HyperparameterError:
    """Values without a name that no parameter takes so: those that are free take them by name, in their order."""
    if not first:
        takes = "takes all parameters by name" if others else "takes no parameters"
    else:
        takes = f"takes {', '.join(first)} without a name, and {'the others by name' if others else 'nothing else'}"
    write = ", ".join(f"{name}={value!r}" for name, value in zip(free, surplus, strict=False))
    out = ", ".join(map(repr, surplus[len(free) :]))
    advice = " and ".join([f"write {write}"] * bool(write) + [f"leave out {out}"] * bool(out))
    return HyperparameterError(f"{owner} {takes}; {advice}", name=next(iter(free), None))


def _undeclared(cls: type) -> list[str]:
    """What would be parameters if the classes that say so were dataclasses."""
    plain = [c for c in cls.__mro__ if issubclass(c, Called) and not {"__dataclass_fields__", "__init__"} & {*vars(c)}]
    return [name for c in plain for name, kind in inspect.get_annotations(c).items() if "ClassVar" not in str(kind)]


def _undecorated(owner: str, cls: type, name: str) -> HyperparameterError:
    plain = next(c for c in cls.__mro__ if name in inspect.get_annotations(c))
    return HyperparameterError(
        f"{owner}: {name!r} is no parameter, since {plain.__name__} is no dataclass; write "
        f"@dataclass(frozen=True) above class {plain.__name__}",
        name=name,
    )


class Called:
    """What is made with arguments that are looked at when Python refuses them.

    It is a base and no metaclass, which a class with another one could not have. ``@dataclass`` writes ``__init__``
    when the class is there already: so it is guarded when the first instance is made.
    """

    noun: ClassVar[str]
    """What it is, for messages."""

    advice: ClassVar[Mapping[str, str]] = {}
    """What its like elsewhere is given and ours is not: what to do here."""

    if not TYPE_CHECKING:  # who checks types reads __init__

        def __new__(cls, /, *positional: Any, **named: Any) -> Any:  # noqa: D102  # says what __init__ does
            if cls.__init__ is object.__init__:  # which refuses nothing, since there is this method
                if (found := fault(cls, positional, named)) is not None:
                    raise found
            elif not hasattr(cls.__init__, _MARK):
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
