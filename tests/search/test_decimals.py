"""Pydantic's Decimal in a search: the text of a number, which its model reads and writes to the last digit."""

import json
import re
from decimal import Decimal
from typing import Annotated

import numpy as np
import pytest
from pydantic import BaseModel, Field, PlainSerializer

from thalweg.errors import SchemaError, SearchError, ValueMismatchError
from thalweg.graph import wait
from thalweg.runs.rewarded import engine_lines
from thalweg.search import Search, StructuredVariable, schema_of
from thalweg.search.space import Space
from thalweg.search.values import digest_json


class Rate(BaseModel):
    rate: Decimal = Field(Decimal("0.50"), ge=0, le=1)


class Many(BaseModel):
    cents: Decimal = Field(Decimal("0.5"), ge=0, le=2, decimal_places=2)
    digits: Decimal = Field(Decimal("12"), ge=10, lt=100, max_digits=4)
    tenths: list[Annotated[Decimal, Field(gt=0, lt=1, multiple_of=Decimal("0.1"))]] = Field([], max_length=2)
    maybe: Annotated[Decimal, Field(ge=1, le=2)] | None = None
    scaled: Decimal = Field(Decimal("1e-3"), ge=1e-9, le=1, json_schema_extra={"x-scale": "log"})
    fine: Decimal = Field(Decimal(1), ge=0, le=10, decimal_places=30)
    one: Decimal = Field(Decimal(1), ge=1, le=1)
    number: Annotated[Decimal, PlainSerializer(float, return_type=float)] = Field(Decimal("0.5"), ge=0, le=1)
    price: Decimal = Field(Decimal("1.50"), ge=0)  # no end to it
    bonus: Decimal | None = Decimal("0.25")


def test_what_is_drawn_is_what_the_model_writes():
    variable = StructuredVariable(Many(), name="v")
    space, rng = Space.of_variables([variable]), np.random.default_rng(0)
    seen = []
    for _ in range(200):
        value = space.sample(rng)["v"]
        held = variable.fitting(value)
        assert all(Decimal(held[key]) == Decimal(value[key]) for key in ("cents", "digits", "scaled", "fine"))
        assert space.normal_form({"v": held})["v"] == value, "there are two forms of one value"
        assert space.decode(space.encode({"v": held}))["v"] == value
        assert json.loads(json.dumps(held)) == held
        seen.append(held)
    assert len({one["cents"] for one in seen}) > 100
    assert {part for one in seen for part in one["tenths"]} == {f"0.{k}" for k in range(1, 10)}
    assert {one["maybe"] is None for one in seen} == {True, False}
    assert {(one["price"], one["bonus"], one["one"]) for one in seen} == {("1.50", "0.25", "1")}
    assert all(isinstance(one["number"], float) for one in seen)
    assert np.mean([float(one["scaled"]) < 1e-5 for one in seen]) > 0.3


@pytest.mark.parametrize("kind", ["random", "tpe", "evolution", "cma_es", "cobyqa", "auto"])
def test_every_engine_searches_it(kind):
    variable, search = StructuredVariable(Rate(), name="v"), Search(kind, seed=0)
    tried = []
    for step in range(30):
        if step == 20:
            store = {}
            search.save_own_variables(store)
            present, variable = variable.json(), StructuredVariable(Rate(), name="v")
            search = Search(kind, seed=0)
            search.bind([variable])
            search.load_own_variables(json.loads(json.dumps(store)))
            variable.assign(present)
        tried.append(variable.json()["rate"])
        wait(search.apply_optimization([variable], -((float(tried[-1]) - 0.3) ** 2)))
    wait(search.finalize_variable_values([variable]))
    assert tried[0] == "0.50"
    assert abs(float(variable.json()["rate"]) - 0.3) < 0.1
    assert len({Decimal(text) for text in tried}) == len({digest_json(text) for text in tried}) > 15
    assert variable.data_model(**variable.json()).rate == Decimal(variable.json()["rate"])


