"""Pydantic's ``Decimal`` in a search space: a number that its model writes as text.

Its schema is a union of the number and any text, which a union of ``float`` and ``str`` has as well. So
:class:`DecimalSchema` marks it, with the decimal places that it may have if their number is limited::

    {"anyOf": [{"type": "number", "minimum": 0.0, "maximum": 1.0}, {"type": "string"}], "x-decimal": {"places": 2}}

and with the digits before the point (``"whole": 1``) if there may be fewer than its bounds have.

What is drawn is the text of a number that a float holds to the last digit: ``"0.37"``.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from typing import Any, ClassVar

from pydantic.json_schema import GenerateJsonSchema

from thalweg.errors import SchemaError
from thalweg.search.space_nodes import Fixed, Grid, Json, Node, Plain, Real, Suggester, number_of

DECIMAL = "x-decimal"
LARGEST_INTEGER = 2**53
MOST_PLACES = 300  # floats end there
_SIDES = (("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum"))


class DecimalSchema(GenerateJsonSchema):
    """Pydantic's own schemas, with a mark at its decimals."""

    def decimal_schema(self, schema: Any) -> dict[str, Any]:
        """The schema of a decimal, marked."""
        plain = super().decimal_schema(schema)
        bounds = [schema[key] for key in ("ge", "gt", "le", "lt") if schema.get(key) is not None]
        largest = max((abs(bound) for bound in bounds if math.isfinite(bound)), default=None)
        places, digits, whole = schema.get("decimal_places"), schema.get("max_digits"), None
        if digits is not None and places is not None:
            places, whole = min(places, digits), max(digits - places, 0)
        elif digits is not None and largest is not None:
            places, whole = max(digits - len(str(int(largest))), 0), digits
        mark = {} if places is None else {"places": min(places, MOST_PLACES)}
        cuts = whole is not None and whole <= MOST_PLACES and largest is not None and 10**whole <= largest
        return {**plain, DECIMAL: {**mark, "whole": whole} if cuts else mark}


def is_decimal(schema: dict[str, Any]) -> bool:
    """Whether a schema has the mark."""
    return DECIMAL in schema and "anyOf" in schema


def check_mark(mark: Any, name: str) -> None:
    """Raise unless it is what :class:`DecimalSchema` writes.

    Raises:
        SchemaError: a hand has written something else.
    """
    good = isinstance(mark, dict) and mark.keys() <= {"places", "whole"}
    if not (good and all(type(count) is int and 0 <= count <= MOST_PLACES for count in mark.values())):
        raise SchemaError(
            f'{name} has {DECIMAL} {mark!r}; it is {{}}, or has "places", and "whole" for the digits before the point, '
            f"each from 0 to {MOST_PLACES}.",
            path=name,
        )


def decimal_number(schema: dict[str, Any], branches: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The schema of the number that a marked schema has, as one can search it; None if it has no bounds.

    Args:
        schema: with the mark.
        branches: of its union, with what stands beside it.
    """
    found = next((branch for branch in branches if branch.get("type") in ("number", ["number"])), None)
    sides = [[key for key in side if found and key in found] for side in _SIDES]
    if found is None or not all(sides):
        return None
    places, whole = schema[DECIMAL].get("places"), schema[DECIMAL].get("whole")
    largest = max(abs(found[key]) for side in sides for key in side)
    if places is None:
        return found
    if whole is not None:
        largest = float(Decimal(10) ** whole - Decimal(1).scaleb(-places))
        found = {**found, "minimum": max(found.get("minimum", -largest), -largest)}
        found["maximum"] = min(found.get("maximum", largest), largest)
    while places and largest * 10.0**places > LARGEST_INTEGER:
        places -= 1  # a coarser grid fits as well
    return {**found, "multipleOf": _common(found.get("multipleOf"), float(f"1e-{places}"))}


def _common(multiple: Any, unit: float) -> Any:
    """The least common multiple of a unit and the ``multipleOf`` of a schema, if it has one."""
    number = number_of(multiple)
    if number is None or not 0 < number < math.inf:
        return unit if multiple is None else multiple  # which is refused where it is read
    one, other = Fraction(repr(number)), Fraction(repr(unit))
    times = (one / other).denominator
    return multiple if times == 1 else float(one * times)


def as_text(node: Node) -> Node:
    """The node of a number as one of its text."""
    if isinstance(node, Real):
        return RealText(node.name, node.low, node.high, node.log)
    if isinstance(node, Grid):
        return GridText(node.name, node.unit, node.low, node.high, False, node.log)
    return Fixed(node.name, _text(Decimal(repr(node.at(0)))))  # there is only one


def _text(number: Decimal) -> str:
    """A decimal as one would write it: 0.5, 100, 0.0000001."""
    text = format(number, "f")
    text = text.rstrip("0").rstrip(".") if "." in text else text
    return "0" if text in ("-0", "") else text


def _decimal(value: Json) -> Decimal | None:
    try:
        number = number_of(value)
        found = Decimal(value) if isinstance(value, str) else None if number is None else Decimal(repr(number))
    except InvalidOperation:
        return None
    return found if found is not None and found.is_finite() else None


@dataclass(frozen=True)
class RealText(Real):
    """The text of a float in low ≤ x ≤ high."""

    as_text: ClassVar[bool] = True

    def draw(self, suggester: Suggester) -> Json:
        """The shortest text that gives the float."""
        return _text(Decimal(repr(super().draw(suggester))))

    def encode(self, value: Json, answers: dict[str, Plain]) -> None:
        """The number itself, if a float has all its digits."""
        number = _decimal(value)
        if number is None or Decimal(repr(float(number))) != number:
            raise self.refuse(value)
        super().encode(float(number), answers)

    def to_unit(self, value: Any) -> float:
        """Where in the interval."""
        return super().to_unit(float(value))

    def from_unit(self, u: float) -> Any:
        """The text of the float at u of the interval."""
        return _text(Decimal(repr(super().from_unit(u))))

    def about(self) -> str:
        """For people."""
        return f"decimals {super().about()}"


@dataclass(frozen=True)
class GridText(Grid):
    """The text of a multiple of a decimal unit."""

    as_text: ClassVar[bool] = True

    def value(self, k: int) -> Json:
        """The text of k·unit."""
        return _text(self.unit * k)

    def encode(self, value: Json, answers: dict[str, Plain]) -> None:
        """The factor k."""
        number = _decimal(value)
        k = None if number is None else round(number / self.unit)
        if k is None or not self.low <= k <= self.high or self.unit * k != number:
            raise self.refuse(value)
        answers[self.name] = k

    def about(self) -> str:
        """For people."""
        ends = f"multiples of {self.unit} from {self.value(self.low)} to {self.value(self.high)}"
        return f"decimals, {ends}" + (", log scale" if self.log else "")
