"""What a run optimizes: the face between the one loop and everything that gives feedback.

A run minimizes a sum over items (shots, rows of a table, samples)::

    loss(v) = Σ_i loss_i(v),        gradients of one batch B:  Σ_{i in B} ∂loss_i / ∂v

The loop selects a batch of items, asks the problem for the :class:`Feedback` of that batch at the variables'
present values, and hands the feedback to the optimizer. Whatever a user brings stands behind this face.
"""

from __future__ import annotations

import abc
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from thalweg.runs.variables import as_arrays

if TYPE_CHECKING:
    from pydantic import BaseModel

    from thalweg.errors import ThalwegError
    from thalweg.graph import Variable
    from thalweg.runs.history import History
    from thalweg.runtime import Runtime
    from thalweg.search.trials import Scored

Progress = Callable[[int, int, str], None]
"""``progress(done, total, text)``: may be called from any thread, cheap enough to be called once per item."""


@dataclass(frozen=True)
class Feedback:
    """What a problem says about one batch at the variables' present values.

    Args:
        loss: the sum of the batch's losses, one finite number in the problem's own unit.
        gradients: by variable name, the sum of the batch's gradients; shape and dtype are the variable's, the
            unit is that of the loss divided by the variable's.
        metrics: further finite numbers about this batch, logged with the iteration.
        rewards: of a search, in the place of gradients: what came of each candidate
            (:class:`thalweg.search.trials.Scored`).

    Example:
        >>> import numpy as np
        >>> from thalweg.runs import Feedback
        >>> Feedback(2.5, {"speed": np.zeros(3)}).metrics
        {}
    """

    loss: float
    gradients: dict[str, NDArray[Any]]
    metrics: dict[str, float] = field(default_factory=dict)
    rewards: Sequence[Scored] | None = None


@dataclass(frozen=True)
class Check:
    """One line of ``thalweg check``: something measured, and the limit that it must keep.

    Args:
        name: what was checked, such as ``"adjoint test"``.
        value: what was measured, with its unit, ready for printing.
        limit: what it is held against, with its sign and unit, such as ``"<= 1e-12"``; empty if for
            information.
        ok: whether the limit is kept.
        text: a sentence that says why it matters, and what to do if it fails.
        seconds: time of one item's gradient on one thread, s, if that was measured; ``thalweg check`` computes
            the expected time of the run from the largest.

    Example:
        >>> from thalweg.runs import Check
        >>> Check("time step", "0.8 µs", "<= 1.1 µs", True).ok
        True
    """

    name: str
    value: str
    limit: str
    ok: bool
    text: str = ""
    seconds: float | None = None


