"""What happens to a gradient before the rule, and to the model after it: callables from array to array.

There are three kinds, told apart by what they have to see::

    Transform            array → array               clipping one gradient, a mask, bounds for a model
    TreeTransform        {name: array} → the same    clipping by the norm over all variables
    ParameterTransform   (gradient, θ) → gradient    decay; clipping relative to the parameter

All return new arrays of the same shape and dtype and never change what they are given. They know their
parameters, so that a study file can name them and saved state can tell that they are the same. Their texts are
array arithmetic that means the same on every backend: a NumPy array gives a NumPy array, a JAX array (also a
traced one) a JAX array, and so on for PyTorch and PyTensor.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any, ClassVar

import numpy as np

from thalweg.rules.calling import Called, kind_of

Array = Any
"""A NumPy array, a JAX array, a PyTorch tensor or a PyTensor variable."""

ArrayFunction = Callable[[Array], Array]


class Described(Called, abc.ABC):
    """A callable with declared parameters; what the three kinds share. Subclasses are frozen dataclasses.

    A subclass sets ``kind``, its name in study files, and ``array_parameters``, those of its fields that are
    arrays (a study names them, the problem supplies them).
    """

    noun = "transform"
    kind: ClassVar[str]
    array_parameters: ClassVar[tuple[str, ...]] = ()

    def get_config(self) -> dict[str, Any]:
        """The transform as JSON: its kind and parameters; an array is told by its digest.

        Returns:
            The table from which :func:`thalweg.transforms.build` makes it again, given its arrays.

        Raises:
            HyperparameterError: its class has no ``kind``.
        """
        config: dict[str, Any] = {"kind": kind_of(self)}
        for f in fields(self):  # type: ignore[arg-type]
            value = getattr(self, f.name)
            is_array = f.name in self.array_parameters and value is not None
            config[f.name] = array_digest(value) if is_array else _json(value)
        return config


class Transform(Described):
    """A callable from array to array; one that is linear has ``adjoint``, another such callable.

    Example:
        >>> from dataclasses import dataclass
        >>> import numpy as np
        >>> from thalweg import transforms
        >>> @dataclass(frozen=True)
        ... class power(transforms.Transform):
        ...     kind = "power"
        ...     exponent: int
        ...     def __call__(self, array):
        ...         return array**self.exponent
        >>> power(2)(np.array([1.0, -3.0])), power(2).get_config()
        (array([1., 9.]), {'kind': 'power', 'exponent': 2})
    """

    @abc.abstractmethod
    def __call__(self, array: Array) -> Array:
        """The transformed array: new, of the same library, shape and dtype."""


class TreeTransform(Described):
    """A callable on the gradients of all variables of an optimizer at once, by variable name.

    Sums over variables go in the order of their names, so that the result does not depend on the mapping's.

    Example:
        >>> from dataclasses import dataclass
        >>> import numpy as np
        >>> from thalweg import transforms
        >>> @dataclass(frozen=True)
        ... class center(transforms.TreeTransform):
        ...     kind = "center"
        ...     def __call__(self, arrays):
        ...         mean = sum(arrays[name].sum() for name in sorted(arrays)) / sum(a.size for a in arrays.values())
        ...         return {name: array - mean for name, array in arrays.items()}
        >>> center()({"a": np.array([1.0]), "b": np.array([3.0])})
        {'a': array([-1.]), 'b': array([1.])}
    """

    @abc.abstractmethod
    def __call__(self, arrays: Mapping[str, Array]) -> dict[str, Array]:
        """The transformed arrays by the same names: new, each of the same library, shape and dtype."""


class ParameterTransform(Described):
    """A callable on a gradient that also has to see the parameter it belongs to.

    Example:
        >>> from dataclasses import dataclass
        >>> import numpy as np
        >>> from thalweg import transforms
        >>> @dataclass(frozen=True)
        ... class relative(transforms.ParameterTransform):
        ...     kind = "relative"
        ...     def __call__(self, grad, param):
        ...         return grad * param
        >>> relative()(np.array([2.0]), np.array([3.0]))
        array([6.])
    """

    @abc.abstractmethod
    def __call__(self, grad: Array, param: Array) -> Array:
        """The transformed gradient: new, of the gradient's library, shape and dtype."""


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
    return value.get_config() if isinstance(value, Described) else value
