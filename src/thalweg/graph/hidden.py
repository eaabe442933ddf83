"""The search for Variables inside other arguments, where they could not be tracked and would get no gradient."""

from __future__ import annotations

import array
from collections.abc import Callable, Iterable, Mapping, MappingView, Sequence, Set
from dataclasses import is_dataclass
from functools import lru_cache
from types import SimpleNamespace
from typing import Any

import numpy as np

from thalweg.graph.variable import Variable

# Sequences and mappings whose items are no Variables; the last reads its items from disk.
_PLAIN = (str, bytes, bytearray, memoryview, range, array.array, np.lib.npyio.NpzFile)


def hidden_variable(value: Any) -> tuple[Variable, Any] | None:
    """Return a Variable inside a container, however deep, and what it is in; None if there is none.

    Containers are mappings, sequences, sets and views of them (the standard library's and whatever is
    registered with :mod:`collections.abc`), object arrays, dataclasses and SimpleNamespaces.
    """
    if _opener_of(value) is None:
        return None
    seen: dict[int, Any] = {}  # keeps the containers, so that no id comes twice
    stack = [value]
    while stack:
        container = stack.pop()
        items = _opener_of(container)
        if items is None or id(container) in seen:
            continue
        seen[id(container)] = container
        for item in items(container):
            if isinstance(item, Variable):
                return item, container
            if _opener_of(item) is not None:
                stack.append(item)
    return None


def _opener_of(value: Any) -> Callable[[Any], Iterable[Any]] | None:
    kind: Any = type(value)
    return _opener(kind)


@lru_cache(maxsize=1024)
def _opener(kind: type) -> Callable[[Any], Iterable[Any]] | None:
    """Return what lists the items of a container of this type, or None for what is no container."""
    if issubclass(kind, _PLAIN):
        return None
    if issubclass(kind, np.ndarray):
        return _elements
    if issubclass(kind, Mapping):
        return _keys_and_values
    if issubclass(kind, Sequence | Set | MappingView):
        return iter
    if is_dataclass(kind):
        return _fields
    return _attributes if issubclass(kind, SimpleNamespace) else None


def _elements(container: np.ndarray[Any, Any]) -> Iterable[Any]:
    return container.flat if container.dtype.hasobject else ()


def _keys_and_values(container: Mapping[Any, Any]) -> Iterable[Any]:
    return (*container.keys(), *container.values())


def _fields(container: Any) -> Iterable[Any]:
    # None: a field that was declared but is not set
    return [getattr(container, name, None) for name in container.__dataclass_fields__]


def _attributes(container: SimpleNamespace) -> Iterable[Any]:
    return vars(container).values()
