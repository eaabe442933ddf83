"""Options of engines, checked: whole numbers, real ones, and yes or no."""

from __future__ import annotations

import math
from typing import Any

from thalweg.errors import SearchError


def whole(value: Any, name: str, *, least: int, most: float = math.inf) -> int:
    """Check an option that is an integer."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        span = f"at least {least}" if math.isinf(most) else f"from {least} to {most}"
        raise SearchError(f"{name} is {value!r}; it is an integer, {span}.", option=name)
    return value


def truth(value: Any, name: str) -> bool:
    """Check an option that is True or False."""
    if not isinstance(value, bool):
        raise SearchError(f"{name} is {value!r}; it is True or False.", option=name)
    return value


def real(value: Any, name: str, *, above: float, most: float = math.inf) -> float:
    """Check an option that is a number, above < value ≤ most."""
    number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not number or not above < value <= most:
        span = f"above {above:g}" + ("" if math.isinf(most) else f" and at most {most:g}")
        raise SearchError(f"{name} is {value!r}; it is a number {span}.", option=name)
    return float(value)
