"""A factor to the power of a count, also where the count is of single precision.

There γ itself is rounded, by up to 6e-8, and γᵗ by t times as much: 1 % with γ = 0.999999 after a million counts. So
a power of single precision is the product of four, one for each byte of t, and these are taken in double precision
when the schedule is traced::

    γᵗ = γ^b₀ · γ^(256 b₁) · γ^(65536 b₂) · γ^(16777216 b₃),   t = b₀ + 256 b₁ + 65536 b₂ + 16777216 b₃

Seven roundings, 5e-7 at most, and one for t < 256. If t is no whole number, a fifth factor is γ to what is left of it.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from thalweg.schedules.counting import single


def power(factor: float, t: Any) -> Any:
    """γᵗ, to the precision of t.

    Args:
        factor: γ, above 0 and at most 1.
        t: what :func:`thalweg.schedules.counting.count` returned, or a number made of it; 0 or more, and below 2³¹ in
            single precision.

    Returns:
        The power, as a real number like ``t``.

    Example:
        >>> from thalweg.schedules.powers import power
        >>> power(0.5, 3.0)
        0.125
    """
    if not single(t):
        return factor**t
    import jax.numpy as jnp

    whole = jnp.floor(t)
    count, product = whole.astype(np.int32), factor ** (t - whole)
    for place, table in enumerate(_tables(factor)):
        product = product * jnp.asarray(table)[(count >> 8 * place) & 255]
    return product


@functools.lru_cache(maxsize=64)
def _tables(factor: float) -> tuple[np.ndarray, ...]:
    """The powers for each value of each byte."""
    with np.errstate(under="ignore"):  # what is too small for single precision is 0
        return tuple(np.power(factor, np.arange(256) * 2.0**place).astype(np.float32) for place in range(0, 32, 8))
