"""Trajectories to hold our update rules against: what others compute from the same gradients.

``trajectory(library, rule, start, grads, ...)`` gives the parameter after every step, in float64, where ``library`` is

- ``"torch"``, ``"optax"``, ``"keras"``: the library itself;
- ``"mxnet"``, ``"pycmtensor"``: the formulas of their pages, in NumPy;
- ``"paper"``: the original papers' formulas, in NumPy.

A hyperparameter has our name; one that is not given has the library's own default (``DEFAULTS``), one that the
library has not is a TypeError. Nothing here uses the library under test, and importing this needs NumPy only.
"""

import importlib.util
import inspect
from collections.abc import Mapping

import numpy as np

from tests.references import libraries, pages, papers

_FORMULAS = {
    "mxnet": pages.MXNET,
    "pycmtensor": pages.PYCMTENSOR,
    "paper": papers.RULES,
}
_LIBRARIES = libraries.LIBRARIES

AVAILABLE = {name: tuple(library.rules) for name, library in _LIBRARIES.items()} | {
    name: tuple(rules) for name, rules in _FORMULAS.items()
}


def installed(library):
    """Whether the library can be asked; formulas always can."""
    return library in _FORMULAS or importlib.util.find_spec(_LIBRARIES[library].module) is not None


# Keywords of formulas that choose between two readings of a paper or a page: no hyperparameters.
_READINGS = {"epsilon_inside", "epsilon_hat", "rate_scales_decay", "scheduled_average", "evaluated"}


class _Defaults(Mapping):
    """rule → our names → the library's defaults, from its signatures, which are looked at when they are asked for."""

    def __init__(self, library):
        self.library = library

    def __getitem__(self, rule):
        if self.library in _FORMULAS:
            parameters = inspect.signature(_FORMULAS[self.library][rule]).parameters.values()
            keywords = {each.name: each.default for each in parameters if each.kind is each.KEYWORD_ONLY}
            return {name: default for name, default in keywords.items() if name not in _READINGS}
        library = _LIBRARIES[self.library]
        call = library.rules[rule]
        found = libraries.defaults(call, library.target(call))
        return {"weight_decay": 0, **found} if self.library == "optax" else found  # coupled, by a chain

    def __iter__(self):
        return iter(AVAILABLE[self.library])

    def __len__(self):
        return len(AVAILABLE[self.library])


DEFAULTS = {library: _Defaults(library) for library in AVAILABLE}


def trajectory(library, rule, start, grads, *, rates=None, **hyper):
    """The parameters after each step.

    Args:
        library: a key of ``AVAILABLE``.
        rule: our name, one of ``AVAILABLE[library]``.
        start: float64 of shape (size,).
        grads: float64 of shape (steps, size).
        rates: the learning rate of each step, shape (steps,), as the library follows a schedule.
        hyper: our names, e.g. ``learning_rate``, ``beta1``, ``weight_decay``.

    Returns:
        float64 of shape (steps, size).
    """
    start, grads = np.array(start, dtype=np.float64), np.array(grads, dtype=np.float64)
    if grads.ndim != 2 or start.shape != grads.shape[1:]:
        raise ValueError(f"start has shape {start.shape} and grads {grads.shape}, not (size,) and (steps, size)")
    if rates is not None:
        rates = np.array(rates, dtype=np.float64)
        if rates.shape != grads.shape[:1]:
            raise ValueError(f"rates has shape {rates.shape}, not {grads.shape[:1]}")
    if library in _FORMULAS:
        points = _FORMULAS[library][rule](start, grads, rates, **hyper)
    else:
        points = _LIBRARIES[library].points(rule, start, grads, rates, hyper)
    return np.array(points if isinstance(points, np.ndarray) else list(points), dtype=np.float64)


def schedule_free_eval(library, start, grads, *, rates=None, **hyper):
    """What ``schedule_free_adamw`` would have evaluated after each step (x, where ``trajectory`` gives y)."""
    if library == "paper":
        return trajectory(library, "schedule_free_adamw", start, grads, rates=rates, evaluated=True, **hyper)
    if library == "optax":
        rates = None if rates is None else np.array(rates, dtype=np.float64)
        points = libraries.optax_points
        return points("schedule_free_adamw", start, grads, rates, hyper, evaluated=True)
    raise ValueError(f'library is {library!r}, and only "paper" and "optax" say what is to be evaluated')


def distance(points, expected):
    """The largest difference, in units of max(1, the largest magnitude that the parameter has had so far).

    Not of its present magnitude: a parameter that took steps of 1e5 and comes near 0 again carries their rounding.
    """
    scale = np.maximum.accumulate(np.abs(expected), axis=0)
    return float(np.max(np.abs(points - expected) / np.maximum(1.0, scale)))


def recorded(seed, *, steps=1000, size=24, low=-8, high=8):
    """A start and a sequence of gradients that is hard on update rules.

    The magnitudes of the columns go from 10^low to 10^high. Each column drifts, swings at a period of its own, and is
    noisy enough to change its sign; one entry in fifty is exactly 0, and so are the first five of the middle column.
    The noise is as large as the rest, so that the variance of a centered rule is no difference of nearly equal
    numbers.
    """
    rng = np.random.default_rng(seed)
    time = np.arange(steps)[:, None]
    drift = rng.uniform(-0.5, 0.5, size)
    swing = rng.uniform(0.2, 0.8, size) * np.cos(
        2 * np.pi * (time / rng.uniform(15, 300, size) + rng.uniform(size=size))
    )
    grads = np.logspace(low, high, size) * (drift + swing + rng.normal(size=(steps, size)))
    grads[rng.random((steps, size)) < 0.02] = 0.0
    grads[:5, size // 2] = 0.0
    return rng.normal(size=size), grads