def test_a_number_that_no_float_holds_is_none_of_its_points():
    space = Space.of_variables([StructuredVariable(Rate(), name="v")])
    assert space.encode({"v": {"rate": "0.370"}}) == space.encode({"v": {"rate": 0.37}}) == {"v.rate": 0.37}
    for text in ("0.12345678901234567890123", "1.5", "NaN", "half"):
        with pytest.raises(ValueMismatchError, match="cannot express"):
            space.encode({"v": {"rate": text}})
    assert space.describe().endswith("v.rate: decimals 0 to 1")
    places = [node.name for node in Space.of_variables([StructuredVariable(Many(), name="v")]).walk()]
    assert "v.maybe[decimal]" in places
    assert schema_of(Rate)["properties"]["rate"]["x-decimal"] == {}


class Either(BaseModel):
    rate: Annotated[float, Field(ge=0, le=1)] | str = 0.5
    price: Decimal = Field(Decimal(1), ge=0)
    word: Annotated[Decimal, Field(ge=0, le=1)] | str = "half"


@pytest.mark.parametrize("kind", ["random", "auto", "tpe", "evolution"])
def test_a_search_with_nothing_to_choose_says_why_and_may_be_bound_to_others(kind):
    variable, search = StructuredVariable(Either(), name="v"), Search(kind, seed=0)
    with pytest.raises(
        SearchError, match=r"nothing to choose: .* v\.rate: .* any text fits there .* v\.price: .* give both"
    ):
        wait(search.apply_optimization([variable], 1.0))
    assert (variable.json(), variable.version) == ({"rate": 0.5, "price": "1", "word": "half"}, 0)
    other = StructuredVariable(Rate(), name="v")
    wait(search.apply_optimization([other], 1.0))
    assert other.json()["rate"] != "0.50"


def test_what_stays_as_it_is_beside_its_numbers_is_in_the_plan():
    class More(Either):
        n: int = Field(1, ge=0, le=9)
        text: str | None = "as ever"

    search = Search("random", seed=0)
    search.bind([StructuredVariable(More(), name="v")])
    lines = engine_lines(search)
    assert [name for name, _ in lines] == ["frozen"] * 3
    assert lines[0][1].startswith("v.rate: always 0.5, frozen: any text fits there besides its numbers; give")
    assert lines[2][1].startswith("v.word: always 'half', frozen: any text fits there besides its numbers; give")
    assert lines[1][1].startswith("v.price: always '1', frozen: a decimal is searched between a minimum and a maximum")


UNIT = Annotated[Decimal, Field(ge=0, le=1)]
BIG = Decimal("999999999999999999.99")


def model_of(annotation, default):
    fields = {"x": annotation, "n": Annotated[int, Field(ge=0, le=9)]}
    return type("M", (BaseModel,), {"__annotations__": fields, "x": default, "n": 1, "__module__": __name__})


@pytest.mark.parametrize(
    ("annotation", "start", "kinds"),
    [
        (UNIT | Annotated[float, Field(ge=0, le=1)], Decimal("0.5"), {str, float}),
        (Annotated[Decimal, Field(ge=0, le=10)] | Annotated[int, Field(ge=0, le=10)], 5, {str, int}),
        (Annotated[int, Field(ge=0, le=10)] | Annotated[Decimal, Field(ge=0, le=10)], 5, {str, int}),
    ],
)
def test_a_number_beside_a_decimal_is_of_its_own_branch(annotation, start, kinds):
    variable = StructuredVariable(model_of(annotation, start)(), name="v")
    search, rng = Search("random", seed=0), np.random.default_rng(0)
    space = Space.of_variables([variable])
    for _ in range(50):
        value = space.sample(rng)["v"]
        assert space.normal_form({"v": variable.fitting(value)})["v"] == value
        assert space.decode(space.encode({"v": value}))["v"] == value
    tried = []
    for _ in range(30):
        wait(search.apply_optimization([variable], 0.0))
        tried.append(type(variable.json()["x"]))
    assert set(tried) == kinds
    assert min(map(tried.count, kinds)) > 5
    assert space.normal_form({"v": {"x": "0.50", "n": 1}})["v"]["x"] == "0.5"


