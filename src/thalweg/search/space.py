"""The search space: everything that structured variables may become, as a tree of choices.

A point is ``{variable's name: JSON value}``. Every point that is drawn validates against the schemas, whoever answers
the questions: a random generator, an optimizer's trial, a record. Which keywords give which choices is the table at the
top of :mod:`thalweg.search.space_building`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Set
from typing import Any, Protocol

import numpy as np

from thalweg.errors import SchemaError, ValueMismatchError
from thalweg.search.checking import SchemaCheck
from thalweg.search.normal_form import normal_form
from thalweg.search.schemas import standardize_schema
from thalweg.search.space_building import MISSING, Builder
from thalweg.search.space_compound import Branch, Items, Record
from thalweg.search.space_nodes import Draws, Fixed, Node, Plain, Real, Recorded, Suggester
from thalweg.search.values import copy_json, digest_json, written_path

Values = dict[str, Any]  # a JSON value for each variable

PROBES = 8  # random points that are validated when a space is made
COUNTED = 20_000  # overlapping branches of so many points are counted one by one
DRAWS = 100  # random draws before the points of a finite space are gone through in order


class Structured(Protocol):
    """What a space needs of a variable."""

    @property
    def name(self) -> str | None:
        """What it is called in points."""

    def schema(self) -> dict[str, Any]:
        """What it may become."""

    def json(self) -> Any:
        """What it is now."""


class Space:
    """A search space of one or several named JSON values.

    Make one with :meth:`of` (a schema) or :meth:`of_variables`.

    Example:
        >>> import numpy as np
        >>> from thalweg.search.space import Space
        >>> space = Space.of(
        ...     {
        ...         "type": "object",
        ...         "properties": {
        ...             "rate": {"type": "number", "minimum": 1e-4, "maximum": 1, "x-scale": "log"},
        ...             "layers": {"type": "array", "items": {"enum": [16, 32]}, "maxItems": 3},
        ...         },
        ...     },
        ...     name="net",
        ... )
        >>> print(space.describe())
        net: an object of rate, layers
          net.rate: 0.0001 to 1, log scale
          net.layers: 0 to 3 items
            net.layers.0: 16 | 32
            net.layers.1: 16 | 32
            net.layers.2: 16 | 32
        >>> space.sample(np.random.default_rng(0))
        {'net': {'rate': 0.035305856304085934, 'layers': [16, 16]}}
    """

    def __init__(self, nodes: dict[str, Node], schemas: dict[str, Any]) -> None:
        self.nodes = nodes
        self.schemas = schemas
        self._checks = {name: SchemaCheck(schema) for name, schema in schemas.items()}
        self._size: float | None = None
        self.digest = hashlib.blake2b(repr(sorted(nodes.items())).encode(), digest_size=16).hexdigest()
        rng = np.random.default_rng(0)
        for _ in range(PROBES):
            try:
                self.check(self.sample(rng))
            except ValueMismatchError as error:
                raise SchemaError(
                    f"the schema combines keywords that a search cannot satisfy by construction: {error} Write it "
                    "without them, for instance as oneOf.",
                    **error.details,
                ) from error

    @classmethod
    def of(cls, schema: Any, *, name: str = "value", present: Any = MISSING) -> Space:
        """The space of one schema.

        Args:
            schema: a JSON schema (draft 2020-12).
            name: what the value is called in points, and where the names of its choices begin.
            present: the value that is there now; free text keeps it.

        Raises:
            SchemaError: it is no schema, or cannot be searched: a number without bounds, an array without ``maxItems``,
                free text without a present value. The message names the path, and what to write.
        """
        plain = standardize_schema(schema)
        return cls({name: Builder(plain).build(plain, written_path((name,)), present)}, {name: plain})

    @classmethod
    def of_variables(cls, variables: Iterable[Structured]) -> Space:
        """The space of structured variables, in their order; their present values are what frozen parts keep.

        Raises:
            SchemaError: one has no name, two have the same, or one cannot be searched (see :meth:`of`).
        """
        nodes: dict[str, Node] = {}
        schemas: dict[str, Any] = {}
        for variable in variables:
            name = variable.name
            if not name or name in nodes:
                raise SchemaError(
                    f"a variable is called {name!r}; each has a name of its own, by which points have it."
                )
            schemas[name] = standardize_schema(variable.schema())
            builder = Builder(schemas[name])
            nodes[name] = builder.build(schemas[name], written_path((name,)), variable.json())
        if not nodes:
            raise SchemaError("there are no variables to search; give at least one.")
        return cls(nodes, schemas)

    def sample(self, rng: np.random.Generator) -> Values:
        """A random point: each choice independent and uniform (in the logarithm, where that is the scale)."""
        return self.suggest(Draws(rng))

    def suggest(self, suggester: Suggester) -> Values:
        """The point that a suggester's answers give.

        Args:
            suggester: asked for ``float``, ``int`` and ``categorical`` by unique names: ``net.rate`` for a property,
                ``net.layers.0`` for an item, ``net.layers.length`` for a length, ``net.model`` for the branch of a
                union and ``net.model[svc].c`` for what belongs to its branch ``svc``.
        """
        return {name: node.draw(suggester) for name, node in self.nodes.items()}

    def encode(self, values: Values) -> dict[str, Plain]:
        """The answers that give a point: ``space.decode(space.encode(values)) == values``.

        Raises:
            ValueMismatchError: no answers do: it fits the schema and yet is none of the points, such as free text that
                is not the present one.
        """
        self._check_names(values)
        answers: dict[str, Plain] = {}
        for name, node in self.nodes.items():
            node.encode(values[name], answers)
        return answers

    def decode(self, answers: dict[str, Plain]) -> Values:
        """The point of recorded answers."""
        return self.suggest(Recorded(answers))

    def normal_form(self, values: Values) -> Values:
        """The same point as it would be drawn: order of keys, types of numbers, defaults of what is left out."""
        return {name: normal_form(node, values[name]) for name, node in self.nodes.items()}

    def check(self, values: Values) -> None:
        """Raise unless there is a value for each variable that fits its schema.

        Raises:
            ValueMismatchError: says which does not, and where.
        """
        self._check_names(values)
        for name, check in self._checks.items():
            copy_json(values[name], what=f"the value of {name!r}")
            check(values[name], f"the value of {name!r}")

    def _check_names(self, values: Values) -> None:
        if not isinstance(values, dict) or values.keys() != self.nodes.keys():
            given = sorted(map(str, values)) if isinstance(values, dict) else values
            raise ValueMismatchError(f"a point has values for {sorted(self.nodes)}, got {given}.")

    def walk(self) -> Iterable[Node]:
        """All places where something is chosen, in the order of drawing."""
        for node in self.nodes.values():
            yield from node.walk()

    def continuous(self) -> list[Real]:
        """The floats, if nothing else is to be chosen.

        Raises:
            SchemaError: there is something else, or nothing at all.
        """
        dims = self.numeric_only((Real,))
        return [node for node in dims if isinstance(node, Real)]

    def numeric_only(self, kinds: tuple[type[Node], ...]) -> list[Node]:
        """The places of some kinds of number, if nothing else is to be chosen.

        Raises:
            SchemaError: there is something else, or nothing at all.
        """
        dims = []
        for node in self.walk():
            varies = isinstance(node, Items) and node.shortest < node.longest
            if isinstance(node, kinds):
                dims.append(node)
            elif varies or not isinstance(node, Fixed | Record | Items):
                raise SchemaError(f"{node.name} is no continuous number: {node.about()}.", path=node.name)
        if not dims:
            raise SchemaError(f"the space of {', '.join(self.nodes)} has nothing continuous to choose.")
        return dims

    def size(self) -> float:
        """How many points there are: an int, or infinity. (If values belong to several branches, at most that many.)"""
        if self._size is None:
            size = math.prod(s if math.isinf(s := node.size()) else int(s) for node in self.nodes.values())
            overlap = any(isinstance(node, Branch) and not node.disjoint for node in self.walk())
            if overlap and size <= COUNTED:
                size = len({digest_json(self.at(k)) for k in range(int(size))})
            self._size = size
        return self._size

    def at(self, index: int) -> Values:
        """Point number ``index`` of a finite space; the last variable runs fastest."""
        drawn = {}
        for name, node in reversed(self.nodes.items()):
            index, rest = divmod(index, int(node.size()))
            drawn[name] = node.at(rest)
        return {name: drawn[name] for name in self.nodes}

    def unseen(self, seen: Set[str], rng: np.random.Generator) -> Values | None:
        """A random point whose digest is not among those seen, or None if there is none left.

        In a finite space the points are gone through in order, from a random one on, once random draws have met only
        seen ones.
        """
        for _ in range(DRAWS):
            values = self.sample(rng)
            if digest_json(values) not in seen:
                return values
        total = math.prod(node.size() for node in self.nodes.values())
        if math.isinf(total):
            return self.sample(rng)
        first = int(rng.random() * int(total))
        for k in range(int(total)):
            values = self.at((first + k) % int(total))
            if digest_json(values) not in seen:
                return values
        return None

    def describe(self) -> str:
        """What is searched, one line a place, for people."""
        lines: list[str] = []

        def add(node: Node, depth: int) -> None:
            lines.append(f"{'  ' * depth}{node.name}: {node.about()}")
            for _, part in node.parts():
                add(part, depth + 1)

        for node in self.nodes.values():
            add(node, 0)
        return "\n".join(lines)
