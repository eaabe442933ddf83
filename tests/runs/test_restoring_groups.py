"""Groups of a study that were written in another way: what changed in one is told by what it holds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import thalweg as tw
from thalweg.errors import StateMismatchError
from thalweg.runs.restoring import restore_optimizer

NAMES = ("l.w", "l.b", "m.w", "m.b")


def rates(before: list[dict[str, Any]], after: list[dict[str, Any]], *, steps: int = 2) -> dict[str, float]:
    """What the first step after the checkpoint makes of gradients of ones."""
    tables = [{"kind": "sgd", "learning_rate": 1.0, "groups": groups} for groups in (before, after)]
    old, new = (tw.optimizers.build(table, [tw.Variable(np.ones(2), name=n) for n in NAMES]) for table in tables)
    ones = {name: np.ones(2) for name in NAMES}
    for _ in range(steps):
        tw.wait(old.step(grad=ones))
    saved = old.state()
    arrays = {f"optimizer/{name}": array for name, array in saved.arrays.items()}
    restore_optimizer(new, arrays, {"optimizer": saved.meta}, *tables)
    tw.wait(new.step(grad=ones))
    return {str(v.name): round(1.0 - float(v.data[0]), 9) for v in new.variables}


def w_and_b(w: float, b: float) -> dict[str, float]:
    return {name: w if name.endswith("w") else b for name in NAMES}


def table(variables: Any, rate: float | None = None, **more: Any) -> dict[str, Any]:
    return {"variables": variables, **({} if rate is None else {"learning_rate": rate}), **more}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ([table("*.w", 0.1), table("*.b", 0.2)], [table("*.b", 0.1), table("*.w", 0.2)], w_and_b(0.2, 0.1)),
        ([table("*.w", 0.1), table("*.b", 0.2)], [table("*.b", 0.2), table("*.w", 0.1)], w_and_b(0.1, 0.2)),
        ([table("*.b", 0.2)], [table("*.w"), table("*.b", 0.4)], w_and_b(1.0, 0.4)),
        ([table("*.b", 0.2)], [table("*.w"), table("*.b")], w_and_b(1.0, 1.0)),
        ([table("*.w"), table("*.b", 0.2)], [table("*.b", 0.4)], w_and_b(1.0, 0.4)),
        ([table(["l.b", "m.b"], 0.2)], [table("*.b", 0.2, weight_decay=0.0)], w_and_b(1.0, 0.2)),
        ([table("*.b", 0.2), table("l.b", 0.3)], [table("*.b", 0.2), table("l.b", 0.9)], w_and_b(1.0, 0.2)),
    ],
)
def test_what_changed_is_the_groups_of_the_same_variables(
    before: list[dict[str, Any]], after: list[dict[str, Any]], expected: dict[str, float]
) -> None:
    assert rates(before, after) == expected


@pytest.mark.parametrize("after", [[table("*.w", 0.2)], [table("l.b", 0.2)], []])
def test_other_members_are_refused(after: list[dict[str, Any]]) -> None:
    with pytest.raises(StateMismatchError, match="not the same hold"):
        rates([table("*.b", 0.2)], after)
