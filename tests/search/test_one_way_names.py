"""Fields that a model writes under a name by which it does not read them: what is set there would be lost."""

from collections import deque
from typing import Any, Literal

import pydantic
import pytest
from pydantic import (
    AliasChoices,
    AliasPath,
    BaseModel,
    ConfigDict,
    Field,
    RootModel,
    field_validator,
    model_serializer,
    model_validator,
)

from thalweg.errors import ValueMismatchError
from thalweg.search import StructuredVariable

BY_NAME = pytest.mark.skipif(
    "validate_by_name" not in ConfigDict.__annotations__, reason="Pydantic knows validate_by_name from 2.11 on"
)

TOKENS = r"\.max_tokens is read as maxTokens and written as max_tokens: give it one alias\.$"
LENGTH = r"OnlyByName\.length is read as length and written as Length: give it one alias\.$"


class OneWay(BaseModel):
    max_tokens: int = Field(3, validation_alias="maxTokens", ge=1, le=99)
    n: int = 1


@pydantic.dataclasses.dataclass
class Part:
    max_tokens: int = Field(3, validation_alias="maxTokens")


class Inside(BaseModel):
    inner: OneWay = OneWay()


class Listed(BaseModel):
    inner: list[dict[str, Part]] = [{"a": Part()}]


class Root(RootModel[OneWay | None]):
    pass


class Open(BaseModel):
    model_config = ConfigDict(extra="allow")
    max_tokens: int = Field(3, validation_alias="maxTokens")


class Out(BaseModel):
    max_tokens: int = Field(3, serialization_alias="maxTokens")


class Deep(BaseModel):
    max_tokens: int = Field(3, validation_alias=AliasPath("maxTokens", "here"))


class OnlyByName(BaseModel):
    model_config = ConfigDict(validate_by_name=True, validate_by_alias=False)
    length: int = Field(1, alias="Length")


@pytest.mark.parametrize(
    ("model", "given", "where", "says"),
    [
        (OneWay, {}, "max_tokens", "OneWay" + TOKENS),
        (OneWay, {"max_tokens": 81}, "max_tokens", "OneWay" + TOKENS),
        (OneWay, {"max_tokens": 3}, "max_tokens", "OneWay" + TOKENS),
        (Inside, {}, r"inner\.max_tokens", "OneWay" + TOKENS),
        (Inside, {"inner": {"max_tokens": 81}}, r"inner\.max_tokens", "OneWay" + TOKENS),
        (Listed, {}, r"inner\.0\.a\.max_tokens", "Part" + TOKENS),
        (Listed, {"inner": [{}, {"b": {"max_tokens": 81}}]}, r"inner\.1\.b\.max_tokens", "Part" + TOKENS),
        (Root, {"n": 2}, "max_tokens", "OneWay" + TOKENS),
        (Open, {}, "max_tokens", "Open" + TOKENS),
        (Open, {"max_tokens": 81}, "max_tokens", "Open" + TOKENS),
        (Out, {"maxTokens": 81}, "maxTokens", r"Out\.max_tokens is read as max_tokens and written as maxTokens: give"),
        (Deep, {}, "max_tokens", r"Deep\.max_tokens is read as a part and written as max_tokens: give it one alias"),
        pytest.param(OnlyByName, {}, "Length", LENGTH, marks=BY_NAME),
        pytest.param(OnlyByName, {"Length": 5}, "Length", LENGTH, marks=BY_NAME),
    ],
)
def test_what_a_model_writes_and_never_reads_is_refused_from_the_beginning(model, given, where, says):
    with pytest.raises(ValueMismatchError, match=rf" writes the value of 'v' with {where} and never reads.*{says}"):
        StructuredVariable(given, data_model=model, name="v")


@pytest.mark.parametrize(
    ("model", "given", "says"),
    [
        (OneWay, {"maxTokens": 81}, "nothing at maxTokens, .*OneWay" + TOKENS),
        (Listed, {"inner": [{"a": {"maxTokens": 81}}]}, r"nothing at inner\.0\.a\.maxTokens, .*Part" + TOKENS),
        pytest.param(OnlyByName, {"length": 5}, "nothing at length, .*" + LENGTH, marks=BY_NAME),
    ],
)
def test_so_is_what_it_reads_and_writes_otherwise(model, given, says):
    with pytest.raises(ValueMismatchError, match=says):
        StructuredVariable(given, data_model=model, name="v")


@pytest.mark.parametrize("made", [OneWay(maxTokens=81), Inside(inner=OneWay(maxTokens=81))])
def test_an_instance_of_such_a_model_is_told_of_its_names_and_not_to_be_made_anew(made):
    with pytest.raises(ValueMismatchError, match="saved, copied or searched; OneWay" + TOKENS):
        StructuredVariable(made, name="v")


def test_another_part_of_its_instance_is_told_what_fits_it():
    class Both(OneWay):
        other: int = Field(3, validation_alias="Other")
        items: list[int] = []

        @field_validator("items")
        @classmethod
        def once(cls, items):
            return list(dict.fromkeys(items))

    schema = {"type": "object"}
    with pytest.raises(ValueMismatchError, match=r"searched; Both\.other is read as Other and written as other: give"):
        StructuredVariable(Both(Other=4), schema, name="v")
    made = Both(items=[1])
    made.items.append(1)
    with pytest.raises(ValueMismatchError, match=r"at items.*so make a new Both"):
        StructuredVariable(made, schema, name="v")
    assert StructuredVariable(Both(), schema, name="v").json() == {"max_tokens": 3, "n": 1, "other": 3, "items": []}


