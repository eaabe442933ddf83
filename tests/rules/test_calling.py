"""Mistakes in the names of parameters: the same words where something is made and where a table says it."""

from __future__ import annotations

import abc
import copy
import dataclasses
import inspect
import pickle
import pydoc
import types
import typing
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import cloudpickle
import pydantic
import pytest

import thalweg as tw
from thalweg.errors import HyperparameterError
from thalweg.schedules import Cosine, Exp, OneCycle, Piecewise, Polynomial, Schedule, WarmUp, build


def said(make: Any, *given: Any, **named: Any) -> str:
    with pytest.raises(HyperparameterError) as caught:
        make(*given, **named)
    return str(caught.value)


@dataclass(frozen=True)
class One(Schedule):
    kind = "one"
    initial: float

    def __call__(self, state: Any) -> float:
        return self.initial


@dataclass(frozen=True, kw_only=True)
class Named(One):
    kind = "named"
    initial: float


class Nothing(Schedule):
    kind = "nothing"

    def __call__(self, state: Any) -> float:
        return 1.0


class Forgotten(Nothing):
    kind = "forgotten"
    table: typing.ClassVar[dict[str, float]] = {}
    factor: float


@dataclass(frozen=True)
class Below(Forgotten):
    initial: float = 1.0


@pytest.mark.parametrize(
    ("cls", "first", "name", "meant"),
    [
        (WarmUp, {"then": 1.0}, "steps", "'duration'"),
        (Cosine, {"initial": 0.1}, "T_max", "'period'"),
        (Cosine, {"initial": 0.1, "period": 3}, "eta_min", "'minimum'"),
        (Polynomial, {"initial": 0.1, "duration": 3}, "end_value", "'final'"),
        (OneCycle, {"duration": 3}, "max_lr", "'peak'"),
        (Piecewise, {"initial": 1.0}, "milestones", "'boundaries'"),
        (Piecewise, {"initial": 1.0}, "boundaries_and_scales", "'boundaries' and 'factor'"),
        (Exp, {"initial": 1.0}, "decay_rate", "'gamma'"),
        (Exp, {"initial": 1.0}, "gama", "'gamma'"),
    ],
)
def test_an_unknown_name_is_told_as_in_a_table(cls: Any, first: dict[str, Any], name: str, meant: str) -> None:
    here = said(cls, **first, **{name: 3})
    assert f"{name!r}; did you mean {meant}?" in here
    assert here == said(build, {"kind": cls.kind, **first, name: 3})


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda: Cosine(0.1), "schedule 'cosine' needs 'period', which has no default"),
        (lambda: Cosine(), "schedule 'cosine' needs 'initial'"),
        (lambda: Cosine(0.1, 3), "write period=3"),
        (lambda: Exp(0.1, 0.9), "write gamma=0.9"),
        (lambda: Cosine(0.1, 10, 0.01), "and the others by name; write period=10, minimum=0.01"),
        (lambda: One(1, 2, 3), "schedule 'one' takes initial without a name, and nothing else; leave out 2, 3"),
        (lambda: Named(1.0), "schedule 'named' takes all parameters by name; write initial=1.0"),
        (lambda: Named(1.0, 2), "takes all parameters by name; write initial=1.0 and leave out 2"),
        (lambda: Nothing(2), "schedule 'nothing' takes no parameters; leave out 2"),
        *(
            (make, "'factor' is no parameter, since Forgotten is no dataclass; write @dataclass(frozen=True) above")
            for make in (lambda: Forgotten(2.0), lambda: Forgotten(factor=2.0), lambda: Below(1.0, factor=2.0))
        ),
        (lambda: Forgotten(facto=2.0), "there is no parameter of schedule 'forgotten' 'facto'"),
        (lambda: Cosine(0.1, initial=0.1, period=3), "is given 'initial' twice"),
        (lambda: Exp(0.1, last_epoch=-1), "'last_epoch': leave it out, what is counted is the optimizer's"),
        (lambda: Cosine(0.1, period=3, warmup_steps=2), "a warm-up is WarmUp(then, duration=warmup_steps)"),
    ],
)
def test_what_python_refuses_is_an_error_of_ours(make: Any, told: str) -> None:
    assert told in said(make)


