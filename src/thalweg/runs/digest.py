"""A fingerprint of a model: equal digests mean the same bits.

SHA-256 over, for each array in the order of the names (as code points): the line ``name``, the line of the
dtype as NumPy spells it (``<f4``), the line of the shape (``(296, 296)``), then the elements in C order,
little-endian.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray


def model_digest(arrays: Mapping[str, NDArray[Any]]) -> str:
    """The SHA-256 digest of named arrays, as 64 hexadecimal digits.

    Args:
        arrays: by name, any shapes and numeric dtypes; the byte order and the strides do not count.

    Example:
        >>> import numpy as np
        >>> from thalweg.runs import model_digest
        >>> model_digest({"speed": np.zeros(3)}) == model_digest({"speed": np.zeros(6)[::2]})
        True
    """
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.asarray(arrays[name])
        array = np.ascontiguousarray(array, array.dtype.newbyteorder("<")).reshape(array.shape)
        digest.update(f"{name}\n{array.dtype.str}\n{array.shape}\n".encode())
        digest.update(array.reshape(-1).view(np.uint8).data)
    return digest.hexdigest()
