"""What the compiled pass is given: the layout of its tables, for the two sides that agree on it."""

from __future__ import annotations

from typing import Any, NamedTuple

ARGUMENTS = (
    *("table", "begin", "end", "mode"),
    *("groups", "used", "hyper", "times", "carried", "advanced", "scalars"),
    *("limits", "sums", "variables", "members", "concluded"),
)
"""The integers that a call is given the address of: rows from ``begin`` to ``end``, and addresses of

- table: a row a block, ``ROW`` and the addresses of the slots, int64;
- used: by group, 1 if an array belongs to it, else 0, int64: only the scalars of such a one have to fit;
- hyper: hyperparameters by group; times: the step count by group; carried, advanced: the carried numbers of the
  step before, and of this one; scalars: what ``prepare`` makes of them; all float64;
- limits: lower and upper bound by variable, float64;
- sums: what ``measure`` found, by row; members: first row, last row and group by variable; concluded: the scalars
  by variable; for rules with a reduction.
"""

ROW = ("param", "grad", "size", "group", "variable")
"""What a row begins with: two addresses, the number of elements, and to whom they belong."""

BLOCK = 1 << 15
"""The largest number of elements of a row. Fixed, so that bits do not depend on the number of threads."""

SCAN, PREPARE, MEASURE, CONCLUDE, UPDATE = 1, 2, 4, 8, 16
"""The parts of a step, to be added up to a mode; they are done in this order."""


class Shape(NamedTuple):
    """How many numbers of each kind a rule has, and the named tuple of its scalars."""

    slots: int
    hypers: int
    scalars: int
    carried: int
    sums: int
    scalars_type: type[Any]
