"""Gaussian smoothing. Linear and its own adjoint.

At the edges the field is mirrored (… c b a | a b c …). With that the smoothing matrix is symmetric, so it is
its own adjoint, and constants and sums are kept.

On NumPy the filter is SciPy's. Elsewhere an axis is smoothed by a product with its matrix,

    Gᵢⱼ = W(i − j) + W(i + j + 1),   W(k) = Σₘ w(k + 2nm),

w the Gaussian's weights and n the length of the axis; or, where that matrix would be larger than all that the
weights are multiplied with (long signals), by a product of these with the weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from thalweg.errors import HyperparameterError
from thalweg.rules.namespaces import library_of, namespace
from thalweg.rules.ranges import nonnegative, number
from thalweg.transforms.arrays import constant, floating, shape_of
from thalweg.transforms.base import Array, Transform

_CUT = 4.0
"""Where the Gaussian ends, in standard deviations."""


@dataclass(frozen=True)
class smooth(Transform):
    """g' = G·g, G a Gaussian of the given standard deviation, cut at four of them.

    NaN and infinity spread as far as the Gaussian reaches; elsewhere than on NumPy as NaN.

    Args:
        sigma: the standard deviation in cells: one number, or one for each axis. 0 leaves an axis as it is.

    Raises:
        HyperparameterError: a standard deviation is negative or not finite, or (when called) their number is
            not the array's number of axes.

    Example:
        >>> import numpy as np
        >>> from thalweg.transforms import smooth
        >>> smooth(1.0)(np.array([0.0, 0.0, 1.0, 0.0, 0.0])).round(3)
        array([0.058, 0.242, 0.399, 0.242, 0.058])

    Source: ``scipy.ndimage.gaussian_filter`` with ``mode="reflect"``.
    """

    kind: ClassVar[str] = "smooth"
    sigma: float | tuple[float, ...]

    def __post_init__(self) -> None:
        several = isinstance(self.sigma, list | tuple)
        given = self.sigma if isinstance(self.sigma, list | tuple) else (self.sigma,)
        checked = tuple(number(value, nonnegative, name="sigma", owner=self.kind) for value in given)
        object.__setattr__(self, "sigma", checked if several else checked[0])

    def __call__(self, array: Array) -> Array:
        """The smoothed array."""
        given = floating(array, self.kind)
        shape = shape_of(given)
        if isinstance(self.sigma, tuple) and len(self.sigma) != len(shape):
            raise HyperparameterError(
                f"smooth: {len(self.sigma)} standard deviations for an array of {len(shape)} axes",
                sigma=self.sigma,
            )
        if len(shape) == 0 or 0 in shape:
            return given * constant(1.0, given) if library_of(given) != "numpy" else given.copy()
        if library_of(given) == "numpy":
            return _filtered(given, self.sigma)
        names = namespace(given)
        finite = names.isfinite(given)
        zero, one = constant(0.0, given), constant(1.0, given)
        field, reach = names.where(finite, given, zero), names.where(finite, zero, one)
        for axis, sigma in enumerate(self.sigma if isinstance(self.sigma, tuple) else (self.sigma,) * len(shape)):
            if sigma > 1e-15:  # SciPy's limit
                field, reach = (_along(part, axis, sigma) for part in (field, reach))
        return names.where(reach > 0, constant(np.nan, given), field)

    def adjoint(self, array: Array) -> Array:
        """The adjoint: the smoothing itself."""
        return self(array)


def _filtered(given: np.ndarray, sigma: float | tuple[float, ...]) -> np.ndarray:
    from scipy.ndimage import gaussian_filter

    known = given.dtype.newbyteorder("=") if given.dtype.itemsize in (4, 8) else np.float64  # SciPy's two
    native = given.astype(known, copy=False)
    return np.asarray(gaussian_filter(native, sigma, mode="reflect", truncate=_CUT), given.dtype)


def _along(array: Array, axis: int, sigma: float) -> Array:
    """The product of one axis with the smoothing matrix."""
    names = namespace(array)
    shape = shape_of(array)
    steps = np.arange(-int(_CUT * sigma + 0.5), int(_CUT * sigma + 0.5) + 1)
    weights = np.exp(-0.5 / sigma**2 * steps**2)
    weights /= weights.sum()

    length = array.shape[axis] if shape[axis] is None else shape[axis]
    turned = array.swapaxes(axis, -1)
    if _is_long(shape, axis, len(steps)):
        smoothed = turned[..., _mirrored(length, steps)] @ names.cast(weights, array)
    else:
        smoothed = turned @ names.cast(_matrix(length, steps, weights), array)
    return smoothed.swapaxes(axis, -1)


def _is_long(shape: tuple[int | None, ...], axis: int, steps: int) -> bool:
    """Whether the matrix of an axis is larger than the array times the number of weights."""
    length, others = shape[axis], [n for i, n in enumerate(shape) if i != axis]
    rows = math.inf if None in others else math.prod(n for n in others if n is not None)
    return rows * steps < (math.inf if length is None else length)


def _mirrored(length: Any, steps: np.ndarray) -> Any:
    """For each place and each step the place that is meant, beyond the edges the mirrored one."""
    names = namespace(length)
    walked = (names.arange(length)[:, None] + steps[None, :]) % names.maximum(2 * length, 1)
    return names.minimum(walked, 2 * length - 1 - walked)


def _matrix(length: Any, steps: np.ndarray, weights: np.ndarray) -> Any:
    """The symmetric matrix of an axis; ``length`` may be a PyTensor variable."""
    names = namespace(length)
    period = names.maximum(2 * length, 1)
    remainder = names.arange(int(steps[0]), int(steps[-1]) + 1) % period
    met = names.absolute(names.arange(period)[:, None] - remainder[None, :]) < 1
    folded = names.where(met, weights[None, :], 0.0).sum(axis=1)
    place = names.arange(length)
    return folded[names.absolute(place[:, None] - place[None, :])] + folded[place[:, None] + place[None, :] + 1]
