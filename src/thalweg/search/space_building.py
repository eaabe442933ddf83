"""From a JSON schema to a search space: which keywords give which choices.

===========================  ==========================================================================
in the schema                in the space
===========================  ==========================================================================
``number`` with bounds       a float between them; ``"x-scale": "log"`` searches its logarithm
``exclusiveMinimum`` ...     the next float, the next integer
``integer`` with bounds      an integer between them
``multipleOf``               a grid of exact multiples, also decimal ones
Pydantic's ``Decimal``       with bounds the text of a number between them (``x-decimal``); else as a string
``enum``, ``boolean``        a choice; ``const`` and one-element choices leave nothing to choose
``oneOf``, ``anyOf``         a choice of the branch, then what belongs to it; a list of types is the same
``object``                   every declared property, required or not
``array`` with ``maxItems``  a length, then the items; ``uniqueItems`` of finitely many values
``x-pool``                   one of these values, for strings above all
a string without a pool      frozen: the present value, else the schema's default; so is a union with one
===========================  ==========================================================================

Keywords that would need a search of their own to be satisfied (``not``, ``if``, ``contains``, ...) are refused.
"""

from __future__ import annotations

import math
import re
from decimal import Decimal
from fractions import Fraction
from typing import Any

from thalweg.errors import SchemaError
from thalweg.search.space_branches import common_label, excludes
from thalweg.search.space_compound import Branch, Distinct, Items, Record
from thalweg.search.space_decimals import DECIMAL, as_text, check_mark, decimal_number, is_decimal
from thalweg.search.space_listing import Listing, allowed, listed
from thalweg.search.space_merging import Resolver, types_of
from thalweg.search.space_nodes import Choice, Fixed, Grid, Json, Node, Plain, Real, Whole, copied, identity
from thalweg.search.values import canonical_json, written_path

MISSING: Any = object()
REFUSED = (
    *("not", "if", "then", "else", "contains", "dependentRequired", "dependentSchemas", "dependencies"),
    *("patternProperties", "propertyNames", "$dynamicRef", "$recursiveRef"),
)
LARGEST_INTEGER = 2**53  # beyond it the engines' arithmetic, which is in floats, would skip integers
SMALLEST_SCALE = 1e-300  # a logarithmic axis down to the smallest floats is a mistake
MOST_NODES = 50_000
MOST_DISTINCT = 1_000
BESIDE_OTHERS = "a decimal is searched beside what can be searched"
NO_ENDS = "a decimal is searched between a minimum and a maximum; give both"
BESIDE_TEXT = 'any text fits there besides its numbers; give "x-pool" with the values to try, or leave the text out'


class FreeError(SchemaError):
    """Anything is allowed here, and there is no present value to freeze; ``reason`` is told of what is frozen."""


