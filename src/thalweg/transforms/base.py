"""What happens to a gradient before the rule, and to the model after it: callables from array to array.

A transform returns a new array of the same shape and dtype and never changes its input. Any callable that
does so will serve as ``process_grad`` or ``process_model``; the ones here also know their parameters, so that
a study file can name them and saved state can tell that they are the same.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from typing import Any, ClassVar

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.rules.spelling import unknown

ArrayFunction = Callable[[np.ndarray], np.ndarray]


class Transform(abc.ABC):
    """A callable from array to array with declared parameters; subclasses are frozen dataclasses.

    A subclass sets ``kind``, its name in study files, and ``array_parameters``, those of its fields that are
    arrays (a study names them, the problem supplies them). A linear one has ``adjoint``.

    Example:
        >>> from dataclasses import dataclass
        >>> import numpy as np
        >>> from thalweg import transforms
        >>> @dataclass(frozen=True)
        ... class scale(transforms.Transform):
        ...     kind = "scale"
        ...     factor: float
        ...     def __call__(self, array):
        ...         return array * array.dtype.type(self.factor)
        >>> scale(2.0)(np.ones(2)), scale(2.0).get_config()
        (array([2., 2.]), {'kind': 'scale', 'factor': 2.0})
    """

    kind: ClassVar[str]
    array_parameters: ClassVar[tuple[str, ...]] = ()

    @abc.abstractmethod
    def __call__(self, array: np.ndarray) -> np.ndarray:
        """The transformed array: new, of the same shape and dtype."""

    def get_config(self) -> dict[str, Any]:
        """The transform as JSON: its kind and parameters; an array is told by its digest.

        Returns:
            The table from which :func:`thalweg.transforms.build` makes it again, given its arrays.
        """
        config: dict[str, Any] = {"kind": self.kind}
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            config[f.name] = array_digest(value) if f.name in self.array_parameters else _json(value)
        return config


def array_digest(array: np.ndarray) -> dict[str, Any]:
    """What tells one array from another: shape, dtype and BLAKE2 digest of its bytes.

    Args:
        array: any array of numbers.

    Returns:
        JSON: ``{"shape": [...], "dtype": ..., "digest": ...}``.
    """
    import hashlib

    plain = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("="))
    digest = hashlib.blake2b(plain.tobytes(), digest_size=16).hexdigest()
    return {"shape": list(array.shape), "dtype": plain.dtype.name, "digest": digest}


def _json(value: Any) -> Any:
    """A parameter as JSON."""
    if isinstance(value, tuple):
        return [_json(part) for part in value]
    return value.get_config() if isinstance(value, Transform) else value


def build_transform(
    table: Mapping[str, Any], registry: Mapping[str, type[Transform]], arrays: Mapping[str, np.ndarray]
) -> Transform:
    """A transform from a table such as ``{"kind": "bounds", "lower": 1400, "upper": 1700}``.

    Args:
        table: the kind and the parameters; a parameter that is an array is given by name.
        registry: the known kinds.
        arrays: the arrays that may be named.

    Returns:
        The transform.

    Raises:
        HyperparameterError: an unknown kind, parameter or array (naming the nearest), a missing parameter, or
            a value out of range.
    """
    parameters = dict(table)
    kind = parameters.pop("kind", None)
    if not isinstance(kind, str) or kind not in registry:
        raise unknown("transform", str(kind), registry)
    cls = registry[kind]
    known = {f.name: f for f in fields(cls)}  # type: ignore[arg-type]
    for name, value in parameters.items():
        if name not in known:
            raise unknown(f"parameter of transform {kind!r}", name, known)
        if name in cls.array_parameters:
            parameters[name] = _named(value, name, kind, arrays)
    for name, declared in known.items():
        if declared.default is MISSING and name not in parameters:
            raise HyperparameterError(f"transform {kind!r} needs {name!r}, which has no default", name=name)
    return cls(**parameters)


def _named(value: Any, parameter: str, kind: str, arrays: Mapping[str, np.ndarray]) -> np.ndarray:
    """The array that a table means: by its name, or by the digest that ``get_config`` wrote."""
    if isinstance(value, str):
        if value not in arrays:
            raise unknown(f"array for {parameter!r} of transform {kind!r}: ", value, arrays)
        return arrays[value]
    for array in arrays.values():
        if array_digest(array) == value:
            return array
    raise HyperparameterError(
        f"transform {kind!r}: {parameter!r} is {value!r}, and none of the arrays handed in is that one; "
        "name one of them, or hand the same array in again",
        name=parameter,
        known=sorted(arrays),
    )


def floating(array: np.ndarray, kind: str) -> np.ndarray:
    """``array`` if a transform can work on it.

    Args:
        array: what was given.
        kind: the transform's name, for the message.

    Returns:
        The array.

    Raises:
        HyperparameterError: it is not a NumPy array of floating point numbers.
    """
    if not isinstance(array, np.ndarray | np.generic) or not np.issubdtype(array.dtype, np.floating):
        found = getattr(array, "dtype", type(array).__name__)
        raise HyperparameterError(f"transform {kind!r} got {found}; it works on NumPy arrays of floats", got=str(found))
    return np.asarray(array)
