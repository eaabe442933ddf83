"""Mistakes in the names of a schedule's parameters: the same words where it is made and where a table says it."""

from __future__ import annotations

import copy
import inspect
import pickle
from dataclasses import dataclass
from typing import Any

import pytest

import thalweg as tw
from thalweg.errors import HyperparameterError
from thalweg.schedules import Cosine, Exp, OneCycle, Piecewise, Polynomial, Schedule, WarmUp, build


def said(make: Any, *given: Any, **named: Any) -> str:
    with pytest.raises(HyperparameterError) as caught:
        make(*given, **named)
    return str(caught.value)


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
        (lambda: Cosine(0.1, initial=0.1, period=3), "is given 'initial' twice"),
        (lambda: Exp(0.1, last_epoch=-1), "'last_epoch': leave it out, what is counted is the optimizer's"),
        (lambda: Cosine(0.1, period=3, warmup_steps=2), "a warm-up is WarmUp(then, duration=warmup_steps)"),
    ],
)
def test_what_python_refuses_is_an_error_of_ours(make: Any, told: str) -> None:
    assert told in said(make)


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
