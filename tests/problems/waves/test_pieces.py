"""Stencils, points, wavelets, geometry, filters, phantom."""

from __future__ import annotations

import numpy as np
import pytest

from thalweg import errors
from thalweg.problems.waves import Grid, highest_frequency, line_array, ricker, ring_array, tone_burst
from thalweg.problems.waves.observed import add_noise, finer_grid, interpolate, low_pass
from thalweg.problems.waves.phantom import head
from thalweg.problems.waves.stability import phase_velocity_error
from thalweg.problems.waves.stencils import first_derivative, second_derivative


@pytest.mark.parametrize("order", [4, 8])
def test_stencils_are_exact_for_polynomials_of_their_order(order):
    c, d = second_derivative(order), first_derivative(order)
    k = np.arange(1, order // 2 + 1)
    for power in range(order + 1):
        plus, minus = k.astype(float) ** power, (-k.astype(float)) ** power
        second = (c[0] if power == 0 else 0.0) + np.dot(c[1:], plus + minus)
        assert second == pytest.approx(2.0 if power == 2 else 0.0, abs=1e-9)
        assert np.dot(d[1:], plus - minus) == pytest.approx(1.0 if power == 1 else 0.0, abs=1e-9)


def test_points_interpolate_a_band_limited_field():
    grid = Grid((60, 60), 2.0, absorbing=10)
    z, x = np.meshgrid(*[2.0 * (np.arange(80) - 10)] * 2, indexing="ij")

    def field(z, x):
        return np.cos(0.5 * z - 0.3 * x)  # 6 points in its wavelength

    positions = np.random.default_rng(1).uniform(0.0, 118.0, (50, 2))
    points = grid.points(positions)
    for n, (a, b) in enumerate(positions):
        part = slice(points.offsets[n], points.offsets[n + 1])
        value = np.dot(points.weights[part], field(z, x)[points.rows[part], points.columns[part]])
        assert value == pytest.approx(field(a, b), abs=5e-3)


def test_a_point_on_the_grid_uses_that_cell_alone():
    points = Grid((10, 10), 2.0, absorbing=5).points([(4.0, 6.0)])
    assert (points.rows.tolist(), points.columns.tolist(), points.weights.tolist()) == ([7], [8], [1.0])


def test_points_above_a_free_surface_are_mirrored():
    grid = Grid((20, 20), 1.0, absorbing=5, free_surface=True)
    points = grid.points([(0.5, 10.0)])
    assert points.rows.min() >= 0
    odd = np.sin(0.4 * np.arange(25.0))  # odd about the surface
    assert np.dot(points.weights, odd[points.rows]) == pytest.approx(np.sin(0.2), abs=5e-3)


def test_padding_and_its_transpose():
    rng = np.random.default_rng(0)
    for free_surface in (False, True):
        grid = Grid((7, 9), 1.0, absorbing=4, free_surface=free_surface)
        x, y = rng.standard_normal(grid.shape), rng.standard_normal(grid.padded_shape)
        assert np.vdot(grid.pad(x), y) == pytest.approx(np.vdot(x, grid.pad_adjoint(y)), rel=1e-12)
    bare = Grid((7, 9), 1.0, absorbing=0)
    np.testing.assert_array_equal(bare.pad_adjoint(bare.pad(x)), x)


@pytest.mark.parametrize("bad", [{"shape": (1, 5)}, {"spacing": 0.0}, {"spacing": np.nan}, {"absorbing": -1}])
def test_grids_that_are_none(bad):
    with pytest.raises(errors.SimulationError):
        Grid(**({"shape": (5, 5), "spacing": 1.0} | bad))


def test_wavelets():
    w = ricker(10.0, 1e-3, 1000)
    assert abs(w.sum()) < 1e-6  # no mean
    assert 20.0 < highest_frequency(w, 1e-3) < 35.0
    assert highest_frequency(np.zeros(50), 1e-3) == 0.0
    burst = tone_burst(100e3, 1e-7, 2000, cycles=5.0)
    assert burst[0] == 0.0
    assert not burst[501:].any()
    assert np.abs(np.fft.rfft(burst, 1 << 16)).argmax() / (1e-7 * (1 << 16)) == pytest.approx(100e3, rel=0.02)
    for bad in ({"frequency": -1.0}, {"frequency": 6e6}, {"time_step": 0.0}, {"steps": 0}):
        for make in (ricker, tone_burst):
            with pytest.raises(errors.SimulationError):
                make(**({"frequency": 1e5, "time_step": 1e-7, "steps": 100} | bad))
    with pytest.raises(errors.SimulationError):
        tone_burst(1e5, 1e-7, 100, cycles=0.0)


def test_phase_velocity_error_is_that_of_a_simulated_plane_wave():
    # Along an axis the scheme is one-dimensional: run it, and compare the phase that a wave gains.
    from thalweg.problems.waves.stencils import symbol

    c, h, dt, f = 2000.0, 10.0, 2e-3, 40.0
    k = 2 * np.pi * f / c
    numerical = np.arccos(1 - 0.5 * (c * dt / h) ** 2 * symbol(4, k * h)) / dt
    along_axis = abs(numerical / (c * k) - 1)
    assert phase_velocity_error(f, c, h, dt, 4) >= along_axis > 1e-4
    assert phase_velocity_error(1.0, c, h, dt, 4) < 1e-4
    assert np.isnan(phase_velocity_error(140.0, c, h, 4e-3, 4))


def test_arrays_of_transducers():
    ring = ring_array(8, 2.0, (5.0, 6.0))
    np.testing.assert_allclose(np.hypot(*(ring - (5.0, 6.0)).T), 2.0)
    assert line_array(1, (1.0, 2.0), (3.0, 4.0)).tolist() == [[1.0, 2.0]]
    for bad in (lambda: ring_array(0, 1.0, (0, 0)), lambda: ring_array(3, -1.0, (0, 0)), lambda: line_array(0, 0, 1)):
        with pytest.raises(errors.SimulationError):
            bad()


def test_low_pass_keeps_what_is_below_and_removes_what_is_above():
    t = 1e-3 * np.arange(1000)
    envelope = np.exp(-(((t - 0.5) / 0.1) ** 2))
    low, high = envelope * np.sin(2 * np.pi * 10 * t), envelope * np.sin(2 * np.pi * 80 * t)
    apply = low_pass(30.0, 1e-3, 1000)
    np.testing.assert_allclose(apply(low + high), low, atol=1e-4)
    np.testing.assert_array_equal(apply(np.stack([low, high], 1))[:, 0], apply(low))
    with pytest.raises(errors.SimulationError):
        low_pass(600.0, 1e-3, 1000)


def test_finer_grid_covers_the_same_ground():
    grid = Grid((40, 31), 4.0, absorbing=12)
    fine = finer_grid(grid, 0.75)
    assert fine.spacing == 3.0
    assert all(a <= b < a + 3.0 for a, b in zip(grid.extent, fine.extent, strict=True))
    assert fine.absorbing * fine.spacing >= grid.absorbing * grid.spacing
    z, x = (4.0 * np.arange(n) for n in grid.shape)
    smooth = 1500.0 + 50.0 * np.sin(z / 30.0)[:, None] * np.cos(x / 25.0)[None, :]
    zf, xf = (3.0 * np.arange(n) for n in fine.shape)
    expected = 1500.0 + 50.0 * np.sin(zf / 30.0)[:, None] * np.cos(xf / 25.0)[None, :]
    np.testing.assert_allclose(interpolate(smooth, grid, fine)[8:-8, 8:-8], expected[8:-8, 8:-8], atol=0.05)


def test_noise_has_the_level_asked_for_and_follows_from_the_generator():
    data = np.random.default_rng(5).standard_normal((4, 300, 7)).astype("f4")
    noisy, again = data.copy(), data.copy()
    add_noise(noisy, 0.01, np.random.default_rng([3, 1]))
    add_noise(again, 0.01, np.random.default_rng([3, 1]))
    np.testing.assert_array_equal(noisy, again)
    assert (noisy - data).std() / np.sqrt((data**2).mean()) == pytest.approx(0.01, rel=0.05)


def test_head_phantom_has_the_speeds_of_tissue_and_is_the_same_on_any_grid():
    speed, inside = head(Grid((256, 256), 1e-3))
    assert 1450.0 <= speed.min() < 1500.0 < 1600.0 < speed.max() <= 1620.0
    assert 0.2 < inside.mean() < 0.35
    assert speed[0, 0] == 1500.0
    fine, _ = head(Grid((341, 341), 0.75e-3))
    np.testing.assert_allclose(fine[::4, ::4], speed[::3, ::3], atol=25.0)
    assert np.abs(fine[::4, ::4] - speed[::3, ::3]).mean() < 0.5
    with pytest.raises(errors.StudyError, match="head needs"):
        head(Grid((100, 256), 1e-3))
