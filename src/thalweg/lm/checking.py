"""Arguments that are numbers, checked."""

from __future__ import annotations

import math
from typing import Any

from thalweg.errors import LanguageModelError


def integer(value: Any, name: str, *, least: int) -> int:
    """An integer of at least ``least``.

    Raises:
        LanguageModelError: it is none.
    """
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise LanguageModelError(f"{name} is {value!r}; give an integer of at least {least}.")
    return value


def number(value: Any, name: str, *, least: float, unit: str = "") -> float:
    """A finite number of at least ``least``.

    Raises:
        LanguageModelError: it is none.
    """
    good = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if not good or value < least:
        raise LanguageModelError(f"{name} is {value!r}; give a finite number of at least {least:g}{unit}.")
    return float(value)
