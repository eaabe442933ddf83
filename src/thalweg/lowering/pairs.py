"""Numbers as the sum of two float32 numbers: for the few numbers of a step where JAX has no float64. ::

    x = high + low,   high = x rounded to float32, |low| ≤ ½ ulp(high)

Sums, products and quotients carry their own rounding error along, which gives them about 46 bits. A power is written
as 1 + (eʸ − 1), y = exponent·log(base), so that 1 − β₂ᵗ has all digits of float32; in float32 throughout 1 − 0.999 is
wrong by 1.3e-5, and with it every step of Adam.

T. Dekker, A floating-point technique for extending the available precision, Numerische Mathematik 18, 1971.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import numpy as np

_SPLITTER = 4097.0  # 2¹² + 1: takes 24 bits apart into twice 12


@jax.tree_util.register_dataclass
@dataclass(frozen=True, eq=False)
class Pair:
    """A number as the sum of two float32 numbers, with the operators that a rule's ``prepare`` uses.

    It is a pytree of two arrays. Operands may be pairs, Python numbers and JAX scalars; comparisons give JAX booleans.

    Args:
        high: float32, the number rounded.
        low: float32, what is lost by that.

    Example:
        >>> from thalweg.lowering.pairs import as_float, pair
        >>> round(as_float(1 - pair(0.999) ** 3), 8)
        0.002997
    """

    high: jax.Array
    low: jax.Array

    __array_ufunc__: ClassVar[None] = None  # NumPy's numbers leave the operators to this class
    own_names: ClassVar[SimpleNamespace]

    @property
    def ndim(self) -> int:
        """How many axes the parts have: none, or those of an array of pairs."""
        return int(jnp.ndim(self.high))

    def __add__(self, other: Any) -> Pair:
        y = pair(other)
        total, lost = _two_sum(self.high, y.high)
        return Pair(*_quick_sum(total, lost + (self.low + y.low)))

    def __neg__(self) -> Pair:
        return Pair(-self.high, -self.low)

    def __sub__(self, other: Any) -> Pair:
        return self + -pair(other)

    def __rsub__(self, other: Any) -> Pair:
        return pair(other) + -self

    def __mul__(self, other: Any) -> Pair:
        y = pair(other)
        product, lost = _two_product(self.high, y.high)
        return Pair(*_quick_sum(product, lost + (self.high * y.low + self.low * y.high)))

    __radd__, __rmul__ = __add__, __mul__

    def __truediv__(self, other: Any) -> Pair:
        y = pair(other)
        quotient = self.high / y.high
        product, lost = _two_product(quotient, y.high)
        rest = ((self.high - product) - lost) + (self.low - quotient * y.low)
        return Pair(*_quick_sum(quotient, rest / y.high))

    def __rtruediv__(self, other: Any) -> Pair:
        return pair(other) / self

    def __pow__(self, exponent: Any) -> Pair:
        if isinstance(exponent, int | float) and abs(exponent) == 0.5:
            return sqrt(self) if exponent > 0 else 1.0 / sqrt(self)
        power = pair(exponent).high
        above = self.high > 0.0
        base = where(above, self, 1.0)
        # Near 1 the logarithm is that of a difference, which is exact to the last bit of ``low``
        near = (base.high > 0.5) & (base.high < 2.0)
        log = jnp.where(near, jnp.log1p((base.high - 1.0) + base.low), jnp.log(base.high))
        return where(above, _exp(power * log), where(power == 0.0, 1.0, 0.0))

    def __rpow__(self, base: float) -> Pair:
        return _exp(self.high * math.log(base))

    def __lt__(self, other: Any) -> Any:
        y = pair(other)
        return (self.high < y.high) | ((self.high == y.high) & (self.low < y.low))

    def __gt__(self, other: Any) -> Any:
        return pair(other) < self

    def __le__(self, other: Any) -> Any:
        return (self < other) | (self == other)

    def __ge__(self, other: Any) -> Any:
        return (self > other) | (self == other)

    def __eq__(self, other: Any) -> Any:
        y = pair(other)
        return (self.high == y.high) & (self.low == y.low)

    def __ne__(self, other: Any) -> Any:
        return ~(self == other)

    __hash__ = None  # type: ignore[assignment]


def pair(value: Any) -> Pair:
    """A number as a pair.

    Args:
        value: a pair; a Python number, of which 48 bits are kept; a JAX scalar, integers exactly.

    Returns:
        The pair.

    Example:
        >>> from thalweg.lowering.pairs import pair
        >>> float(pair(0.1).high), f"{float(pair(0.1).low):.2e}"
        (0.10000000149011612, '-1.49e-09')
    """
    if isinstance(value, Pair):
        return value
    if isinstance(value, int | float | np.number):
        high, low = split(value)
        # Behind a barrier: XLA makes x + (c − c) of (x + c) − c if it sees that c is a constant
        return Pair(*behind_barrier((jnp.asarray(high), jnp.asarray(low))))
    if jnp.issubdtype(value.dtype, jnp.integer):
        upper = value >> 12 << 12
        return Pair(*_quick_sum(upper.astype(jnp.float32), (value - upper).astype(jnp.float32)))
    if isinstance(value, np.ndarray):
        return Pair(*split(value))  # ``number`` makes JAX's of them
    high = value.astype(jnp.float32)
    return Pair(high, (value - high.astype(value.dtype)).astype(jnp.float32))


def split(value: Any) -> tuple[Any, Any]:
    """The two parts of what is no JAX array, without JAX.

    Args:
        value: a Python number, or NumPy's, or an array of float64.

    Returns:
        high and low, float32 of NumPy; what is too large for that is infinite, which whoever needs a number sees.

    Example:
        >>> from thalweg.lowering.pairs import split
        >>> print(*split(1 + 2.0**-30))
        1.0 9.313226e-10
    """
    with np.errstate(over="ignore"):
        if not isinstance(value, np.ndarray):
            high = np.float32(value)
            return high, np.float32(float(value) - float(high) if np.isfinite(high) else 0.0)
        several = value.astype(np.float32)
    lost = np.subtract(value, several, where=np.isfinite(several), out=np.zeros_like(value))
    return several, lost.astype(np.float32)


def behind_barrier(values: Any) -> Any:
    """The same values, of which XLA sees no longer how they were made: it neither reorders nor repeats that.

    Args:
        values: a pytree of arrays.

    Returns:
        The pytree.
    """
    return jax.lax.optimization_barrier(values)  # type: ignore[no-untyped-call]


def as_float(value: Pair) -> float:
    """A pair that is not traced as a Python number.

    Args:
        value: the pair.

    Returns:
        The sum of its parts.

    Example:
        >>> from thalweg.lowering.pairs import as_float, pair
        >>> as_float(pair(0.5))
        0.5
    """
    return float(value.high) + float(value.low)


def sqrt(x: Any) -> Pair:
    """√x: one step of Newton's from the one in single precision."""
    given = pair(x)
    rough = jnp.sqrt(given.high)
    square, lost = _two_product(rough, rough)
    rest = ((given.high - square) - lost) + given.low
    return Pair(*_quick_sum(rough, rest / jnp.where(rough > 0.0, rough + rough, 1.0)))


