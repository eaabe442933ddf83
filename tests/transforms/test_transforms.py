from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from thalweg import transforms
from thalweg.errors import HyperparameterError
from thalweg.graph import Operator, Variable, check_adjoint
from thalweg.transforms import bounds, chain, clip_norm, clip_value, mask, normalize, smooth

WEIGHTS = np.linspace(0.0, 1.0, 20).reshape(4, 5)
EACH = [
    bounds(-0.5, 0.5),
    clip_value(0.3),
    clip_norm(0.7),
    normalize(),
    mask(WEIGHTS),
    mask(WEIGHTS > 0.4),
    smooth(1.5),
    smooth((0.0, 2.0)),
    chain(smooth(1.0), normalize()),
]
every_transform = pytest.mark.parametrize("transform", EACH, ids=repr)


@every_transform
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_transform_keeps_its_input_and_the_shape_and_dtype(transform: Callable[..., Any], dtype: type) -> None:
    array = np.random.default_rng(0).normal(size=(4, 5)).astype(dtype)
    array.setflags(write=False)
    before = array.copy()
    result = transform(array)
    np.testing.assert_array_equal(array, before)
    assert result.shape == array.shape
    assert result.dtype == array.dtype
    assert not np.shares_memory(result, array)


def test_bounds_of_zero_are_bounds_and_nan_stays() -> None:
    np.testing.assert_array_equal(bounds(0, None)(np.array([-1.0, 2.0])), [0.0, 2.0])
    np.testing.assert_array_equal(bounds(None, 0)(np.array([-1.0, 2.0])), [-1.0, 0.0])
    assert np.isnan(bounds(0, 1)(np.array([np.nan])))[0]
    assert bounds().limits == (-np.inf, np.inf)


def test_clip_norm_scales_the_whole_and_does_not_overflow() -> None:
    np.testing.assert_allclose(clip_norm(1.0)(np.array([3e200, 4e200])), [0.6, 0.8], rtol=1e-15)
    np.testing.assert_array_equal(clip_norm(10.0)(np.array([3.0, 4.0])), [3.0, 4.0])
    np.testing.assert_array_equal(clip_norm(1.0)(np.zeros(3)), np.zeros(3))


def test_normalizing_zero_gives_zero() -> None:
    np.testing.assert_array_equal(normalize()(np.zeros((2, 2))), np.zeros((2, 2)))
    assert normalize()(np.zeros((0, 3))).shape == (0, 3)


def test_a_mask_selects_it_does_not_multiply() -> None:
    given = np.array([1.0, np.nan, np.inf])
    np.testing.assert_array_equal(mask(np.array([1.0, 0.0, 0.0]))(given), [1.0, 0.0, 0.0])
    np.testing.assert_array_equal(mask(np.array([True, False, False]))(given), [1.0, 0.0, 0.0])


def test_a_weight_that_is_zero_in_the_gradients_dtype_selects() -> None:
    weights = np.array([1.0, 1e-300])
    for bad in (np.nan, np.inf):
        np.testing.assert_array_equal(mask(weights)(np.array([2.0, bad], np.float32)), np.array([2, 0], np.float32))
    assert np.isnan(mask(weights)(np.array([2.0, np.nan]))[1])


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_clipping_and_normalizing_leave_nothing_finite_in_place_of_what_was_not(bad: float) -> None:
    given = np.array([bad, 3.0, -0.5])
    np.testing.assert_array_equal(clip_value(1.0)(given), [bad, 1.0, -0.5])
    for whole in (clip_norm(1.0), normalize()):
        np.testing.assert_array_equal(whole(given), np.full(3, np.nan))


def test_bounds_are_rounded_to_the_dtype_as_a_comparison_rounds_them() -> None:
    for dtype in (np.float32, np.float64):
        bounded = bounds(0.1, 0.1)(np.array([0.0, 0.5], dtype))
        assert (bounded <= 0.1).all()
        assert (bounded >= 0.1).all()
    assert float(bounds(None, 0.1)(np.ones(1, np.float32))[0]) == float(np.float32(0.1)) > 0.1


