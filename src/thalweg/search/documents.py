"""A schema in its standard form, read by those who compare: recursive references are followed, and nothing is copied.

A node is taken as a conjunction of *facts*, dicts of keywords that all hold: itself, what it refers to, and its
``allOf``. They are the document's own dicts, so that their ids say whether one has been here before.
"""

from __future__ import annotations

from typing import Any

from thalweg.errors import ValueMismatchError
from thalweg.search.checking import SchemaCheck
from thalweg.search.keywords import is_annotation, parts
from thalweg.search.values import digest_json

Facts = tuple[dict[str, Any], ...]

_NOTHING: dict[str, Any] = {"not": {}}

_UNORDERED = frozenset({"type", "enum", "required"})


class Document:
    """A schema with its definitions.

    Args:
        schema: in its standard form.

    Example:
        >>> from thalweg.search.documents import Document
        >>> document = Document({"title": "T", "allOf": [{"minimum": 0}, {"maximum": 1}]})
        >>> [sorted(fact) for fact in document.facts(document.root)]
        [['allOf', 'title'], ['minimum'], ['maximum']]
    """

    def __init__(self, schema: dict[str, Any]) -> None:
        self.root = schema
        self._definitions: dict[str, Any] = schema.get("$defs", {})
        self._checks: dict[int, SchemaCheck] = {}
        self._without: dict[tuple[int, str], dict[str, Any]] = {}

    def facts(self, *nodes: Any) -> Facts:
        """All that holds where all of the nodes hold."""
        found: dict[int, dict[str, Any]] = {}
        ahead = list(reversed(nodes))
        while ahead:
            node = ahead.pop()
            if node is True:
                continue
            fact = _NOTHING if node is False else node
            if id(fact) in found:
                continue
            found[id(fact)] = fact
            ahead += [*reversed(fact.get("allOf", [])), *([self.target(fact)] if "$ref" in fact else [])]
        return tuple(found.values())

    def target(self, node: dict[str, Any]) -> Any:
        """What a node refers to."""
        name = node["$ref"].removeprefix("#/$defs/").replace("~1", "/").replace("~0", "~")
        return self._definitions[name]

    def without(self, fact: dict[str, Any], keyword: str) -> dict[str, Any]:
        """A fact without one of its keywords; the same dict each time."""
        key = (id(fact), keyword)
        if key not in self._without:
            self._without[key] = {k: value for k, value in fact.items() if k != keyword}
        return self._without[key]

    def allows(self, facts: Facts, value: Any) -> bool:
        """Whether a value fits all facts."""
        try:
            for fact in facts:
                if id(fact) not in self._checks:
                    self._checks[id(fact)] = SchemaCheck({**fact, "$defs": self._definitions})
                self._checks[id(fact)](value, "it")
        except ValueMismatchError:
            return False
        return True


class Sameness:
    """Whether two nodes say the same, to the word or but for the annotations, whatever their definitions are called.

    Args:
        one, other: the documents of the two.
        annotations: whether words for people have to be the same, too.

    Example:
        >>> from thalweg.search.documents import Document, Sameness
        >>> one, other = Document({"type": ["null", "string"], "title": "T"}), Document({"type": ["string", "null"]})
        >>> [Sameness(one, other, annotations=strict)(one.root, other.root) for strict in (False, True)]
        [True, False]
    """

    def __init__(self, one: Document, other: Document, *, annotations: bool) -> None:
        self._one, self._other, self._annotations = one, other, annotations

    def __call__(self, a: Any, b: Any) -> bool:
        """Whether node ``a`` of the one and node ``b`` of the other say the same."""
        return self._same(a, b, set())

    def _same(self, a: Any, b: Any, met: set[tuple[int, int]]) -> bool:
        if not isinstance(a, dict) or not isinstance(b, dict):
            return a is b
        if (id(a), id(b)) in met:  # a recursion: they are the same unless something else differs
            return True
        met.add((id(a), id(b)))
        own, theirs = self._own(a), self._own(b)
        if "$ref" in a and "$ref" in b:
            if not self._same(self._one.target(a), self._other.target(b), met):
                return False
        else:  # one of them may be written out once more than the other
            own, theirs = self._unrolled(self._one, a), self._unrolled(self._other, b)
        below, there = dict(parts(own)), dict(parts(theirs))
        holding = {way[0] for way in below}
        return (
            own.keys() == theirs.keys()
            and below.keys() == there.keys()
            and all(key in holding or _same_value(key, own[key], theirs[key]) for key in own)
            and all(self._same(part, there[way], met) for way, part in below.items())
        )

    def _unrolled(self, document: Document, node: Any) -> dict[str, Any]:
        own = self._own(node)
        while "$ref" in node:
            node = document.target(node)
            own = {**self._own(node), **own}
        return own

    def _own(self, node: Any) -> dict[str, Any]:
        return {
            key: value
            for key, value in node.items()
            if key not in ("$ref", "$defs") and (self._annotations or not is_annotation(key))
        }


def _same_value(keyword: str, a: Any, b: Any) -> bool:
    if keyword in _UNORDERED:
        first, second = (set(map(digest_json, v)) if isinstance(v, list) else {digest_json(v)} for v in (a, b))
        return first == second
    if isinstance(a, int | float) and isinstance(b, int | float) and not isinstance(a, bool):
        return a == b
    return digest_json(a) == digest_json(b)
