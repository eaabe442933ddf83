"""Pydantic's Decimal in a search: the text of a number, which its model reads and writes to the last digit."""

import json
from decimal import Decimal
from typing import Annotated

import numpy as np
import pytest
from pydantic import BaseModel, Field, PlainSerializer

from thalweg.errors import SearchError, ValueMismatchError
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
