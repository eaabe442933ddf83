"""What is made of a rule lives as long as the rule does, and no longer."""

from __future__ import annotations

import gc
import threading
import time
import weakref
from collections.abc import Callable

import numpy as np
import pytest

import thalweg as tw
from thalweg import rules
from thalweg.lowering import compile_rule
from thalweg.rules import Rule
from thalweg.rules.keeping import kept_with_rule

SINGLE = np.dtype(np.float32)
MADE: dict[str, Callable[[Rule], object]] = {
    "a form": lambda rule: rule.form(epsilon_form="hat"),
    "a convention": lambda rule: rule.convention("keras"),
    "decay": rules.decayed,
    "lookahead": rules.lookahead,
    "an average": rules.averaged,
    "a kernel": lambda rule: compile_rule(rule, SINGLE),
}


@pytest.mark.parametrize("make", list(MADE.values()), ids=list(MADE))
def test_it_is_made_once_for_each_rule(make: Callable[[Rule], object]) -> None:
    one, other = (rules.adam.with_defaults(beta1=0.5) for _ in range(2))
    assert make(one) is make(one)
    assert make(one) is not make(other)


@pytest.mark.parametrize("make", list(MADE.values()), ids=list(MADE))
def test_it_is_freed_with_the_rule(make: Callable[[Rule], object]) -> None:
    rule = rules.adam.with_defaults(beta1=0.5)
    watched = [weakref.ref(rule), weakref.ref(make(rule))]
    del rule
    gc.collect()
    assert [found() for found in watched] == [None, None]


def test_an_optimizer_of_a_passing_rule_is_freed_with_it() -> None:
    class Passing(tw.optimizers.LocalOptimizer):
        rule = rules.sgd.with_defaults(learning_rate=0.5)

    x = tw.Variable(np.ones(2), name="x", needs_grad=True)
    optimizer = Passing(x, convention="torch", learning_rate=0.5)
    tw.wait(optimizer.step(grad=np.ones(2)))
    assert x.data.tolist() == [0.5, 0.5]
    watched = [weakref.ref(optimizer.rule), weakref.ref(Passing.rule)]
    del optimizer, Passing
    end = time.monotonic() + 60
    while any(found() is not None for found in watched) and time.monotonic() < end:
        gc.collect()  # what one pass finds may end what kept something else
        time.sleep(0.01)  # a thread that has compiled holds its work until it is its turn again
    assert [found() for found in watched] == [None, None]


def test_two_threads_are_given_the_same_object() -> None:
    both = threading.Barrier(2)

    @kept_with_rule
    def slow(rule: Rule) -> object:
        both.wait()  # neither has a result when the other begins
        return object()

    rule, found = rules.adam.with_defaults(beta1=0.5), []
    threads = [threading.Thread(target=lambda: found.append(slow(rule))) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] is found[1]


def test_another_argument_is_another_result_however_it_is_given() -> None:
    @kept_with_rule
    def pair(rule: Rule, dtype: str) -> tuple[Rule, str]:
        return rule, dtype

    assert pair(rules.adam, "f4")[1] == "f4"
    assert pair(rules.adam, dtype="f8")[1] == "f8"
    assert pair(rules.adam, dtype="f8") is pair(rules.adam, dtype="f8")
    assert pair(rules.sgd, "f4")[0] is rules.sgd


def test_what_is_made_of_a_rule_is_no_part_of_a_new_one() -> None:
    rule = rules.adam.with_defaults(beta1=0.5)
    rules.decayed(rule)
    assert rule.made
    assert not rule.with_defaults(beta2=0.5).made
    assert "made" not in repr(rule)
