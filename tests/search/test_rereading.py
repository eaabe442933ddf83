"""Values are saved, copied and searched as their model writes them, so what it reads of that has to be the same."""

import uuid
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from itertools import count
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    ConfigDict,
    Field,
    PlainSerializer,
    PlainValidator,
    PrivateAttr,
    RootModel,
    SecretStr,
    StringConstraints,
    WithJsonSchema,
    computed_field,
    field_serializer,
    field_validator,
)

from tests.search.weights import Weights
from thalweg.errors import ValueMismatchError
from thalweg.search import StructuredVariable
from thalweg.search.modeling import fitted


class Login(BaseModel):
    key: SecretStr
    tries: int = 1


class Left(BaseModel):
    x: int = 1
    hidden: int = Field(5, exclude=True)


class Rounded(BaseModel):
    x: float
    y: float = 0.0

    @field_serializer("x")
    def short(self, value):
        return round(value, 1)


class Outer(BaseModel):
    inner: list[Rounded]
    anything: Any = None


class Base(BaseModel):
    n: int = 1


class Derived(Base):
    more: int = 2


class Holder(BaseModel):
    base: Base


class TwoNames(BaseModel):
    x: int = Field(0, validation_alias=AliasChoices("p", "x"), serialization_alias="out")


@pytest.mark.parametrize(
    ("instance", "field"),
    [
        (Login(key="hunter2"), "key"),
        (Left(hidden=7), "hidden"),
        (Rounded(x=0.55), "x"),
        (Outer(inner=[Rounded(x=0.5), Rounded(x=0.25, y=0.25)]), "inner.1.x"),
        (Outer(inner=[], anything=SecretStr("hunter2")), "anything"),
        (Holder(base=Derived(more=3)), "base.more"),
        (TwoNames(x=3), "x"),
    ],
)
def test_what_a_model_masks_or_leaves_out_is_refused_by_the_name_of_the_field(instance, field):
    with pytest.raises(ValueMismatchError, match=f"at {field}\\. It is ") as caught:
        StructuredVariable(instance, name="v")
    assert "hunter2" not in str(caught.value)


def test_so_it_is_when_it_comes_as_json_and_nothing_changes():
    with pytest.raises(ValueMismatchError, match=r"does not write all .* at key"):
        fitted({"key": "hunter2"}, Login, "the value")
    variable = StructuredVariable({"x": 0.5}, data_model=Rounded, name="v")
    with pytest.raises(ValueMismatchError, match=r"does not write all .* at x"):
        variable.update({"x": 0.55})
    assert variable.json() == {"x": 0.5, "y": 0.0}
    assert variable.version == 0


def test_what_is_written_in_full_is_no_secret():
    class Open(Login):
        @field_serializer("key", when_used="json")
        def tell(self, value):
            return value.get_secret_value()

    assert StructuredVariable(Open(key="hunter2"), name="v").json() == {"key": "hunter2", "tries": 1}


class Color(Enum):
    RED = "red"


@dataclass
class Pair:
    a: float
    b: float


class Own:
    """No equality of its own."""

    def __init__(self, text):
        self.text = text


Numbers = Annotated[
    np.ndarray,
    PlainValidator(lambda value: np.asarray(value, dtype=np.float32)),
    PlainSerializer(lambda value: value.tolist()),
    WithJsonSchema({"type": "array", "items": {"type": "number"}}),
]
Owned = Annotated[
    Own,
    PlainValidator(lambda value: value if isinstance(value, Own) else Own(value)),
    PlainSerializer(lambda value: value.text),
    WithJsonSchema({"type": "string"}),
]


class Everything(BaseModel):
    model_config = ConfigDict(arbitrary_types_allowed=True, extra="allow", use_enum_values=True)
    numbers: Numbers = Field(default_factory=lambda: np.array([0.1, 1 / 3], dtype=np.float32))
    owned: Owned = Field(default_factory=lambda: Own("mine"))
    color: Color = Color.RED
    pair: Pair = Field(default_factory=lambda: Pair(0.1, 0.2))
    when: date = date(2020, 1, 2)
    moment: datetime = datetime(2020, 1, 2, 3, 4, 5, 678)
    lasts: timedelta = timedelta(hours=1.5)
    price: Decimal = Decimal("1.50")
    path: Path = Path("a") / "b"
    some: set[float] = Field(default_factory=lambda: {0.3, 0.1, 0.2})
    by_number: dict[int, tuple[int, str]] = Field(default_factory=lambda: {2: (1, "a"), 1: (2, "b")})
    anything: Any = Field(default_factory=lambda: {1: date(2020, 1, 2), "set": (1, 2)})
    choice: Literal[1, "a", None] = None
    made: uuid.UUID = Field(default_factory=uuid.uuid4, exclude=True)
    whole: float = 1
    roots: RootModel[list[int]] = RootModel[list[int]]([1, 2])
    _private: list[int] = PrivateAttr(default_factory=list)

    @computed_field
    @property
    def twice(self) -> float:
        return 2 * self.whole

    def model_post_init(self, context):
        self._private.append(id(self))