class Builder:
    """Builds the nodes of one schema. ``root`` is what ``$ref`` refers to."""

    def __init__(self, root: Any) -> None:
        self._resolver = Resolver(root)
        self._listing = Listing(root)
        self._count = 0
        self._decimals = True  # whether they are searched

    def build(self, schema: Any, name: str, present: Any = MISSING) -> Node:
        """The node of a schema.

        Args:
            schema: a JSON schema, or a part of one.
            name: of the node.
            present: the value that is there now, which frozen parts keep.

        Raises:
            SchemaError: it cannot be searched; the message names the path.
        """
        self._count += 1
        if self._count > MOST_NODES:
            raise SchemaError(
                f"the search space has more than {MOST_NODES:,} places at {name}; give a smaller maxItems."
            )
        schema = self._resolver.plain(schema, name)
        if keyword := next((keyword for keyword in REFUSED if keyword in schema), None):
            raise SchemaError(
                f"{name} has {keyword!r}, which a search cannot satisfy by construction; write the schema without it, "
                "for instance as oneOf.",
                path=name,
            )
        if "x-pool" in schema:
            return _choice(name, self._listing.pool(schema, name), "x-pool")
        if "const" in schema:
            return Fixed(name, copied(self._listing.values(schema, name)[0]))
        if "enum" in schema:
            return _choice(name, self._listing.values(schema, name), "enum")
        if is_decimal(schema):
            found = self._decimal(schema, name)
            return self._frozen(schema, name, present, found) if isinstance(found, str) else found
        if "oneOf" in schema or "anyOf" in schema:
            return self._union(schema, name, present)
        kinds = types_of(schema)
        if not kinds:
            return self._frozen(schema, name, present)
        if len(kinds) > 1:
            branches = [{**schema, "type": kind} for kind in kinds]
            return self._branch(branches, schema, name, present)
        return self._typed(kinds[0], schema, name, present)

    def _decimal(self, schema: dict[str, Any], name: str) -> Node | str:
        """The numbers of a decimal; or why they cannot be searched."""
        check_mark(schema[DECIMAL], name)
        number = decimal_number(schema, self._resolver.alternatives(schema, name)) if self._decimals else None
        try:
            return NO_ENDS if number is None else as_text(_real(number, name))
        except SchemaError as error:
            return _reason(error, name)

    def _typed(self, kind: str, schema: dict[str, Any], name: str, present: Any) -> Node:
        if kind == "null":
            return Fixed(name, None)
        if kind == "boolean":
            return Choice(name, (False, True), (False, True))
        if kind == "integer":
            return _integer(schema, name)
        if kind == "number":
            return _real(schema, name)
        if kind == "object" and "properties" in schema:
            return self._record(schema, name, present)
        if kind == "array" and not ("items" not in schema and "prefixItems" not in schema):
            return self._array(schema, name, present)
        return self._frozen(schema, name, present)

    def _record(self, schema: dict[str, Any], name: str, present: Any) -> Node:
        properties = schema["properties"]
        missing = [key for key in schema.get("required", []) if key not in properties]
        if missing:
            raise SchemaError(f"{name} requires {missing[0]!r}, which is not among its properties.", path=name)
        nodes, defaults = [], []
        for key, part in properties.items():
            now = present[key] if isinstance(present, dict) and key in present else MISSING
            nodes.append(self.build(part, f"{name}.{written_path((key,))}", now))
            default = self._resolver.default(part, f"{name}.{key}")
            if default is not None and key not in schema.get("required", []):
                defaults.append((key, default[0]))
        return Record(name, tuple(properties), tuple(nodes), tuple(defaults))

    def _array(self, schema: dict[str, Any], name: str, present: Any) -> Node:
        prefix, rest = schema.get("prefixItems", []), schema.get("items", True)
        if isinstance(rest, list):  # the spelling of prefixItems before 2020
            prefix, rest = rest, schema.get("additionalItems", True)
        parts = [*prefix, *([] if rest is False or (rest is True and prefix) else [rest])]
        try:
            for part in parts:
                self.build(part, f"{name}.0")
        except FreeError as error:
            return self._frozen(schema, name, present, error.details["reason"])
        before = self._count
        try:
            return self._items(schema, prefix, rest, name)
        except SchemaError as error:
            if not self._is_free_without_decimals(parts, name):
                raise
            self._count = before
            return self._frozen(schema, name, present, _reason(error, name))

    def _is_free_without_decimals(self, parts: list[Any], name: str) -> bool:
        """Whether decimals are what there is to search in the items of an array: then it may stay as it is."""
        searched, self._decimals = self._decimals, False
        try:
            for part in parts:
                self.build(part, f"{name}.0")
        except SchemaError as error:
            return searched and isinstance(error, FreeError)
        finally:
            self._decimals = searched
        return False

    def _items(self, schema: dict[str, Any], prefix: list[Any], rest: Any, name: str) -> Node:
        shortest, longest = schema.get("minItems", 0), schema.get("maxItems", math.inf)
        if rest is False or (rest is True and prefix):
            longest = min(longest, len(prefix))
        if math.isinf(longest):
            raise SchemaError(
                f"{name} is an array without maxItems; give maxItems (and minItems), or freeze it with const.",
                path=name,
            )
        if shortest > longest:
            raise SchemaError(f"{name} has minItems {shortest} and at most {longest} items; nothing fits.", path=name)
        if schema.get("uniqueItems"):
            return self._distinct(rest, prefix, name, int(shortest), int(longest))
        parts = [prefix[k] if k < len(prefix) else rest for k in range(int(longest))]
        nodes = tuple(self.build(part, f"{name}.{k}") for k, part in enumerate(parts))
        return Items(name, int(shortest), nodes, min(len(prefix), len(nodes)))

    def _distinct(self, items: Any, prefix: list[Any], name: str, shortest: int, longest: int) -> Node:
        node = self.build(items, f"{name}.0")
        if prefix or node.size() > MOST_DISTINCT:
            raise SchemaError(
                f"{name} has uniqueItems, which can be searched if its items are alike and have at most "
                f"{MOST_DISTINCT:,} values, such as an enum; it has {'prefixItems' if prefix else node.about()}.",
                path=name,
            )
        values = tuple({identity(value): value for value in (node.at(k) for k in range(int(node.size())))}.values())
        if shortest > len(values):
            raise SchemaError(f"{name} has minItems {shortest} of {len(values)} different items.", path=name)
        return Distinct(name, shortest, min(longest, len(values)), values)

    def _union(self, schema: dict[str, Any], name: str, present: Any) -> Node:
        if "oneOf" in schema and "anyOf" in schema:
            raise SchemaError(f"{name} has oneOf and anyOf; a search can take one of them.", path=name)
        keyword = "oneOf" if "oneOf" in schema else "anyOf"
        branches = self._resolver.alternatives(schema, name)
        if not branches:
            raise SchemaError(f"{name}: no branch of its {keyword} agrees with what stands beside it.", path=name)
        return self._branch(branches, schema, name, present)

    def _branch(self, branches: list[dict[str, Any]], whole: dict[str, Any], name: str, present: Any) -> Node:
        """The branches of a schema, which is given besides as a whole."""
        exclusive = "oneOf" in whole
        if all(listed(branch) for branch in branches):
            values = [value for branch in branches for value in allowed(branch)]
            keyword = "oneOf" if exclusive else "anyOf"
            return _choice(name, self._listing.checked(values, whole, keyword, name), keyword)
        settled = {"const", "enum", "x-pool", "oneOf", "anyOf"}
        texts = any(types_of(one) in ([], ["string"]) and not settled & one.keys() for one in branches)
        decimals = [self._decimal(one, name) for one in branches if is_decimal(one)]
        if texts:  # a string or null: what is there now stays
            numbers = any(isinstance(one, Node) for one in decimals) or any(map(_is_bounded, branches))
            return self._frozen(whole, name, present, BESIDE_TEXT if numbers else "")
        reasons = [one for one in decimals if isinstance(one, str)]
        if reasons:
            return self._frozen(whole, name, present, reasons[0])
        if not decimals:
            return self._one_of(branches, exclusive, name, present)
        try:  # of the others
            node = self._one_of(branches, exclusive, name, present)
        except SchemaError as error:
            return self._frozen(whole, name, present, _reason(error, name))
        frozen = [one for _, one in node.parts() if isinstance(one, Fixed) and one.why == "frozen"]
        return self._frozen(whole, name, present, frozen[0].reason or BESIDE_OTHERS) if frozen else node

    def _one_of(self, branches: list[dict[str, Any]], exclusive: bool, name: str, present: Any) -> Node:
        disjoint = all(
            excludes(self._resolver, one, other, name) and excludes(self._resolver, other, one, name)
            for k, one in enumerate(branches)
            for other in branches[:k]
        )
        if exclusive and not disjoint:
            raise SchemaError(
                f"{name} has oneOf with branches that one value may fit together, which oneOf forbids; tell them apart "
                'by a property with const in each ("kind"), or use anyOf.',
                path=name,
            )
        labels = common_label(self._resolver, branches, name)
        nodes = [
            self.build(branch, f"{name}[{label}]", present) for label, branch in zip(labels, branches, strict=True)
        ]
        return nodes[0] if len(nodes) == 1 else Branch(name, tuple(labels), tuple(nodes), disjoint)

    def _frozen(self, schema: dict[str, Any], name: str, present: Any, reason: str = "") -> Node:
        if present is not MISSING:
            return Fixed(name, copied(present), "frozen", reason)
        if "default" in schema:
            default = self._listing.checked([schema["default"]], schema, "default", name)
            return Fixed(name, copied(default[0]), "frozen", reason)
        raise FreeError(
            f"{name} may be {'any text' if schema.get('type') == 'string' else 'anything'}, and there is no present "
            'value to keep; give "x-pool": [...] with the values to try, enum, const or default.'
            + (f" ({reason}.)" if reason else ""),
            path=name,
            reason=reason,
        )


