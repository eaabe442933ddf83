"""Central finite differences of even order on a unit grid.

For half-width r and order 2r (Fornberg 1988, table 1 in closed form)::

    ∂²u ≈ c₀ u₀ + Σₖ cₖ (uₖ + u₋ₖ),   cₖ = 2 (−1)ᵏ⁺¹ (r!)² / (k² (r−k)! (r+k)!),  c₀ = −2 Σ cₖ
    ∂u  ≈ Σₖ dₖ (uₖ − u₋ₖ),           dₖ =   (−1)ᵏ⁺¹ (r!)² / (k  (r−k)! (r+k)!)
"""

from __future__ import annotations

from math import cos, factorial

SPACE_ORDERS = (4, 8)


def _ratio(half_width: int, k: int) -> float:
    sign = -1.0 if k % 2 == 0 else 1.0
    return sign * factorial(half_width) ** 2 / (factorial(half_width - k) * factorial(half_width + k))


def second_derivative(order: int) -> tuple[float, ...]:
    """Return c₀ ... c_r of the second derivative of the given even order, for unit spacing.

    >>> [round(c, 4) for c in second_derivative(4)]
    [-2.5, 1.3333, -0.0833]
    """
    r = order // 2
    sides = [2.0 * _ratio(r, k) / k**2 for k in range(1, r + 1)]
    return (-2.0 * sum(sides), *sides)


def first_derivative(order: int) -> tuple[float, ...]:
    """Return 0, d₁ ... d_r of the first derivative of the given even order, for unit spacing.

    >>> [round(d, 4) for d in first_derivative(4)]
    [0.0, 0.6667, -0.0833]
    """
    r = order // 2
    return (0.0, *(_ratio(r, k) / k for k in range(1, r + 1)))


def symbol(order: int, phase: float) -> float:
    """Return −∂² of exp(i·phase·x) on the unit grid: phase² in the limit of small phase (radians a cell).

    >>> round(symbol(8, 0.1) / 0.1**2, 9)
    1.0
    """
    c = second_derivative(order)
    return -(c[0] + 2.0 * sum(c[k] * cos(k * phase) for k in range(1, len(c))))