def test_what_stays_is_not_refused():
    variable = StructuredVariable(Everything(besides=[1, {"a": None}]), name="v")
    value = variable.json()
    assert value["numbers"] == [float(np.float32(0.1)), float(np.float32(1 / 3))]
    assert value["owned"] == "mine"
    assert value["besides"] == [1, {"a": None}]
    assert "made" not in value
    assert "twice" not in value
    again = StructuredVariable(value, data_model=Everything, name="v")
    assert again.json() == variable.copy().json() == value


# -- validators that change what they are given -------------------------------------------


class Percent(BaseModel):
    x: float = Field(ge=0, le=100)

    @field_validator("x")
    @classmethod
    def share(cls, value):
        return value / 100 if value > 1 else value / 2


class Turning(BaseModel):
    """Its last bit never settles: it goes round in two values."""

    x: Annotated[float, AfterValidator(lambda x: x + 2**-52 if x == 1.0 else 1.0)]


def test_weights_that_are_normalized_settle_once_for_all():
    rng = np.random.default_rng(0)
    moved = 0
    for _ in range(300):
        value = dict(zip("abc", rng.uniform(0.05, 1.0, 3).tolist(), strict=True))
        once = Weights(**value).model_dump()
        held = fitted(value, Weights, "the value")
        assert held == pytest.approx(once, rel=1e-12)
        assert fitted(held, Weights, "the value") == held
        variable = StructuredVariable(Weights(**value), name="weights")
        assert variable.copy().json() == variable.json()
        moved += Weights(**once).model_dump() != once
    assert moved > 10, "there was nothing to settle"


def test_values_that_go_round_in_their_last_bits_are_held_as_one():
    one, other = ({"x": 1.0}, {"x": 1.0 + 2**-52})
    assert fitted(one, Turning, "the value") == fitted(other, Turning, "the value") == other


@pytest.mark.parametrize("value", [{"x": 50.0}, Percent(x=50.0)])
def test_a_model_that_makes_another_value_of_its_own_is_refused(value):
    with pytest.raises(ValueMismatchError, match=r"Percent makes another value of the value of 'x' .* at x"):
        StructuredVariable(value, data_model=Percent, name="x")


def test_one_that_it_leaves_alone_is_not():
    assert fitted({"x": 0.0}, Percent, "the value") == {"x": 0.0}


def test_a_model_that_refuses_what_it_made_itself_is_told_so():
    with pytest.raises(ValueMismatchError, match=r"Weights refuses what it has made itself.*at c: input should be"):
        fitted({"a": 1.0, "b": 1.0, "c": 0.01}, Weights, "the value")


def test_a_schema_alone_takes_what_a_model_cannot_read_back():
    class Named(BaseModel):
        x: int = Field(validation_alias="in", serialization_alias="out")

    schema = {"type": "object", "properties": {"out": {"type": "integer"}}}
    assert StructuredVariable(Named(**{"in": 3}), schema, name="v").json() == {"out": 3}


# -- defaults, which Pydantic does not validate --------------------------------------------