def test_a_mask_keeps_its_own_copy() -> None:
    weights = np.ones(2)
    masked = mask(weights)
    weights[:] = 0
    np.testing.assert_array_equal(masked(np.ones(2)), np.ones(2))


def test_smoothing_keeps_constants_and_sums() -> None:
    field = np.random.default_rng(0).random((7, 9))
    np.testing.assert_allclose(smooth(2.0)(np.full((7, 9), 3.0)), 3.0, rtol=1e-12)
    np.testing.assert_allclose(smooth(2.0)(field).sum(), field.sum(), rtol=1e-12)


class Apply(Operator):
    """A linear transform as an operator."""

    def __init__(self, transform: Any) -> None:
        super().__init__()
        self.transform = transform

    def forward(self, x: Variable) -> Variable:
        return Variable(self.transform(x.data))

    def adjoint(self, grad: np.ndarray, x: Variable) -> np.ndarray:
        return self.transform.adjoint(grad)


@pytest.mark.parametrize(
    "transform",
    [
        smooth(0.7),
        smooth(5.0),
        smooth((3.0, 0.0)),
        mask(WEIGHTS),
        mask(WEIGHTS > 0.4),
        chain(mask(WEIGHTS), smooth(2.0)),
    ],
    ids=repr,
)
def test_the_adjoint_of_a_linear_transform_is_its_adjoint(transform: Any) -> None:
    """Stride's filters and normalisations had the identity for an adjoint."""
    check = check_adjoint(Apply(transform), Variable(np.zeros((4, 5))))
    assert check.ok, str(check)


def test_what_is_not_linear_has_no_adjoint() -> None:
    with pytest.raises(HyperparameterError, match="normalize"):
        chain(smooth(1.0), normalize()).adjoint(np.ones(3))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: bounds(2, 1),
        lambda: bounds(float("nan"), 1),
        lambda: clip_value(0),
        lambda: clip_norm(-1),
        lambda: smooth(-1),
        lambda: smooth((1.0, float("nan"))),
        lambda: mask(np.array(["a"])),
        lambda: mask(np.array([np.nan])),
        lambda: chain(normalize(), "smooth"),  # type: ignore[arg-type]
        lambda: mask(np.ones(3))(np.ones(4)),
        lambda: smooth((1.0, 1.0))(np.ones(4)),
        lambda: normalize()(np.ones(3, int)),
        lambda: normalize()([1.0]),  # type: ignore[arg-type]
    ],
)
def test_what_cannot_be_done_is_refused(wrong: Callable[[], object]) -> None:
    with pytest.raises(HyperparameterError):
        wrong()


def test_tables_become_transforms_and_back() -> None:
    arrays = {"inside": WEIGHTS}
    spec = [
        {"kind": "mask", "array": "inside"},
        {"kind": "smooth", "sigma": [1.0, 2.0]},
        {"kind": "clip_value", "limit": 1},
    ]
    built = transforms.build(spec, arrays=arrays)
    given = np.random.default_rng(0).normal(size=(4, 5))
    expected = clip_value(1)(smooth((1.0, 2.0))(mask(WEIGHTS)(given)))
    np.testing.assert_array_equal(built(given), expected)
    again = transforms.build(built.get_config(), arrays=arrays)  # the mask is found by its digest
    np.testing.assert_array_equal(again(given), expected)


@pytest.mark.parametrize(
    ("table", "words"),
    [
        ({"kind": "smoth", "sigma": 1}, "did you mean 'smooth'"),
        ({"kind": "smooth", "sigam": 1}, "did you mean 'sigma'"),
        ({"kind": "smooth"}, "needs 'sigma'"),
        ({"kind": ["smooth"], "sigma": 1}, "no transform"),
        ({"kind": "chain", "steps": "smooth"}, "'smooth' is no transform"),
        ({"kind": "mask", "array": "insde"}, "did you mean 'inside'"),
        ({"kind": "mask", "array": {"digest": "0"}}, "none of the arrays"),
        ({"callable": "mine.filter"}, "hand it in again"),
    ],
)
def test_unknown_steps_are_errors_never_skipped(table: dict[str, object], words: str) -> None:
    with pytest.raises(HyperparameterError, match=words):
        transforms.build(table, arrays={"inside": WEIGHTS})
