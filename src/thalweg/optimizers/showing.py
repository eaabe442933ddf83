"""How a message shows what somebody gave: a model, or a list of tensors, would fill the screen before its end."""

from __future__ import annotations

import numbers
from typing import Any

_LONGEST = 40  # characters of a string


def shown(value: Any) -> str:
    """What was given in a few words: its kind, and itself if it is a number or a short text.

    Args:
        value: what was given.

    Returns:
        For instance ``"a float, 0.1"`` or ``"a list of 12"``.

    Example:
        >>> from thalweg.optimizers.showing import shown
        >>> shown(0.1), shown([[0.5] * 1000] * 12), shown(object())
        ('a float, 0.1', 'a list of 12', 'an object')
    """
    name = type(value).__name__
    kind = f"{'an' if name[0] in 'aeiouAEIOU' else 'a'} {name}"
    if isinstance(value, numbers.Number) or (isinstance(value, str) and len(value) <= _LONGEST):
        return f"{kind}, {value!r}"
    return f"{kind} of {len(value)}" if isinstance(value, list | tuple | dict | set) else kind
