"""A digest of what a function does, so that a kernel compiled from an older text is never reused.

numba's own cache looks at the file of the loop, not at the file of the rule that the loop calls.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from types import CodeType, FunctionType
from typing import Any


def reachable(function: Any) -> Iterator[FunctionType]:
    """``function`` and the plain Python functions that its text calls by a global name, each once.

    Args:
        function: a plain Python function.

    Yields:
        The functions, callers first.
    """
    seen: set[int] = set()
    waiting = [function]
    while waiting:
        current = waiting.pop()
        current = getattr(current, "py_func", current)  # what numba already wrapped
        if not isinstance(current, FunctionType) or id(current) in seen:
            continue
        seen.add(id(current))
        yield current
        waiting += [value for _, value in sorted(_globals(current).items())]


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
    for function in functions:
        if not isinstance(function, FunctionType):
            state.update(repr(function).encode())
            continue
        for part in reachable(function):
            state.update(repr((_content(part.__code__), part.__defaults__, part.__kwdefaults__)).encode())
            for name, value in sorted(_globals(part).items()):
                if isinstance(value, bool | int | float | str | tuple):
                    state.update(f"{name}={value!r}".encode())
                elif isinstance(value, type) and hasattr(value, "_fields"):
                    state.update(f"{name}:{value._fields!r}".encode())
            for cell in part.__closure__ or ():
                value = cell.cell_contents
                state.update(text_digest(value).encode() if isinstance(value, FunctionType) else repr(value).encode())
    return state.hexdigest()


def _globals(function: FunctionType) -> dict[str, Any]:
    """The globals that the text names, also inside nested functions."""
    names: set[str] = set()
    waiting = [function.__code__]
    while waiting:
        code = waiting.pop()
        names.update(code.co_names)
        waiting += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
    return {name: function.__globals__[name] for name in names if name in function.__globals__}


def _content(code: CodeType) -> tuple[Any, ...]:
    """What the code does, without file names and line numbers."""
    constants = tuple(_content(c) if isinstance(c, CodeType) else repr(c) for c in code.co_consts)
    return code.co_code, constants, code.co_names, code.co_varnames, code.co_freevars