def test_both_parts_of_a_product_are_told_at_once() -> None:
    for named in ({"epochs": 3, "steps_per_epoch": 10}, {"steps_per_epoch": 10, "epochs": 3}):
        assert "give the product, duration=epochs * steps_per_epoch" in said(OneCycle, 0.1, **named)
    assert "did you mean 'duration'" in said(OneCycle, 0.1, epochs=3)


@dataclass(frozen=True)
class Nameless(Schedule):
    initial: float

    def __call__(self, state: Any) -> float:
        return self.initial


@dataclass(frozen=True)
class NamelessTransform(tw.transforms.Transform):
    factor: float

    def __call__(self, array: Any) -> Any:
        return self.factor * array


def test_what_has_no_kind_is_told_to_write_one() -> None:
    told = 'schedule Nameless has no kind, its name in study files; write kind = "..." in class Nameless'
    assert said(Nameless, 1.0) == told
    transform = NamelessTransform(2.0)
    assert transform(1.0) == 2.0
    assert "transform NamelessTransform has no kind, its name in study files; write" in said(transform.get_config)


def test_a_type_error_from_inside_stays_what_it_is() -> None:
    @dataclass(frozen=True)
    class Odd(Schedule):
        kind = "odd"
        initial: float

        def __post_init__(self) -> None:
            raise TypeError("mine")

        def __call__(self, state: Any) -> float:
            return self.initial

    with pytest.raises(TypeError, match="mine"):
        Odd(1.0)
    assert "there is no parameter of schedule 'odd' 'gamma'" in said(Odd, 1.0, gamma=2)
    with pytest.raises(TypeError, match="abstract"):
        Schedule()  # type: ignore[abstract]


@pytest.mark.parametrize("cls", tw.schedules.registry.values())
def test_a_schedule_is_a_class_like_others(cls: Any) -> None:
    parameters = inspect.signature(cls).parameters
    assert list(parameters) == list(inspect.signature(cls.__init__).parameters)[1:]
    one = Exp(1.0)
    assert copy.deepcopy(one) == one == pickle.loads(pickle.dumps(one))
    twice = dataclasses.replace(one, initial=2.0)
    assert (type(twice), twice.initial) == (Exp, 2.0)
    assert "needs 'initial'" in said(Exp)
    assert copy.copy(one) == one  # __new__ has no arguments there, either
    assert f"class {cls.__name__}(" in pydoc.render_doc(cls, renderer=pydoc.plaintext)
    assert str(inspect.signature(cls)).removesuffix(" -> None") in pydoc.render_doc(cls, renderer=pydoc.plaintext)


@runtime_checkable
class HasKind(Protocol):
    kind: str


class Meta(abc.ABCMeta):
    pass


class OfMeta(metaclass=Meta):
    pass


