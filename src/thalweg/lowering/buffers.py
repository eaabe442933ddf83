"""Memory for the state of a rule, and contiguous native copies of parameters that are neither.

Reads and writes whose addresses agree modulo 4 KiB wait for each other in the processor ("4 KiB aliasing"),
which costs up to 1.6 ×; the rows of a large state are therefore staggered.
"""

from __future__ import annotations

import numpy as np

PAGE = 4096
LINE = 64


def make_state(rows: int, param: np.ndarray) -> np.ndarray:
    """Zeros, a row a slot, each row at least as long as ``param``.

    Args:
        rows: the number of slots.
        param: the parameter, C-contiguous, float32 or float64.

    Returns:
        An array of shape ``(rows, m)``, m ≥ ``param.size``, C-contiguous and of the parameter's dtype. Row r
        starts (r + 1)/(rows + 1) of a page after the parameter, modulo the page, if the rows are larger than
        a page.

    Example:
        >>> import numpy as np
        >>> from thalweg.lowering.buffers import make_state
        >>> make_state(2, np.zeros(5, np.float32)).shape[0]
        2
    """
    itemsize = param.dtype.itemsize
    if rows == 0 or param.nbytes <= PAGE:
        return np.zeros((rows, max(param.size, 1)), param.dtype)
    stagger = PAGE // (rows + 1) // LINE * LINE
    stride = -(-param.nbytes // PAGE) * PAGE + stagger
    raw = np.zeros(rows * stride + PAGE, np.uint8)
    start = (param.ctypes.data + stagger - raw.ctypes.data) % PAGE // itemsize * itemsize
    start += -(raw.ctypes.data + start) % itemsize
    return raw[start : start + rows * stride].view(param.dtype).reshape(rows, stride // itemsize)


def is_plain(array: np.ndarray) -> bool:
    """Whether loops can work on ``array`` where it lies: C-contiguous, aligned, in native byte order."""
    return bool(array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative)


def plain(array: np.ndarray) -> np.ndarray:
    """``array`` itself if it is plain, else a contiguous native copy of it.

    Args:
        array: any layout, byte order and alignment.

    Returns:
        A plain array of the same values, shape and kind.
    """
    if is_plain(array):
        return array
    return np.array(array, dtype=array.dtype.newbyteorder("="), order="C", copy=True, subok=False)


def overlaps_itself(array: np.ndarray) -> bool:
    """Whether two elements of ``array`` may share memory, as a view made with ``as_strided`` can.

    Args:
        array: any layout.

    Returns:
        False only if they certainly do not.
    """
    reach = array.itemsize
    for stride, length in sorted((abs(s), n) for s, n in zip(array.strides, array.shape, strict=True) if n > 1):
        if stride < reach:
            return True
        reach = stride * (length - 1) + reach
    return False
