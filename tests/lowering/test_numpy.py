from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numba
import numpy as np
import pytest

from thalweg import rules
from thalweg.errors import HyperparameterError
from thalweg.lowering import compile_rule, compile_scan, loops
from thalweg.lowering import numpy as lowering
from thalweg.lowering.access import LOAD, STORE, unslotted
from thalweg.lowering.buffers import make_state
from thalweg.rules import Rule
from thalweg.rules.arithmetic import maximum, minimum, sign, sqrt, where
from thalweg.rules.base import NoSlots, Number
from thalweg.rules.ranges import nonnegative, positive

ALL = [
    rules.gradient_descent,
    rules.sgd,
    rules.momentum,
    rules.nesterov,
    rules.adagrad,
    rules.rmsprop,
    rules.adadelta,
    rules.adam,
    rules.adamax,
]
DTYPES = [np.dtype(np.float32), np.dtype(np.float64)]

every_rule = pytest.mark.parametrize("rule", ALL, ids=[rule.name for rule in ALL])
both = pytest.mark.parametrize("dtype", DTYPES, ids=str)


def steps(rule: Rule, x: np.ndarray, grads: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Compiled steps in place."""
    kernel = compile_rule(rule, x.dtype)
    state = make_state(len(rule.slot_names), x)
    for t, g in enumerate(grads, start=1):
        values = kernel.complete(x, g, state, kernel.prepare(rule.hyper(), t))
        kernel(x, g, state, values)
    return x, state


@every_rule
@both
def test_the_compiled_pass_equals_the_pure_face(rule: Rule, dtype: np.dtype[Any]) -> None:
    print("seed 1")
    rng = np.random.default_rng(1)
    n = 37  # no multiple of a vector: the loop's remainder counts too
    grads = rng.normal(size=(40, n)).astype(dtype)
    start = rng.normal(size=n).astype(dtype)
    x, state = steps(rule, start.copy(), grads)
    pure, slots = start, rule.init(start)
    for t, g in enumerate(grads, start=1):
        pure, slots = rule.step(pure, g, slots, t=t)
    tolerance = 200 * np.finfo(dtype).eps
    np.testing.assert_allclose(x, pure, rtol=tolerance, atol=tolerance)
    for row, slot in zip(state, slots, strict=True):
        np.testing.assert_allclose(row[:n], slot, rtol=tolerance, atol=tolerance)


def optimized(rule: Rule, char: str) -> str:
    """The LLVM code of the loop, compiled here and now."""
    lowering._make_jitable(rule.update, rule.measure)
    example = rule.scalars(rule.hyper(), 1)
    count = len(rule.slot_names)
    slots = rule.slots if count else unslotted
    function = loops.make_update(rule.update, slots, type(example), LOAD[count], STORE[count], len(example))
    item = numba.from_dtype(np.dtype(char))
    flat, read = numba.types.Array(item, 1, "C"), numba.types.Array(item, 1, "C", readonly=True)
    options = {"nogil": True, "error_model": "numpy", "fastmath": {"contract", "arcp", "nsz", "reassoc"}}
    compiled = numba.njit(function, **options)
    compiled.compile((flat, read, numba.types.Array(item, 2, "C"), flat, flat))
    (text,) = compiled.inspect_llvm().values()
    return text


DOUBLE = re.compile(r"\bf(add|sub|mul|div|cmp|ptrunc|pext)\b[^\n]*\bdouble\b|llvm\.(sqrt|fma|fabs)\.\w*f64")
VECTOR = re.compile(r"\bf(add|sub|mul|div)\b[^\n]*<\d+ x float>")


@every_rule
def test_float32_is_vectorized_and_never_lifted_to_double(rule: Rule) -> None:
    text = optimized(rule, "f")
    assert not DOUBLE.search(text), DOUBLE.search(text)
    assert VECTOR.search(text)


class OneRate(NamedTuple):
    """One hyperparameter."""

    learning_rate: Annotated[Number, nonnegative, "η"] = 0.5


def with_literal(param: Any, grad: Any, slots: Any, h: OneRate) -> tuple[Any, Any]:
    return param - h.learning_rate * grad * 2, slots


def test_the_check_for_doubles_sees_a_literal() -> None:
    assert DOUBLE.search(optimized(Rule("literal", NoSlots, OneRate, with_literal), "f"))


@both
def test_the_scan_sees_every_non_finite_value(dtype: np.dtype[Any]) -> None:
    scan = compile_scan(dtype)
    for n in (0, 1, 5, 64, 1001):
        clean = np.full(n, np.finfo(dtype).max, dtype)
        assert scan(clean)
        for bad in (np.nan, np.inf, -np.inf):
            for place in {0, n // 2, n - 1} if n else ():
                dirty = clean.copy()
                dirty[place] = bad
                assert not scan(dirty)
    both_signs = np.zeros(64, dtype)
    both_signs[[3, 4]] = np.inf, -np.inf
    assert not scan(both_signs)


@both
def test_bounds_are_part_of_the_pass(dtype: np.dtype[Any]) -> None:
    rule = rules.gradient_descent
    kernel = compile_rule(rule, dtype)
    x = np.array([0.0, 5.0, 10.0, 5.0], dtype)
    grad = np.array([3.0, 0.0, -3.0, -1.0], dtype)
    state = make_state(0, x)
    kernel(x, grad, state, kernel.complete(x, grad, state, kernel.prepare(rule.hyper(), 1)), limits=(0.0, 10.0))
    np.testing.assert_array_equal(x, [0, 5, 10, 6])


def test_a_value_that_rounding_moves_out_of_its_range_is_refused() -> None:
    hyper = rules.adam.hyper(beta2=1 - 1e-9)
    compile_rule(rules.adam, np.dtype(np.float64)).prepare(hyper, 1)
    with pytest.raises(HyperparameterError, match=r"beta2 = 0.999999999 becomes 1.0 in float32"):
        compile_rule(rules.adam, np.dtype(np.float32)).prepare(hyper, 1)
    kernel = compile_rule(rules.adam, np.dtype(np.float32))
    with pytest.raises(HyperparameterError, match="epsilon"):
        kernel.prepare(rules.adam.hyper(epsilon=1e-60), 1)
    one = np.zeros(1, np.float32)
    with pytest.raises(HyperparameterError, match="does not fit into float32"):
        kernel.complete(one, one, make_state(2, one), kernel.prepare(rules.adam.hyper(learning_rate=3e38), 1))


# A rule of one's own: a trust ratio (a reduction over the tensor), three slots, every name of the arithmetic, and a
# helper function. Its text is all that is needed.


class OwnSlots(NamedTuple):
    velocity: Any
    largest: Any
    smallest: Any


class OwnHyper(NamedTuple):
    learning_rate: Annotated[Number, nonnegative, "η"] = 0.1
    epsilon: Annotated[Number, positive, "ε"] = 1e-8


class OwnScalars(NamedTuple):
    learning_rate: Number
    epsilon: Number
    zero: Number
    ratio: Number


def own_prepare(t: Number, h: OwnHyper) -> OwnScalars:
    return OwnScalars(h.learning_rate, h.epsilon, 0.0, 1.0)


def own_measure(param: Any, grad: Any, slots: OwnSlots, h: OwnScalars) -> tuple[Any, Any]:
    return param * param, grad * grad


def own_conclude(h: OwnScalars, sums: tuple[float, float]) -> OwnScalars:
    return h._replace(ratio=sums[0] ** 0.5 / (sums[1] ** 0.5 + h.epsilon))


def helper(x: Any) -> Any:
    return sqrt(x * x)


def own_update(param: Any, grad: Any, slots: OwnSlots, h: OwnScalars) -> tuple[Any, OwnSlots]:
    velocity = where(grad > h.zero, slots.velocity + helper(grad), slots.velocity - sign(grad))
    largest = maximum(slots.largest, grad)
    return param - h.learning_rate * h.ratio * grad, OwnSlots(velocity, largest, minimum(slots.smallest, grad))


OWN = Rule("own", OwnSlots, OwnHyper, own_update, prepare=own_prepare, measure=own_measure, conclude=own_conclude)


@both
def test_a_rule_of_ones_own_with_a_reduction(dtype: np.dtype[Any]) -> None:
    rng = np.random.default_rng(3)
    grads = rng.normal(size=(5, 33)).astype(dtype)
    start = rng.normal(size=33).astype(dtype)
    x, state = steps(OWN, start.copy(), grads)
    pure, slots = start, OWN.init(start)
    for t, g in enumerate(grads, start=1):
        pure, slots = OWN.step(pure, g, slots, t=t)
    tolerance = 100 * np.finfo(dtype).eps
    np.testing.assert_allclose(x, pure, rtol=tolerance, atol=tolerance)
    np.testing.assert_allclose(state[:, :33], slots, rtol=tolerance, atol=tolerance)


def test_too_many_slots_are_refused() -> None:
    crowd = NamedTuple("crowd", [(f"slot{k}", Any) for k in range(9)])
    with pytest.raises(TypeError, match="9 slots"):
        compile_rule(Rule("crowd", crowd, OneRate, with_literal), np.dtype(np.float32))


SCRIPT = """
import numpy as np
from thalweg import rules
from thalweg.lowering import compile_rule
stats = compile_rule(rules.adam, np.dtype(np.float32)).loop.stats
print(sum(stats.cache_hits.values()), sum(stats.cache_misses.values()))
"""


def test_a_second_process_reads_the_cache(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    said = [
        subprocess.run(
            [sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    ]
    assert said == [["0", "1"], ["1", "0"]]


@pytest.mark.parametrize("error", [RuntimeError("no locator available"), OSError("disk full")])
def test_without_a_place_for_the_cache_it_compiles_all_the_same(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    njit = numba.njit

    def nowhere(*args: Any, cache: bool, **kwargs: Any) -> Any:
        if cache:
            raise error
        return njit(*args, cache=cache, **kwargs)

    monkeypatch.setattr(numba, "njit", nowhere)
    scan = lowering.compile_scan.__wrapped__(np.dtype(np.float32))
    assert scan(np.zeros(3, np.float32))
