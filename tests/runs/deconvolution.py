"""A small real problem for the tests of runs: blind to nothing, a signal behind several known blurs.

Each item i is a measurement d_i = k_i * x + noise of one signal x; the loss is Σ_i ½‖k_i * x − d_i‖². The
gradient comes from the adjoint graph, one graph an item, in the runtime's threads. Blocks choose how much of
the high frequencies of the data is used. ``pause``, ``fail_at`` and ``bad_loss_at`` are for tests that stop a
run.
"""

import functools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from thalweg.graph import Operator, Variable, wait
from thalweg.runs.problem import Check, Feedback, Problem


class Blur(Operator):
    """y = k * x, circular; its adjoint correlates."""

    def __init__(self, spectrum):
        self.spectrum = spectrum

    def forward(self, x):
        return Variable(np.fft.irfft(np.fft.rfft(x.data) * self.spectrum, len(x.data)))

    def adjoint(self, grad, x):
        return np.fft.irfft(np.fft.rfft(grad) * np.conj(self.spectrum), len(grad))


class Misfit(Operator):
    """½‖y − d‖²."""

    def forward(self, y, d):
        return Variable(0.5 * np.sum((y.data - d) ** 2))

    def adjoint(self, grad, y, d):
        return (grad * (y.data - d),)


def item_feedback(x, spectra, data, item):
    """Loss and gradient of one measurement (runs in a thread)."""

    async def work():
        leaf = Variable(x, name="x", needs_grad=True)
        loss = await Misfit()(await Blur(spectra[item])(leaf), data[item])
        await loss.adjoint()
        return {"loss": float(loss.data), "x": leaf.grad}

    return wait(work())


class Deconvolution(Problem):
    """The problem; see the module."""

    kind = "deconvolution"
    item_name = "measurement"

    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True)
        length: int = Field(default=64, ge=8)
        measurements: int = Field(default=6, ge=1)
        noise: float = Field(default=0.01, ge=0)
        pause: float = 0.0  # s an item
        fail_at: int = -1  # the call of feedback that raises
        bad_loss_at: int = -1
        bad_metric_at: int = -1
        broken_ending: bool = False
        slow_picture: float = 0.0  # s
        truth_file: str = ""

    class BlockSettings(BaseModel):
        model_config = ConfigDict(extra="forbid", strict=True)
        cutoff: float = Field(default=1.0, gt=0, le=1)

    instances: ClassVar[list] = []

    def __init__(self, settings, blocks, truth, seed):
        self.settings, self.blocks, self.truth, self.seed = settings, blocks, truth, seed
        self.x = Variable(np.zeros(settings.length), name="x", needs_grad=True)
        self.variables = (self.x,)
        self.items = settings.measurements
        self.calls = 0
        self.threads = set()
        Deconvolution.instances.append(self)

    @classmethod
    def build(cls, settings, blocks, *, seed, folder):
        if settings.truth_file:
            truth = np.load(folder / settings.truth_file)["truth"]
        else:
            t = np.linspace(0, 1, settings.length)
            truth = np.where((t > 0.2) & (t < 0.5), 1.0, 0.0) + np.exp(-(((t - 0.75) / 0.05) ** 2))
        return cls(settings, blocks, truth, seed)

    def plan(self, runtime, iterations):
        return [("signal", f"{self.settings.length} samples"), ("memory", "less than 1 MiB")]

    async def prepare(self, runtime, progress):
        n = self.settings.length
        rng = np.random.default_rng(self.seed)
        frequency = np.fft.rfftfreq(n)
        self.spectra = [np.exp(-((frequency * (1 + i)) ** 2)) for i in range(self.items)]
        clean = [np.fft.irfft(np.fft.rfft(self.truth) * s, n) for s in self.spectra]
        self.recorded = []
        for i, d in enumerate(clean):
            self.recorded.append(d + self.settings.noise * rng.standard_normal(n))
            progress(i + 1, self.items, "recording")

    async def begin_block(self, index):
        keep = np.fft.rfftfreq(self.settings.length) <= 0.5 * self.blocks[index].cutoff
        self.band = [s * keep for s in self.spectra]
        self.data = [np.fft.irfft(np.fft.rfft(d) * keep, self.settings.length) for d in self.recorded]

    async def feedback(self, batch, runtime):
        self.calls += 1
        if self.calls == self.settings.fail_at:
            raise ZeroDivisionError("the simulator broke")
        work = functools.partial(self._item, self.x.data, self.band, self.data)
        total = await runtime.map_reduce(work, batch)
        loss = float("nan") if self.calls == self.settings.bad_loss_at else total["loss"]
        return Feedback(loss, {"x": total["x"]}, {"per_sample": total["loss"] / self.settings.length})

    def _item(self, x, band, data, item):
        self.threads.add(threading.get_ident())
        time.sleep(self.settings.pause)
        return item_feedback(x, band, data, item)

    def arrays(self):
        return {"mask": np.ones(self.settings.length)}

    def metrics(self):
        error = np.linalg.norm(self.x.data - self.truth) / np.linalg.norm(self.truth)
        return {"error": float("inf") if self.calls == self.settings.bad_metric_at else float(error)}

    def summary(self):
        if self.settings.broken_ending:
            raise OSError("no summary today")
        return {"error_end": self.metrics()["error"], "seed": "not yours"}

    def results(self):
        return {"x": self.x.data, "truth": self.truth}

    def figures(self, history):
        def draw(path: Path):
            from matplotlib.backends.backend_agg import FigureCanvasAgg
            from matplotlib.figure import Figure

            if self.settings.broken_ending:
                raise OSError("no picture today")
            (path.parent / "drawing").touch()
            time.sleep(self.settings.slow_picture)
            (path.parent / "drawing").unlink()
            figure = Figure()
            FigureCanvasAgg(figure)
            figure.add_subplot().plot(self.truth)
            figure.savefig(path)

        return {"signal": draw}

    def checks(self) -> Iterator[Check]:
        blur = Blur(np.exp(-(np.fft.rfftfreq(self.settings.length) ** 2)))
        rng = np.random.default_rng(0)
        x, y = rng.standard_normal((2, self.settings.length))
        left = wait(blur(Variable(x))).data @ y
        error = abs(left - x @ blur.adjoint(y, None)) / abs(left)
        yield Check("adjoint test", f"{error:.1e}", "<= 1e-12", bool(error <= 1e-12), seconds=0.25)
        yield Check("noise", f"{self.settings.noise}", "<= 0.1", self.settings.noise <= 0.1, "Too much noise.")
