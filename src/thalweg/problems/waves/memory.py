"""The memory that a run will need, said before anything is computed.

::

    threads              n · shot                          + observed data + Python
    worker processes     n · (shot + observed data + Python) + observed data + Python     the last two are the client's
"""

from __future__ import annotations

from thalweg.problems.waves import settings as spec
from thalweg.problems.waves.setup import WaveSetup
from thalweg.problems.waves.time_dispersion import RemoveTimeDispersion
from thalweg.runtime import Dask, Runtime
from thalweg.runtime.onworker import KEPT

PROCESS = 350 * 2**20  # bytes that Python, NumPy, SciPy and numba's compiler took on x86-64


def memory_needed(setup: WaveSetup, runtime: Runtime) -> str:
    """Say how much memory a run needs, and for what.

    Args:
        setup: the study.
        runtime: where the shots are to be computed; it need not have begun.

    Example:
        >>> from thalweg.problems.waves.memory import memory_needed
        >>> from thalweg.runs import Study
        >>> from thalweg.runs.shipped import find_study
        >>> from thalweg.runtime import Local
        >>> problem = Study.load(find_study("inclusion")).build_problem()
        >>> memory_needed(problem.setup, Local(threads=2)).partition(" (")[0]
        'about 388 MiB: 2 × 19 MiB for a shot'
    """
    every = setup.settings.save_every
    kept = "every wavefield" if every == 1 else f"every {every}th wavefield"
    shot = f"{_mebibytes(setup.propagator(0).memory(setup.dtype))} for a shot ({kept})"
    python = f"{_mebibytes(PROCESS)} for Python and its compiler"
    here, there = (copies * _band(setup) for copies in _copies(setup, runtime))
    if not isinstance(runtime, Dask):
        count = min(max(1, runtime.workers), len(setup.sources))
        total = _shots(setup, count) + here + PROCESS
        return f"about {_mebibytes(total)}: {count} × {shot}, {_mebibytes(here)} of observed data, {python}"
    worker, client = _shots(setup, 1) + there + PROCESS, here + PROCESS
    parts = f"{shot}, {_mebibytes(there)} of observed data, {python}"
    if runtime.scheduler is not None:
        return f"about {_mebibytes(worker)} for each worker that computes one shot at once: {parts}"
    count = runtime.workers
    return (
        f"about {_mebibytes(count * worker + client)}: {_mebibytes(client)} for this process and {count} × "
        f"{_mebibytes(worker)} for a worker: {parts}"
    )


def _shots(setup: WaveSetup, count: int) -> int:
    """What a process needs that computes so many shots at once, bytes: with gradients, or observed data of a finer
    grid."""
    s, size, receivers = setup.settings, setup.dtype.itemsize, len(setup.receivers)
    # One gradient a level of the tree, and the traces of a shot with their residual and their corrected form.
    gradients = (len(setup.sources).bit_length() + count) * setup.start.nbytes
    inverting = count * (setup.propagator(0).memory(setup.dtype) + 4 * s.steps * receivers * size) + gradients
    inverting += setup.correction.memory(setup.dtype) if setup.correction else 0
    if not isinstance(s.observed, spec.Simulated):
        return inverting
    finer, _ = setup.finer(s.observed, 0)
    making = count * (finer.memory(setup.dtype, gradient=False) + 8 * finer.steps * receivers * 4)
    making += RemoveTimeDispersion(finer.steps).memory(setup.dtype) if s.time_correction else 0
    return max(inverting, making)


def _band(setup: WaveSetup) -> int:
    """The observed data of one block, bytes."""
    return len(setup.sources) * setup.settings.steps * len(setup.receivers) * setup.dtype.itemsize


def _copies(setup: WaveSetup, runtime: Runtime) -> tuple[int, int]:
    """How many blocks' observed data are held where the steps are made, and in a worker process."""
    blocks = len(setup.blocks)
    kept = min(KEPT, blocks)
    if isinstance(setup.settings.observed, spec.Simulated):  # made for all blocks; also kept as they were sent
        return blocks + (kept if isinstance(runtime, Dask) and runtime.scheduler is None else 0), 2 * kept
    return (0 if isinstance(runtime, Dask) else 2), kept + 1  # one of them while the file is read


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"
