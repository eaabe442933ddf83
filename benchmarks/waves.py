"""The figures of wave imaging: exactness, accuracy, and speed beside deepwave and Devito."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import waves_accuracy, waves_exactness
from benchmarks.contenders.wave_job import WaveJob
from benchmarks.contest import Options, Outcome, contest, peers
from benchmarks.figures import Figure, Target, number

CONTENDERS = {"thalweg": "waves_thalweg", "deepwave": "waves_deepwave", "Devito": "waves_devito"}
FASTEST_EXPECTED = Target(low=2.0)
SAME_JOB = 0.03  # relative L2 difference of the traces before anything returns from the absorbing layer
NOTES = (
    "Points counted: 2 (forward and back) · (cells + 2 · 20)² · steps · shots. All contenders have the same models, "
    "wavelet, positions (on grid points), misfit and number of threads (2), in float32, and make their own observed "
    "data; making it, compiling, building operators and one whole gradient are warm-up and not timed.",
    "Thalweg: convolutional PML; all that a user's gradient includes: graph, geometry, misfit, adjoint run, sum over "
    "shots; one shot a thread.",
    "deepwave: convolutional PML; both shots are one batch on two threads; 'every 4th' is its "
    "model_gradient_sampling_interval=4.",
    "Devito: a sponge of one damping term instead of a PML, which is cheaper and reflects, so that its late traces and "
    "its gradient differ; linear interpolation at sources and receivers; one shot after the other on two OpenMP "
    "threads; 'every 4th' keeps u in a ConditionalDimension and correlates it with ∂²v/∂t² at those steps.",
    "Beside each peer: how far its traces before anything returns from the layer, all its traces, and its gradient "
    "(without the outermost cells) are from Thalweg's on the same job, relative L2.",
)


def figures(options: Options) -> list[Figure]:
    """Measure everything; ``--quick`` shrinks the speed contest only."""
    found: list[Figure] = []
    for source in (waves_accuracy.figures(), waves_exactness.figures()):
        for figure in source:
            options.say(figure.name)
            found.append(figure)
    gradients: dict[tuple[int, int], NDArray[np.float64]] = {}
    for order, save_every in product((4, 8), (4, 1)):
        figure, gradient = _speed(order, save_every, options)
        found.append(figure)
        if gradient is not None:
            gradients[order, save_every] = gradient
    for order in (4, 8):
        if {(order, 4), (order, 1)} <= gradients.keys():
            error = _difference(gradients[order, 4], gradients[order, 1])
            found.append(
                Figure(
                    f"error of the gradient with every 4th step saved, order {order}",
                    (100.0 * error,),
                    unit="%",
                    note="relative L2, of the job whose speed is measured",
                )
            )
    return found


def _speed(order: int, save_every: int, options: Options) -> tuple[Figure, NDArray[np.float64] | None]:
    kept = f"every {save_every}th step saved" if save_every > 1 else "exact (every step saved)"
    name = f"forward + gradient, order {order}, {kept}"
    options.say(name)
    size: dict[str, Any] = {"cells": 300, "steps": 1000}
    if options.quick:
        size = {"cells": 80, "steps": 400, "at_least": 0.02}
    with tempfile.TemporaryDirectory() as folder:
        job = WaveJob(**size, order=order, save_every=save_every, results=folder)
        outcomes = contest(CONTENDERS, asdict(job), options)
        results = {file.stem: dict(np.load(file)) for file in Path(folder).glob("*.npz")}
    ours, *others = outcomes.values()

    def speed(seconds: float) -> float:
        return job.points / seconds / 1e9

    figure = Figure(
        name,
        tuple(speed(seconds) for seconds in ours.samples),
        unit="Gpts/s",
        target=FASTEST_EXPECTED if save_every > 1 else None,
        judged=not options.quick,
        note=ours.problem or _suspicion(ours),
        peers=peers(
            outcomes,
            scale=speed,
            better=lambda our, their: our / their,
            notes={other.name: _comparison(job, other, results) for other in others},
        ),
    )
    return figure, results["thalweg"]["gradient"] if "thalweg" in results else None


def _suspicion(outcome: Outcome) -> str:
    """Say what is wrong with a gradient that is none."""
    if outcome.facts.get("zero"):
        return "ITS GRADIENT IS ZERO"
    return "" if outcome.facts.get("finite", True) else "ITS GRADIENT IS NOT FINITE"


def _comparison(job: WaveJob, other: Outcome, results: dict[str, dict[str, NDArray[Any]]]) -> str:
    if suspicion := _suspicion(other):
        return suspicion
    if not {"thalweg", other.name} <= results.keys():
        return ""
    ours, theirs = results["thalweg"], results[other.name]
    early = job.undisturbed
    at_first = _difference(theirs["traces"][early], ours["traces"][early])
    traces = _difference(theirs["traces"], ours["traces"])
    inner = slice(1, -1)  # the gradient of the absorbing cells is added to the outermost ones, or is not
    gradient = _difference(theirs["gradient"][inner, inner], ours["gradient"][inner, inner])
    early_text, all_text, gradient_text = (f"{number(100.0 * d)} %" for d in (at_first, traces, gradient))
    text = f"from ours: early traces {early_text}, all traces {all_text}, gradient {gradient_text}"
    return text if at_first <= SAME_JOB else f"NOT THE SAME JOB? {text}"


def _difference(found: NDArray[Any], expected: NDArray[Any]) -> float:
    found, expected = found.astype(np.float64), expected.astype(np.float64)
    return float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
