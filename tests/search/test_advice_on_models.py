"""What is said of a model that does not stay what it is goes to whoever can mend it: who made it, or who wrote it."""

from typing import Annotated

import pytest
from pydantic import AfterValidator, BaseModel, Field

from thalweg.errors import ValueMismatchError
from thalweg.search import StructuredVariable

NEW = (
    "so make a new {0} with what was set or added to after it was made, so that it is validated, with what is inside: "
    "{0}.model_validate(made.model_dump(by_alias=True, round_trip=True)). If it was validated,"
)
ALONE = "have its validators leave alone what they have returned: fitted twice is fitted once."


class Deduped(BaseModel):
    items: Annotated[list[int], AfterValidator(lambda items: list(dict.fromkeys(items)))] = [1, 1, 2]


class Outer(BaseModel):
    one: Deduped = Field(Deduped(), alias="first")


class Counted(BaseModel):
    n: Annotated[int, AfterValidator(lambda n: n + 1)] = 1


class Bounded(BaseModel):
    n: Annotated[int, AfterValidator(lambda n: min(n + 1, 5))] = 3


def added():
    made = Deduped()
    made.items.append(7)
    return made


def nested():
    made = Outer()
    made.one.items.append(7)
    return made


@pytest.mark.parametrize(
    ("value", "where"),
    [(added(), "items"), (nested(), "one.items"), (Deduped.model_construct(items=[3, 3]), "items")],
)
def test_what_no_validator_has_seen_is_told_to_whoever_made_the_model(value, where):
    with pytest.raises(ValueMismatchError) as caught:
        StructuredVariable(value, name="v")
    name = type(value).__name__
    assert f"{name} makes another value of the value of 'v' when it reads" in str(caught.value)
    assert f"at {where}. It is read each time" in str(caught.value)
    assert NEW.format(name) in str(caught.value)
    assert str(caught.value).endswith(ALONE)


@pytest.mark.parametrize(
    ("made", "held"),
    [
        (added(), {"items": [1, 2, 7]}),
        (nested(), {"first": {"items": [1, 2, 7]}}),
        (Deduped.model_construct(items=[3, 3]), {"items": [3]}),
    ],
)
def test_what_is_advised_mends_it(made, held):
    new = type(made).model_validate(made.model_dump(by_alias=True, round_trip=True))
    assert StructuredVariable(new, name="v").json() == held
    made = Deduped.model_validate(added().model_dump())
    assert StructuredVariable(made, name="v").json() == {"items": [1, 2, 7]}
    assert StructuredVariable(Deduped(), name="v").json() == {"items": [1, 2]}


@pytest.mark.parametrize(
    ("value", "model"),
    [(Counted(n=1), None), ({"n": 1}, Counted), ({"n": 2}, Bounded), ({}, Bounded), (Bounded(), None)],
)
def test_validators_that_change_what_they_return_are_told_to_whoever_wrote_them(value, model):
    with pytest.raises(ValueMismatchError, match=r"at n\. It is read .* searched, so have its validators") as caught:
        StructuredVariable(value, data_model=model, name="v")
    assert str(caught.value).endswith(ALONE)
    assert "make a new" not in str(caught.value)


def test_where_it_may_be_either_both_are_said():
    made = Bounded(n=3)  # validated once: 4, which is read as 5
    assert made.n == 4
    with pytest.raises(ValueMismatchError) as caught:
        StructuredVariable(made, name="v")
    assert NEW.format("Bounded") in str(caught.value)
    assert str(caught.value).endswith(ALONE)