class Model(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(frozen=True)


def test_a_schedule_may_have_another_base_with_a_metaclass_of_its_own() -> None:
    for base in (OfMeta, HasKind, typing.Generic[typing.TypeVar("T")]):
        both = dataclass(frozen=True)(types.new_class("Both", (One, base), {}, lambda space: space.update(kind="both")))
        made = both(2.0)
        assert isinstance(made, typing.get_origin(base) or base)
        assert made.values(2).tolist() == [2.0, 2.0]
        assert "schedule 'both' needs 'initial'" in said(both)

    class Validated(Model, Nothing):
        kind: typing.ClassVar[str] = "validated"
        initial: float = 1.0

        def __call__(self, state: Any) -> float:
            return self.initial

    assert Validated(initial="3").values(2).tolist() == [3.0, 3.0]  # type: ignore[arg-type]
    with pytest.raises(pydantic.ValidationError):
        Validated(initial="three")  # type: ignore[arg-type]


def test_whoever_writes_init_or_new_is_asked_as_python_asks() -> None:
    class Own(One):
        kind = "own"

        def __init__(self, path: str, *, scale: float = 1.0) -> None:
            super().__init__(*[float(path) * scale] * (scale < 9))  # from 9 on without what it needs

    class Free(One):
        kind = "free"

        def __init__(self, *given: Any, **named: Any) -> None:
            super().__init__(len(given) + len(named))

    class New(One):
        kind = "new"

        def __new__(cls, *given: float) -> Any:
            return super().__new__(cls)

    assert [Own("3", scale=2.0).initial, Free(1, 2, three=3).initial, New(4.0).initial] == [6.0, 3, 4.0]
    assert "there is no parameter of schedule 'own' 'scal'; did you mean 'scale'?" in said(Own, "3", scal=2.0)
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'initial'"):
        Own("3", scale=9.0)
    assert "schedule 'new' needs 'initial'" in said(New)
    assert str(inspect.signature(Own)) == "(path: 'str', *, scale: 'float' = 1.0) -> 'None'"
    assert copy.deepcopy(Own("3")) == Own("3")


def test_a_class_of_a_notebook_can_be_sent() -> None:
    made = type("Local", (Nothing,), {"kind": "local", "__module__": "__main__", "__init__": lambda self, a: None})
    there = type(cloudpickle.loads(cloudpickle.dumps(made(1))))
    assert there(1).values(1).tolist() == [1.0]
    assert "schedule 'local' needs 'a'" in said(there) == said(made)


@pytest.mark.parametrize(("kind", "given", "told"), [("cosine", "min", "'minimum'"), ("one_cycle", "max", "'peak'")])
def test_least_and_most_have_their_names(kind: str, given: str, told: str) -> None:
    assert f"did you mean {told}" in said(tw.schedules.registry[kind], **{given: 0.01})


@pytest.mark.parametrize(
    ("kind", "given", "told"),
    [
        ("clip_norm", {"max_norm": 1.0}, "no parameter of transform 'clip_norm' 'max_norm'; did you mean 'limit'?"),
        ("bounds", {"min": 1.0, "max": 2.0}, "no parameter of transform 'bounds' 'min'; did you mean 'lower'?"),
        ("smooth", {"std": 1.0}, "did you mean 'sigma'?"),
        ("clip_norm", {}, "transform 'clip_norm' needs 'limit', which has no default"),
        ("mask", {}, "transform 'mask' needs 'array', which has no default"),
        ("nonnegative", {"lower": 0.0}, "no parameter of transform 'nonnegative' 'lower' (known: none)"),
    ],
)
def test_a_transform_is_told_as_in_a_table(kind: str, given: dict[str, float], told: str) -> None:
    assert told in said(tw.transforms.registry[kind], **given)
    assert said(tw.transforms.build, {"kind": kind, **given}) == said(tw.transforms.registry[kind], **given)


def test_values_without_a_name_that_a_transform_does_not_take() -> None:
    assert said(tw.transforms.nonnegative, 1.0) == "transform 'nonnegative' takes no parameters; leave out 1.0"
    assert said(tw.transforms.clip_norm, 1.0, 2.0) == (
        "transform 'clip_norm' takes limit without a name, and nothing else; leave out 2.0"
    )


def test_a_transform_of_one_s_own_that_is_no_dataclass_is_told() -> None:
    class power(tw.transforms.Transform):
        kind = "power"
        exponent: int

        def __call__(self, array: Any) -> Any:
            return array**self.exponent

    assert "write @dataclass(frozen=True) above class power" in said(power, 2)
    assert dataclass(frozen=True)(power)(2)(3.0) == 9.0
