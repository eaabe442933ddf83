"""Fields that a Pydantic model reads under one name and writes under another: nothing it writes can be read again.

A value is saved, copied and searched as its model writes it. With ``validation_alias="in"`` and
``serialization_alias="out"`` what comes out as ``out`` is not known under that name when it goes in.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

from pydantic import AliasChoices, AliasPath, BaseModel
from pydantic.fields import FieldInfo


def misread(model: Any, name: Any) -> str:
    """What to say of a name if a model, or one inside it, reads or writes a field under it, and otherwise the other
    way round; nothing if that is not what is wrong.

    Args:
        model: that was to read a value, or a Pydantic dataclass.
        name: that is missing in the value, or that it has and the model does not write; or the field's own.

    Example:
        >>> from pydantic import BaseModel, Field
        >>> from thalweg.search.two_names import misread
        >>> class Smoothing(BaseModel):
        ...     length: float = Field(validation_alias="inLength", serialization_alias="outLength")
        >>> misread(Smoothing, "inLength")
        '; Smoothing.length is read as inLength and written as outLength: give it one alias'
        >>> misread(Smoothing, "width")
        ''
    """
    for kind in _models(model, []):
        for field, info in fields_of(kind).items():
            read, written = _read_as(kind, field, info), info.serialization_alias or field
            if written not in read and name in (*read, written, field):
                where = f"{kind.__name__}.{field}"
                return (
                    f"; {where} is read as {' or '.join(read) or 'a part'} and written as {written}: give it one alias"
                )
    return ""


def fields_of(kind: Any) -> dict[str, FieldInfo]:
    """The fields of a model's class, or of a Pydantic dataclass; anything else has none."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind.model_fields
    found: dict[str, FieldInfo] = getattr(kind, "__pydantic_fields__", {})
    return found


def written_as(kind: Any, name: str) -> str | None:
    """The name under which a model writes a field that it reads under several names, this among them.

    Args:
        kind: the model's class, or a Pydantic dataclass; anything else has no fields.
        name: that a value has.

    Example:
        >>> from pydantic import BaseModel, ConfigDict, Field
        >>> from thalweg.search.two_names import written_as
        >>> class Smoothing(BaseModel):
        ...     model_config = ConfigDict(populate_by_name=True)
        ...     length: float = Field(1.0, alias="Length")
        >>> written_as(Smoothing, "length")
        'Length'
    """
    for field, info in fields_of(kind).items():
        read, written = _read_as(kind, field, info), info.serialization_alias or field
        if name in read and written in read:
            return written
    return None


def one_way(kind: Any, *, fixed: bool = False) -> list[str]:
    """The names under which a model writes fields that it does not read under them, unless a validator renames them.

    Args:
        kind: the model's class, or a Pydantic dataclass; anything else has no fields.
        fixed: whether those that can hold one value alone are asked for, which is always kept, or the others.

    Example:
        >>> from typing import Literal
        >>> from pydantic import BaseModel, Field
        >>> from thalweg.search.two_names import one_way
        >>> class Smoothing(BaseModel):
        ...     kind: Literal["smooth"] = Field("smooth", validation_alias="Kind")
        ...     length: float = Field(1.0, validation_alias="Length")
        ...     width: float = Field(1.0, alias="Width")
        >>> one_way(Smoothing), one_way(Smoothing, fixed=True)
        (['length'], ['kind'])
    """
    found = []
    for field, info in fields_of(kind).items():
        if not (info.validation_alias is None and info.serialization_alias is None) and _is_fixed(info) == fixed:
            written = info.serialization_alias or field
            found += [] if written in _read_as(kind, field, info) else [written]
    return found


def _is_fixed(info: FieldInfo) -> bool:
    return get_origin(info.annotation) is Literal and len(get_args(info.annotation)) == 1


def _read_as(kind: Any, field: str, info: FieldInfo) -> list[str]:
    alias = info.validation_alias
    choices = alias.choices if isinstance(alias, AliasChoices) else [] if alias is None else [alias]
    names = [choice for choice in choices if isinstance(choice, str)]
    names += [str(one.path[0]) for one in choices if isinstance(one, AliasPath) and len(one.path) == 1]
    config = getattr(kind, "model_config" if issubclass(kind, BaseModel) else "__pydantic_config__", {})
    by_name = config.get("populate_by_name") or config.get("validate_by_name")
    names = names if config.get("validate_by_alias", True) else []
    return [*names, *([field] if alias is None or by_name else [])]


def _models(annotation: Any, met: list[Any]) -> Iterator[Any]:
    """The models and Pydantic dataclasses in an annotation, and in the fields of these."""
    if isinstance(annotation, type) and fields_of(annotation) and annotation not in met:
        met.append(annotation)
        yield annotation
        for info in fields_of(annotation).values():
            yield from _models(info.annotation, met)
    for part in get_args(annotation):
        yield from _models(part, met)