def test_a_part_that_comes_later_is_refused_when_it_comes():
    class Later(BaseModel):
        parts: deque[OneWay] = deque()

    variable = StructuredVariable({}, data_model=Later, name="v")
    with pytest.raises(ValueMismatchError, match=r"with parts\.0\.max_tokens and never reads that"):
        variable.update({"parts": [{"max_tokens": 81}]})
    assert (variable.json(), variable.version) == ({"parts": []}, 0)


# -- what is read as it is written, one way or another ------------------------------------


class Choices(BaseModel):
    max_tokens: int = Field(3, validation_alias=AliasChoices("maxTokens", "max_tokens"))


class Populated(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    max_tokens: int = Field(3, validation_alias="maxTokens")


class ByName(BaseModel):
    model_config = ConfigDict(validate_by_name=True)
    max_tokens: int = Field(3, validation_alias="maxTokens")


class Renaming(BaseModel):
    max_tokens: int = Field(3, validation_alias="maxTokens")

    @model_validator(mode="before")
    @classmethod
    def rename(cls, value):
        return {"maxTokens" if key == "max_tokens" else key: item for key, item in value.items()}


class RenamingOpen(Renaming):
    model_config = ConfigDict(extra="allow")


class RenamingAny(Renaming):
    max_tokens: Any = Field(3, validation_alias="maxTokens")


@pydantic.dataclasses.dataclass
class RenamingPart:
    max_tokens: int = Field(3, validation_alias="maxTokens")

    @model_validator(mode="before")
    @classmethod
    def rename(cls, value):
        given = value if isinstance(value, dict) else value.kwargs or {}
        return {"maxTokens" if key == "max_tokens" else key: item for key, item in given.items()}


@pytest.mark.parametrize(
    "model", [Choices, Populated, pytest.param(ByName, marks=BY_NAME), Renaming, RenamingOpen, RenamingAny]
)
def test_a_model_that_reads_what_it_writes_is_taken(model):
    for first in ({}, model(), model(maxTokens=7)):
        variable = StructuredVariable(first, data_model=model, name="v")
        assert variable.json() == {"max_tokens": 7 if first == model(maxTokens=7) else 3}
        variable.update({"max_tokens": 81})
        assert variable.json() == {"max_tokens": 81}
        assert variable.copy().json() == {"max_tokens": 81}


def test_so_are_parts_whose_names_a_validator_knows():
    class Holder(BaseModel):
        part: RenamingPart = Field(default_factory=RenamingPart)
        other: Part = Field(default_factory=Part)

        @field_validator("other", mode="before")
        @classmethod
        def rename(cls, value):
            return {"maxTokens": value["max_tokens"]} if isinstance(value, dict) else value

    variable = StructuredVariable({}, data_model=Holder, name="v")
    variable.update({"part": {"max_tokens": 5}, "other": {"max_tokens": 6}})
    assert variable.json() == {"part": {"max_tokens": 5}, "other": {"max_tokens": 6}}


def test_so_is_a_model_whose_validator_renames_what_is_of_its_kind():
    class Careful(BaseModel):
        max_tokens: int = Field(3, validation_alias="maxTokens")
        name: str = Field("a", validation_alias="Name")

        @model_validator(mode="before")
        @classmethod
        def renamed(cls, value: Any) -> Any:
            value = dict(value)
            for old, new, kind in (("max_tokens", "maxTokens", int), ("name", "Name", str)):
                if isinstance(value.get(old), kind):
                    value[new] = value.pop(old)
            return value

    variable = StructuredVariable(Careful(), name="v")
    variable.update({"max_tokens": 81, "name": "b"})
    assert variable.json() == {"max_tokens": 81, "name": "b"}


def test_a_serializer_that_writes_what_is_read_is_left_alone():
    class Written(BaseModel):
        max_tokens: int = Field(3, validation_alias="maxTokens")
        n: int = 1

        @model_serializer(mode="wrap")
        def write(self, handler):
            written = {("maxTokens" if key == "max_tokens" else key): item for key, item in handler(self).items()}
            return {key: item for key, item in written.items() if item != 3}

    variable = StructuredVariable({}, data_model=Written, name="v")
    assert variable.json() == {"n": 1}
    variable.assign({"maxTokens": 81})
    assert variable.json() == {"maxTokens": 81, "n": 1}


def test_a_field_of_one_value_is_always_kept_and_no_other_is_lost():
    class Tagged(BaseModel):
        kind: Literal["a"] = Field("a", validation_alias="Kind")
        n: int = 1

    variable = StructuredVariable({}, data_model=Tagged, name="v")
    variable.update({"kind": "a", "n": 2})
    assert variable.copy().json() == {"kind": "a", "n": 2}
    with pytest.raises(
        ValueMismatchError, match=r"nothing at kind, .*Tagged\.kind is read as Kind and written as kind"
    ):
        variable.update({"kind": "b"})
    assert (variable.json(), variable.version) == ({"kind": "a", "n": 2}, 1)


def test_what_is_not_written_may_be_read_under_any_name():
    class Hidden(BaseModel):
        key: int = Field(3, validation_alias="Key", exclude=True)
        n: int = 1

    variable = StructuredVariable({}, data_model=Hidden, name="v")
    variable.update({"n": 2})
    assert variable.json() == {"n": 2}
