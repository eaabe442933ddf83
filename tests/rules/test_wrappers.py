"""What goes around a rule: weight decay, Lookahead, a moving average; against loops of our own, optax and Keras."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.references import libraries, oracles
from thalweg import rules
from thalweg.errors import HyperparameterError, RuleError
from thalweg.rules import Rule, averaged, decayed, lookahead

ALL = list(rules.registry.values())
every_rule = pytest.mark.parametrize("rule", ALL, ids=list(rules.registry))
HERE = [rule for rule in ALL if rule.evaluate is None]
every_rule_that_evaluates_where_it_stores = pytest.mark.parametrize("rule", HERE, ids=lambda rule: rule.name)
STEPS = 40


def recorded() -> tuple[np.ndarray, np.ndarray]:
    print("seed 8")
    rng = np.random.default_rng(8)
    return rng.normal(size=9), rng.normal(0.2, 1.0, (STEPS, 9))


def inner(rule: Rule, h: Any) -> Any:
    """The hyperparameters of the rule inside, from those of the wrapped one."""
    return rule.hyper(*h[: len(rule.hyper._fields)])


def path(rule: Rule, x: np.ndarray, grads: np.ndarray, hyper: Any = None) -> tuple[np.ndarray, Any]:
    state, points = rule.init(x, hyper), []
    for t, g in enumerate(grads, start=1):
        x, state = rule.step(x, g, state, hyper, t=t)
        points.append(x)
    return np.array(points), state


# ------------------------------------------------------------------ weight decay


@every_rule
def test_decay_adds_one_hyperparameter_that_is_off(rule: Rule) -> None:
    whole = decayed(rule)
    assert decayed(rule) is whole
    assert decayed(whole) is whole
    x, grads = recorded()
    np.testing.assert_array_equal(path(whole, x, grads)[0], path(rule, x, grads)[0])
    if "weight_decay" in rule.hyperparameters:
        assert whole is rule
        return
    assert set(whole.hyperparameters) - set(rule.hyperparameters) == {"weight_decay"}
    assert whole.hyper().weight_decay == 0.0
    assert whole.options["decay"][0] == rule.decay


@pytest.mark.parametrize("rule", [r for r in ALL if decayed(r) is not r], ids=lambda rule: rule.name)
@pytest.mark.parametrize("form", ["coupled", "decoupled"])
def test_decay_is_what_its_name_says(rule: Rule, form: str) -> None:
    whole = decayed(rule).form(decay=form)
    x, grads = recorded()
    hyper = whole.hyper(weight_decay=0.1)
    points, _ = path(whole, x, grads, hyper)
    theta, state = x, rule.init(x)
    for t, g in enumerate(grads, start=1):
        if form == "coupled":
            theta, state = rule.step(theta, g + 0.1 * theta, state, t=t)
        else:
            theta, state = rule.step((1 - hyper.learning_rate * 0.1) * theta, g, state, t=t)
        np.testing.assert_allclose(points[t - 1], theta, rtol=1e-13)


def test_decay_needs_a_rate() -> None:
    class Nothing(rules.NoSlots):
        """No hyperparameter at all."""

    still = Rule("still", rules.NoSlots, rules.NoSlots, lambda param, grad, slots, h: (param, slots))
    assert decayed(still) is still


class Scaled(NamedTuple):
    """What a rule with a reduction uses."""

    rate: Any


def by_norms(h: Scaled, sums: tuple[float, float]) -> Scaled:
    return Scaled(h.rate * (sums[0] / sums[1]) ** 0.5)


LAYERWISE = Rule(
    "layerwise",
    rules.NoSlots,
    rules.sgd.hyper,
    update=lambda param, grad, slots, h: (param - h.rate * grad, slots),
    prepare=lambda t, h: Scaled(h.learning_rate),
    measure=lambda param, grad, slots, h: (param * param, grad * grad),
    conclude=by_norms,
)


@pytest.mark.parametrize("form", ["coupled", "decoupled"])
def test_a_reduction_sees_what_decay_made(form: str) -> None:
    """θ − η·(‖θ‖/‖g‖)·g, of the gradient or the parameter with its decay."""
    rule = decayed(LAYERWISE).form(decay=form)
    x, g = np.array([3.0, -4.0]), np.array([1.0, 2.0])
    moved, _ = rule.step(x, g, rule.init(x), rule.hyper(learning_rate=0.5, weight_decay=1.0))
    theta, direction = (x, g + x) if form == "coupled" else (0.5 * x, g)
    expected = theta - 0.5 * np.linalg.norm(theta) / np.linalg.norm(direction) * direction
    np.testing.assert_allclose(moved, expected, rtol=1e-13)


# ------------------------------------------------------------------ Lookahead


@every_rule_that_evaluates_where_it_stores
def test_lookahead_is_its_paper(rule: Rule) -> None:
    """Algorithm 1, around any such rule."""
    wrapped = lookahead(rule)
    assert lookahead(rule) is wrapped
    assert wrapped.slot_names == (*rule.slot_names, "slow")
    x, grads = recorded()
    hyper = wrapped.hyper(sync_period=4, slow_step_size=0.3)
    points, state = path(wrapped, x, grads, hyper)
    slow = fast = x
    inside = rule.init(x)
    for t, g in enumerate(grads, start=1):
        fast, inside = rule.step(fast, g, inside, inner(rule, hyper), t=t)
        if t % 4 == 0:
            slow = slow + 0.3 * (fast - slow)
            fast = slow
        np.testing.assert_allclose(points[t - 1], fast, rtol=1e-14)
    np.testing.assert_allclose(state.slow, slow, rtol=1e-14)


@pytest.mark.parametrize(("period", "share"), [(1, 0.5), (3, 1.0), (7, 0.25), (41, 0.5)])
def test_lookahead_has_any_period(period: int, share: float) -> None:
    wrapped = lookahead(rules.sgd)
    x, grads = recorded()
    points, _ = path(wrapped, x, grads, wrapped.hyper(sync_period=period, slow_step_size=share))
    plain, _ = path(rules.sgd, x, grads)
    if share == 1.0 or period > STEPS:
        np.testing.assert_allclose(points, plain, rtol=1e-13)
    else:
        assert np.array_equal(points[: period - 1], plain[: period - 1])
        assert np.abs(points[period - 1] - plain[period - 1]).max() > 1e-4


@pytest.mark.parametrize("name", ["sgd", "adam"])
def test_lookahead_is_optax(name: str) -> None:
    optax, jax = pytest.importorskip("optax"), pytest.importorskip("jax")
    start, grads = recorded()
    with jax.enable_x64(True):
        theirs = optax.lookahead(getattr(optax, name)(0.1), sync_period=5, slow_step_size=0.4)
        params = optax.LookaheadParams.init_synced(jax.numpy.asarray(start))
        state, expected = theirs.init(params), []
        for g in grads:
            updates, state = theirs.update(jax.numpy.asarray(g), state, params)
            params = optax.apply_updates(params, updates)
            expected.append(np.asarray(params.fast))
    wrapped = lookahead(rules.registry[name].convention("optax"))
    hyper = wrapped.hyper(learning_rate=0.1, sync_period=5, slow_step_size=0.4)
    points, moved = path(wrapped, start, grads, hyper)
    np.testing.assert_allclose(points, expected, rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(moved.slow, np.asarray(params.slow), rtol=1e-12, atol=1e-12)


def test_a_period_is_a_whole_number_and_a_share_is_a_part() -> None:
    wrapped = lookahead(rules.sgd)
    for wrong in ({"sync_period": 2.5}, {"sync_period": 0}, {"slow_step_size": 0.0}, {"slow_step_size": 1.5}):
        with pytest.raises(HyperparameterError, match=next(iter(wrong))):
            wrapped.init(np.zeros(1), wrapped.hyper(**wrong))


# ------------------------------------------------------------------ a moving average


@pytest.mark.parametrize("rule", [r for r in ALL if r.evaluate is None], ids=lambda rule: rule.name)
def test_the_average_is_beside_a_rule_that_goes_its_way(rule: Rule) -> None:
    wrapped = averaged(rule)
    assert averaged(rule) is wrapped
    assert wrapped.slot_names == (*rule.slot_names, "average")
    x, grads = recorded()
    hyper = wrapped.hyper(ema_decay=0.8)
    average, state = x, wrapped.init(x, hyper)
    np.testing.assert_array_equal(state.average, x)
    plain, _ = path(rule, x, grads, inner(rule, hyper))
    for t, g in enumerate(grads, start=1):
        x, state = wrapped.step(x, g, state, hyper, t=t)
        np.testing.assert_array_equal(x, plain[t - 1])
        average = 0.8 * average + (1 - 0.8) * x
        np.testing.assert_allclose(wrapped.evaluate(x, state, hyper), average, rtol=1e-13, atol=1e-15)


def test_keras_starts_its_average_one_step_later() -> None:
    if not oracles.installed("keras"):
        pytest.skip("keras is not installed")
    x, grads = recorded()
    with libraries.keras_in_float64() as keras:
        theirs = keras.optimizers.SGD(0.1, use_ema=True, ema_momentum=0.9)
        variable = keras.Variable(x, dtype="float64")
        theirs.build([variable])
        for g in grads:
            theirs.apply([keras.ops.convert_to_tensor(g, dtype="float64")], [variable])
        theirs.finalize_variable_values([variable])  # puts the average into the variable
        expected = np.array(keras.ops.convert_to_numpy(variable.value))
    rule = averaged(rules.sgd)
    hyper = rule.hyper(learning_rate=0.1, ema_decay=0.9)
    state = rule.init(x, hyper)
    points, last = path(rule, x, grads, hyper)
    ours = rule.evaluate(points[-1], last, hyper)
    for t, g in enumerate(grads, start=1):
        x, state = rule.step(x, g, state, hyper, t=t)
        if t == 1:  # where Keras's begins
            state = state._replace(average=x)
    np.testing.assert_allclose(rule.evaluate(x, state, hyper), expected, rtol=1e-12)
    assert np.abs(ours - expected).max() > 1e-4


def test_a_rule_that_evaluates_elsewhere_is_neither_averaged_nor_moved() -> None:
    with pytest.raises(TypeError, match="'schedule_free_adamw' already evaluates the model elsewhere"):
        averaged(rules.schedule_free_adamw)
    with pytest.raises(RuleError, match=r"'schedule_free_adamw' computes .* lookahead would move the parameter"):
        lookahead(rules.schedule_free_adamw)
    with pytest.raises(TypeError, match="already"):
        averaged(averaged(rules.sgd))
    with pytest.raises(TypeError, match="rule 'sgd' has slow_step_size, sync_period already; wrap it only once"):
        lookahead(lookahead(rules.sgd))


# ------------------------------------------------------------------ together


@every_rule_that_evaluates_where_it_stores
def test_the_form_of_a_wrapped_rule_is_the_wrapped_form(rule: Rule) -> None:
    x, grads = recorded()
    for option, values in decayed(rule).options.items():
        for value in values:
            first, last = (
                lookahead(decayed(rule)).form(**{option: value}),
                lookahead(decayed(rule).form(**{option: value})),
            )
            assert first.slot_names == last.slot_names
            assert first.hyperparameters.keys() == last.hyperparameters.keys()
            values_of = {"weight_decay": 0.1} if "weight_decay" in first.hyperparameters else {}
            np.testing.assert_array_equal(
                path(first, x, grads, first.hyper(**values_of))[0], path(last, x, grads, last.hyper(**values_of))[0]
            )


@every_rule_that_evaluates_where_it_stores
def test_wrappers_go_around_each_other(rule: Rule) -> None:
    """Whichever is inside, the average is of the weights that are left."""
    x, grads = recorded()
    for wrapped in (averaged(lookahead(rule)), lookahead(averaged(rule))):
        hyper = wrapped.hyper(sync_period=3, slow_step_size=0.5, ema_decay=0.8)
        points, state = path(wrapped, x, grads, hyper)
        plain, _ = path(lookahead(rule), x, grads, lookahead(rule).hyper(sync_period=3, slow_step_size=0.5))
        np.testing.assert_array_equal(points, plain)
        assert set(wrapped.slot_names) == {*rule.slot_names, "slow", "average"}
        average = x
        for point in points:
            average = 0.8 * average + (1 - 0.8) * point
        np.testing.assert_allclose(wrapped.evaluate(points[-1], state, hyper), average, rtol=1e-12)


def test_decay_around_a_wrapper_changes_its_form_with_it() -> None:
    """Another form may have other slots, which the wrapper's own is behind."""
    x, grads = recorded()
    outside, inside = decayed(lookahead(rules.rmsprop)), lookahead(decayed(rules.rmsprop))
    points = []
    for rule in (outside, inside):
        form = rule.form(centered=True, with_momentum=True, decay="decoupled")
        assert form.slot_names == ("mean_square", "mean", "velocity", "slow")
        hyper = form.hyper(momentum=0.5, sync_period=2, weight_decay=0.1)
        points.append(path(form, x, grads, hyper)[0])
    np.testing.assert_allclose(points[0], points[1], rtol=1e-13)
