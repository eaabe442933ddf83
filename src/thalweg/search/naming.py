"""Names for what nobody named: from the class, counted within the process."""

from __future__ import annotations

import itertools
import re
import threading
from collections import defaultdict
from collections.abc import Iterator

_NUMBERS: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)  # the same script gives the same names
_ONE_AT_A_TIME = threading.Lock()


def auto_name(class_name: str) -> str:
    """A name that no other automatic one of this process is: ``hill_climb``, ``hill_climb_1``, ``hill_climb_2``.

    Args:
        class_name: the name of the class.

    Returns:
        It in snake case, with a number from the second one on.

    Example:
        >>> from thalweg.search.naming import auto_name
        >>> auto_name("OneOfADocstring"), auto_name("OneOfADocstring")
        ('one_of_a_docstring', 'one_of_a_docstring_1')
    """
    plain = snake_case(class_name)
    with _ONE_AT_A_TIME:
        number = next(_NUMBERS[plain])
    return f"{plain}_{number}" if number else plain


def snake_case(name: str) -> str:
    """A class's name in small letters with underscores.

    Example:
        >>> from thalweg.search.naming import snake_case
        >>> [snake_case(name) for name in ("HillClimb", "OPRO", "CMAESSearch", "TwoD2Search", "_Hidden")]
        ['hill_climb', 'opro', 'cmaes_search', 'two_d2_search', 'hidden']
    """
    parted = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name)
    return parted.lower().strip("_") or "unnamed"