class Text(BaseModel):
    instructions: Annotated[str, StringConstraints(strip_whitespace=True)] = """Answer yes or no.
"""
    even: Annotated[int, AfterValidator(lambda n: 2 * (n // 2))] = 3


class Steps(BaseModel):
    first: Text = Text()
    others: list[Text] = [Text(even=4)]


class Counted(BaseModel):
    n: Annotated[int, AfterValidator(lambda n: n + 1)] = 1


READ = {"instructions": "Answer yes or no.", "even": 2}


@pytest.mark.parametrize(
    ("value", "model", "held"),
    [
        (Text(), None, READ),
        ({}, Text, READ),
        ({"even": 8}, Text, {**READ, "even": 8}),
        (Text(instructions=" No. "), None, {"instructions": "No.", "even": 2}),
        (Steps(), None, {"first": READ, "others": [{**READ, "even": 4}]}),
        ({"first": {"even": 6}}, Steps, {"first": {**READ, "even": 6}, "others": [{**READ, "even": 4}]}),
    ],
)
def test_a_default_is_what_the_model_makes_of_it_when_it_reads_it(value, model, held):
    variable = StructuredVariable(value, data_model=model, name="v")
    assert variable.json() == held
    assert variable.copy().json() == held


@pytest.mark.parametrize(
    "value", [Counted(), {}, Text.model_construct(instructions="Yes.\n"), Steps(first=Text.model_construct(even=3))]
)
def test_a_default_that_never_stays_is_refused_and_so_is_what_was_given_and_not_validated(value):
    with pytest.raises(ValueMismatchError, match=r"makes another value of .* at (n|instructions|first\.even)\."):
        StructuredVariable(value, data_model=Counted if value == {} else None, name="v")


class Masked(BaseModel):
    key: SecretStr = Field(default_factory=lambda: SecretStr("sk-123"))
    share: Annotated[float, PlainSerializer(lambda x: round(x, 2))] = 0.5
    url: Annotated[str, AfterValidator(str.lower)] = Field("https://Example.com", alias="URL")


class Shortened(BaseModel):
    share: Annotated[float, PlainSerializer(lambda x: round(x, 2))] = 1 / 3
    inner: Text = Text()


class Nested(BaseModel):
    parts: list[Masked] = [Masked(key=SecretStr("**********"))]
    root: RootModel[list[Text]] = RootModel[list[Text]]([Text()])


@pytest.mark.parametrize(("model", "where"), [(Masked, "key"), (Shortened, "share")])
def test_a_default_that_is_not_written_in_full_is_refused_though_another_default_is_changed(model, where):
    for value in (model(), {}):
        with pytest.raises(
            ValueMismatchError, match=rf"{model.__name__} does not write all .* another value at {where}\."
        ):
            StructuredVariable(value, data_model=model, name="v")


def test_defaults_are_told_apart_by_where_they_are_written():
    held = {"key": "**********", "share": 0.5, "URL": "https://example.com"}
    assert StructuredVariable(Masked(key=SecretStr("**********")), name="v").json() == held
    assert StructuredVariable({"key": "**********"}, data_model=Masked, name="v").json() == held
    assert StructuredVariable(Nested(), name="v").json() == {"parts": [held], "root": [READ]}


class Deep(BaseModel):
    first: Text = Text()
    evens: list[Annotated[int, AfterValidator(lambda n: 2 * (n // 2))]] = [3, 4]
    made: str = Field(default_factory=lambda: f"{next(NUMBERS)} Abc")

    @field_validator("made")
    @classmethod
    def _lower(cls, value):
        return value.lower()


NUMBERS = count()


def _set(change):
    made = Deep()
    change(made)
    return made


@pytest.mark.parametrize(
    ("change", "where"),
    [
        (lambda made: setattr(made.first, "even", 51), r"first\.even"),
        (lambda made: made.evens.append(51), r"evens\.2"),
        (lambda made: made.evens.__setitem__(0, 51), r"evens\.0"),
        (lambda made: setattr(made, "made", "Xyz"), "made"),
    ],
)
def test_what_was_set_inside_a_default_was_given(change, where):
    with pytest.raises(ValueMismatchError, match=rf"Deep makes another value of .* at {where}\."):
        StructuredVariable(_set(change), name="v")


def test_what_was_not_set_beside_it_is_a_default_still():
    held = StructuredVariable(_set(lambda made: setattr(made.first, "even", 50)), name="v").json()
    assert held["first"] == {"instructions": "Answer yes or no.", "even": 50}
    assert (held["evens"], held["made"][-4:]) == ([2, 4], " abc")
    assert StructuredVariable(_set(lambda made: made.evens.append(8)), name="v").json()["evens"] == [2, 4, 8]


# -- names ----------------------------------------------------------------------------------


class ByName(BaseModel):
    model_config = ConfigDict(populate_by_name=True)
    length: int = Field(1, alias="Length")
    width: int = Field(1, validation_alias=AliasChoices("w", "Width"), serialization_alias="Width")


class Shapes(BaseModel):
    shapes: dict[str, list[ByName]] = {}
    only: RootModel[list[ByName]] = RootModel[list[ByName]]([])


@pytest.mark.parametrize(
    "given", [{"length": 3, "width": 2}, {"Length": 3, "w": 2}, {"length": 3, "Width": 2}, {"Length": 3, "Width": 2}]
)
def test_a_value_may_be_given_by_any_name_that_the_model_reads(given):
    held = {"Length": 3, "Width": 2}
    assert fitted(given, ByName, "the value") == held
    inside = {"shapes": {"a": [given]}, "only": [given]}
    assert fitted(inside, Shapes, "the value") == {"shapes": {"a": [held]}, "only": [held]}


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (
            {"length": 3, "Length": 4},
            r"nothing at length, .* \(it is another name of Length, and both are given: give one",
        ),
        ({"lenght": 3}, r"ByName has nothing at lenght, which the value has \(known: Length, Width\)"),
        ({"shapes": {"a": [{"length": 3, "depth": 1}]}}, r"Shapes has nothing at shapes\.a\.0\.depth"),
        ({"shapes": {"a": [{"w": 3, "Width": 1}]}}, r"at shapes\.a\.0\.w, .* \(it is another name of Width"),
    ],
)
def test_what_is_lost_by_it_is_found_all_the_same(given, says):
    with pytest.raises(ValueMismatchError, match=says):
        fitted(given, Shapes if "shapes" in given else ByName, "the value")


def test_what_pydantic_would_convert_is_refused_as_read_strictly():
    class Timed(BaseModel):
        model_config = ConfigDict(ser_json_timedelta="float")
        every: timedelta = timedelta(seconds=1.5)

    with pytest.raises(ValueMismatchError, match=r"at every: input should be a valid duration, .*read strictly"):
        StructuredVariable(Timed(), name="v")
    with pytest.raises(ValueMismatchError, match=r"at x: input should be a valid number$|valid number\.$"):
        fitted({"x": "three"}, Rounded, "the value")
