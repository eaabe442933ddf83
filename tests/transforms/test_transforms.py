from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from thalweg import transforms
from thalweg.errors import HyperparameterError
from thalweg.graph import Operator, Variable, check_adjoint
from thalweg.transforms import (
    add_decay,
    bounds,
    chain,
    clip_adaptive,
    clip_global_norm,
    clip_norm,
    clip_value,
    l1_ball,
    l2_ball,
    mask,
    nonnegative,
    normalize,
    scale,
    simplex,
    smooth,
)

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
    scale(-0.3),
    nonnegative(),
    simplex(2.0),
    l1_ball(0.5),
    l2_ball(0.5),
    chain(smooth(1.0), normalize()),
]
SEVERAL = [
    clip_global_norm(0.7),
    clip_adaptive(0.1),
    clip_adaptive(0.1, epsilon=0.01, axis=(0, 1)),
    clip_adaptive(0.1, axis=1),
    add_decay(0.1),
    add_decay(0.1, WEIGHTS),
    add_decay(0.1, WEIGHTS > 0.4),
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


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_no_intermediate_value_of_clipping_is_beyond_the_dtype(dtype: type) -> None:
    info = np.finfo(dtype)
    huge, tiny = np.full(4, info.max), np.full(4, info.tiny, dtype)
    for clip in (clip_norm(1e-8), l2_ball(1e-8), lambda g: clip_global_norm(1e-8)({"g": g})["g"]):
        np.testing.assert_allclose(clip(huge), np.full(4, 5e-9), rtol=1e-6)
        np.testing.assert_array_equal(clip(tiny), tiny)
    limit = float(info.tiny)
    np.testing.assert_allclose(
        clip_norm(limit)(np.array([0.6, 0.8], dtype) * dtype(4)), [0.6 * limit, 0.8 * limit], 1e-6
    )


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
        scale(-0.3),
        chain(mask(WEIGHTS), smooth(2.0)),
        chain(smooth((0.0, 1.0)), scale(3.0), mask(WEIGHTS > 0.4), smooth(0.5)),
    ],
    ids=repr,
)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_adjoint_of_a_linear_transform_is_its_adjoint(transform: Any, dtype: type) -> None:
    """Stride's filters and normalisations had the identity for an adjoint."""
    check = check_adjoint(Apply(transform), Variable(np.zeros((4, 5), dtype)))
    assert check.ok, str(check)


def test_what_has_an_adjoint_is_linear_and_the_rest_has_none() -> None:
    linear = {kind for kind, cls in transforms.registry.items() if hasattr(cls, "adjoint")}
    assert linear == {"mask", "smooth", "scale"}


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
        lambda: normalize()([1.0]),
        lambda: normalize()(1.0),
        lambda: normalize()(np.ones(3, complex)),
        lambda: normalize()(None),
        lambda: normalize()(np.ma.masked_array([1.0, 2.0], [False, True])),
        lambda: smooth(1)(np.ma.masked_array([1.0, 2.0])),
        lambda: mask(np.ma.masked_array([1.0, 2.0], [False, True])),
        lambda: add_decay(1, np.ma.masked_array([1.0, 2.0], [False, True])),
        lambda: add_decay(1)(np.ones(2), np.ma.masked_array([1.0, 2.0], [False, True])),
        lambda: scale(float("inf")),
        lambda: scale("2"),  # type: ignore[arg-type]
        lambda: scale(True),
        lambda: clip_global_norm(0),
        lambda: clip_global_norm(1)(np.ones(3)),  # type: ignore[arg-type]
        lambda: clip_adaptive(0),
        lambda: clip_adaptive(float("nan")),
        lambda: clip_adaptive(1, epsilon=0),
        lambda: clip_adaptive(1, axis=1.0),  # type: ignore[arg-type]
        lambda: clip_adaptive(1, axis=True),
        lambda: clip_adaptive(1, axis=(0, 0)),
        lambda: clip_adaptive(1, axis=()),
        lambda: clip_adaptive(1, axis="0"),  # type: ignore[arg-type]
        lambda: clip_adaptive(1, axis=2)(np.ones((3, 3)), np.ones((3, 3))),
        lambda: clip_adaptive(1, axis=(0, -2))(np.ones((3, 3)), np.ones((3, 3))),
        lambda: clip_adaptive(1)(np.ones((2,) * 6), np.ones((2,) * 6)),
        lambda: clip_adaptive(1)(np.ones((3, 3)), np.ones((3, 1))),
        lambda: add_decay(-1),
        lambda: add_decay(float("inf")),
        lambda: add_decay(1, np.array([np.inf])),
        lambda: add_decay(1, np.ones(4))(np.ones(3), np.ones(3)),
        lambda: add_decay(1)(np.ones(3), np.ones(1)),
        lambda: add_decay(1)(np.ones(3), np.ones(3, np.float32)),
        lambda: chain(normalize(), clip_global_norm(1)),
        lambda: chain(add_decay(1)),
        lambda: transforms.build([{"kind": "clip_adaptive", "limit": 1}]),
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


