"""What a study says about a wave problem: the ``[problem]`` table and the keys of its ``[[blocks]]``."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

# The bounds are far beyond anything physical: what lies outside is a slip, and would overflow somewhere later.
Positive = Annotated[float, Field(ge=1e-12, le=1e12, allow_inf_nan=False)]
Finite = Annotated[float, Field(ge=-1e12, le=1e12, allow_inf_nan=False)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Size = Annotated[int, Field(ge=2, le=100_000)]
Small = Annotated[int, Field(ge=1, le=1_000)]


def _tuple(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value  # TOML knows lists only


AsTuple = BeforeValidator(_tuple)
Position = Annotated[tuple[Finite, Finite], AsTuple]


class Table(BaseModel):
    """A table of the study; keys that it does not declare are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


class Ring(Table):
    """Transducers evenly spaced on a circle, the first along the second axis."""

    kind: Literal["ring"]
    count: Count
    radius: Positive  # m
    center: Position | None = None  # m; the grid's center unless given


class Line(Table):
    """Transducers evenly spaced from ``start`` to ``stop``, both included."""

    kind: Literal["line"]
    count: Count
    start: Position  # m
    stop: Position  # m


class FromFile(Table):
    """An array of an ``.npz`` file; a relative path starts at the study's folder."""

    kind: Literal["file"]
    path: str
    key: str | None = None  # the array's name; what the table is about ("vp", "traces", ...) unless given


class Constant(Table):
    """The same sound speed everywhere."""

    kind: Literal["constant"]
    speed: Positive  # m/s


class Head(Table):
    """The head phantom in water (`thalweg.problems.waves.phantom`)."""

    kind: Literal["head"]


class Inclusion(Table):
    """A disk of another sound speed in a uniform background, its rim smoothed over a cell."""

    kind: Literal["inclusion"]
    background: Positive  # m/s
    speed: Positive  # m/s
    center: Position  # m
    radius: Positive  # m


class TruthFile(FromFile):
    """A known model, with the part of it in which errors are measured."""

    mask: str | None = None  # name of a Boolean array in the same file; everywhere unless given


class Simulated(Table):
    """Observed data made from the truth on a finer grid, with noise."""

    kind: Literal["simulated"]
    finer_space: Annotated[float, Field(ge=0.1, lt=1.0)] = 0.75  # spacing, as a fraction of the inversion's
    finer_time: Annotated[tuple[Small, Small], AsTuple] = (2, 3)  # time step, likewise
    noise: Annotated[float, Field(ge=0.0, le=1e3, allow_inf_nan=False)] = 0.01  # standard deviation ÷ RMS of the data

    @model_validator(mode="after")
    def _finer(self) -> Simulated:
        if self.finer_time[0] >= self.finer_time[1]:
            raise ValueError("finer_time must be a fraction below 1, such as [2, 3]")
        return self


class ToneBurst(Table):
    """Sine under a Gaussian envelope."""

    kind: Literal["tone_burst"]
    cycles: Positive = 3.0
    frequency: Positive | None = None  # Hz; of the blocks that give none


class Ricker(Table):
    """Ricker wavelet."""

    kind: Literal["ricker"]
    frequency: Positive | None = None  # Hz; of the blocks that give none


class Disk(Table):
    """Only cells in a circle are updated; the gradient fades over ``taper`` at its rim."""

    kind: Literal["disk"]
    radius: Positive  # m
    center: Position | None = None  # m; the grid's center unless given
    taper: Positive  # m


Transducers = Annotated[Ring | Line | FromFile, Field(discriminator="kind")]


class WaveSettings(Table):
    """The ``[problem]`` table of a study of kind ``waves``."""

    shape: Annotated[tuple[Size, Size], AsTuple]
    spacing: Positive  # m
    time_step: Positive  # s
    steps: Annotated[int, Field(ge=2, le=1_000_000)]
    absorbing: Annotated[int, Field(ge=0, le=10_000)] = 20  # cells
    free_surface: bool = False
    order: Literal[4, 8] = 8
    time_correction: bool = True  # take the error of the time step out (`time_dispersion`)
    min_offset: Annotated[float, Field(ge=0.0, le=1e12, allow_inf_nan=False)] = 0.0  # m; nearer receivers are left out
    save_every: Annotated[int, Field(ge=1)] = 1
    dtype: Literal["float32", "float64"] = "float32"
    speeds: Annotated[tuple[Positive, Positive], AsTuple] | None = (
        None  # m/s, lowest and highest that the model may reach
    )
    start: Annotated[Constant | FromFile, Field(discriminator="kind")]
    truth: Annotated[Head | Inclusion | TruthFile, Field(discriminator="kind")] | None = None
    observed: Annotated[Simulated | FromFile, Field(discriminator="kind")]
    sources: Transducers
    receivers: Transducers | None = None  # the sources, unless given
    wavelet: Annotated[ToneBurst | Ricker | FromFile, Field(discriminator="kind")]
    region: Annotated[Disk | FromFile, Field(discriminator="kind")] | None = None  # where the model may change

    @model_validator(mode="after")
    def _consistent(self) -> WaveSettings:
        if self.observed.kind == "simulated" and self.truth is None:
            raise ValueError("observed data of kind 'simulated' needs a [problem.truth] to simulate")
        if self.speeds is not None and self.speeds[0] >= self.speeds[1]:
            raise ValueError("speeds must be [lowest, highest]")
        return self


class WaveBlock(Table):
    """What a block of a wave study may add: its frequency band."""

    frequency: Positive | None = None  # Hz, of the wavelet
    low_pass: Positive | None = None  # Hz; filters the wavelet and the observed data alike