def where(condition: Any, x: Any, y: Any) -> Pair:
    """x where the condition holds, else y."""
    one, other = pair(x), pair(y)
    return Pair(jnp.where(condition, one.high, other.high), jnp.where(condition, one.low, other.low))


def floor(x: Any) -> Pair:
    """The largest whole number that is not above x."""
    given = pair(x)
    whole = jnp.floor(given.high)
    return Pair(*_quick_sum(whole, jnp.where(whole == given.high, jnp.floor(given.low), 0.0)))


def maximum(x: Any, y: Any) -> Pair:
    """max(x, y)."""
    return where(pair(x) > y, x, y)


def minimum(x: Any, y: Any) -> Pair:
    """min(x, y)."""
    return where(pair(x) < y, x, y)


def absolute(x: Any) -> Pair:
    """|x|."""
    given = pair(x)
    return where(given < 0.0, -given, given)


def cos(x: Any) -> Pair:
    """The cosine, to single precision."""
    given = pair(x)
    return pair(jnp.cos(given.high) - given.low * jnp.sin(given.high))


Pair.own_names = SimpleNamespace(
    sqrt=sqrt,
    absolute=absolute,
    maximum=maximum,
    minimum=minimum,
    sign=lambda x: pair(jnp.sign(pair(x).high)),
    where=where,
    floor=floor,
    cos=cos,
    equal=lambda x, y: (pair(x).high == pair(y).high) & (pair(x).low == pair(y).low),
    isfinite=lambda x: jnp.isfinite(pair(x).high),
)


def _exp(y: Any) -> Pair:
    """eʸ of a float32 number: to its relative accuracy, and to that of 1 − eʸ."""
    near = y > -0.7
    one = pair(1.0).high
    return where(near, Pair(*_two_sum(one, jnp.expm1(jnp.where(near, y, 0.0)))), pair(jnp.exp(y)))


def _two_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """a + b rounded, and exactly what that loses (D. Knuth)."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _quick_sum(a: Any, b: Any) -> tuple[Any, Any]:
    """The same where |a| ≥ |b|."""
    total = a + b
    return total, b - (total - a)


def _two_product(a: Any, b: Any) -> tuple[Any, Any]:
    """a·b rounded, and exactly what that loses."""
    product = a * b
    (a_high, a_low), (b_high, b_low) = _split(a), _split(b)
    return product, ((a_high * b_high - product) + a_high * b_low + a_low * b_high) + a_low * b_low


def _split(a: Any) -> tuple[Any, Any]:
    large = _SPLITTER * a
    high = large - (large - a)
    return high, a - high