def _reason(error: SchemaError, name: str) -> str:
    """Why something stays as it is, of what cannot be searched there."""
    return re.sub(rf"(?<![\w.]){re.escape(name)}(?!\w)", "it", str(error)).rstrip(".")


def _is_bounded(schema: dict[str, Any]) -> bool:
    """Whether it is of numbers that could be searched if there were nothing besides."""
    lower, upper = ("minimum", "exclusiveMinimum"), ("maximum", "exclusiveMaximum")
    return any(key in schema for key in lower) and any(key in schema for key in upper)


def _choice(name: str, values: list[Json], keyword: str) -> Node:
    different = list({identity(value): value for value in values}.values())
    if not different:
        raise SchemaError(f"{name}: its {keyword} has no value that its type allows.", path=name)
    if len(different) == 1:
        return Fixed(name, copied(different[0]))
    return Choice(name, tuple(copied(value) for value in different), _labels(different))


def _labels(values: list[Json]) -> tuple[Plain, ...]:
    """The values themselves where Python tells them apart as JSON does, else their text."""
    plain = all(value is None or isinstance(value, bool | int | float | str) for value in values)
    if plain and len(set(values)) == len(values):
        return tuple(values)
    return tuple(canonical_json(value) for value in values)


def _exact(value: Any, keyword: str, name: str) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise SchemaError(f"{name} has {keyword} {value!r}; it is a finite number.", path=name)
    return Fraction(Decimal(repr(value)))


