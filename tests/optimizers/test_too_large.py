"""Micro-batches whose gradients are finite, and their sum is not."""

from __future__ import annotations

import numpy as np
import pytest

from tests.optimizers.everywhere import FACES
from thalweg.errors import NonFiniteGradientError
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
