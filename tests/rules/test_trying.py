"""A rule of one's own that is wrong: what it returns and what it misspells is said in one way, whoever runs it."""

from __future__ import annotations

from typing import Annotated, Any, NamedTuple

import numpy as np
import pytest

import thalweg as tw
from thalweg import rules
from thalweg.errors import RuleError
from thalweg.lowering import compile_rule
from thalweg.rules.base import Number, Rule
from thalweg.rules.ranges import nonnegative
from thalweg.rules.trying import tried


class Slots(NamedTuple):
    mean: Any


class Hyper(NamedTuple):
    learning_rate: Annotated[Number, nonnegative, "η"] = 0.1


class Scalars(NamedTuple):
    rate: Any


def good(param: Any, grad: Any, slots: Any, h: Any) -> Any:
    return param - h.learning_rate * grad, Slots(slots.mean + grad)


WRONG = {
    "no slots": (
        {"update": lambda param, grad, slots, h: param - h.learning_rate * grad},
        "update returns a float64; ",
    ),
    "nothing": (
        {"update": lambda param, grad, slots, h: None},
        "update returns None; it returns the new parameter and",
    ),
    "three": ({"update": lambda param, grad, slots, h: (param, slots, slots)}, "update returns a tuple of 3; "),
    "a slot": ({"update": lambda param, grad, slots, h: (param, slots.mean)}, "update returns for slots a float64; "),
    "two slots": (
        {"update": lambda param, grad, slots, h: (param, (slots.mean, slots.mean))},
        r"for slots a tuple of 2; it returns the new parameter and the new slots, \(param, Slots\(mean\)\)",
    ),
    "in update": (
        {"update": lambda param, grad, slots, h: (param - h.learning_rte * grad, slots)},
        r"update reads 'learning_rte', .* mean 'learning_rate'\? There are learning_rate \(.*test_trying\.py, line",
    ),
    "a slot's name": (
        {"update": lambda param, grad, slots, h: (param - slots.men, slots)},
        "update reads 'men', which is not there; did you mean 'mean'",
    ),
    "in prepare": (
        {"update": good, "prepare": lambda t, h: Scalars(h.learning_rte)},
        "prepare reads 'learning_rte', which is not there; did you mean 'learning_rate'",
    ),
    "a number": (
        {"update": good, "prepare": lambda t, h: h.learning_rate},
        "prepare returns a float; it returns a named",
    ),
    "no t": (
        {"update": good, "prepare": lambda h: Scalars(h.learning_rate)},
        r"prepare takes \(h\); it is called with \(t",
    ),
    "in start": ({"update": good, "start": lambda param, h: (h.learning_rte,)}, "start reads 'learning_rte'"),
    "no start": ({"update": good, "start": lambda param, h: ()}, "start returns a tuple of 0; .* starts .mean."),
}


def made(**texts: Any) -> tuple[Rule, Any]:
    rule = Rule(name="mine", slots=Slots, hyper=Hyper, **texts)
    return rule, type(tw.LocalOptimizer)("Mine", (tw.LocalOptimizer,), {"rule": rule})


@pytest.mark.parametrize("wrong", WRONG)
def test_what_is_wrong_is_said_wherever_the_rule_is_used(wrong: str) -> None:
    texts, told = WRONG[wrong]
    rule, cls = made(**texts)
    x = np.ones(2)
    for use in (cls, lambda: rule.init(x), lambda: rule.step(x, x, Slots(x)), lambda: compile_rule(rule, x.dtype)):
        with pytest.raises(RuleError, match=f"rule 'mine': .*{told}") as caught:
            use()
        assert caught.value.details["rule"] == "mine"


def test_what_only_a_backend_can_tell_is_left_to_it() -> None:
    def strange(param: Any, grad: Any, slots: Any, h: Any) -> Any:
        return param.at_a_place_of_jax(grad), slots

    rule, cls = made(update=strange)
    assert tried(rule) is None
    assert cls().rule.name == "mine"


@pytest.mark.parametrize("name", rules.registry)
def test_ours_are_right_in_all_their_forms(name: str) -> None:
    rule = rules.registry[name]
    for form in (rule, rules.decayed(rule), *(rule.convention(library) for library in rule.conventions)):
        assert tried(form) is None
