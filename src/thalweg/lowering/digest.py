"""A digest of what a function does, so that a kernel compiled from an older text is never reused."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from enum import Enum, EnumType
from types import CodeType, FunctionType, ModuleType
from typing import Any

import numpy as np


def reachable(function: Any) -> Iterator[FunctionType]:
    """``function`` and the plain Python functions that its text calls, each once.

    It has them by a global name, a cell or a default, or in a tuple, list or dictionary there.

    Args:
        function: a plain Python function.

    Yields:
        The functions, callers first.
    """
    seen: set[int] = set()
    waiting = [function]
    while waiting:
        current = _unwrapped(waiting.pop())
        if id(current) in seen:
            continue
        seen.add(id(current))
        if isinstance(current, FunctionType):
            yield current
            if hasattr(current, "thalweg_element"):  # compiled code has that in its place
                continue
            waiting += [value for _, value in sorted(_named(current).items())]
            waiting += [current.__defaults__, current.__kwdefaults__]
        elif isinstance(current, list | tuple | dict):
            waiting += current.values() if isinstance(current, dict) else current


def text_digest(*functions: Any) -> str:
    """The digest of the texts of ``functions``, of all that they call, and of the constants they refer to.

    Args:
        functions: plain Python functions; other objects count by their ``repr``.

    Returns:
        32 hexadecimal digits, the same in every process of one Python version.

    Example:
        >>> from thalweg.lowering.digest import text_digest
        >>> def double(x): return 2 * x
        >>> text_digest(double) == text_digest(double), len(text_digest(double))
        (True, 32)
    """
    state = hashlib.blake2b(digest_size=16)
    for function in map(_unwrapped, functions):
        state.update(repr(_told(function)).encode())
    return state.hexdigest()


def _told(function: Any) -> Any:
    """A function's text, and those of all that it calls, each with what its names stand for.

    Which function a name stands for is said by that one's number, in the order of :func:`reachable`: the texts alone
    would be the same after ``chosen = outside`` was changed to ``chosen = inside``, where both are called elsewhere.
    """
    if not isinstance(function, FunctionType):
        return _constant(function, {})
    parts = list(reachable(function))
    numbers = {id(part): number for number, part in enumerate(parts)}
    return [
        (
            _content(part.__code__),
            _constant(part.__defaults__, numbers),
            _constant(part.__kwdefaults__, numbers),
            [(name, _constant(value, numbers)) for name, value in sorted(_named(part).items())],
        )
        for part in parts
    ]


def _unwrapped(function: Any) -> Any:
    """The plain function, if numba has wrapped it already."""
    return getattr(function, "py_func", function)


def _constant(value: Any, numbers: Mapping[int, int]) -> str:
    """What a global or a cell counts by: whatever it can hold that the compiled code may depend on.

    Args:
        value: the object.
        numbers: of the functions that are reached, by their ids.
    """
    if id(_unwrapped(value)) in numbers:
        return f"function {numbers[id(_unwrapped(value))]}"
    if isinstance(value, type) and hasattr(value, "_fields"):
        return f"{value.__name__}:{value._fields!r}"
    if isinstance(value, np.ndarray | np.generic):
        array = np.asarray(value)
        return f"{array.dtype.str}{array.shape}{hashlib.blake2b(array.tobytes(), digest_size=16).hexdigest()}"
    if isinstance(value, bool | int | float | complex | str | bytes | Enum | None):
        return repr(value)
    if isinstance(value, EnumType):
        return f"{value.__name__}:{list(value)!r}"
    if isinstance(value, list | tuple | set | frozenset | dict):
        parts = value.items() if isinstance(value, dict) else value
        shown = [_constant(part, numbers) for part in parts]
        return f"{type(value).__name__}{sorted(shown) if isinstance(value, set | frozenset) else shown}"
    if isinstance(value, ModuleType):
        return value.__name__
    if callable(value):  # a built-in function, a ufunc, a class: by where it is from
        return f"{getattr(value, '__module__', '')}.{getattr(value, '__qualname__', None) or value!r}"
    return repr(type(value))


def _named(function: FunctionType) -> dict[str, Any]:
    """The globals that the text names, also inside nested functions, what its cells hold, and names in its modules.

    Which of the names is looked up in which module only the compiled text would say, so each is in all.
    """
    names: set[str] = set()
    waiting = [function.__code__]
    while waiting:
        code = waiting.pop()
        names.update(code.co_names)
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    found = {name: function.__globals__[name] for name in names if name in function.__globals__}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        found[f"cell {name}"] = cell.cell_contents
    modules = [(name, value) for name, value in found.items() if isinstance(value, ModuleType)]
    for place, module in modules:  # grows while it is walked: packages hold modules
        for name in sorted(names & vars(module).keys()):
            value = vars(module)[name]
            if isinstance(value, ModuleType) and not any(value is known for _, known in modules):
                modules.append((f"{place}.{name}", value))
            found[f"{place}.{name}"] = value
    return found


def _content(code: CodeType) -> tuple[Any, ...]:
    """What the code does, without file names and line numbers."""
    constants = tuple(_content(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts)
    taken = code.co_argcount, code.co_kwonlyargcount, code.co_flags
    return code.co_code, taken, constants, code.co_names, code.co_varnames, code.co_freevars
