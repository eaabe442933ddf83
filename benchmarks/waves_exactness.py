"""Is the adjoint the adjoint? Dot-product and Taylor tests of the wave propagator.

⟨F s, y⟩ = ⟨s, Fᵀ y⟩ for the propagator F, which is linear in the wavelet s, and ⟨J x, y⟩ = ⟨x, Jᵀ y⟩ for its Jacobian
J with respect to sound speed and wavelet, x and y random; errors are divided by ‖J x‖ ‖y‖.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

import thalweg as tw
from benchmarks.figures import Figure, Target
from thalweg.problems.waves import Grid, L2Misfit, Propagator, Shot

LIMITS = {"float64": 1e-12, "float32": 1e-5}
ORDERS = (4, 8)
DRAWS = 3
STEPS = 300
PLACES = {"inside": "points inside the model", "layer": "points inside the absorbing layer"}


class Driven(tw.Operator):
    """The propagator as a linear operator of the wavelet alone, without a tangent."""

    blocking = True

    def __init__(self, propagator: Propagator, vp: tw.Variable, shot: Shot) -> None:
        super().__init__()
        self._propagator, self._vp, self._shot = propagator, vp, shot

    def forward(self, wavelet: tw.Variable, *, call: tw.Call) -> tw.Variable:
        return self._propagator.forward(self._vp, wavelet, self._shot, call=call)

    def adjoint(self, grad: NDArray[Any], wavelet: tw.Variable, *, call: tw.Call) -> NDArray[Any]:
        _, d_wavelet = self._propagator.adjoint(grad, self._vp, wavelet, self._shot, call=call)
        return np.asarray(d_wavelet)


class Setting:
    """A propagator on a small rough model, its points between the cells, inside the model or the absorbing layer."""

    def __init__(self, dtype: str, order: int, *, free_surface: bool, place: str) -> None:
        rng = np.random.default_rng(20)
        self.grid = Grid((61, 74), 10.0, absorbing=12, free_surface=free_surface)
        self.propagator = Propagator(
            self.grid,
            time_step=1.2e-3,
            steps=STEPS,
            speed=2000.0,
            frequency=12.0,
            order=order,
            min_points_per_wavelength=0.1,  # the random x has energy at all frequencies
        )
        sources = np.array([[300.0, 200.0], [55.5, 623.1], [481.0, 404.4]])
        receivers = np.array([[20.0, 20.0], [333.3, 90.0], [590.9, 666.6], [127.7, 512.3]])
        if place == "layer":
            top = 640.2 if free_surface else -77.7  # there is no layer above a free surface
            sources = np.array([[top, 310.0], [222.2, -61.3], [698.1, 804.9]])
            receivers = np.array([[top, -88.8], [303.0, 790.0], [655.5, 120.1], [710.0, 840.0]])
        self.shot = self.propagator.shot(sources, receivers)
        self.speed = (2000.0 + 150.0 * rng.standard_normal(self.grid.shape)).astype(dtype)
        self.signal = rng.standard_normal(STEPS).astype(dtype)


def figures() -> Iterator[Figure]:
    """Yield the figures of exactness."""
    for what, tests in TESTS.items():
        for dtype, place in product(LIMITS, PLACES):
            yield _dot_products(what, tests, dtype, place)
    yield from _taylor()


Test = Callable[[Setting, np.random.Generator], float]


def _dot_products(what: str, tests: dict[str, Test], dtype: str, place: str) -> Figure:
    errors = {}
    for order, free_surface in product(ORDERS, (False, True)):
        setting = Setting(dtype, order, free_surface=free_surface, place=place)
        for by, draw in product(tests, range(DRAWS)):
            errors[order, free_surface, by, draw] = tests[by](setting, np.random.default_rng([order, draw]))
    order, free_surface, by, _ = max(errors, key=lambda key: errors[key])
    return Figure(
        f"dot product, {what}, {dtype}, {PLACES[place]}",
        tuple(errors.values()),
        target=Target(high=LIMITS[dtype]),
        choose=max,
        note=f"worst of {len(errors)}: order {order}, {_surface(free_surface)}, by {by}",
    )


def _propagator_error(setting: Setting, rng: np.random.Generator) -> float:
    operator = Driven(setting.propagator, tw.Variable(setting.speed, name="vp"), setting.shot)
    return tw.check_adjoint(operator, tw.Variable(setting.signal, name="wavelet"), rng=rng).error


def _jacobian_error(setting: Setting, rng: np.random.Generator, *, wavelet: bool) -> float:
    vp = tw.Variable(setting.speed, name="vp", needs_grad=True)
    signal = tw.Variable(setting.signal, name="wavelet", needs_grad=wavelet)
    return tw.check_adjoint(setting.propagator, vp, signal, setting.shot, rng=rng).error


# The sound speed also by itself: a random wavelet moves the traces so much more that it would hide a wrong gradient.
TESTS: dict[str, dict[str, Test]] = {
    "propagator": {"wavelet": _propagator_error},
    "Jacobian": {
        "speed": partial(_jacobian_error, wavelet=False),
        "speed and wavelet": partial(_jacobian_error, wavelet=True),
    },
}


def _surface(free: bool) -> str:
    return "free surface" if free else "no free surface"


def _taylor() -> Iterator[Figure]:
    """|J(c + h d) − J(c)| falls like h, and like h² without its first-order term; both slopes from the least h."""
    slopes: list[tuple[float, float]] = []
    cases = list(product(ORDERS, (False, True), PLACES))
    for order, free_surface, place in cases:
        setting = Setting("float64", order, free_surface=free_surface, place=place)
        wavelet = tw.Variable(setting.signal, name="wavelet")
        background = tw.Variable(np.full(setting.grid.shape, 2000.0), name="background")
        observed = tw.wait(setting.propagator(background, wavelet, setting.shot)).data
        direction = 20.0 * np.random.default_rng(order).standard_normal(setting.grid.shape)  # m/s
        vp = tw.Variable(setting.speed, name="vp", needs_grad=True)
        slopes.append(tw.check_gradient(_Loss(setting, wavelet, observed), vp, direction=direction).slopes)
    for expected, index, name in ((1.0, 0, "without"), (2.0, 1, "with")):
        found = tuple(pair[index] for pair in slopes)
        order, free_surface, place = cases[int(np.argmax(np.abs(np.array(found) - expected)))]
        yield Figure(
            f"Taylor slope {name} the gradient, float64",
            found,
            target=Target(0.95 * expected, 1.05 * expected),
            choose=partial(max, key=lambda slope, expected=expected: abs(slope - expected)),
            note=f"worst of {len(found)}: order {order}, {_surface(free_surface)}, {PLACES[place]}",
        )


class _Loss:
    """The misfit as a function of the sound speed alone."""

    def __init__(self, setting: Setting, wavelet: tw.Variable, observed: NDArray[Any]) -> None:
        self._setting, self._wavelet, self._observed = setting, wavelet, observed
        self._misfit = L2Misfit()

    async def __call__(self, vp: tw.Variable) -> tw.Variable:
        traces = await self._setting.propagator(vp, self._wavelet, self._setting.shot)
        loss: tw.Variable = await self._misfit(traces, self._observed)
        return loss
