"""A result as arrays and JSON, and back to the same bits: how a partial sum is written to disk without pickle.

::

    {"loss": 2.0, "g": array}   →   {"dict": [["loss", {"float": "0x1p+1"}], ["g", {"array": "0"}]]},  {"0": array}

Each value is a table of one key, which says what it is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from thalweg.errors import RunError
from thalweg.runtime.tree import Absent, Pieces, Tree

Arrays = dict[str, np.ndarray]


def flatten(tree: Tree, *, path: str = "result") -> tuple[Any, Arrays]:
    """The structure of a result as JSON, and its arrays by name.

    Args:
        tree: dicts with names or integers, lists, tuples, :class:`Pieces`; in them arrays, numbers, text, None.
        path: what it is called in an error.

    Raises:
        RunError: it holds something else.

    Example:
        >>> import numpy as np
        >>> from thalweg.runs.flat import flatten, restore
        >>> structure, arrays = flatten([np.zeros(2), 0.1])
        >>> structure
        {'list': [{'array': '0'}, {'float': '0x1.999999999999ap-4'}]}
        >>> restore(structure, arrays)
        [array([0., 0.]), 0.1]
    """
    arrays: Arrays = {}
    return _flat(tree, arrays, path), arrays


def restore(structure: Any, arrays: Arrays) -> Tree:
    """The result that :func:`flatten` took apart.

    Raises:
        RunError: it is none.
    """
    try:
        ((kind, value),) = structure.items()
        return _RESTORE[kind](value, arrays)
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise RunError(f"This is no result that was taken apart: {structure!r:.80}") from error


def _flat(value: Any, arrays: Arrays, path: str) -> Any:
    if isinstance(value, Absent):
        return {"absent": None}
    if isinstance(value, dict):
        kind = "pieces" if isinstance(value, Pieces) else "dict"
        return {kind: [[_key(k, path), _flat(v, arrays, f"{path}[{k!r}]")] for k, v in value.items()]}
    if type(value) in (list, tuple):
        return {type(value).__name__: [_flat(v, arrays, f"{path}[{i}]") for i, v in enumerate(value)]}
    if isinstance(value, np.ndarray | np.generic) and value.dtype.kind in "biufc":
        return _flat_array(value, arrays)
    if isinstance(value, complex):
        return {"complex": [value.real.hex(), value.imag.hex()]}
    if isinstance(value, float):
        return {"float": value.hex()}
    if value is None or type(value) in (bool, int, str):
        return {"plain": value}
    raise RunError(
        f"{path} is a {type(value).__name__}, which cannot be kept on disk (output.checkpoint_shots); a task may "
        "return numeric arrays, numbers and text, and dicts, lists and tuples of them."
    )


def _key(key: Any, path: str) -> Any:
    if type(key) not in (str, int):
        raise RunError(
            f"{path} has the key {key!r}; only strings and integers can be kept on disk (output.checkpoint_shots)."
        )
    return key


def _flat_array(value: np.ndarray | np.generic, arrays: Arrays) -> Any:
    name = str(len(arrays))
    array = np.asarray(value)
    if array.dtype.kind == "c":  # the format has no complex numbers
        arrays[name] = np.stack([array.real, array.imag], axis=-1)
        return {"complex array" if isinstance(value, np.ndarray) else "complex scalar": name}
    arrays[name] = array
    return {"array" if isinstance(value, np.ndarray) else "scalar": name}


def _complex(parts: np.ndarray) -> np.ndarray:
    whole = np.empty(parts.shape[:-1], np.result_type(parts.dtype, np.complex64))
    whole.real, whole.imag = parts[..., 0], parts[..., 1]
    return whole


def _pairs(value: Any, arrays: Arrays) -> dict[Any, Any]:
    return {key: restore(entry, arrays) for key, entry in value}


_RESTORE: dict[str, Callable[[Any, Arrays], Any]] = {
    "absent": lambda value, arrays: Absent(),
    "dict": _pairs,
    "pieces": lambda value, arrays: Pieces(_pairs(value, arrays)),
    "list": lambda value, arrays: [restore(entry, arrays) for entry in value],
    "tuple": lambda value, arrays: tuple(restore(entry, arrays) for entry in value),
    "array": lambda value, arrays: arrays[value],
    "scalar": lambda value, arrays: arrays[value][()],
    "complex array": lambda value, arrays: _complex(arrays[value]),
    "complex scalar": lambda value, arrays: _complex(arrays[value])[()],
    "complex": lambda value, arrays: complex(float.fromhex(value[0]), float.fromhex(value[1])),
    "float": lambda value, arrays: float.fromhex(value),
    "plain": lambda value, arrays: value,
}
