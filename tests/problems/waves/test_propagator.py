"""The propagator: exact adjoints, agreement with theory, refusals."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.special import hankel1

import thalweg as tw
from thalweg import errors
from thalweg.problems.waves import (
    AddTimeDispersion,
    Grid,
    L2Misfit,
    Propagator,
    RemoveTimeDispersion,
    ricker,
    ring_array,
)

LIMIT = {"float32": 1e-5, "float64": 1e-12}


def run(propagator, speed, wavelet, shot):
    return tw.wait(propagator(tw.Variable(speed, name="vp"), tw.Variable(wavelet, name="wavelet"), shot)).data


@pytest.mark.parametrize("in_layer", [False, True], ids=["inside", "in_layer"])
@pytest.mark.parametrize("free_surface", [False, True], ids=["absorbing", "free_surface"])
@pytest.mark.parametrize("order", [4, 8])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
class TestDotProducts:
    def test_jacobian(self, bench, dtype, order, free_surface, in_layer):
        b = bench(dtype, order, free_surface=free_surface, in_layer=in_layer)
        assert tw.check_adjoint(b.propagator, b.vp, b.wavelet, b.shot).error <= LIMIT[dtype]

    def test_propagator_itself_is_linear_in_the_wavelet(self, bench, dtype, order, free_surface, in_layer):
        b = bench(dtype, order, free_surface=free_surface, in_layer=in_layer)

        async def go():
            traces = await b.propagator(b.vp, b.wavelet, b.shot)
            y = b.rng.standard_normal(traces.shape).astype(dtype)
            await traces.adjoint(y)
            return traces.data.astype("f8"), y.astype("f8")

        d, y = tw.wait(go())
        gap = abs(np.vdot(d, y) - np.vdot(b.wavelet.data.astype("f8"), b.wavelet.grad.astype("f8")))
        assert gap <= LIMIT[dtype] * np.linalg.norm(d) * np.linalg.norm(y)


def test_one_wavelet_per_source_has_its_own_gradient(bench):
    b = bench("float64", 8)
    wavelets = tw.Variable(b.rng.standard_normal((b.propagator.steps, 3)), name="wavelets", needs_grad=True)
    assert tw.check_adjoint(b.propagator, b.vp, wavelets, b.shot).error <= 1e-12


@pytest.mark.parametrize("order", [4, 8])
def test_gradient_passes_the_taylor_test(bench, order):
    b = bench("float64", order)
    observed = run(b.propagator, np.full(b.grid.shape, 2000.0), b.wavelet.data, b.shot)
    misfit = L2Misfit()

    async def loss(vp):
        return await misfit(await b.propagator(vp, b.wavelet, b.shot), observed)

    direction = 20.0 * b.rng.standard_normal(b.grid.shape)
    first, second = tw.check_gradient(loss, b.vp, direction=direction).slopes
    assert first == pytest.approx(1.0, rel=0.05)
    assert second == pytest.approx(2.0, rel=0.05)


def test_tangent_is_the_derivative(bench):
    b = bench("float64", 8)
    d_vp, d_w = b.rng.standard_normal(b.grid.shape), b.rng.standard_normal(b.propagator.steps)
    moved = b.propagator.tangent(d_vp, d_w, b.vp, b.wavelet, b.shot)
    h = 1e-3
    ahead, behind = (run(b.propagator, b.vp.data + s * h * d_vp, b.wavelet.data + s * h * d_w, b.shot) for s in (1, -1))
    np.testing.assert_allclose((ahead - behind) / (2 * h), moved, rtol=0, atol=1e-6 * np.abs(moved).max())


def test_keeping_every_fourth_wavefield_approximates_the_gradient_of_a_band_limited_wavelet():
    grid = Grid((60, 60), 10.0)
    gradients = []
    for every in (1, 4):
        p = Propagator(grid, time_step=1e-3, steps=500, speed=2000.0, frequency=12.0, save_every=every)
        vp = tw.Variable(np.full(grid.shape, 2000.0), name="vp", needs_grad=True)
        wavelet = tw.Variable(ricker(12.0, 1e-3, 500), name="wavelet")
        traces = tw.wait(p(vp, wavelet, p.shot([(100.0, 100.0)], [(500.0, 480.0)])))
        tw.wait(
            traces.adjoint(
                np.sin(np.arange(500.0) / 10.0)[:, None] * np.exp(-((np.arange(500.0) - 400) ** 2) / 2e3)[:, None]
            )
        )
        gradients.append(vp.grad)
    exact, kept = gradients
    error = np.linalg.norm(kept - exact) / np.linalg.norm(exact)
    assert 0.0 < error < 0.01


@pytest.mark.parametrize("order", [4, 8])
@pytest.mark.parametrize("offset", [(600.0, 0.0), (581.7, 147.1)], ids=["on_grid", "off_grid"])
def test_agrees_with_the_greens_function(order, offset):
    # (1/c²) u_tt − ∇²u = s(t) δ(x): û = ŝ · (i/4) H₀⁽¹⁾(ω r / c) with exp(−iωt)
    speed, step, steps, frequency = 2000.0, 5e-4, 2000, 12.0
    grid = Grid((150, 60), 5.0)
    p = Propagator(grid, time_step=step, steps=steps, speed=speed, frequency=frequency, order=order)
    source = np.array([60.0, 80.0])
    w = ricker(frequency, step, steps)
    traces = run(p, np.full(grid.shape, speed), w, p.shot([source], [source + offset]))[:, 0]
    n = 16 * steps
    omega = 2 * np.pi * np.fft.rfftfreq(n, step)[1:]
    green = np.concatenate([[0.0], 0.25j * hankel1(0, omega * np.hypot(*offset) / speed)])
    expected = np.fft.irfft(np.fft.rfft(w, n) * green.conj(), n)[:steps]
    assert np.linalg.norm(traces - expected) <= 0.005 * np.linalg.norm(expected)


def test_absorbs_as_if_the_domain_went_on():
    step, steps = 1.5e-3, 700
    w = ricker(12.0, step, steps, dtype=np.float32)

    def traces(extra):
        n = 100 + 2 * extra
        grid = Grid((n, n), 10.0)
        p = Propagator(grid, time_step=step, steps=steps, speed=2000.0, frequency=12.0)
        k = np.arange(5, 95, 6) * 10.0
        edges = [np.stack(pair, 1) for e in (50.0, 940.0) for pair in ((k, 0 * k + e), (0 * k + e, k))]
        shift = extra * 10.0
        shot = p.shot([(495.0 + shift, 495.0 + shift)], np.concatenate(edges) + shift)
        return run(p, np.full(grid.shape, 2000.0, "f4"), w, shot).astype("f8")

    beyond = traces(80)  # 800 m on each side: nothing comes back within 1.05 s
    assert np.linalg.norm(traces(0) - beyond) <= 0.003 * np.linalg.norm(beyond)


@pytest.mark.parametrize("free_surface", [False, True])
def test_stays_bounded_for_long_at_the_stability_limit(free_surface):
    from thalweg.problems.waves.stability import largest_stable_step

    rng = np.random.default_rng(0)
    grid = Grid((40, 40), 10.0, absorbing=10, free_surface=free_surface)
    model = rng.uniform(1000.0, 3000.0, grid.shape).astype("f4")
    step = 0.99 * largest_stable_step(float(model.max()), 10.0, 8)
    p = Propagator(grid, time_step=step, steps=6000, speed=2000.0, frequency=12.0, min_points_per_wavelength=0.1)
    w = np.zeros(6000, "f4")
    w[:50] = rng.standard_normal(50)
    traces = run(p, model, w, p.shot([(200.0, 200.0)], [(100.0, 300.0), (390.0, 390.0)]))
    assert np.isfinite(traces).all()
    # White noise excites modes of the grid itself, which linger; what matters is that nothing grows.
    assert np.abs(traces[-1000:]).max() <= np.abs(traces[1000:2000]).max()


def test_free_surface_is_the_mirror_image_of_opposite_sign():
    # Above the surface: a source of the opposite sign in a full space, where nothing is reflected at i = 0.
    step, steps, depth = 1e-3, 400, 95.0
    w = ricker(12.0, step, steps)
    half = Grid((60, 80), 10.0, free_surface=True)
    p = Propagator(half, time_step=step, steps=steps, speed=2000.0, frequency=12.0)
    seen = run(p, np.full(half.shape, 2000.0), w, p.shot([(depth, 300.0)], [(120.0, 500.0)]))
    full = Grid((120, 80), 10.0)
    q = Propagator(full, time_step=step, steps=steps, speed=2000.0, frequency=12.0)
    at = 600.0  # where the surface would be
    both = np.stack([w, -w], axis=1)
    shot = q.shot([(at + depth, 300.0), (at - depth, 300.0)], [(at + 120.0, 500.0)])
    expected = run(q, np.full(full.shape, 2000.0), both, shot)
    assert np.linalg.norm(seen - expected) <= 0.003 * np.linalg.norm(expected)


def test_traces_are_the_same_whoever_used_the_buffers_before(bench):
    b = bench("float32", 8)
    first = run(b.propagator, b.vp.data, b.wavelet.data, b.shot)
    tw.wait(tw.wait(b.propagator(b.vp, b.wavelet, b.shot)).adjoint(np.ones_like(first)))
    np.testing.assert_array_equal(run(b.propagator, b.vp.data, b.wavelet.data, b.shot), first)


def test_a_retained_graph_keeps_its_wavefields_while_others_compute(bench):
    b = bench("float64", 8)

    async def go():
        traces = await b.propagator(b.vp, b.wavelet, b.shot)
        seed = b.rng.standard_normal(traces.shape)
        gradients = []
        for _ in range(2):
            b.vp.clear_grad()
            await traces.adjoint(seed, retain_graph=True)
            gradients.append(b.vp.grad)
            # Another simulation of the same size, which takes whatever buffers are free.
            other = tw.Variable(b.vp.data[::-1].copy(), name="other", needs_grad=True)
            await b.propagator(other, b.wavelet, b.shot)
        return gradients

    first, second = tw.wait(go())
    np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("free_surface", [False, True], ids=["absorbing", "free_surface"])
@pytest.mark.parametrize("order", [4, 8])
@pytest.mark.parametrize(("shape", "layer"), [((5, 4), 6), ((4, 9), 3), ((13, 8), 0), ((7, 6), 1)])
def test_adjoint_on_tiny_grids_whose_layers_overlap(shape, layer, order, free_surface):
    grid = Grid(shape, 10.0, absorbing=layer, free_surface=free_surface)
    p = Propagator(
        grid, time_step=1e-3, steps=60, speed=2000.0, frequency=12.0, order=order, min_points_per_wavelength=0.1
    )
    rng = np.random.default_rng(3)
    vp = tw.Variable(2000.0 + 100.0 * rng.standard_normal(shape), name="vp", needs_grad=True)
    wavelet = tw.Variable(rng.standard_normal((60, 2)), name="wavelet", needs_grad=True)
    far = [10.0 * (n - 1) for n in shape]
    shot = p.shot([(10.0, 10.0), (0.0, far[1])], [far, (3.3, 12.1), (0.0, 0.0)])
    assert tw.check_adjoint(p, vp, wavelet, shot).error <= 1e-12


@pytest.mark.parametrize("every", [3, 7])
def test_save_every_need_not_divide_the_steps(bench, every):
    b = bench("float32", 8, save_every=every)
    traces = tw.wait(b.propagator(b.vp, b.wavelet, b.shot))
    tw.wait(traces.adjoint(np.ones_like(traces.data)))
    assert np.isfinite(b.vp.grad).all()
    assert b.vp.grad.any()


def test_the_operators_around_the_propagator_have_exact_adjoints():
    x = np.random.default_rng(0).standard_normal((301, 3))
    for operator in (AddTimeDispersion(301), RemoveTimeDispersion(301)):
        assert tw.check_adjoint(operator, tw.Variable(x, needs_grad=True)).error <= 1e-12
    observed = np.random.default_rng(1).standard_normal(x.shape)
    misfit = L2Misfit()
    assert tw.check_gradient(lambda d: misfit(d, observed), tw.Variable(x, name="d", needs_grad=True))


class TestRefusals:
    """Each is refused before anything is computed, and says what would be right."""

    @pytest.fixture
    def setup(self):
        grid = Grid((40, 40), 10.0)
        p = Propagator(grid, time_step=2e-3, steps=200, speed=2000.0, frequency=12.0)
        return grid, p, np.full(grid.shape, 2000.0), ricker(12.0, 2e-3, 200), p.shot([(50.0, 50.0)], [(90.0, 90.0)])

    def test_unstable_time_step_says_the_largest_stable_one(self, setup):
        _, p, vp, w, shot = setup
        vp[3, 4] = 4000.0
        with pytest.raises(errors.UnstableTimeStepError, match=r"largest stable one is 0\.00138") as caught:
            run(p, vp, w, shot)
        assert caught.value.details["largest"] == pytest.approx(1.387e-3, rel=1e-3)

    def test_unstable_already_for_the_background(self):
        with pytest.raises(errors.UnstableTimeStepError):
            Propagator(Grid((40, 40), 10.0), time_step=3e-3, steps=200, speed=2000.0, frequency=12.0)

    def test_too_few_points_a_wavelength(self, setup):
        _, p, vp, _, shot = setup
        with pytest.raises(errors.DispersionError, match=r"no more than 55\.5\d* Hz are reached") as caught:
            run(p, vp, ricker(40.0, 2e-3, 200), shot)
        assert 0.0 < caught.value.details["predicted_error"] < 1.0
        run(p, vp, ricker(20.0, 2e-3, 200), shot)

    @pytest.mark.parametrize("value", [0.0, -1.0, np.nan, np.inf])
    def test_speeds(self, setup, value):
        _, p, vp, w, shot = setup
        vp[7, 9] = value
        with pytest.raises(errors.SpeedError, match=r"\(7, 9\)"):
            run(p, vp, w, shot)

    def test_shapes_and_dtypes(self, setup):
        _, p, vp, w, shot = setup
        with pytest.raises(errors.ShapeError, match=r"\(40, 41\)"):
            run(p, np.zeros((40, 41)), w, shot)
        with pytest.raises(errors.ShapeError, match="199"):
            run(p, vp, w[1:], shot)
        with pytest.raises(errors.ShapeError, match="float32"):
            run(p, vp, w.astype("f4"), shot)
        with pytest.raises(errors.SimulationError, match="int64"):
            run(p, vp.astype(int), w.astype(int), shot)
        w[5] = np.nan
        with pytest.raises(errors.SimulationError, match="NaN"):
            run(p, vp, w, shot)

    def test_positions(self, setup):
        _, p, *_ = setup
        p.shot([(-200.0, 590.0)], [(0.0, 0.0)])
        with pytest.raises(errors.PositionError, match="receivers: 1 of 2"):
            p.shot([(0.0, 0.0)], [(0.0, 0.0), (-201.0, 0.0)])
        with pytest.raises(errors.PositionError):
            p.shot([(0.0, np.nan)], [(0.0, 0.0)])

    def test_settings(self):
        grid = Grid((40, 40), 10.0)
        good = {"time_step": 1e-3, "steps": 10, "speed": 2000.0, "frequency": 12.0}
        for bad in (
            {"order": 6},
            {"steps": 1},
            {"save_every": 0},
            {"speed": -1.0},
            {"speed": 0.0},
            {"frequency": np.nan},
            {"time_step": 0.0},
            {"time_step": -1e-3},
            {"steps": 10.0},
            {"order": 8.0},
            {"save_every": True},
            {"min_points_per_wavelength": np.nan},
            {"min_points_per_wavelength": 0.0},
        ):
            with pytest.raises(errors.SimulationError):
                Propagator(grid, **(good | bad))

    def test_a_shot_of_another_grid(self, setup):
        _, p, vp, w, shot = setup
        other = Propagator(Grid((40, 40), 10.0, absorbing=30), time_step=2e-3, steps=200, speed=2000.0, frequency=12.0)
        with pytest.raises(errors.PositionError, match="another grid"):
            run(other, vp, w, shot)
        with pytest.raises(errors.SimulationError, match="shot must be a Shot"):
            run(p, vp, w, None)

    def test_settings_stay_as_they_are(self, setup):
        _, p, *_ = setup
        for name, value in (("save_every", 1), ("time_step", 1e-3), ("steps", 5), ("grid", Grid((9, 9), 1.0))):
            with pytest.raises(errors.SimulationError, match="make a new Propagator"):
                setattr(p, name, value)

    def test_a_weak_source_is_as_wrong_as_a_strong_one(self, setup):
        _, p, vp, w, _ = setup
        both = np.stack([1e3 * w, ricker(60.0, 2e-3, 200)], axis=1)
        with pytest.raises(errors.DispersionError):
            run(p, vp, both, p.shot([(50.0, 50.0), (60.0, 60.0)], [(90.0, 90.0)]))

    def test_what_is_no_number_of_cells_or_steps(self):
        for bad in ((30.5, 40), (30.0, 40.0), ("a", 3)):
            with pytest.raises(errors.SimulationError, match="whole"):
                Grid(bad, 10.0)
        assert Grid([30, 40], 10.0).shape == (30, 40)
        with pytest.raises(errors.SimulationError, match="free_surface"):
            Grid((30, 40), 10.0, free_surface="no")
        for bad in (2.5, 0, True):
            with pytest.raises(errors.SimulationError):
                ring_array(bad, 1.0, (0.0, 0.0))
        for center in (5.0, (1.0, 2.0, 3.0), ("a", "b")):
            with pytest.raises(errors.SimulationError, match="center"):
                ring_array(3, 1.0, center)
        for bad in ({"steps": 10.5}, {"delay": np.nan}, {"dtype": int}):
            with pytest.raises(errors.SimulationError):
                ricker(**({"frequency": 12.0, "time_step": 1e-3, "steps": 10} | bad))

    def test_positions_that_are_none(self, setup):
        _, p, *_ = setup
        for bad in ([["a", "b"]], [[1.0], [2.0, 3.0]], [1j, 2.0]):
            with pytest.raises(errors.PositionError):
                p.shot(bad, [(0.0, 0.0)])

    def test_a_free_surface_needs_the_rows_of_half_a_stencil(self):
        grid = Grid((3, 9), 10.0, free_surface=True)
        with pytest.raises(errors.SimulationError, match="at least 4 rows"):
            Propagator(grid, time_step=1e-3, steps=10, speed=2000.0, frequency=12.0)

    def test_misfit_of_other_shape_or_dtype(self):
        d = tw.Variable(np.zeros((3, 2)), name="d", needs_grad=True)
        for observed in (np.zeros((3, 1)), np.zeros((3, 2), "f4"), [[0.0]], tw.Variable(np.zeros((3, 2)))):
            with pytest.raises(errors.ShapeError):
                tw.wait(L2Misfit()(d, observed))
