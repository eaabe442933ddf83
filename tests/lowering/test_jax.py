"""The JAX lowering against the pure face, and the pairs of float32 against double precision."""

from __future__ import annotations

import contextlib
import itertools
import math
import subprocess
import sys
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

from tests.references import oracles

jax = pytest.importorskip("jax")

import jax.numpy as jnp  # noqa: E402

from thalweg import rules  # noqa: E402
from thalweg.errors import (  # noqa: E402
    GradientDtypeError,
    GradientShapeError,
    ParameterError,
    StateMismatchError,
)
from thalweg.lowering import jax as lowering  # noqa: E402
from thalweg.lowering import pairs  # noqa: E402
from thalweg.lowering.pairs import Pair, as_float, pair  # noqa: E402
from thalweg.rules import Rule  # noqa: E402
from thalweg.rules.namespaces import namespace  # noqa: E402

# What no rule has as its default, so that whatever it is used for is seen.
OWN = {
    "learning_rate": 0.01,
    "momentum": 0.8,
    "rho": 0.93,
    "beta1": 0.8,
    "beta2": 0.99,
    "epsilon": 1e-3,
    "initial_accumulator": 0.2,
    "momentum_decay": 0.01,
    "threshold": 6.0,
    "weight_decay": 0.02,
    "warmup_steps": 40.0,
    "eta_minus": 0.4,
    "eta_plus": 1.3,
    "min_step": 1e-3,
    "max_step": 0.5,
    "sync_period": 7.0,
    "slow_step_size": 0.3,
    "ema_decay": 0.9,
}
WRAPPED = ("sgd", "nadam", "lamb")


def forms() -> dict[str, Rule]:
    """Every form that an optimizer can ask for by options, decay or convention, and some of them wrapped."""
    found: dict[str, Rule] = {}
    for name, plain in rules.registry.items():
        rule = rules.decayed(plain)
        several = [
            rule.form(**dict(zip(plain.options, v, strict=True))) for v in itertools.product(*plain.options.values())
        ]
        several += [rule.form(decay=form) for form in rule.options.get("decay", ())]
        several += [rule.convention(library) for library in rule.conventions]
        for form in several:
            if form.chosen.get("with_momentum") is False and not form.chosen.get("rate_in_buffer", True):
                continue  # without momentum there is no buffer
            chosen = {option: form.chosen.get(option, values[0]) for option, values in rule.options.items()}
            found.setdefault(f"{name}({', '.join(f'{k}={v}' for k, v in chosen.items())})", form)
    for wrapper, name in itertools.product((rules.lookahead, rules.averaged), WRAPPED):
        found[f"{wrapper.__name__}({name})"] = wrapper(rules.decayed(rules.registry[name]))
    return found


FORMS = forms()
EACH = {next(key for key in FORMS if key.startswith(f"{name}(")): name for name in rules.registry}
EACH |= {key: key for key in FORMS if key.startswith(("lookahead", "averaged"))}


def double() -> contextlib.AbstractContextManager[Any]:
    """float64 inside a with; older versions have it elsewhere."""
    return jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64()


@pytest.fixture(autouse=True)
def _float64_stays_as_it_was() -> Iterator[None]:
    before = lowering.has_float64()
    yield
    assert lowering.has_float64() == before


def own(rule: Rule) -> Any:
    return rule.hyper(**{name: value for name, value in OWN.items() if name in rule.hyperparameters})


def pure(rule: Rule, start: np.ndarray, grads: np.ndarray) -> tuple[np.ndarray, Any]:
    """The parameter after each step of the pure face, and the last state."""
    x, hyper = start, own(rule)
    state, points = rule.init(x, hyper), []
    for t, g in enumerate(grads, start=1):
        x, state = rule.step(x, g, state, hyper, t=t)
        points.append(x)
    return np.array(points), state


def scanned(rule: Rule, start: Any, grads: Any) -> tuple[np.ndarray, Any, Any]:
    """The parameter after each step of one scan, and the last slots and carried numbers."""

    def run(start: Any, grads: Any, hyper: Any) -> Any:
        def body(state: Any, grad: Any) -> Any:
            x, slots, carried, t = state
            scalars, carried = lowering.prepare(rule, hyper, t + 1, carried)
            x, slots = lowering.step(rule, x, grad, slots, scalars)
            return (x, slots, carried, t + 1), x

        carried = rule.carried(*map(lowering.number, rule.carried())) if rule.carried else None
        return jax.lax.scan(body, (start, lowering.init(rule, start, hyper), carried, jnp.int32(0)), grads)

    hyper = own(rule)
    (_, slots, carried, _), points = jax.jit(run)(start, grads, type(hyper)(*map(lowering.number, hyper)))
    return np.asarray(points, np.float64), slots, carried


