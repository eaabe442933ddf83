"""Micro-batches whose gradients are finite, and their sum is not; bounds that leave no number."""

from __future__ import annotations

import numpy as np
import pytest

from tests.optimizers.everywhere import FACES
from thalweg import transforms
from thalweg.errors import HyperparameterError, NonFiniteGradientError
from thalweg.optimizers import SGD

LARGE = {"x": np.full(1, 3e38, np.float32)}


@pytest.mark.parametrize("name", ["numpy", "torch", "torch, shared kernel", "jax"])
def test_it_says_that_it_is_the_sum(name: str) -> None:
    face = FACES[name](SGD, {"x": np.zeros(1, np.float32)}, accumulate=2)
    face.step(LARGE)
    told = r"'x'.*, iteration 1: the mean of 2 finite gradients, whose sum is too large for float32,"
    with pytest.raises(NonFiniteGradientError, match=told):
        face.step(LARGE)
    with pytest.raises(NonFiniteGradientError, match="iteration 1: the gradient holds 1 non-finite of 1 values"):
        face.step({"x": np.full(1, np.inf, np.float32)})
    face.step({"x": -LARGE["x"]})
    np.testing.assert_array_equal(face.values()["x"], 0.0)


@pytest.mark.parametrize("name", FACES)
@pytest.mark.parametrize("limits", [{"lower": 1e39}, {"upper": -1e39}], ids=str)
def test_bounds_that_leave_no_number_are_refused(name: str, limits: dict[str, float]) -> None:
    start = {"x": np.zeros(1, np.float32)}

    def stepped() -> None:
        FACES[name](SGD, start, process_model=transforms.bounds(**limits)).step({"x": np.ones(1, np.float32)})

    with pytest.raises(HyperparameterError, match=r"bounds: (lower|upper) = -?1e\+39 becomes -?inf in float32"):
        stepped()
    assert start["x"] == 0.0
    wide = FACES[name](SGD, {"x": np.zeros(1)}, process_model=transforms.bounds(**limits))
    wide.step({"x": np.ones(1)})
    assert abs(wide.values()["x"]) == 1e39