@pytest.mark.parametrize("transform", [*EACH, *SEVERAL], ids=repr)
def test_json_and_back(transform: Any) -> None:
    config = transform.get_config()
    written = json.loads(json.dumps(config))
    again = transforms.build(written, arrays={"other": np.ones(3), "w": WEIGHTS, "inside": WEIGHTS > 0.4})
    assert type(again) is type(transform)
    assert again.get_config() == config
    assert repr(again) == repr(transform)
    if isinstance(transform, transforms.Transform):
        given = np.random.default_rng(0).normal(size=(4, 5))
        np.testing.assert_array_equal(again(given), transform(given))


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
        ({"kind": "clip_globalnorm", "limit": 1}, "did you mean 'clip_global_norm'"),
        ({"kind": "clip_adaptive", "limit": 1, "eps": 1}, "did you mean 'epsilon'"),
        ({"kind": "add_decay", "weigth": 1}, "did you mean 'weight'"),
        ({"kind": "add_decay", "weight": 1, "array": "insde"}, "did you mean 'inside'"),
        ({"kind": "mask", "array": None}, "none of the arrays"),
        ({"kind": "l1_bal", "radius": 1}, "did you mean 'l1_ball'"),
        ({"kind": "simplex", "totl": 1}, "did you mean 'total'"),
    ],
)
def test_unknown_steps_are_errors_never_skipped(table: dict[str, object], words: str) -> None:
    with pytest.raises(HyperparameterError, match=words):
        transforms.build(table, arrays={"inside": WEIGHTS})


def test_all_together_keep_their_proportions_and_their_names() -> None:
    grads = {"b": np.array([[3.0]]), "a": np.array([0.0, 4.0]), "none": np.zeros((0, 2))}
    clipped = clip_global_norm(1.0)(grads)
    assert list(clipped) == ["b", "a", "none"]
    np.testing.assert_allclose(clipped["b"], [[0.6]], rtol=1e-15)
    np.testing.assert_allclose(clipped["a"], [0.0, 0.8], rtol=1e-15)
    assert clipped["none"].shape == (0, 2)
    assert clip_global_norm(1.0)({}) == {}
    inside = clip_global_norm(5.0)(grads)
    assert all(np.array_equal(inside[name], grads[name]) for name in grads)
    assert not any(np.shares_memory(inside[name], grads[name]) for name in grads)


def test_the_order_of_the_mapping_changes_no_bit() -> None:
    rng = np.random.default_rng(0)
    grads = {f"v{i}": rng.normal(size=i + 1) * 10.0**i for i in range(8)}
    one, other = clip_global_norm(1.0)(grads), clip_global_norm(1.0)(dict(reversed(grads.items())))
    assert all(one[name].tobytes() == other[name].tobytes() for name in grads)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_one_that_is_not_finite_makes_everything_nan(bad: float) -> None:
    clipped = clip_global_norm(1.0)({"a": np.array([bad, 1.0]), "b": np.ones(2)})
    assert all(np.isnan(array).all() for array in clipped.values())


