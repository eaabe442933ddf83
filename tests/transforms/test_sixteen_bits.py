"""Arrays of 16 bits: norms and sums are taken in float32, where float16 has no sum above 65,504."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from thalweg.transforms import clip_adaptive, clip_global_norm, clip_norm, l1_ball, l2_ball, normalize, simplex

Arrays = Callable[[np.ndarray, str], Any]


def on_numpy(values: np.ndarray, dtype: str) -> Any:
    return values.astype(dtype)


def on_jax(values: np.ndarray, dtype: str) -> Any:
    jnp = pytest.importorskip("jax.numpy")
    return jnp.asarray(values, dtype)


def on_torch(values: np.ndarray, dtype: str) -> Any:
    torch = pytest.importorskip("torch")
    return torch.tensor(values, dtype=getattr(torch, dtype))


def wide(array: Any) -> np.ndarray:
    """The values in double precision."""
    return np.asarray(array.float() if hasattr(array, "float") else array.astype("float32"), np.float64)


BACKENDS: dict[str, Arrays] = {"numpy": on_numpy, "jax": on_jax, "torch": on_torch}
EPSILON = {"float16": 2.0**-11, "bfloat16": 2.0**-8}
SCALED: dict[str, Callable[[Any], Any]] = {
    "clip_norm": clip_norm(1.0),
    "l2_ball": l2_ball(1.0),
    "clip_global_norm": lambda g: clip_global_norm(1.0)({"a": g})["a"],
    "clip_adaptive": lambda g: clip_adaptive(1.0, epsilon=1.0)(g, g * 0),
}

PLACES = [(backend, dtype) for backend in BACKENDS for dtype in EPSILON if (backend, dtype) != ("numpy", "bfloat16")]

pytestmark = pytest.mark.parametrize(("backend", "dtype"), PLACES)


@pytest.mark.parametrize("size", [3, 70_000])
@pytest.mark.parametrize("name", SCALED)
def test_scaling_to_a_norm_is_that_of_float64_rounded_once(name: str, size: int, backend: str, dtype: str) -> None:
    given = BACKENDS[backend](np.random.default_rng(1).uniform(0.5, 1.5, size), dtype)
    exact = wide(given) / np.linalg.norm(wide(given))
    found = SCALED[name](given)
    assert found.dtype == given.dtype
    np.testing.assert_allclose(wide(found), exact, rtol=1.01 * EPSILON[dtype], atol=0)


@pytest.mark.parametrize("size", [3, 70_000])
@pytest.mark.parametrize("make", [simplex, l1_ball])
def test_projections_are_those_of_float64_rounded_once(make: Any, size: int, backend: str, dtype: str) -> None:
    given = BACKENDS[backend](np.random.default_rng(2).uniform(0.0, 1.5, size), dtype)
    exact = make(7.0)(wide(given))
    found = make(7.0)(given)
    assert found.dtype == given.dtype
    np.testing.assert_allclose(wide(found), exact, rtol=1.01 * EPSILON[dtype], atol=2e-6)


def test_a_sum_above_the_dtype_is_no_norm_of_infinity(backend: str, dtype: str) -> None:
    """70,000 ones have the norm 265: clipped to 300 they stay as they are, and normalized, too."""
    ones = BACKENDS[backend](np.ones(70_000), dtype)
    for transform in (clip_norm(300.0), l2_ball(300.0), l1_ball(75_000.0), normalize()):
        np.testing.assert_array_equal(wide(transform(ones)), 1.0)
