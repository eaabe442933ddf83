"""Forms, conventions and defaults of a rule; where state starts, and the numbers that go from step to step."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from thalweg import rules
from thalweg.errors import HyperparameterError
from thalweg.rules import Rule

ALL = list(rules.registry.values())
every_rule = pytest.mark.parametrize("rule", ALL, ids=list(rules.registry))


def run(rule: Rule, grads: Any, hyper: Any = None) -> tuple[np.ndarray, Any]:
    x = np.ones(np.shape(grads)[1:])
    state = rule.init(x, hyper)
    for t, g in enumerate(np.asarray(grads), start=1):
        x, state = rule.step(x, g, state, hyper, t=t)
    return x, state


# ------------------------------------------------------------------ forms


@every_rule
def test_a_form_has_what_was_asked_for_and_the_rest_as_it_was(rule: Rule) -> None:
    whole = rules.decayed(rule)
    for option, values in whole.options.items():
        for value in values:
            form = whole.form(**{option: value})
            assert form.chosen == {**{name: own[0] for name, own in whole.options.items()}, option: value}
            assert form is whole.form(**{option: value})
            assert form.form(**{option: values[0]}).chosen == whole.form().chosen
            assert form.name == rule.name
            assert form.conventions == rule.conventions
            assert form.hyperparameters.keys() >= whole.hyperparameters.keys()


@every_rule
def test_an_unknown_option_is_named_with_the_nearest(rule: Rule) -> None:
    with pytest.raises(HyperparameterError, match=f"there is no option of {rule.name}: 'dekay'") as caught:
        rules.decayed(rule).form(dekay="coupled")
    assert caught.value.details["nearest"] == "decay" or "decay" not in rules.decayed(rule).options
    for option, values in rule.options.items():
        with pytest.raises(HyperparameterError, match=f"did you mean '{option}'"):
            rule.form(**{f"{option}s": values[0]})


@every_rule
def test_an_unknown_value_is_told_what_it_may_be(rule: Rule) -> None:
    for option, values in rules.decayed(rule).options.items():
        known = " or ".join(map(repr, values))
        for value in ("no such form", None, 1, 0, 1.0):
            with pytest.raises(HyperparameterError) as caught:
                rules.decayed(rule).form(**{option: value})
            assert str(caught.value) == f"{rule.name}: {option} is {value!r}; it may be {known}"
            assert caught.value.details == {"name": option, "value": value}


@every_rule
def test_an_unknown_convention_is_named_with_the_nearest(rule: Rule) -> None:
    with pytest.raises(HyperparameterError, match=f"there is no convention of {rule.name}: 'tensorflow'"):
        rule.convention("tensorflow")
    for library in rule.conventions:
        assert rule.convention(library) is rule.convention(library)
        with pytest.raises(HyperparameterError, match=f"did you mean '{library}'"):
            rule.convention(library[:-1])
    with pytest.raises(HyperparameterError, match="convention"):
        rule.convention(None)  # type: ignore[arg-type]


@every_rule
def test_a_convention_says_nothing_that_the_rule_has_not(rule: Rule) -> None:
    """A misspelt default would otherwise be told when somebody asks for that library."""
    whole = rules.decayed(rule)
    for library, told in rule.conventions.items():
        assert set(told) <= set(whole.options) | set(whole.hyperparameters), library
        form = whole.convention(library)
        for name, value in told.items():
            found = form.chosen[name] if name in whole.options else form.hyperparameters[name].default
            assert found == value, (library, name)
        # Without decay, what it says of decay is for the rule with it.
        bare = rule.convention(library)
        assert {n: h.default for n, h in bare.hyperparameters.items()}.items() <= {
            n: h.default for n, h in form.hyperparameters.items()
        }.items()


def test_a_convention_may_be_given_another_form_and_keeps_its_defaults() -> None:
    rule = rules.rmsprop.convention("torch").form(centered=True, with_momentum=True)
    assert rule.chosen["rate_in_buffer"] is False
    assert rule.hyper()._asdict() == {"learning_rate": 0.01, "rho": 0.99, "epsilon": 1e-8, "momentum": 0.0}
    assert rule.slot_names == ("mean_square", "mean", "velocity")
    assert rule.form(centered=False, with_momentum=False).hyper()._asdict() == {
        "learning_rate": 0.01,
        "rho": 0.99,
        "epsilon": 1e-8,
    }


def test_with_defaults() -> None:
    rule = rules.adam.with_defaults(beta1=0.95, epsilon=1e-6)
    assert rule.hyper()._asdict() == {"learning_rate": 0.001, "beta1": 0.95, "beta2": 0.999, "epsilon": 1e-6}
    assert rules.adam.hyper().beta1 == 0.9
    grads = np.ones((3, 2))
    np.testing.assert_array_equal(
        run(rule, grads)[0], run(rules.adam, grads, rules.adam.hyper(0.001, 0.95, 0.999, 1e-6))[0]
    )
    assert rule.form(epsilon_form="hat").hyper().beta1 == 0.95
    assert rules.decayed(rule).convention("keras").hyper()._asdict() == {
        "learning_rate": 0.001,
        "beta1": 0.95,
        "beta2": 0.999,
        "epsilon": 1e-7,
        "weight_decay": 0.0,
    }
    for wrong, message in (
        ({"beta_1": 0.9}, "there is no hyperparameter of adam: 'beta_1'; did you mean 'beta1'?"),
        ({"lr": 0.9}, "did you mean 'learning_rate'"),
        ({"beta1": 1.0}, "adam: beta1 is 1.0, outside its range"),
        ({"beta1": "0.9"}, "give a real number"),
    ):
        with pytest.raises(HyperparameterError) as caught:
            rules.adam.with_defaults(**wrong)
        assert message in str(caught.value)


def test_hyperparameters_of_one_form_are_not_anothers() -> None:
    """A named tuple of as many numbers would be read by position."""
    momentum = rules.rmsprop.form(with_momentum=True)
    x = np.zeros(2)
    with pytest.raises(HyperparameterError, match=r"give rules\.rmsprop\.hyper"):
        momentum.step(x, x, momentum.init(x), rules.rmsprop.hyper())


# ------------------------------------------------------------------ where state starts, and what is carried


@every_rule
def test_state_starts_at_zero_or_where_the_rule_says(rule: Rule) -> None:
    x = np.array([1.0, -2.0])
    state = rule.init(x, rule.hyper()._replace(learning_rate=0.25))
    expected = {
        "rprop": {"step_size": [0.25, 0.25]},
        "schedule_free_adamw": {"iterate": x},
    }.get(rule.name, {})
    for name in rule.slot_names:
        np.testing.assert_array_equal(getattr(state, name), expected.get(name, np.zeros(2)))
        assert not np.shares_memory(getattr(state, name), x)


@pytest.mark.parametrize(
    ("rule", "slot", "hyper", "begin"),
    [
        (rules.adagrad, "sum_of_squares", {"initial_accumulator": 0.3}, 0.3),
        (rules.adagrad.convention("keras"), "sum_of_squares", {}, 0.1),
        (rules.adagrad.convention("optax"), "sum_of_squares", {}, 0.1),
        (rules.adagrad.convention("torch"), "sum_of_squares", {}, 0.0),
        (rules.rprop, "step_size", {}, 0.01),
    ],
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=str)
def test_hyperparameters_say_where_some_state_starts(
    rule: Rule, slot: str, hyper: Any, begin: float, dtype: Any
) -> None:
    state = rule.init(np.zeros((2, 3), dtype), rule.hyper(**hyper))
    found = getattr(state, slot)
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.full((2, 3), begin, dtype))


def test_carried_numbers_are_part_of_the_state_and_go_from_step_to_step() -> None:
    rule = rules.nadam
    x = np.zeros(2)
    state = rule.init(x)
    assert rule.carried_names == ("momentum_product",)
    assert state._fields == rule.state._fields == ("mean", "mean_square", "momentum_product")
    product = 1.0
    for t in range(1, 6):
        x, state = rule.step(x, np.ones(2), state, t=t)
        product *= 0.9 * (1 - 0.5 * 0.96 ** (0.004 * t))
        np.testing.assert_allclose(state.momentum_product, product, rtol=1e-15)
    constant = rule.form(momentum_schedule="constant")
    _, state = run(constant, np.ones((5, 2)))
    np.testing.assert_allclose(state.momentum_product, 0.9**5, rtol=1e-15)


def test_a_rule_that_carries_nothing_has_its_slots_for_its_state() -> None:
    assert rules.adam.state is rules.adam.slots
    assert rules.adam.carried_names == ()
    assert rules.adam.advance(rules.adam.hyper(), 1, None) is None
    assert rules.sgd.state is rules.NoSlots


@pytest.mark.parametrize(
    ("weighting", "shares"),
    [("rate", [1, 1 / 5, 1 / 6]), ("largest", [1, 1 / 2, 1 / 3]), ("uniform", [1, 1 / 2, 1 / 3])],
)
def test_schedule_free_weighs_its_average(weighting: str, shares: list[float]) -> None:
    """With the rates 2, 1, 1; without correction of v, γ is the rate."""
    rule = rules.schedule_free_adamw.form(weighting=weighting, correction="variance")
    x, carried, found = np.zeros(1), None, []
    for t, rate in enumerate([2.0, 1.0, 1.0], start=1):
        carried = rule.advance(rule.hyper(learning_rate=rate), t, carried)
        found.append(carried.weight / carried.weight_sum)
    np.testing.assert_allclose(found, shares, rtol=1e-15)
    assert x == 0


def test_schedule_free_warms_up() -> None:
    rule = rules.schedule_free_adamw.form(correction="variance")
    grads = np.ones((6, 1))
    hyper = rule.hyper(learning_rate=0.1, warmup_steps=4)
    x = np.zeros(1)
    state, moved = rule.init(x, hyper), []
    for t, g in enumerate(grads, start=1):
        before = state.iterate
        x, state = rule.step(x, g, state, hyper, t=t)
        moved.append(float((before - state.iterate)[0]))
    np.testing.assert_allclose(moved, [0.025, 0.05, 0.075, 0.1, 0.1, 0.1], rtol=1e-7)


def test_radam_trusts_its_variance_from_its_threshold_on() -> None:
    for rule, first in ((rules.radam, 5), (rules.radam.convention("torch"), 6), (rules.radam.convention("optax"), 6)):
        x, state, moved = np.zeros(1), rule.init(np.zeros(1)), []
        for t in range(1, 9):
            new, state = rule.step(x, np.ones(1), state, rule.hyper(learning_rate=1.0), t=t)
            moved.append(float((x - new)[0]))
            x = new
        np.testing.assert_allclose(moved[: first - 1], 1, rtol=1e-12)
        assert max(moved[first - 1 :]) < 0.1
    low = rules.radam.hyper(beta2=0.6)
    x, _ = run(rules.radam, np.ones((50, 1)), low)  # never trusted: plain momentum, corrected
    np.testing.assert_allclose(x, 1 - 50 * 0.001, rtol=1e-12)


def test_rprop_grows_shrinks_waits_and_stays_in_its_bounds() -> None:
    hyper = rules.rprop.hyper(learning_rate=0.1, max_step=0.13, min_step=0.06)
    x, state, moved = np.zeros(1), rules.rprop.init(np.zeros(1), rules.rprop.hyper(learning_rate=0.1)), []
    for t, g in enumerate([1.0, 1.0, 1.0, -1.0, -1.0, 1.0, 1.0, 1e-200, 1e-200], start=1):
        new, state = rules.rprop.step(x, np.array([g]), state, hyper, t=t)
        moved.append(float((new - x)[0]))
        x = new
    # The product of the last two gradients is 0 in double precision; their signs are the same.
    np.testing.assert_allclose(moved, [-0.1, -0.12, -0.13, 0, 0.065, 0, -0.06, -0.072, -0.0864], rtol=1e-12)


def test_lambs_step_is_a_part_of_the_norm_of_the_variable() -> None:
    x = np.array([3.0, -4.0])
    hyper = rules.lamb.hyper(learning_rate=0.1)
    new, _ = rules.lamb.step(x, np.array([1e-3, 1e3]), rules.lamb.init(x), hyper)
    np.testing.assert_allclose(np.linalg.norm(new - x), 0.5, rtol=1e-12)
    zero, _ = rules.lamb.step(np.zeros(2), np.array([1e-3, 1e3]), rules.lamb.init(x), hyper)
    np.testing.assert_allclose(zero, [-0.1, -0.1], rtol=2e-3)  # the ratio is 1 there
    decayed = rules.lamb.hyper(learning_rate=0.1, weight_decay=0.5)
    inside, _ = rules.lamb.step(x, np.zeros(2), rules.lamb.init(x), decayed)
    np.testing.assert_allclose(inside, 0.9 * x, rtol=1e-12)  # λ alone is in r: its size means nothing
    outside, _ = rules.lamb.form(decay="decoupled").step(x, np.zeros(2), rules.lamb.init(x), decayed)
    np.testing.assert_allclose(outside, 0.95 * x, rtol=1e-12)


@pytest.mark.parametrize("form", ["outside", "inside"])
def test_a_centered_variance_never_falls_below_zero(form: str) -> None:
    """Of gradients that do not change it is 0 but for rounding; elsewhere, the root of that is NaN."""
    rule = rules.rmsprop.form(centered=True, epsilon_form=form)
    grads = np.tile(np.logspace(-8, 8, 101), (1000, 1))
    x, _ = run(rule, grads)
    assert np.isfinite(x).all()
    x, _ = run(rule.form(with_momentum=True), grads)
    assert np.isfinite(x).all()
