"""Values that are given under another name than the one that their model writes."""

from collections import deque
from typing import Annotated, Literal

import pydantic
import pytest
from pydantic import AliasChoices, BaseModel, ConfigDict, Field, RootModel
from pydantic.alias_generators import to_camel

from thalweg.errors import ValueMismatchError
from thalweg.search import StructuredVariable
from thalweg.search.modeling import fitted


class ByName(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    length: int = Field(1, alias="Length")
    width: int = Field(2, validation_alias=AliasChoices("w", "Width"), serialization_alias="Width")


class Camel(BaseModel):
    model_config = ConfigDict(alias_generator=to_camel, populate_by_name=True)
    max_tokens: int = 3
    inner_part: list[int] = [1]


class Crossed(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    a: int = Field(1, alias="b")
    b: int = Field(2, alias="c")


ROOT = RootModel[RootModel[ByName]]


@pytest.mark.parametrize(
    ("model", "given", "held"),
    [
        (ByName, {"length": 3}, {"Length": 3, "Width": 2}),
        (ByName, {"Length": 3}, {"Length": 3, "Width": 2}),
        (ByName, {"length": 3, "w": 4}, {"Length": 3, "Width": 4}),
        (ByName, {"width": 4}, {"Length": 1, "Width": 4}),
        (Camel, {"max_tokens": 5}, {"maxTokens": 5, "innerPart": [1]}),
        (Camel, {"inner_part": [2, 3], "maxTokens": 4}, {"maxTokens": 4, "innerPart": [2, 3]}),
        (Crossed, {"c": 7}, {"b": 1, "c": 7}),
        (ROOT, {"length": 3}, {"Length": 3, "Width": 2}),
    ],
)
def test_an_update_may_give_any_name_that_the_model_reads(model, given, held):
    variable = StructuredVariable({}, data_model=model, name="v")
    variable.update(given)
    assert (variable.json(), variable.version) == (held, 1)


@pytest.mark.parametrize(
    ("model", "given", "says"),
    [
        (ByName, {"length": 3, "Length": 4}, "at length, .* another name of Length, and both are given: give one"),
        (ByName, {"w": 3, "width": 4}, "at (w|width), .* another name of Width, and both are given: give one"),
        (ByName, {"lenght": 3}, r"ByName has nothing at lenght, .* \(known: Length, Width\)"),
        (ByName, {"length": "3"}, "does not fit ByName at (length|Length): "),
    ],
)
def test_an_update_of_both_names_or_of_none_is_refused_and_changes_nothing(model, given, says):
    variable = StructuredVariable(model(), name="v")
    with pytest.raises(ValueMismatchError, match=says):
        variable.update(given)
    assert (variable.json(), variable.version) == ({"Length": 1, "Width": 2}, 0)


class Long(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    k: Literal["a"] = "a"
    length: int = Field(1, alias="Length")


class Wide(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    k: Literal["b"] = "b"
    width: int = Field(1, alias="Width")


EITHER = RootModel[Long | Wide]
CHOSEN = RootModel[Annotated[Long | Wide, Field(discriminator="k")]]
MAYBE = RootModel[RootModel[Long] | None]


@pytest.mark.parametrize(
    ("model", "first", "given", "held"),
    [
        (EITHER, {"k": "a"}, {"length": 3}, {"k": "a", "Length": 3}),
        (EITHER, {"k": "b"}, {"width": 3}, {"k": "b", "Width": 3}),
        (CHOSEN, {"k": "b"}, {"k": "b", "width": 3}, {"k": "b", "Width": 3}),
        (MAYBE, {}, {"length": 3}, {"k": "a", "Length": 3}),
        (RootModel[dict[str, int]], {"length": 1}, {"Length": 3}, {"length": 1, "Length": 3}),
    ],
)
def test_an_update_of_a_union_may_give_the_names_of_the_model_that_it_holds(model, first, given, held):
    variable = StructuredVariable(first, data_model=model, name="v")
    variable.update(given)
    assert (variable.json(), variable.version) == (held, 1)


def test_an_update_of_a_union_by_the_names_of_another_model_is_refused():
    variable = StructuredVariable({"k": "a"}, data_model=CHOSEN, name="v")
    with pytest.raises(ValueMismatchError, match=r"nothing at Length, .*known: Width, k"):
        variable.update({"k": "b", "width": 3})
    assert (variable.json(), variable.version) == ({"k": "a", "Length": 1}, 0)


def test_without_a_model_names_are_keys():
    schema = {"type": "object", "properties": {"Length": {"type": "integer"}}}
    variable = StructuredVariable({"Length": 1}, schema, name="v")
    variable.update({"length": 3})
    assert variable.json() == {"Length": 1, "length": 3}


def test_what_an_old_value_names_need_not_be_there_any_more():
    known = ["a"]

    class Chosen(BaseModel):
        model_config = ConfigDict(populate_by_name=True)
        file: Annotated[str, pydantic.AfterValidator(lambda name: known[known.index(name)])] = Field(alias="File")

    variable = StructuredVariable({"file": "a"}, data_model=Chosen, name="v")
    known[:] = ["b"]
    variable.update({"file": "b"})
    assert variable.json() == {"File": "b"}


@pydantic.dataclasses.dataclass(config=ConfigDict(populate_by_name=True))
class Part:
    length: int = Field(1, alias="Length")
    inner: ByName = Field(default_factory=ByName, alias="Inner")


class Holder(BaseModel):
    part: Part = Field(default_factory=Part)
    parts: dict[str, list[Part]] = {}
    root: RootModel[ByName] = RootModel[ByName](ByName())


def test_a_part_that_is_a_dataclass_may_be_given_by_name_too():
    part = {"Length": 3, "Inner": {"Length": 4, "Width": 2}}
    named = {"length": 3, "inner": {"length": 4}}
    held = fitted({"part": named, "parts": {"a": [named]}, "root": {"length": 5}}, Holder, "the value")
    assert held == {"part": part, "parts": {"a": [part]}, "root": {"Length": 5, "Width": 2}}
    for wrong, says in (
        ({"part": {"lenght": 3}}, r"Holder has nothing at part\.lenght, .*\(known: Inner, Length\)"),
        ({"part": {"length": 3, "Length": 3}}, r"at part\.length, .* another name of Length"),
        ({"part": {"Inner": {"depth": 3}}}, r"nothing at part\.Inner\.depth, .*\(known: Length, Width\)"),
        ({"part": {"inner": {"w": 3, "width": 1}}}, r"at part\.inner\.w, .* another name of Width"),
    ):
        with pytest.raises(ValueMismatchError, match=says):
            fitted(wrong, Holder, "the value")


@pydantic.dataclasses.dataclass(frozen=True, config=ConfigDict(populate_by_name=True))
class Frozen:
    length: int = Field(1, alias="Length")


def test_the_items_of_sets_and_queues_may_be_given_by_name_too():
    class Several(BaseModel):
        some: set[Frozen] = set()
        queue: deque[Frozen] = deque()

    variable = StructuredVariable({}, data_model=Several, name="v")
    variable.update({"some": [{"length": 3}, {"Length": 2}], "queue": [{"length": 3}, {}]})
    assert variable.json() == {"some": [{"Length": 2}, {"Length": 3}], "queue": [{"Length": 3}, {"Length": 1}]}
    with pytest.raises(ValueMismatchError, match=r"nothing at queue\.0\.lenght"):
        variable.update({"queue": [{"lenght": 3}]})