@pytest.mark.parametrize("form", FORMS)
def test_a_thousand_steps_in_one_scan_equal_the_pure_face(form: str) -> None:
    rule = FORMS[form]
    start, grads = oracles.recorded(3)
    expected, state = pure(rule, start, grads)
    with double():
        found, slots, carried = scanned(rule, jnp.asarray(start), jnp.asarray(grads))
        assert oracles.distance(found, expected) < 1e-12
        for array, wanted in zip(slots, state, strict=False):
            np.testing.assert_allclose(array, wanted, rtol=1e-10, atol=1e-12 * np.abs(wanted).max())
        if carried is not None:
            np.testing.assert_allclose(list(carried), state[len(slots) :], rtol=1e-12, atol=1e-300)


@pytest.mark.parametrize("form", FORMS)
def test_float32_without_float64_equals_the_pure_face_in_float32(form: str) -> None:
    rule = FORMS[form]
    start, grads = (array.astype(np.float32) for array in oracles.recorded(4, high=6))
    expected, _ = pure(rule, start, grads)
    assert not lowering.has_float64()
    found, slots, _ = scanned(rule, jnp.asarray(start), jnp.asarray(grads))
    assert oracles.distance(found, expected.astype(np.float64)) < 3e-5
    assert all(slot.dtype == np.float32 for slot in slots)


@pytest.mark.parametrize("form", [key for key, name in EACH.items() if name in ("adam", "lamb")])
def test_float32_parameters_beside_float64(form: str) -> None:
    rule = FORMS[form]
    start, grads = (array[:200].astype(np.float32) for array in oracles.recorded(5, high=6))
    expected, _ = pure(rule, start, grads)
    with double():
        found, slots, _ = scanned(rule, jnp.asarray(start), jnp.asarray(grads))
        assert all(slot.dtype == np.float32 for slot in slots)
    assert oracles.distance(found, expected.astype(np.float64)) < 3e-5


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
@pytest.mark.parametrize("form", rules.registry)
def test_16_bits_are_computed_with_in_float32_and_rounded(form: str, dtype: str) -> None:
    print("seed 6")
    rng = np.random.default_rng(6)
    rule = rules.registry[form]
    x = jnp.asarray(rng.normal(size=(3, 5)), dtype)
    slots = lowering.init(rule, x)
    for t in range(1, 6):
        grad = jnp.asarray(rng.normal(size=(3, 5)), dtype)
        scalars, carried = lowering.prepare(rule, rule.hyper(), t, rule.carried() if rule.carried else None)
        wide, wide_slots = lowering.step(rule, x.astype("float32"), grad.astype("float32"), slots, scalars)
        same, _ = lowering.step(rule, x, grad.astype("float32"), slots, scalars)
        x, slots = lowering.step(rule, x, grad, slots, scalars)
        assert x.dtype == dtype
        assert (x == wide.astype(dtype)).all()
        assert (x == same).all()
        for slot, wanted in zip(slots, wide_slots, strict=True):
            assert slot.dtype == np.float32
            np.testing.assert_array_equal(slot, wanted)
    assert lowering.evaluate(rule, x, slots, rule.hyper(), carried).dtype == dtype


def test_where_the_model_is_evaluated() -> None:
    rule, x = rules.schedule_free_adamw, np.array([1.0, -2.0], np.float32)
    h = rule.hyper()
    slots = rule.slots(np.array([0.5, 0.25], np.float32), np.ones(2, np.float32))
    carried = rule.advance(h, 1, None)
    expected = rule.evaluate(x, rule.state(*slots, *carried), h)
    found = lowering.evaluate(rule, jnp.asarray(x), type(slots)(*map(jnp.asarray, slots)), h, carried)
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    plain = jnp.ones(2)
    assert lowering.evaluate(rules.sgd, plain, rules.sgd.slots(), rules.sgd.hyper()) is plain


# What is refused


def test_what_is_no_parameter() -> None:
    for param, said in (
        (jnp.zeros(2, "int32"), "int32; float64, float32, bfloat16, float16 can be updated"),
        (jnp.zeros(2, "complex64"), "complex64"),
        (jnp.zeros(2, bool), "bool"),
        ([1.0], "is a list"),
        (1.0, "is a float"),
        (np.zeros(2), "switch float64 on"),
    ):
        with pytest.raises(ParameterError, match=said):
            lowering.init(rules.adam, param)
    with double():
        assert lowering.init(rules.adam, np.zeros(2)).mean.dtype == np.float64