def test_variables_of_two_dtypes_keep_theirs() -> None:
    clipped = clip_global_norm(1.0)({"a": np.array([3.0], np.float32), "b": np.array([4e-300, 4.0])})
    assert [array.dtype for array in clipped.values()] == [np.float32, np.float64]
    np.testing.assert_allclose(clipped["a"], [0.6], rtol=1e-7)
    np.testing.assert_allclose(clipped["b"], [8e-301, 0.8], rtol=1e-15)
    tiny = clip_global_norm(1e-60)({"a": np.zeros(1, np.float32), "b": np.array([1e-50])})
    np.testing.assert_allclose(tiny["b"], [1e-60], rtol=1e-14)
    np.testing.assert_array_equal(tiny["a"], [0.0])


def test_a_gradient_that_cannot_be_clipped_is_named() -> None:
    with pytest.raises(HyperparameterError, match=r"clip_global_norm of speed.*int64"):
        clip_global_norm(1.0)({"a": np.ones(2), "speed": np.ones(2, np.int64)})


def test_each_unit_is_clipped_by_itself() -> None:
    param = np.array([[3.0, 3.0, 0.0], [4.0, 4.0, 0.0]])
    grad = np.array([[6.0, 0.3, 0.6], [8.0, 0.4, 0.8]])
    expected = [[0.3, 0.3, 0.6e-4], [0.4, 0.4, 0.8e-4]]  # 0.1 · 5; inside, as it is; 0.1 · epsilon
    np.testing.assert_allclose(clip_adaptive(0.1)(grad, param), expected, rtol=1e-14)
    grad[0, 0] = np.nan
    found = clip_adaptive(0.1)(grad, param)
    assert np.isnan(found[:, 0]).all()
    np.testing.assert_allclose(found[:, 1:], [row[1:] for row in expected], rtol=1e-14)


def test_a_small_unit_beside_a_huge_one_is_clipped() -> None:
    grad = np.array([[1e30, 1.0], [1e30, 1.0]], np.float32)
    found = clip_adaptive(0.1)(grad, np.ones((2, 2), np.float32))
    np.testing.assert_allclose(found, np.full((2, 2), 0.1), rtol=1e-6)


def test_decay_where_the_mask_is_zero_does_not_look_at_the_parameter() -> None:
    found = add_decay(0.5, np.array([1.0, 0.0, 0.5]))(np.ones(3), np.array([2.0, np.nan, 4.0]))
    np.testing.assert_array_equal(found, [2.0, 1.0, 2.0])
    assert np.isnan(add_decay(0.5)(np.ones(1), np.array([np.nan])))[0]


def test_a_mask_of_decay_is_a_copy() -> None:
    weights = np.ones(2)
    decay = add_decay(1.0, weights)
    weights[:] = 0
    np.testing.assert_array_equal(decay(np.zeros(2), np.ones(2)), np.ones(2))


def test_scaling_makes_nothing_finite() -> None:
    np.testing.assert_array_equal(scale(0.0)(np.array([np.nan, np.inf, 2.0])), [np.nan, np.nan, 0.0])
    np.testing.assert_array_equal(scale(-2.0)(np.array([np.nan, np.inf, 2.0])), [np.nan, -np.inf, -4.0])


def test_config_names_all_there_is_to_name() -> None:
    assert clip_adaptive(0.1, axis=(0, 1)).get_config() == {
        "kind": "clip_adaptive",
        "limit": 0.1,
        "epsilon": 0.001,
        "axis": [0, 1],
    }
    assert add_decay(0.1).get_config() == {"kind": "add_decay", "weight": 0.1, "array": None}
