"""Whether a model is what it was, once it has read what it has written: all that is saved, copied or searched is read
again.

Numbers may differ in their last bits: weights that are divided by their sum once more do.
"""

from __future__ import annotations

import dataclasses
import enum
import math
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from pydantic import BaseModel, RootModel, Secret, SecretBytes, SecretStr
from pydantic_core import PydanticSerializationError, to_jsonable_python

LAST_BITS = 1e-12  # relative

Path = tuple[Any, ...]  # fields, keys, indices


def nearly(one: Any, other: Any) -> bool:
    """Whether two JSON values are the same up to the last bits of their floats; the order of keys means nothing.

    Example:
        >>> from thalweg.search.rereading import nearly
        >>> nearly({"a": 0.1 + 0.2}, {"a": 0.3}), nearly([1.0], [1.001]), nearly(1, 1.0)
        (True, False, False)
    """
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return bool(one.keys() == other.keys()) and all(nearly(item, other[key]) for key, item in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(nearly(a, b) for a, b in zip(one, other, strict=True))
    return math.isclose(one, other, rel_tol=LAST_BITS) if isinstance(one, float) else bool(one == other)


def differing(held: BaseModel, again: BaseModel) -> list[Path]:
    """The paths, of fields and what stands below them, at which a model that was read again is another than it was.

    Private attributes do not count, nor do fields that are excluded from writing and were not given. What cannot be
    compared counts as the same.

    Args:
        held: the instance that was written.
        again: the instance that was read.

    Example:
        >>> from pydantic import BaseModel, Field, SecretStr
        >>> from thalweg.search.rereading import differing
        >>> class Login(BaseModel):
        ...     key: SecretStr
        ...     tries: int = Field(3, exclude=True)
        >>> first = Login(key="hunter2", tries=5)
        >>> differing(first, Login.model_validate_json(first.model_dump_json()))
        [('key',), ('tries',)]
    """
    try:
        if held == again:  # mostly
            return []
    except (TypeError, ValueError, ArithmeticError):  # arrays have no answer
        pass
    return list(dict.fromkeys(_places(held, again, ())))


def is_default(held: Any, path: Path) -> bool:
    """Whether a default stands at a path of a model: a field on the way there was not given, and nobody has put
    anything else into it since.

    Example:
        >>> from pydantic import BaseModel
        >>> from thalweg.search.rereading import is_default
        >>> class Sizes(BaseModel):
        ...     sizes: list[int] = [1, 2]
        >>> made = Sizes()
        >>> made.sizes.append(3)
        >>> is_default(made, ("sizes", 0)), is_default(made, ("sizes", 2)), is_default(Sizes(sizes=[1]), ("sizes", 0))
        (True, False, False)
    """
    for k, key in enumerate(path):
        fields = type(held).model_fields if isinstance(held, BaseModel) else {}
        if key in fields and key not in held.model_fields_set and _untouched(held, str(key), path[k + 1 :]):
            return True
        held = (_parts(held) or {}).get(key)
    return False


def _untouched(held: BaseModel, name: str, below: Path) -> bool:
    """Whether a field holds what its default has there; of one that is made anew and otherwise each time, it does."""
    field = type(held).model_fields[name]
    data = {"validated_data": held.__dict__} if getattr(field, "default_factory_takes_validated_data", False) else {}
    try:
        default, other = (_below(field.get_default(call_default_factory=True, **data), below) for _ in range(2))
    except Exception:  # of anybody's factory
        return True
    value = _below(held.__dict__.get(name), below)
    return bool(list(_places(default, other, ()))) or not list(_places(value, default, ()))


def _below(value: Any, path: Path) -> Any:
    """What stands at a path; something that equals nothing if there is nothing."""
    for key in path:
        parts = _parts(value) or {}
        if key not in parts:
            return _Nothing()
        value = parts[key]
    return value


class _Nothing:
    """Equal to itself alone."""

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Nothing)

    __hash__ = None  # type: ignore[assignment]


def written_alike(held: Any, written: Any, again: Any, path: Path) -> bool:
    """Whether two writings of a model say the same of what stands at a path; where they do not follow its fields, of
    the part that holds it.

    Args:
        held: the model's instance.
        written: of it.
        again: of what was read of that.
        path: of fields, keys and indices.
    """
    for key in path:
        field = type(held).model_fields.get(key) if isinstance(held, BaseModel) else None
        inside, held = isinstance(held, RootModel), (_parts(held) or {}).get(key)
        if inside:  # it is written as what it holds
            continue
        if field is not None and field.exclude:
            return True
        name = (field.serialization_alias or key) if field is not None else key
        one, other = (_parts(value) or {} for value in (written, again))
        if name not in one or name not in other:
            break
        written, again = one[name], other[name]
    return nearly(written, again)


def _places(held: Any, again: Any, path: Path) -> Iterator[Path]:
    one, other = _parts(held), _parts(again)
    if one is None or other is None:
        if not _same(held, again):
            yield path
        return
    if isinstance(held, list | tuple | deque) and len(one) != len(other):
        yield path
        return
    for key, part in one.items():
        if key not in other:
            yield (*path, key)
        else:
            yield from _places(part, other[key], (*path, key))
    if not isinstance(held, BaseModel):
        yield from ((*path, key) for key in other if key not in one)


def _parts(value: Any) -> dict[Any, Any] | None:
    """What is compared on its own; None if it is the value itself."""
    if isinstance(value, BaseModel):
        fields, given = type(value).model_fields, value.model_fields_set
        names = [name for name, field in fields.items() if name in given or not field.exclude]
        found = {name: value.__dict__[name] for name in names if name in value.__dict__}
        return {**found, **(value.__pydantic_extra__ or {})}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if hasattr(value, f.name)}
    if isinstance(value, Mapping):
        return {_key(key): item for key, item in value.items()}
    if isinstance(value, list | tuple | deque):
        return dict(enumerate(value))
    return None


def _key(key: Any) -> Any:
    """A key as it is written."""
    try:
        return next(iter(to_jsonable_python({key: None})))
    except PydanticSerializationError:
        return key


def _same(held: Any, again: Any) -> bool:
    if isinstance(held, SecretStr | SecretBytes | Secret):
        return type(held) is type(again) and bool(held == again)
    held, again = (one.value if isinstance(one, enum.Enum) else one for one in (held, again))
    try:
        if isinstance(held, np.ndarray):
            return _same_arrays(held, np.asarray(again))
        if isinstance(held, float | np.floating) and isinstance(again, int | float | np.floating):
            return bool(held == again or (held != held and again != again)) or math.isclose(
                held, again, rel_tol=LAST_BITS
            )
        if held is again or bool(held == again) or not _has_equality(type(held)):
            return True
    except (TypeError, ValueError, ArithmeticError):  # tables, say, have no answer
        return True
    try:
        return bool(to_jsonable_python(held) == again)  # an annotation such as Any does not say what to read
    except PydanticSerializationError:
        return False


def _has_equality(kind: type) -> bool:
    return any("__eq__" in base.__dict__ for base in kind.__mro__[:-1])


def _same_arrays(held: np.ndarray, again: np.ndarray) -> bool:
    if held.shape != again.shape:
        return False
    if held.dtype.kind in "fc":
        return bool(np.allclose(held, again, rtol=LAST_BITS, atol=0.0, equal_nan=True))
    return bool(np.array_equal(held, again))
