"""Our transforms beside PyTorch's and optax's own functions, and SciPy's, on the same arrays."""

from __future__ import annotations

import importlib
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch

from thalweg.transforms import (
    add_decay,
    bounds,
    clip_adaptive,
    clip_global_norm,
    clip_norm,
    clip_value,
    l1_ball,
    l2_ball,
    mask,
    nonnegative,
    scale,
    simplex,
    smooth,
)


@pytest.fixture
def optax() -> Iterator[Any]:
    """optax, in 64 bits while a test runs."""
    module = pytest.importorskip("optax")
    jax = importlib.import_module("jax")
    with jax.enable_x64(True) if hasattr(jax, "enable_x64") else jax.experimental.enable_x64():
        yield module


def draw(*shapes: tuple[int, ...], seed: int = 0, size: float = 1.0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    return [np.asarray(size * rng.normal(size=shape)) for shape in shapes]


def close(found: Any, expected: Any, tolerance: float = 1e-12) -> None:
    np.testing.assert_allclose(np.asarray(found), np.asarray(expected), rtol=tolerance, atol=tolerance)


def updated(transformation: Any, grads: Any, params: Any = None) -> Any:
    """What an optax transformation makes of gradients."""
    jax = importlib.import_module("jax")
    grads, params = jax.tree.map(jax.numpy.asarray, (grads, params))
    return transformation.update(grads, transformation.init(grads if params is None else params), params)[0]


@pytest.mark.parametrize("limit", [0.3, 1.0, 100.0])
def test_clipping_values(optax: Any, limit: float) -> None:
    (grad,) = draw((4, 5))
    found = clip_value(limit)(grad)
    close(found, updated(optax.clip(limit), grad))
    parameter = torch.nn.Parameter(torch.zeros(4, 5, dtype=torch.float64))
    parameter.grad = torch.tensor(grad)
    torch.nn.utils.clip_grad_value_([parameter], limit)
    close(found, parameter.grad)


@pytest.mark.parametrize("limit", [0.3, 1.0, 100.0])
@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
def test_clipping_by_the_norm_over_all(optax: Any, limit: float, size: float) -> None:
    names = ["w", "b", "a"]
    grads = dict(zip(names, draw((4, 5), (5,), (), size=size), strict=True))
    found = clip_global_norm(limit)(grads)
    theirs = updated(optax.clip_by_global_norm(limit), grads)
    parameters = [torch.nn.Parameter(torch.zeros(grads[name].shape, dtype=torch.float64)) for name in names]
    for name, parameter in zip(names, parameters, strict=True):
        parameter.grad = torch.tensor(grads[name])
    norm = float(torch.nn.utils.clip_grad_norm_(parameters, limit))
    correction = (norm + 1e-6) / norm if norm > limit else 1.0  # PyTorch adds 1e-6 to the norm; we do not
    for name, parameter in zip(names, parameters, strict=True):
        close(found[name], theirs[name])
        close(found[name], parameter.grad * correction)


@pytest.mark.parametrize("limit", [0.3, 100.0])
def test_clipping_one_by_its_norm_is_clipping_all_when_there_is_one(optax: Any, limit: float) -> None:
    (grad,) = draw((4, 5))
    found = clip_norm(limit)(grad)
    np.testing.assert_array_equal(found, clip_global_norm(limit)({"g": grad})["g"])
    close(found, updated(optax.clip_by_global_norm(limit), grad))


@pytest.mark.parametrize(
    "shape", [(), (1,), (5,), (1, 5), (5, 1), (4, 5), (3, 2, 5), (3, 3, 2, 5), (2, 3, 3, 2, 4)], ids=str
)
@pytest.mark.parametrize("limit", [0.01, 0.8, 100.0])
def test_adaptive_clipping(optax: Any, shape: tuple[int, ...], limit: float) -> None:
    grad, param = draw(shape, shape)
    theirs = updated(optax.adaptive_grad_clip(limit, eps=0.02), grad, param)
    close(clip_adaptive(limit, epsilon=0.02)(grad, param), theirs)
    close(clip_adaptive(limit)(grad, np.zeros(shape)), updated(optax.adaptive_grad_clip(limit), grad, np.zeros(shape)))


@pytest.mark.parametrize("axis", [0, 1, -1, (0, 2), (1, 2, -4)])
def test_adaptive_clipping_over_other_axes(optax: Any, axis: int | tuple[int, ...]) -> None:
    grad, param = draw((3, 4, 2, 5), (3, 4, 2, 5))
    close(clip_adaptive(0.1, axis=axis)(grad, param), updated(optax.adaptive_grad_clip(0.1, axis=axis), grad, param))


def test_adaptive_clipping_of_pytorchs_layout() -> None:
    """Outputs first: the same as with the axes turned round."""
    grad, param = draw((6, 3), (6, 3))
    close(clip_adaptive(0.1, axis=1)(grad, param), clip_adaptive(0.1)(grad.T, param.T).T)


def test_decay(optax: Any) -> None:
    grad, param = draw((4, 5), (4, 5))
    (weights,) = draw((4, 5), seed=1)
    close(add_decay(0.3)(grad, param), updated(optax.add_decayed_weights(0.3), grad, param))
    close(add_decay(0.3, weights)(grad, param), updated(optax.add_decayed_weights(0.3), grad, weights * param))
    tensor = torch.nn.Parameter(torch.tensor(param))
    tensor.grad = torch.tensor(grad)
    torch.optim.SGD([tensor], lr=1.0, weight_decay=0.3).step()
    close(param - add_decay(0.3)(grad, param), tensor.detach())


def test_mxnets_normalized_gradient() -> None:
    """Rescale, clip, add the decay; the page's order."""
    grad, weight = draw((4, 5), (4, 5))
    batch, clip, decay = 8, 0.1, 0.01
    expected = np.clip(grad / batch, -clip, clip) + decay * weight
    close(add_decay(decay)(clip_value(clip)(scale(1 / batch)(grad)), weight), expected)


@pytest.mark.parametrize("size", [1e-3, 1.0, 1e3])
@pytest.mark.parametrize("shape", [(), (1,), (7,), (4, 5)], ids=str)
@pytest.mark.parametrize("total", [0.1, 1.0, 31.0])
def test_projections(optax: Any, shape: tuple[int, ...], size: float, total: float) -> None:
    theirs = optax.projections
    (x,) = draw(shape, size=size)
    close(bounds(-total, 0.5 * total)(x), theirs.projection_box(x, -total, 0.5 * total))
    close(nonnegative()(x), theirs.projection_non_negative(x))
    close(simplex(total)(x), theirs.projection_simplex(x, total), 1e-12 * max(size, 1))
    close(l1_ball(total)(x), theirs.projection_l1_ball(x, total), 1e-12 * max(size, 1))
    close(l2_ball(total)(x), theirs.projection_l2_ball(x, total))


@pytest.mark.parametrize("sigma", [0.3, 1.0, 4.7, (0.0, 2.0), (1.5, 0.4)])
@pytest.mark.parametrize("shape", [(1, 1), (2, 3), (9, 4), (40, 30)], ids=str)
def test_smoothing_on_any_backend_is_scipys(sigma: Any, shape: tuple[int, ...]) -> None:
    from scipy.ndimage import gaussian_filter

    (x,) = draw(shape)
    expected = gaussian_filter(x, sigma, mode="reflect", truncate=4.0)
    np.testing.assert_array_equal(smooth(sigma)(x), expected)
    close(smooth(sigma)(torch.tensor(x)), expected)


@pytest.mark.parametrize("length", [1, 2, 50, 100, 1000])
def test_smoothing_long_signals_is_smoothing_short_ones(length: int) -> None:
    """A long signal takes the way without a matrix; a row of a field the one with it."""
    (signal,) = draw((length,))
    expected = smooth(3.0)(signal)
    close(smooth(3.0)(torch.tensor(signal)), expected)
    field = torch.tensor(np.tile(signal, (length, 1)))
    close(smooth((0.0, 3.0))(field)[0], expected)


def test_a_million_samples_are_smoothed_without_their_matrix() -> None:
    (signal,) = draw((1_000_000,))
    close(smooth(2.0)(torch.tensor(signal)), smooth(2.0)(signal))


def test_what_torch_keeps_of_gradients_goes_through() -> None:
    """A transform of a tensor that needs a gradient has the transform's derivative."""
    x = torch.tensor(draw((4, 5))[0], requires_grad=True)
    (y,) = draw((4, 5), seed=1)
    (weights,) = draw((4, 5), seed=2)
    for linear in (mask(weights), smooth(1.5), scale(-0.3)):
        (derived,) = torch.autograd.grad(linear(x), x, torch.tensor(y))
        close(derived, linear.adjoint(y))
