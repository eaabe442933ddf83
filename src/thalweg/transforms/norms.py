"""Euclidean norms that neither overflow nor underflow, and arrays scaled down to a norm.

‖x‖ = s·r with s = max|x| and r = ‖x/s‖, so that no square is beyond the dtype. The result x/s · (limit/r) holds no
intermediate value that is, either: in float32 limit/‖x‖ alone may be below the smallest number.
"""

from __future__ import annotations

from thalweg.rules.namespaces import namespace
from thalweg.transforms.arrays import constant, quiet, wide
from thalweg.transforms.base import Array

Axis = int | tuple[int, ...] | None


def scaled_norm(array: Array, axis: Axis = None) -> tuple[Array, Array]:
    """The two factors (s, r) of the norm.

    Args:
        array: floats, any shape.
        axis: the axes over which the norm goes, which stay with length one; ``None`` for all, without axes.

    Returns:
        s, of the array's dtype or float32 for 16 bits, and r, summed in double precision on NumPy: 0 for zeros (s is
        then 1), and not a number if the array holds NaN or infinity.
    """
    names, given = namespace(array), wide(array)
    with quiet():
        largest = names.largest(names.absolute(given), axis)
        scale = names.where(largest > 0, largest, constant(1.0, given))
        return scale, names.sqrt(squares(given, scale, axis))


def squares(array: Array, scale: Array, axis: Axis = None) -> Array:
    """Σ (x/s)², in double precision on NumPy."""
    names = namespace(array)
    with quiet():
        unit = names.cast(array, scale) / scale
        return names.total(unit * unit, axis)


def scaled_down(array: Array, scale: Array, root: Array, limit: Array, *, slack: float = 0.0) -> Array:
    """x if s·r ≤ limit, else x · limit / (s·r).

    Args:
        array: the array x.
        scale: s, see :func:`scaled_norm`; of a dtype that holds the array's.
        root: r.
        limit: the largest norm.
        slack: the part of the limit by which the norm may miss it.

    Returns:
        A new array of the dtype of ``array``, to the bit the given one if it is inside, and NaN everywhere if
        the norm is not a number.
    """
    names = namespace(array)
    with quiet():
        inside = scale * root <= limit * (1.0 + slack)
        one = constant(1.0, scale)
        divisor = names.cast(names.where(inside, one, scale), scale)
        factor = names.cast(names.where(inside, one, limit / root), scale)
        return names.cast(names.cast(array, scale) / divisor * factor, array)
