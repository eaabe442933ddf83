"""The projections are the nearest points: against a quadratic program, and by the inequality that says so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy.optimize import minimize

from thalweg.errors import HyperparameterError
from thalweg.transforms import bounds, l1_ball, l2_ball, nonnegative, simplex

SETS: dict[str, Any] = {
    "bounds": bounds(-0.4, 0.7),
    "nonnegative": nonnegative(),
    "simplex": simplex(1.3),
    "l1_ball": l1_ball(1.3),
    "l2_ball": l2_ball(1.3),
}
every_set = pytest.mark.parametrize("projection", SETS.values(), ids=SETS)
every_dtype = pytest.mark.parametrize("dtype", [np.float32, np.float64])


def furthest(projection: Any, direction: np.ndarray) -> float:
    """The largest ⟨direction, y⟩ over the points y of the set; ∞ over a set that has no end there."""
    flat = np.asarray(direction, np.float64).ravel()
    of: dict[str, Callable[[], float]] = {
        "bounds": lambda: float(np.maximum(-0.4 * flat, 0.7 * flat).sum()),
        "nonnegative": lambda: np.inf if flat.max() > 1e-12 else 0.0,
        "simplex": lambda: 1.3 * flat.max(),
        "l1_ball": lambda: 1.3 * np.abs(flat).max(),
        "l2_ball": lambda: 1.3 * float(np.linalg.norm(flat)),
    }
    return of[projection.kind]()


def outside_by(projection: Any, point: np.ndarray) -> float:
    """How far a point is from belonging to the set."""
    flat = np.asarray(point, np.float64).ravel()
    of: dict[str, Callable[[], float]] = {
        "bounds": lambda: float(max(-0.4 - flat.min(), flat.max() - 0.7)),
        "nonnegative": lambda: -flat.min(),
        "simplex": lambda: max(-flat.min(), abs(flat.sum() - 1.3)),
        "l1_ball": lambda: float(np.abs(flat).sum() - 1.3),
        "l2_ball": lambda: float(np.linalg.norm(flat) - 1.3),
    }
    return of[projection.kind]()


@every_set
@every_dtype
@pytest.mark.parametrize("shape", [(1,), (6,), (3, 4), (1000,), (100, 200)], ids=str)
@pytest.mark.parametrize("size", [1e-3, 0.1, 1.0, 30.0])
def test_it_is_the_nearest_point(projection: Any, dtype: type, shape: tuple[int, ...], size: float) -> None:
    """p is the projection of x if and only if ⟨x − p, y − p⟩ ≤ 0 for all y in the (convex) set."""
    for seed in range(3):
        x = (size * np.random.default_rng(seed).normal(0.1, size=shape)).astype(dtype)
        p = projection(x)
        precision = float(np.finfo(dtype).eps)
        assert p.dtype == dtype
        assert outside_by(projection, p) <= 40 * precision, "outside the set"
        rest = x.astype(np.float64) - p
        slack = 40 * precision * (float(np.sum(np.abs(rest))) + size)
        assert furthest(projection, rest) - float(np.sum(rest * p)) <= slack, "another point is nearer"


@pytest.mark.parametrize("kind", ["simplex", "l1_ball", "l2_ball", "bounds", "nonnegative"])
@pytest.mark.parametrize("seed", range(5))
def test_a_quadratic_program_finds_the_same_point(kind: str, seed: int) -> None:
    """min ½‖p − n − x‖² over p, n ≥ 0, x' = p − n, under the constraint of the set, by SciPy's SLSQP."""
    x = np.random.default_rng(seed).normal(size=4)
    signed = kind != "nonnegative" and kind != "simplex"
    points: Callable[[np.ndarray], np.ndarray] = lambda v: v[:4] - v[4:] if signed else v[:4]  # noqa: E731
    constraint: dict[str, dict[str, Any]] = {
        "simplex": {"type": "eq", "fun": lambda v: v.sum() - 1.3},
        "l1_ball": {"type": "ineq", "fun": lambda v: 1.3 - v.sum()},
        "l2_ball": {"type": "ineq", "fun": lambda v: 1.3**2 - np.sum(points(v) ** 2)},
        "bounds": {"type": "ineq", "fun": lambda v: np.concatenate([points(v) + 0.4, 0.7 - points(v)])},
        "nonnegative": {"type": "ineq", "fun": lambda v: 1.0},
    }
    found = minimize(
        lambda v: (0.5 * np.sum((points(v) - x) ** 2), np.concatenate([points(v) - x, x - points(v)])[: len(v)]),
        np.full(8 if signed else 4, 0.1),
        bounds=[(0.0, None)] * (8 if signed else 4),
        constraints=[constraint[kind]],
        jac=True,
        method="SLSQP",
        options={"ftol": 1e-14, "maxiter": 500},
    )
    assert found.status in (0, 8), found.message  # 8: rounding errors hide any further descent
    np.testing.assert_allclose(SETS[kind](x), points(found.x), atol=1e-6)


@every_set
@every_dtype
@pytest.mark.parametrize("shape", [(), (1,), (7,), (50, 40), (100_000,)], ids=str)
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e6])
def test_projecting_twice_changes_nothing(projection: Any, dtype: type, shape: tuple[int, ...], size: float) -> None:
    x = (size * np.random.default_rng(1).normal(size=shape)).astype(dtype)
    once = projection(x)
    np.testing.assert_array_equal(projection(once), once)


@every_dtype
def test_points_inside_stay_as_they_are_to_the_bit(dtype: type) -> None:
    inside: dict[str, Any] = {
        "bounds": [-0.4, 0.7, 0.1, -0.0],
        "nonnegative": [0.0, -0.0, 3.0, 1e300],
        "simplex": [0.7, 0.0, 0.6, -0.0],
        "l1_ball": [-0.5, 0.5, -0.0, 0.3],
        "l2_ball": [-1.3, 0.0, -0.0, 1e-30],
    }
    with np.errstate(over="ignore"):
        arrays = {kind: np.array(point, dtype) for kind, point in inside.items()}
    for kind, point in arrays.items():
        before = point.tobytes()
        result = SETS[kind](point)
        assert result.tobytes() == before, kind
        assert point.tobytes() == before, kind
        assert not np.shares_memory(result, point)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@every_dtype
def test_the_nearest_point_to_none_is_none(dtype: type, bad: float) -> None:
    x = np.array([0.3, bad, -0.2, 0.5], dtype)
    for kind in ("simplex", "l1_ball", "l2_ball"):
        np.testing.assert_array_equal(SETS[kind](x), np.full(4, np.nan), err_msg=kind)
    np.testing.assert_array_equal(nonnegative()(x), np.array([0.3, bad, 0.0, 0.5], dtype))


def test_a_large_offset_costs_no_digits_on_the_simplex() -> None:
    x = np.array([0.25, 0.5, 0.125, -3.0])
    np.testing.assert_array_equal(simplex()(x + 2.0**40), simplex()(x))
    np.testing.assert_array_equal(simplex()(np.array([1e300, -1e308, 1e308])), [0.0, 0.0, 1.0])
    np.testing.assert_array_equal(l1_ball(2.0)(np.array([1e308, -1e308, 5.0])), [1.0, -1.0, 0.0])


def test_a_large_array_in_single_precision_keeps_the_sum() -> None:
    rng = np.random.default_rng(0)
    for x in (rng.random(1_000_000), np.full(1_000_000, 0.5), np.r_[1.0, np.full(999_999, 1e-6)]):
        for total in (1.0, 1e4):
            found = simplex(total)(x.astype(np.float32))
            np.testing.assert_allclose(found.sum(dtype=np.float64), total, rtol=1e-6)


def test_equal_elements_share_equally() -> None:
    np.testing.assert_array_equal(simplex(3.0)(np.full((2, 2), 7.0)), np.full((2, 2), 0.75))
    np.testing.assert_array_equal(simplex(3.0)(np.zeros(4)), np.full(4, 0.75))
    np.testing.assert_array_equal(l1_ball(2.0)(np.array([-5.0, 5.0])), [-1.0, 1.0])
    np.testing.assert_array_equal(simplex(3.0)(np.array(-2.0)), 3.0)


@pytest.mark.parametrize("make", [simplex, l1_ball, l2_ball])
@pytest.mark.parametrize("bad", [0, -1, np.nan, np.inf, "1", True, None])
def test_a_set_without_a_size_is_refused(make: Callable[[Any], Any], bad: Any) -> None:
    with pytest.raises(HyperparameterError):
        make(bad)