class Problem(abc.ABC):
    """What a run optimizes: variables, items (shots, rows, samples), feedback.

    A kind of problem is a class that a study names with ``[problem] kind = "..."``. Kinds are found through
    the entry point group ``thalweg.problems``, or handed to :meth:`thalweg.runs.Study.load` as
    ``kinds={"name": Class}``.

    The constructor is the problem's own; a study goes through :meth:`build`. Everything that a problem does
    must follow from its settings, ``seed``, the variables' values and the states of its :attr:`generators`: then a run
    is the same to the last bit whenever it is repeated, and a resumed one continues as if it had never stopped.

    The methods are called in this order: :meth:`build`, :meth:`check_start`, :meth:`objections`, :meth:`plan`,
    :meth:`use_folder`, :meth:`prepare`, and for each block :meth:`begin_block` and then, per iteration,
    :meth:`feedback` and :meth:`metrics`; at the end :meth:`results`, :meth:`summary` and :meth:`figures`, also when the
    run was interrupted; at last :meth:`close`.
    ``thalweg check`` calls :meth:`build`, :meth:`check_start`, :meth:`objections`, :meth:`plan`, :meth:`checks` and
    :meth:`close` only.

    Example:
        A straight line through points, one point an item:

        >>> import numpy as np
        >>> import thalweg as tw
        >>> from pydantic import BaseModel, ConfigDict
        >>> from thalweg.runs import Feedback, Problem, Run, Study
        >>> class Line(Problem):
        ...     kind = "line"
        ...     class Settings(BaseModel):
        ...         model_config = ConfigDict(extra="forbid")
        ...         points: int = 20
        ...     class BlockSettings(BaseModel):
        ...         model_config = ConfigDict(extra="forbid")
        ...     def __init__(self, settings, seed):
        ...         self.items = settings.points
        ...         self.t = np.linspace(0, 1, self.items)
        ...         noise = np.random.default_rng(seed).standard_normal(self.items)
        ...         self.data = 3 * self.t + 1 + 0.01 * noise
        ...         self.line = tw.Variable(np.zeros(2), name="line", needs_grad=True)
        ...         self.variables = (self.line,)
        ...     @classmethod
        ...     def build(cls, settings, blocks, *, seed, folder):
        ...         return cls(settings, seed)
        ...     def point(self, i):
        ...         residual = self.line.data @ (self.t[i], 1.0) - self.data[i]
        ...         return {"loss": 0.5 * residual**2, "line": residual * np.array([self.t[i], 1.0])}
        ...     async def feedback(self, batch, runtime):
        ...         total = await runtime.map_reduce(self.point, batch)
        ...         return Feedback(total["loss"], {"line": total["line"]})
        >>> study = Study.from_document({
        ...     "title": "a line",
        ...     "problem": {"kind": "line"},
        ...     "optimizer": {"kind": "adam", "learning_rate": 0.1},
        ...     "blocks": [{"iterations": 200, "selection": "random", "batch_size": 10}],
        ... }, kinds={"line": Line})
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     outcome = tw.wait(Run(study, out=folder).execute())
        ...     with np.load(outcome.folder / "result.npz") as result:
        ...         line = result["line"]
        >>> outcome.status, line.round(1).tolist()
        ('finished', [3.0, 1.0])
    """

    kind: ClassVar[str]
    """The name in the study, such as ``"waves"``."""

    Settings: ClassVar[type[BaseModel]]
    """The ``[problem]`` table without ``kind``, a pydantic model with ``extra="forbid"``."""

    BlockSettings: ClassVar[type[BaseModel]]
    """The keys that this problem adds to each ``[[blocks]]`` table, a pydantic model with
    ``extra="forbid"``."""

    item_name: ClassVar[str] = "item"
    """What one item is called in the display: ``"shot"``, ``"row"``."""

    rewarded: ClassVar[bool] = False
    """Whether its feedback is a reward, for a search (:class:`thalweg.runs.RewardProblem`), and not a gradient."""

    summary_captions: ClassVar[Mapping[str, str]] = {}
    """What a report writes below figures of :meth:`summary`, by key; below others it writes the key."""

    initial_keys: ClassVar[tuple[str, ...]] = ()
    """The keys of the ``[problem]`` table that only say where the variables begin, such as ``("start",)``. A run that
    goes on takes its variables from a checkpoint, so it refuses other values, and files that hold something else."""

    generators: Mapping[str, np.random.Generator] = MappingProxyType({})
    """The random generators that :meth:`feedback` and :meth:`metrics` draw from, by name. A checkpoint has their states
    as after its step, and a run that goes on puts them into these objects; of others it knows nothing."""

    variables: tuple[Variable, ...]
    """What is optimized: leaves of the graph with distinct names; the optimizer writes into their data in
    place."""

    items: int
    """Number of items that a batch is selected from, at least 1. A batch is an array of indices below it."""

    @classmethod
    @abc.abstractmethod
    def build(cls, settings: Any, blocks: list[Any], *, seed: int, folder: Path) -> Problem:
        """Make the problem of a study.

        Everything that can be refused is refused here, before any computing.

        Args:
            settings: an instance of :attr:`Settings`.
            blocks: one instance of :attr:`BlockSettings` a block, in order.
            seed: the study's seed; the source of every random number that the problem draws. What :meth:`feedback`
                draws one number after the other from is one of :attr:`generators`; everything else (data, a block,
                an item) draws from a new ``np.random.default_rng([seed, index])``, which has nothing to remember.
            folder: where the relative paths of the study start.

        Raises:
            SimulationError: the simulation would be wrong.
            StudyError: the settings contradict each other, or a file does not fit.
        """

    @abc.abstractmethod
    async def feedback(self, batch: NDArray[np.int64], runtime: Runtime) -> Feedback:
        """Loss and gradients of the items in ``batch``, summed over items, at the variables' present values.

        Args:
            batch: distinct item indices in increasing order, int64, shape (n,), n >= 1.
            runtime: where the numeric work goes (``await runtime.map_reduce(task, batch)``); the event loop
                must not be blocked for more than 50 ms.

        Random numbers are drawn here, not in a task: tasks run in any order, on copies of the problem in other
        processes, and take the numbers (or a seed) that were drawn for them.

        Example:
            All items at once, each with a random sign: another sum in each iteration.

            >>> import numpy as np
            >>> import thalweg as tw
            >>> from pydantic import BaseModel
            >>> from thalweg.runs import Feedback, Problem, Run, Study
            >>> class Encoded(Problem):
            ...     kind, items = "encoded", 6
            ...     class Settings(BaseModel, extra="forbid"):
            ...         pass
            ...     BlockSettings = Settings
            ...     def __init__(self, seed):
            ...         self.signs = np.random.default_rng(seed)
            ...         self.generators = {"signs": self.signs}
            ...         self.data = np.random.default_rng([seed, 1]).standard_normal((self.items, 3))
            ...         self.x = tw.Variable(np.zeros(3), name="x", needs_grad=True)
            ...         self.variables = (self.x,)
            ...     @classmethod
            ...     def build(cls, settings, blocks, *, seed, folder):
            ...         return cls(seed)
            ...     async def feedback(self, batch, runtime):
            ...         signs = self.signs.choice([-1.0, 1.0], len(batch))
            ...         residual = signs @ (self.x.data - self.data[batch])
            ...         return Feedback(0.5 * float(residual @ residual), {"x": signs.sum() * residual})
            >>> def study(iterations):
            ...     return Study.from_document({
            ...         "title": "encoded",
            ...         "problem": {"kind": "encoded"},
            ...         "optimizer": {"kind": "adam", "learning_rate": 0.1},
            ...         "blocks": [{"iterations": iterations}],
            ...         "output": {"figures": False},
            ...     }, kinds={"encoded": Encoded})
            >>> import tempfile
            >>> from pathlib import Path
            >>> with tempfile.TemporaryDirectory() as folder:
            ...     whole, part = Path(folder, "whole"), Path(folder, "part")
            ...     first = tw.wait(Run(study(9), out=whole).execute())
            ...     _ = tw.wait(Run(study(4), out=part).execute())
            ...     more = Run.resume(part, overrides=["blocks.0.iterations=9"], kinds={"encoded": Encoded})
            ...     longer = tw.wait(more.execute())
            >>> longer.summary["digest"] == first.summary["digest"]
            True
        """

    def check_start(self) -> None:  # noqa: B027 (most have nothing to say)
        """Refuse what is wrong with where a run begins, and with nothing that comes later: a start that lies outside of
        what the problem bears.

        Called after :meth:`build`. Where a run goes on, its start is past: then a refusal is told, and stops nothing.

        Raises:
            StudyError: the run should not begin.
        """

    def objections(self) -> Iterable[tuple[ThalwegError, tuple[str, ...]]]:
        """What is wrong with the settings, though runs that began with them should be able to go on: what earlier
        versions of the problem did not refuse.

        Called after :meth:`check_start`. A run that begins is refused for the first of them; one that goes on for those
        that come of a change of the study, and is told of the others.

        Returns:
            Errors, each with the dotted paths of the keys, or tables, that it follows from: ``"blocks.0.frequency"``.
        """
        return ()

    def plan(self, runtime: Runtime, iterations: int) -> list[tuple[str, str]]:
        """Lines (name, value with unit) printed before the work: grid, memory needed, disk, work.

        Args:
            iterations: number of iterations in all blocks together.
        """
        return []

    def use_folder(self, folder: Path) -> None:  # noqa: B027 (most need none)
        """Be told the run's folder, once and before :meth:`prepare`, also when the run goes on: for a problem that
        has something of its own to keep there."""

    def close(self) -> None:  # noqa: B027 (most hold nothing)
        """Give back what the problem holds, such as a server process: the run has ended, however it did. May be
        called more than once, and from another thread than the event loop's."""

    def inputs(self) -> dict[str, str] | None:
        """Digests of what was read besides the study, such as the numbers of a file, each by the dotted key of the
        study that names it: ``{"problem.observed.path": "9f…"}``. A run that goes on refuses others, unless its user
        names the key. None, if the problem does not say.

        Asked for after :meth:`build`. (A :class:`~thalweg.runs.RewardProblem` has ``fingerprint``.)
        """
        return None

    async def prepare(self, runtime: Runtime, progress: Progress) -> None:  # noqa: B027 (most have nothing to do)
        """Do what must be done once before the first iteration, such as making the observed data.

        Args:
            progress: ``progress(done, total, text)``, shown to the user.
        """

    async def begin_block(self, index: int) -> None:  # noqa: B027 (as above)
        """Get ready for block ``index`` (from 0), for instance choose its frequency band."""

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Arrays that a transform in the study may name, such as ``{"mask": ...}``.

        Asked for once, after :meth:`build` and before :meth:`prepare`.
        """
        return {}

    def ranges(self) -> dict[str, tuple[float, float]]:
        """The values that the problem bears, by the variable's name: (least, largest), in its unit. A study whose
        ``bounds`` go beyond them is refused.

        Asked for once, after :meth:`build` and before :meth:`prepare`.
        """
        return {}

    def metrics(self) -> dict[str, float]:
        """Finite numbers logged every iteration, after the step, such as ``{"model_error": 0.4}``."""
        return {}

    def summary(self) -> dict[str, Any]:
        """JSON values merged into ``summary.json`` at the end; they may not replace the run's own keys."""
        return {}

    def results(self) -> dict[str, NDArray[Any]]:
        """Arrays written to ``result.npz``: by default the variables' data, by name."""
        return as_arrays(self.variables)

    def figures(self, history: History) -> dict[str, Callable[[Path], None]]:
        """Pictures by name; each is a function that draws into the file it is given (a ``.png``).

        Draw on a :class:`matplotlib.figure.Figure` of your own, not through pyplot, whose state is global.
        The first picture is the one that the command prints the path of. A run that goes on after it had ended asks for
        the names, too: the pictures of that end are removed.

        Args:
            history: what was recorded so far, for reading.
        """
        return {}

    def checks(self) -> Iterator[Check]:
        """What ``thalweg check`` measures, one at a time so that each is shown as soon as it is known."""
        return iter(())