def test_what_does_not_fit_the_parameter() -> None:
    rule, x = rules.momentum, jnp.ones(2)
    slots, (scalars, _) = lowering.init(rule, x), lowering.prepare(rule, rule.hyper(), 1)
    with pytest.raises(GradientShapeError, match="nothing is broadcast"):
        lowering.step(rule, x, jnp.ones(1), slots, scalars)
    with pytest.raises(GradientDtypeError, match="bfloat16"):
        lowering.step(rule, x, jnp.ones(2, "bfloat16"), slots, scalars)
    with pytest.raises(StateMismatchError, match="NoSlots"):
        lowering.step(rule, x, x, rules.sgd.slots(), scalars)
    for slot in (jnp.ones(3), jnp.ones(2, "bfloat16")):
        with pytest.raises(StateMismatchError, match="slot velocity"):
            lowering.step(rule, x, x, rule.slots(slot), scalars)


@pytest.mark.parametrize("module", ["thalweg.lowering.jax", "thalweg.optimizers.jax"])
def test_without_jax_the_extra_is_named(module: str) -> None:
    code = f"""
import sys
sys.modules["jax"] = None
from thalweg.errors import MissingExtraError
try:
    import {module}
except MissingExtraError as error:
    print(error)
"""
    said = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120).stdout
    assert "pip install 'thalweg[jax]'" in said


def test_numbers_that_a_step_cannot_use() -> None:
    rule, single = rules.adam, np.dtype(np.float32)

    def usable(**values: float) -> bool:
        hyper = rule.hyper(**values)
        return bool(lowering.usable(rule, hyper, lowering.prepare(rule, hyper, 1)[0], single))

    assert usable()
    assert usable(learning_rate=0.0)
    for values in (
        {"learning_rate": -1.0},
        {"learning_rate": math.nan},
        {"beta2": 1.0 - 1e-9},  # 1 in float32
        {"epsilon": 1e-60},  # 0 in float32
        {"learning_rate": 1e38},  # η / (1 − β₁) is infinite
    ):
        assert not usable(**values), values
    counts = rules.lookahead(rules.sgd)
    for period, answer in ((3.0, True), (2.5, False), (0.0, False)):
        hyper = counts.hyper(sync_period=period)
        assert lowering.usable(counts, hyper, lowering.prepare(counts, hyper, 1)[0], single) == answer


# Pairs


def exactly(x: Pair) -> Fraction:
    return Fraction(float(x.high)) + Fraction(float(x.low))


OPERATIONS = {
    "sum": lambda x, y: x + y,
    "difference": lambda x, y: x - y,
    "product": lambda x, y: x * y,
    "quotient": lambda x, y: x / y,
}


@pytest.mark.parametrize("operation", OPERATIONS)
def test_pairs_have_46_bits(operation: str) -> None:
    print("seed 7")
    rng = np.random.default_rng(7)
    text = OPERATIONS[operation]
    compiled = jax.jit(text)
    for one, other in np.exp(rng.normal(scale=5, size=(50, 2))) * rng.choice([-1, 1], (50, 2)):
        x, y = pair(float(one)), pair(float(other))
        exact = text(exactly(x), exactly(y))
        scale = abs(exact) if operation in ("product", "quotient") else abs(exactly(x)) + abs(exactly(y))
        for found in (text(x, y), compiled(x, y)):
            assert abs(exactly(found) - exact) < scale * Fraction(2) ** -46
            assert float(found.high) == float(np.float32(as_float(found)))


@pytest.mark.parametrize("base", [0.5, 0.9, 0.999, 0.9999, 0.99999])
def test_one_minus_a_power_has_all_digits_of_float32(base: float) -> None:
    compiled = jax.jit(lambda base, t: (1 - base**t, base**t))
    for t in (1, 2, 3, 7, 10, 100, 1000, 10**5, 10**6):
        y = t * math.log(base)
        for minus, power in (compiled(pair(base), jnp.int32(t)), (1 - pair(base) ** t, pair(base) ** t)):
            assert as_float(minus) == pytest.approx(-math.expm1(y), rel=4e-7)
            assert as_float(power) == pytest.approx(math.exp(y), rel=1e-6 * max(1.0, -y), abs=1e-38)


def test_other_powers_of_pairs() -> None:
    assert as_float(pair(0.0) ** jnp.int32(3)) == 0.0
    assert as_float(pair(0.0) ** jnp.int32(0)) == 1.0
    assert as_float(pair(2.0) ** 0.5) == pytest.approx(2**0.5, rel=1e-13)
    assert as_float(pair(2.0) ** -0.5) == pytest.approx(2**-0.5, rel=1e-13)
    assert as_float(0.96 ** pair(0.004)) == pytest.approx(0.96**0.004, rel=1e-9)
    assert as_float(pair(3.0) ** jnp.int32(5)) == pytest.approx(243.0, rel=1e-6)
    assert as_float(pairs.sqrt(0.0)) == 0.0


