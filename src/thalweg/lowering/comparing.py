"""``==`` of PyTensor's expressions: refused in users' texts, since it compares objects there, and is false for ever.

``<`` makes an expression, and ``if`` on one is an error. But ``t == 1``, ``t in (2, 4)`` and a dictionary's ``get(t)``
would be answered while the graph is made, without a word, and take the same branch in every step.
"""

from __future__ import annotations

import dis
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from importlib import import_module
from types import FrameType
from typing import Any

from thalweg.rules.trying import of_a_library


@contextmanager
def by_value() -> Iterator[None]:
    """Have ``==``, ``!=`` and ``hash`` of expressions be errors inside, where it is not a library that asks.

    In this thread; graphs that others make meanwhile are left alone.

    Raises:
        TypeError: a text compared an expression, or looked for one in a list or a dictionary.

    Example:
        >>> import pytensor.tensor as pt
        >>> from thalweg.lowering.comparing import by_value
        >>> with by_value():
        ...     eval("2.0 if t == 1 else 1.0", {"t": pt.dscalar("t")})  # of nobody's module, as a user's text
        Traceback (most recent call last):
        TypeError: == compares expressions as objects, whatever their values will be; write equal(x, y), of ...
    """
    kind = import_module("pytensor.tensor.variable").TensorVariable
    token, patched = None, False
    try:
        _patch(kind, 1)
        patched = True
        token = _ASKED.set(True)
        yield
    finally:
        if token is not None:
            _ASKED.reset(token)
        if patched:
            _patch(kind, -1)


_ASKED: ContextVar[bool] = ContextVar("asked", default=False)
"""Whether this thread is inside. Without it the methods that are set below do what those before them did."""

_LOCK = threading.Lock()
_INSIDE = [0]  # how many threads are, and how often
_OPERATIONS = ("BUILD_MAP", "BUILD_CONST_KEY_MAP", "BUILD_SET", "MAP_ADD", "SET_ADD", "STORE_SUBSCR")
_BUILDS = {dis.opmap[name] for name in _OPERATIONS if name in dis.opmap}


def _patch(kind: Any, more: int) -> None:
    """Have expressions ask, from the first that goes in to the last that goes out."""
    with _LOCK:
        _INSIDE[0] += more
        if _INSIDE[0] == 1 and more > 0:
            kind.__eq__, kind.__ne__, kind.__hash__ = _equal, _unequal, _hash
        elif _INSIDE[0] == 0:
            del kind.__eq__, kind.__ne__, kind.__hash__


def _equal(one: Any, other: Any) -> Any:
    _refuse(sys._getframe(1))
    return object.__eq__(one, other)


def _unequal(one: Any, other: Any) -> Any:
    _refuse(sys._getframe(1))
    return object.__ne__(one, other)


def _hash(one: Any) -> int:
    asking = sys._getframe(1)
    if _ASKED.get() and asking.f_code.co_code[asking.f_lasti] not in _BUILDS:  # {x: y}, for functions of PyTensor's
        _refuse(asking, "a dictionary or a set knows expressions")
    return object.__hash__(one)


def _refuse(asking: FrameType | None, what: str = "== compares expressions") -> None:
    """Raise if it is a user's text that asks, perhaps through NumPy or the standard library, and not what PyTensor
    calls."""
    while asking is not None and (_module(asking) == "numpy" or _module(asking) in sys.stdlib_module_names):
        asking = asking.f_back
    if not _ASKED.get() or asking is None or of_a_library(asking):
        return
    caller = asking.f_back
    while caller is not None and _module(caller) not in ("thalweg", "pytensor"):
        caller = caller.f_back
    if caller is None or _module(caller) == "thalweg":
        raise TypeError(
            f"{what} as objects, whatever their values will be; write equal(x, y), of thalweg.rules.arithmetic, in "
            "where (and do not look for an expression in a list, a set or a dictionary) "
            f"({asking.f_code.co_filename}, line {asking.f_lineno})"
        )


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
