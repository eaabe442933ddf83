"""The handful of functions that a rule's text may call besides ``+ - * /``.

They mean the same on every backend. Which library's function is meant is told by the arguments (NumPy, JAX,
PyTorch, PyTensor; see :mod:`thalweg.rules.namespaces`), and the compiled pass puts its own in place of them. All
are elementwise, but for ``if_number``.
"""

from __future__ import annotations

from typing import Any

from thalweg.rules.namespaces import namespace

__all__ = ["absolute", "cos", "equal", "floor", "if_number", "isfinite", "maximum", "minimum", "sign", "sqrt", "where"]


def sqrt(x: Any) -> Any:
    """√x.

    Args:
        x: numbers ≥ 0, any shape.

    Returns:
        The square root, of the dtype of ``x``.

    Example:
        >>> import numpy as np
        >>> from thalweg.rules.arithmetic import sqrt
        >>> float(sqrt(np.float32(4.0)))
        2.0
    """
    return namespace(x).sqrt(x)


def absolute(x: Any) -> Any:
    """|x|.

    Args:
        x: real numbers, any shape.

    Returns:
        The absolute value, of the dtype of ``x``.

    Example:
        >>> import numpy as np
        >>> from thalweg.rules.arithmetic import absolute
        >>> float(absolute(np.float32(-4.0)))
        4.0
    """
    return namespace(x).absolute(x)


def maximum(x: Any, y: Any) -> Any:
    """max(x, y); NaN where either is NaN.

    Args:
        x: real numbers.
        y: real numbers of a shape that broadcasts with ``x``.

    Returns:
        The larger of the two.

    Example:
        >>> import numpy as np
        >>> from thalweg.rules.arithmetic import maximum
        >>> float(maximum(np.float32(1.0), np.float32(2.0)))
        2.0
    """
    return namespace(x, y).maximum(x, y)


def minimum(x: Any, y: Any) -> Any:
    """min(x, y); NaN where either is NaN.

    Args:
        x: real numbers.
        y: real numbers of a shape that broadcasts with ``x``.

    Returns:
        The smaller of the two.

    Example:
        >>> import numpy as np
        >>> from thalweg.rules.arithmetic import minimum
        >>> float(minimum(np.float32(1.0), np.float32(2.0)))
        1.0
    """
    return namespace(x, y).minimum(x, y)


def sign(x: Any) -> Any:
    """−1, 0 or 1 as x is negative, zero or positive; NaN where it is NaN.

    Args:
        x: real numbers, any shape.

    Returns:
        The sign, of the dtype of ``x``.

    Example:
        >>> import numpy as np
        >>> from thalweg.rules.arithmetic import sign
        >>> float(sign(np.float32(-3.0)))
        -1.0
    """
    return namespace(x).sign(x)


def where(condition: Any, x: Any, y: Any) -> Any:
    """x where the condition holds, else y: a selection, so a NaN that is not selected does no harm.

    Args:
        condition: booleans.
        x: values where true.
        y: values where false.

    Returns:
        The selected values.

    Example:
        >>> import numpy as np
        >>> from thalweg.rules.arithmetic import where
        >>> float(where(True, np.float32(1.0), np.float32(np.nan)))
        1.0
    """
    return namespace(condition, x, y).where(condition, x, y)


def equal(x: Any, y: Any) -> Any:
    """x = y: what ``==`` says elsewhere, which compares objects on PyTensor.

    A number that is written in a text is of double precision in compiled code: 0.1 is no element of float32 there.

    Args:
        x: real numbers.
        y: real numbers of a shape that broadcasts with ``x``.

    Returns:
        Booleans; false where either is NaN.

    Example:
        >>> import numpy as np
        >>> from thalweg.rules.arithmetic import equal
        >>> equal(np.array([1.0, 2.0]), 2.0)
        array([False,  True])
    """
    return namespace(x, y).equal(x, y)


def floor(x: Any) -> Any:
    """The largest integer that is not above x, as a number of the dtype of ``x``.

    Args:
        x: real numbers, any shape.

    Returns:
        The integer part, rounded down.

    Example:
        >>> import numpy as np
        >>> from thalweg.rules.arithmetic import floor
        >>> float(floor(np.float32(-1.5)))
        -2.0
    """
    return namespace(x).floor(x)


def cos(x: Any) -> Any:
    """cos x.

    Args:
        x: angles in radians, any shape.

    Returns:
        The cosine, of the dtype of ``x``.

    Example:
        >>> import numpy as np
        >>> from thalweg.rules.arithmetic import cos
        >>> float(cos(np.float32(0.0)))
        1.0
    """
    return namespace(x).cos(x)


def isfinite(x: Any) -> Any:
    """Whether x is neither NaN nor infinite.

    Args:
        x: real numbers, any shape.

    Returns:
        Booleans.

    Example:
        >>> import numpy as np
        >>> from thalweg.rules.arithmetic import isfinite
        >>> bool(isfinite(np.float32(np.inf)))
        False
    """
    return namespace(x).isfinite(x)


def if_number(x: Any, number: Any, array: Any) -> Any:
    """One of two values, by whether x is a number: told by its shape, never by its value.

    Args:
        x: a hyperparameter: a number, or an array of them.
        number: the result if it is a number; a compiled pass, which knows numbers only, computes this one alone.
        array: the result if it is an array.

    Returns:
        ``number`` or ``array``, as it is.

    Example:
        >>> import numpy as np
        >>> from thalweg.rules.arithmetic import if_number
        >>> if_number(0.5, "number", "array"), if_number(np.zeros(2), "number", "array")
        ('number', 'array')
    """
    return array if getattr(x, "ndim", 0) else number