def test_integers_are_pairs_exactly() -> None:
    for t in (0, 1, 4095, 4096, 2**24 + 1, 2**31 - 1, -7, -(2**24) - 1):
        assert exactly(pair(jnp.int32(t))) == t
    compiled = jax.jit(lambda t, k: pairs.floor(pair(t) / k) == pair(t) / k)
    for k in (1.0, 3.0, 7.0, 49.0, 1000.0):
        for t in (1, 48, 49, 2_000_000_001, 2**31 - 1, *(int(k) * n for n in (1, 7, 999_999))):
            assert bool(compiled(jnp.int32(t), pair(k))) == (t % int(k) == 0)


def test_functions_of_pairs_are_found_by_their_names() -> None:
    from thalweg.rules import arithmetic

    x, y = pair(2.5), pair(-1.0)
    assert as_float(arithmetic.maximum(1.0, x)) == 2.5
    assert as_float(arithmetic.minimum(x, jnp.float32(0.5))) == 0.5
    assert as_float(arithmetic.where(x > y, x, 0.0)) == 2.5
    assert as_float(arithmetic.where(jnp.bool_(False), x, 0.25)) == 0.25
    assert as_float(arithmetic.sign(y)) == -1.0
    assert as_float(arithmetic.absolute(y)) == 1.0
    assert as_float(arithmetic.floor(x)) == 2.0
    assert as_float(arithmetic.cos(x)) == pytest.approx(math.cos(2.5), rel=1e-6)
    assert bool(arithmetic.isfinite(x))
    assert not bool(arithmetic.isfinite(pair(jnp.float32(jnp.inf))))


def test_pairs_are_compared_as_wholes() -> None:
    small, large = pair(0.1), pair(0.1 + 1e-12)
    assert float(small.high) == float(large.high)
    true = [small < large, large > small, small <= large, large >= small, small != large, small == pair(0.1)]
    false = [small > large, large < small, small >= large, large <= small, small == large, small != pair(0.1)]
    assert all(map(bool, true))
    assert not any(map(bool, false))
    assert bool(small > 0)
    assert bool(small < 1.0)


def test_other_numbers_beside_pairs() -> None:
    x = pair(0.75)
    for found in (np.float64(0.5) * x, jnp.float32(0.5) * x, x * np.float32(0.5), 0.5 * x, x / 2, x * jnp.int32(1) / 2):
        assert isinstance(found, Pair)
        assert as_float(found) == 0.375
    for found in (1 - x, np.float64(1.0) - x, jnp.float32(1.0) - x, -(x - 1)):
        assert as_float(found) == 0.25
    assert as_float(1 / x) == pytest.approx(4 / 3, rel=1e-13)


def test_numbers_survive_the_way_into_a_step_and_back() -> None:
    for value in (0.0, 0.1, 1e-3, 0.999, 2e-7, 123456.789, 1e-20):
        assert lowering.as_float(lowering.number(value)) == value
        with double():
            assert lowering.as_float(lowering.number(value)) == value


@pytest.mark.parametrize("name", rules.registry)
def test_the_numbers_of_a_step_in_pairs(name: str) -> None:
    rule = rules.registry[name]
    hyper, carried, wide = rule.hyper(), None, None
    compiled = jax.jit(lambda hyper, t, carried: lowering.prepare(rule, hyper, t, carried))
    held = rule.carried(*map(lowering.number, rule.carried())) if rule.carried else None
    values = type(hyper)(*map(lowering.number, hyper))
    for t in (1, 2, 3, 4, 5, 6, 7, 10, 100, 1000, 100_000, 10_000_000):
        wide = rule.advance(hyper, t, wide)
        expected = rule.scalars(hyper, t, wide)
        found, held = compiled(values, jnp.int32(t), held)
        # RAdam's ρₜ is the difference of two numbers near 2,000
        tolerance = 3e-4 if name == "radam" else 1e-6
        for value, wanted in zip(found, expected, strict=True):
            assert float(lowering.as_scalar(value)) == pytest.approx(wanted, rel=tolerance, abs=1e-30), t
        assert carried is None


def test_the_largest_of_a_large_array_is_nan_where_there_is_one() -> None:
    x = jnp.ones(2**16).at[77].set(jnp.nan)
    names = namespace(x)
    assert jnp.isnan(names.largest(x))
    assert jnp.isnan(names.largest(x.reshape(256, 256), 1)).sum() == 1
    assert names.largest(jnp.ones(2**16)) == 1.0
    assert names.largest(x).dtype == np.float32
