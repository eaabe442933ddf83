from __future__ import annotations

from types import FunctionType
from typing import Any

from thalweg.lowering.digest import reachable, text_digest


def functions(source: str) -> dict[str, Any]:
    """The functions of a text, as if it were a module."""
    space: dict[str, Any] = {"__name__": "a_module"}
    exec(compile(source, "a_file", "exec"), space)
    return space


TEXT = """
import math
scale = 2.0
def helper(x):
    return x + 1.0
def update(x):
    return helper(x) * scale
"""


def test_the_same_text_has_the_same_digest() -> None:
    assert text_digest(functions(TEXT)["update"]) == text_digest(functions("\n\n" + TEXT)["update"])


def test_a_change_anywhere_below_changes_the_digest() -> None:
    before = text_digest(functions(TEXT)["update"])
    for old, new in [("x + 1.0", "x + 1.5"), ("* scale", "/ scale"), ("scale = 2.0", "scale = 3.0"), ("x + ", "x - ")]:
        assert text_digest(functions(TEXT.replace(old, new))["update"]) != before, new


def test_reachable_follows_globals_and_survives_recursion() -> None:
    space = functions(TEXT + "\ndef again(x):\n    return again(update(x))\n")
    names = {function.__name__ for function in reachable(space["again"])}
    assert names == {"again", "update", "helper"}
    assert all(isinstance(function, FunctionType) for function in reachable(space["again"]))


def test_closures_and_other_objects_count() -> None:
    def make(offset: float) -> Any:
        return lambda x: x + offset

    assert text_digest(make(1.0)) != text_digest(make(2.0))
    assert text_digest("avx2") != text_digest("avx512")
