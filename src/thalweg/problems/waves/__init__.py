"""Full-waveform inversion: ultrasound tomography and seismics through the adjoint graph."""

from thalweg.problems.waves.geometry import line_array, ring_array
from thalweg.problems.waves.grid import Grid
from thalweg.problems.waves.misfit import L2Misfit
from thalweg.problems.waves.problem import WaveProblem
from thalweg.problems.waves.propagator import Propagator, Shot
from thalweg.problems.waves.time_dispersion import AddTimeDispersion, RemoveTimeDispersion
from thalweg.problems.waves.wavelets import highest_frequency, ricker, tone_burst

__all__ = [
    "AddTimeDispersion",
    "Grid",
    "L2Misfit",
    "Propagator",
    "RemoveTimeDispersion",
    "Shot",
    "WaveProblem",
    "highest_frequency",
    "line_array",
    "ricker",
    "ring_array",
    "tone_burst",
]
