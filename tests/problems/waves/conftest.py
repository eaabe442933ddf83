"""Small simulations that the tests of the propagator share."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import thalweg as tw
from thalweg.problems.waves import Grid, Propagator

STEPS = 240


class Bench:
    """A propagator on a small rough model, with three sources and three receivers between the cells."""

    def __init__(self, dtype: str, order: int, *, free_surface: bool = False, in_layer: bool = False, **options: Any):
        self.rng = np.random.default_rng(7)
        self.grid = Grid((38, 45), 10.0, absorbing=10, free_surface=free_surface)
        self.propagator = Propagator(
            self.grid,
            time_step=1.2e-3,
            steps=STEPS,
            speed=2000.0,
            frequency=12.0,
            order=order,
            min_points_per_wavelength=0.1,  # the tests drive it with white noise on purpose
            **options,
        )
        rough = 2000.0 + 200.0 * self.rng.standard_normal(self.grid.shape)
        self.vp = tw.Variable(rough.astype(dtype), name="vp", needs_grad=True)
        self.wavelet = tw.Variable(self.rng.standard_normal(STEPS).astype(dtype), name="wavelet", needs_grad=True)
        sources = np.array([[100.0, 100.0], [33.3, 155.0], [250.3, 300.7]])
        receivers = np.array([[12.0, 12.0], [75.0, 350.0], [330.0, 33.3]])
        if in_layer:
            sources = np.array([[355.0, 100.0], [33.3, -55.0], [250.3, 460.7]])
            receivers = np.array([[12.0, -77.0], [440.0, 500.0], [463.1, 33.3]])
            if not free_surface:
                sources[0, 0], receivers[0, 0] = -40.0, -85.2
        self.shot = self.propagator.shot(sources, receivers)


@pytest.fixture
def bench() -> type[Bench]:
    return Bench
