"""Functions of 8 numbers, and one of numbers and choices: each with an optimum of value 0 at a place of its own.

::

    f(R·(x − o))     o: drawn from the inner part of each axis, the start from all of it;  R: a rotation, of some

Source: the functions as Surjanovic and Bingham's Virtual Library of Simulation Experiments has them; steps and
ellipsoid after Hansen et al., Real-parameter black-box optimization benchmarking 2009, functions 2, 7 and 10.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

DIMENSIONS = 8
CONDITION = 1e6
PLATEAU = 2.0  # how wide a step is
Made = tuple[dict[str, Any], Callable[[Any], float], Any]


def box(low: float, high: float) -> dict[str, Any]:
    """The schema of a point."""
    number = {"type": "number", "minimum": low, "maximum": high}
    return {"type": "array", "items": number, "minItems": DIMENSIONS, "maxItems": DIMENSIONS}


def _ackley(z: NDArray[np.float64]) -> float:
    far, waves = np.exp(-0.2 * np.sqrt(np.mean(z**2))), np.exp(np.mean(np.cos(2 * np.pi * z)))
    return float(20.0 + np.e - 20.0 * far - waves)


def _rosenbrock(z: NDArray[np.float64]) -> float:
    z = z + 1.0
    return float(np.sum(100.0 * (z[1:] - z[:-1] ** 2) ** 2 + (1.0 - z[:-1]) ** 2))


def _rastrigin(z: NDArray[np.float64]) -> float:
    return float(np.sum(z**2 - 10.0 * np.cos(2 * np.pi * z) + 10.0))


def _griewank(z: NDArray[np.float64]) -> float:
    return float(1.0 + np.sum(z**2) / 4000.0 - np.prod(np.cos(z / np.sqrt(np.arange(1, DIMENSIONS + 1)))))


def _levy(z: NDArray[np.float64]) -> float:
    w = 1.0 + z / 4.0
    inner = (w[:-1] - 1.0) ** 2 * (1.0 + 10.0 * np.sin(np.pi * w[:-1] + 1.0) ** 2)
    last = (w[-1] - 1.0) ** 2 * (1.0 + np.sin(2 * np.pi * w[-1]) ** 2)
    return float(np.sin(np.pi * w[0]) ** 2 + np.sum(inner) + last)


def _ellipsoid(z: NDArray[np.float64]) -> float:
    return float(np.sum(CONDITION ** (np.arange(DIMENSIONS) / (DIMENSIONS - 1)) * z**2))


def _steps(z: NDArray[np.float64]) -> float:
    return float(np.sum(np.floor(z / PLATEAU + 0.5) ** 2))


@dataclass(frozen=True)
class Landscape:
    """A function of the way from its optimum."""

    height: float  # the box is ± this
    f: Callable[[NDArray[np.float64]], float]
    inner: float = 0.8  # share of each axis that the optimum is drawn from
    turned: bool = False


LANDSCAPES = {
    "ackley": Landscape(32.768, _ackley, inner=0.5),
    "rosenbrock": Landscape(5.0, _rosenbrock, inner=0.5),
    "rastrigin": Landscape(5.12, _rastrigin, turned=True),
    "griewank": Landscape(600.0, _griewank),
    "levy": Landscape(10.0, _levy),
    "ellipsoid": Landscape(5.0, _ellipsoid, turned=True),
    "steps": Landscape(10.0, _steps),
}


def make(name: str, rng: np.random.Generator) -> Made:
    """Schema, loss and start of an instance."""
    if name == "mixed":
        return _mixed(rng)
    shape = LANDSCAPES[name]
    optimum = 2.0 * shape.height * rng.uniform(-shape.inner / 2, shape.inner / 2, DIMENSIONS)
    start = rng.uniform(-shape.height, shape.height, DIMENSIONS).tolist()
    rotation = np.linalg.qr(rng.normal(size=(DIMENSIONS, DIMENSIONS)))[0] if shape.turned else np.eye(DIMENSIONS)

    def loss(x: list[float]) -> float:
        return shape.f(rotation @ (np.array(x) - optimum))

    return box(-shape.height, shape.height), loss, start


# -- numbers and choices --------------------------------------------------------------------

KINDS = ["flat", "round", "square", "split", "long"]
_UNIT = {"type": "number", "minimum": -5, "maximum": 5}
MIXED = {
    "type": "object",
    "properties": {
        "a": _UNIT,
        "b": _UNIT,
        "c": _UNIT,
        "rate": {"type": "number", "minimum": 1e-5, "maximum": 1, "x-scale": "log"},
        "depth": {"type": "integer", "minimum": 1, "maximum": 32},
        "width": {"type": "integer", "minimum": 1, "maximum": 1024, "x-scale": "log"},
        "kind": {"enum": KINDS},
        "flag": {"type": "boolean"},
    },
}


def _mixed(rng: np.random.Generator) -> Made:
    """Each kind has a price, and an optimum of the numbers; the flag changes how long the valley is."""
    centers = {kind: rng.uniform(-4, 4, 3) for kind in KINDS}
    prices = dict(zip(KINDS, rng.permutation(np.arange(len(KINDS))).tolist(), strict=True))
    rate, depth, width = rng.uniform(-4.5, -0.5), int(rng.integers(3, 31)), rng.uniform(1, 9)
    flag = bool(rng.integers(2))
    start = {
        **dict(zip("abc", rng.uniform(-5, 5, 3).tolist(), strict=True)),
        "rate": float(10.0 ** rng.uniform(-5, 0)),
        "depth": int(rng.integers(1, 33)),
        "width": int(2.0 ** rng.uniform(0, 10)),
        "kind": str(rng.choice(KINDS)),
        "flag": bool(rng.integers(2)),
    }

    def loss(value: dict[str, Any]) -> float:
        far = np.array([value[key] for key in "abc"]) - centers[value["kind"]]
        stretch = 1.0 if value["flag"] == flag else 3.0
        numbers = stretch * float(far @ far) / 8.0 + (np.log10(value["rate"]) - rate) ** 2
        return float(
            numbers
            + ((value["depth"] - depth) / 4.0) ** 2
            + 0.25 * (np.log2(value["width"]) - width) ** 2
            + 0.5 * prices[value["kind"]]
        )

    return MIXED, loss, start