@pytest.mark.parametrize(
    ("annotation", "start", "says"),
    [
        (
            Annotated[Decimal, Field(ge=0, le=BIG, max_digits=20, decimal_places=2)],
            Decimal("1000000.00"),
            r"more than 2\^53",
        ),
        (list[UNIT], [Decimal("0.10")], "maxItems"),
        (list[list[UNIT]], [[Decimal("0.10")]], "maxItems"),
        (Annotated[set[UNIT], Field(max_length=3)], {Decimal("0.10")}, "uniqueItems"),
        (UNIT | int, Decimal("0.10"), "without lower bound"),
        (UNIT | list[UNIT] | None, [Decimal("0.10")], "maxItems"),
        (Annotated[Decimal, Field(ge=0, le=9, json_schema_extra={"x-scale": "log"})], Decimal(3), "log scale"),
        (Annotated[Decimal, Field(ge=0, le=Decimal("Infinity"), max_digits=5)], Decimal("0.10"), "give both"),
        (Annotated[Decimal, Field(ge=0, le=9, multiple_of=Decimal("1e-30"))], Decimal(0), r"more than 2\^53"),
    ],
)
def test_a_decimal_that_cannot_be_searched_stays_as_it_is(annotation, start, says):
    variable = StructuredVariable(model_of(annotation, start)(), name="v")
    search, before = Search("random", seed=0), variable.json()["x"]
    wait(search.apply_optimization([variable], 1.0))
    assert variable.json()["x"] == before
    (line,) = engine_lines(search)
    assert line[0] == "frozen"
    assert re.search(rf"v\.x: always .*, frozen: .*{says}", line[1])


@pytest.mark.parametrize(
    ("bounds", "grid"),
    [
        ({"ge": 0, "le": 1000, "max_digits": 2}, "multiples of 1.0 from 0 to 99"),
        ({"ge": 0, "le": 100, "max_digits": 3}, "multiples of 1.0 from 0 to 100"),
        ({"ge": 0, "le": 100, "max_digits": 3, "decimal_places": 2}, "multiples of 0.01 from 0 to 9.99"),
        ({"ge": -1000, "le": 5, "max_digits": 2}, "multiples of 1.0 from -99 to 5"),
        ({"ge": 0, "le": 1, "max_digits": 2, "decimal_places": 4}, "multiples of 0.01 from 0 to 0.99"),
        ({"ge": 0, "le": 10, "multiple_of": Decimal("0.25"), "decimal_places": 1}, "multiples of 0.5 from 0 to 10"),
        ({"ge": 0, "le": 10, "multiple_of": Decimal("0.25"), "decimal_places": 2}, "multiples of 0.25 from 0 to 10"),
        ({"ge": 0, "le": 99, "multiple_of": Decimal("0.25"), "max_digits": 2}, "multiples of 1.0 from 0 to 99"),
        ({"ge": 0, "le": 1, "decimal_places": 400}, "multiples of 1E-15 from 0 to 1"),
    ],
)
def test_its_grid_is_of_numbers_that_the_model_accepts(bounds, grid):
    model = model_of(Annotated[Decimal, Field(**bounds)], Decimal("0.5"))
    variable = StructuredVariable({"x": "0.5" if bounds["le"] == 1 else "1"}, data_model=model, name="v")
    space, rng = Space.of_variables([variable]), np.random.default_rng(0)
    assert space.describe().splitlines()[1] == f"  v.x: decimals, {grid}"
    drawn = [value for value in (space.sample(rng)["v"] for _ in range(100)) if value["x"] != "0"]
    for value in drawn:
        assert variable.fitting(value) == value


@pytest.mark.parametrize(
    "mark", [{"places": "2"}, {"places": -1}, {"places": 2.5}, {"places": True}, {"places": 400}, {"digits": 2}, 2]
)
def test_a_mark_that_is_damaged_is_refused(mark):
    number = {"anyOf": [{"type": "number", "minimum": 0, "maximum": 1}, {"type": "string"}], "x-decimal": mark}
    with pytest.raises(SchemaError, match=r"value\.x has x-decimal .*; it is .*places.* 0 to 300"):
        Space.of({"type": "object", "properties": {"x": number}}, present={"x": "0.5"})


def test_the_plan_has_a_line_for_each_reason_and_place_whatever_the_item():
    class Item(BaseModel):
        price: Decimal = Field(Decimal("1.50"), ge=0)
        n: int = Field(1, ge=0, le=9)

    class Listed(BaseModel):
        items: list[Item] = Field([], max_length=60)
        other: Decimal = Decimal("0.5")

    search = Search("random", seed=0)
    search.bind([StructuredVariable(Listed(), name="v")])
    lines = [text for _, text in engine_lines(search)]
    assert [text.partition(",")[0] for text in lines] == ["v.items.*.price: always '1.50'", "v.other: always '0.5'"]
    assert "(60 places)" in lines[0]
