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
        ...     2.0 if pt.dscalar("t") == 1 else 1.0
        Traceback (most recent call last):
        TypeError: == compares expressions as objects, whatever their values will be; write equal(x, y), of ...
    """
    kind = import_module("pytensor.tensor.variable").TensorVariable
    with _LOCK:
        _INSIDE[threading.get_ident()] = _INSIDE.get(threading.get_ident(), 0) + 1
        if len(_INSIDE) == 1:
            kind.__eq__, kind.__ne__, kind.__hash__ = _equal, _unequal, _hash
    try:
        yield
    finally:
        with _LOCK:
            _INSIDE[threading.get_ident()] -= 1
            if not _INSIDE[threading.get_ident()]:
                del _INSIDE[threading.get_ident()]
            if not _INSIDE:
                del kind.__eq__, kind.__ne__, kind.__hash__


_LOCK = threading.Lock()
_BUILDS = {
    dis.opmap[name]
    for name in ("BUILD_MAP", "BUILD_CONST_KEY_MAP", "BUILD_SET", "MAP_ADD", "SET_ADD", "STORE_SUBSCR")
    if name in dis.opmap
}
_INSIDE: dict[int, int] = {}  # by thread, how often


def _equal(one: Any, other: Any) -> Any:
    _refuse(sys._getframe(1))
    return object.__eq__(one, other)


def _unequal(one: Any, other: Any) -> Any:
    _refuse(sys._getframe(1))
    return object.__ne__(one, other)


def _hash(one: Any) -> int:
    asking = sys._getframe(1)
    if asking.f_code.co_code[asking.f_lasti] not in _BUILDS:  # {x: y}, for functions of PyTensor's
        _refuse(asking)
    return object.__hash__(one)


def _refuse(asking: FrameType | None) -> None:
    """Raise if it is a user's code that asks, perhaps through the standard library."""
    if threading.get_ident() not in _INSIDE:
        return
    while asking is not None and _module(asking) in sys.stdlib_module_names:
        asking = asking.f_back
    if asking is not None and not of_a_library(asking):
        raise TypeError(
            "== compares expressions as objects, whatever their values will be; write equal(x, y), of "
            "thalweg.rules.arithmetic, in where (and do not look for an expression in a list or a dictionary) "
            f"({asking.f_code.co_filename}, line {asking.f_lineno})"
        )


def _module(frame: FrameType) -> str:
    return str(frame.f_globals.get("__name__", "")).partition(".")[0]