def _limits(schema: dict[str, Any], name: str) -> dict[str, Fraction]:
    keywords = ("minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
    found = {key: _exact(schema[key], key, name) for key in keywords if key in schema}
    for low, high, side in (("minimum", "exclusiveMinimum", "lower"), ("maximum", "exclusiveMaximum", "upper")):
        if low not in found and high not in found:
            raise SchemaError(
                f"{name} is a number without {side} bound, so there is no saying where to search; give minimum and "
                "maximum, or freeze it with const.",
                path=name,
            )
    return found


def _log(schema: dict[str, Any], name: str) -> bool:
    scale = schema.get("x-scale", "linear")
    if scale not in ("linear", "log"):
        raise SchemaError(f"{name} has x-scale {scale!r}; it is 'linear' or 'log'.", path=name)
    return bool(scale == "log")


def _check_log(low: float, name: str, written: Fraction | None = None) -> None:
    """Raise if a logarithm would not do from there on; ``written``: the bound in the schema, which may be excluded."""
    if low < SMALLEST_SCALE:
        raise SchemaError(
            f"{name} has a log scale down to {float(written) if written is not None else low:g}; the logarithm needs a "
            "positive minimum, such as 1e-6.",
            path=name,
        )


def _integer(schema: dict[str, Any], name: str) -> Node:
    limits, log = _limits(schema, name), _log(schema, name)
    step = _exact(schema["multipleOf"], "multipleOf", name).numerator if "multipleOf" in schema else 1
    low, high = _factors(limits, Fraction(step), name)
    if max(abs(low), abs(high)) * step > LARGEST_INTEGER:
        raise SchemaError(f"{name} goes up to {max(abs(low), abs(high)) * step}; integers go up to 2^53.", path=name)
    if log:
        _check_log(low * step, name)
    if low == high:
        return Fixed(name, low * step)
    if step != 1 and log:
        return Grid(name, Decimal(step), low, high, integer=True, log=True)
    return Whole(name, low * step, high * step, step, log)


def _real(schema: dict[str, Any], name: str) -> Node:
    limits, log = _limits(schema, name), _log(schema, name)
    if "multipleOf" in schema:
        unit = _exact(schema["multipleOf"], "multipleOf", name)
        low, high = _factors(limits, unit, name)
        decimal = Decimal(repr(schema["multipleOf"]))
        if max(abs(low), abs(high)) > LARGEST_INTEGER:
            raise SchemaError(f"{name} has more than 2^53 multiples of {decimal}.", path=name)
        if log:
            _check_log(float(low * unit), name)
        node = Grid(name, decimal, low, high, log=log)
        return Fixed(name, node.value(low)) if low == high else node
    lows, highs = [], []
    if "minimum" in limits:
        lows.append(float(schema["minimum"]))
    if "exclusiveMinimum" in limits:
        lows.append(math.nextafter(float(schema["exclusiveMinimum"]), math.inf))
    if "maximum" in limits:
        highs.append(float(schema["maximum"]))
    if "exclusiveMaximum" in limits:
        highs.append(math.nextafter(float(schema["exclusiveMaximum"]), -math.inf))
    least, most = max(lows), min(highs)
    if least > most:
        raise SchemaError(f"{name} has nothing between {least:g} and {most:g}.", path=name)
    if not math.isfinite(most - least):
        raise SchemaError(f"{name} from {least:g} to {most:g} is wider than floats can tell; narrow it.", path=name)
    if log:
        _check_log(least, name, max(limits[key] for key in ("minimum", "exclusiveMinimum") if key in limits))
    return Fixed(name, least) if least == most else Real(name, least, most, log)


def _factors(limits: dict[str, Fraction], unit: Fraction, name: str) -> tuple[int, int]:
    """The least and the greatest k with k·unit within the limits."""
    if unit <= 0:
        raise SchemaError(f"{name} has multipleOf {float(unit):g}; it is positive.", path=name)
    lows, highs = [], []
    if "minimum" in limits:
        lows.append(math.ceil(limits["minimum"] / unit))
    if "exclusiveMinimum" in limits:
        lows.append(math.floor(limits["exclusiveMinimum"] / unit) + 1)
    if "maximum" in limits:
        highs.append(math.floor(limits["maximum"] / unit))
    if "exclusiveMaximum" in limits:
        highs.append(math.ceil(limits["exclusiveMaximum"] / unit) - 1)
    if max(lows) > min(highs):
        what = "integer" if unit == 1 else f"multiple of {float(unit):g}"
        raise SchemaError(f"{name} has no {what} within its bounds.", path=name)
    return max(lows), min(highs)
