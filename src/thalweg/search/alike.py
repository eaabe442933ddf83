"""Which candidates have equal values: they are one to whoever judges them, and the first stands for all."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from thalweg.search.values import digest_json


class Alike:
    """Candidates by their values.

    Args:
        values: of those that are there already, by number.

    Example:
        >>> from thalweg.search.alike import Alike
        >>> alike = Alike({0: {"x": 1}, 1: {"x": 2}})
        >>> alike.add(2, {"x": 1})
        >>> alike.of(2), alike.first(2), alike.first(1)
        ([0, 2], 0, 1)
        >>> alike.with_values({"x": 2}), alike.with_values({"x": 3})
        ([1], [])
    """

    def __init__(self, values: Mapping[int, Any] | None = None) -> None:
        self._group: dict[int, list[int]] = {}
        self._groups: dict[str, list[int]] = {}
        for number in sorted(values or {}):
            self.add(number, (values or {})[number])

    def add(self, number: int, values: Any) -> None:
        """Take in a candidate; again, it changes nothing.

        Args:
            number: not below that of any other.
            values: JSON.
        """
        if number not in self._group:
            group = self._groups.setdefault(digest_json(values), [])
            group.append(number)
            self._group[number] = group

    def of(self, number: int) -> list[int]:
        """The candidates that have a candidate's values, in the order of asking; it is one of them."""
        return list(self._group[number])

    def first(self, number: int) -> int:
        """The first candidate that has a candidate's values."""
        return self._group[number][0]

    def with_values(self, values: Any) -> list[int]:
        """The candidates that have these values, in the order of asking."""
        return list(self._groups.get(digest_json(values), ()))
