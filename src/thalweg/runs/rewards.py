"""A problem whose feedback is a reward: what a search optimizes, behind the same face as every other problem.

A run maximizes the mean reward over the samples::

    R(v) = 1/N · Σ_i r_i(v),        loss(v) = −Σ_{i in B} r_i(v)   of one batch B

Candidates are evaluated side by side, so a reward may depend on nothing but the candidate's values, the sample and the
problem's settings.
"""

from __future__ import annotations

import abc
import time
from collections.abc import Awaitable, Callable, Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from thalweg.graph import wait
from thalweg.runs.problem import Check, Feedback, Problem
from thalweg.runs.telling import some
from thalweg.runtime import Local, Runtime
from thalweg.search.budget import Spent
from thalweg.search.engine import Engine
from thalweg.search.rewards import SampleReward
from thalweg.search.structured import StructuredVariable


class RewardProblem(Problem):
    """What a search optimizes: structured variables, samples, rewards.

    The samples fall into three parts: 0 … ``items`` − 1 are searched with; the next ``held_out`` ones decide which of
    the best candidates is taken, so that luck in the search does not; the last ``test`` ones are touched by nothing but
    the final report. The search itself never sees the last two.

    Example:
        A number that should be near 3, with a reward that is noisy:

        >>> import numpy as np
        >>> import thalweg as tw
        >>> from pydantic import BaseModel, ConfigDict
        >>> from thalweg.runs import RewardProblem, Run, Study
        >>> from thalweg.search import SampleReward, StructuredVariable
        >>> class Near(RewardProblem):
        ...     kind = "near"
        ...     class Settings(BaseModel):
        ...         model_config = ConfigDict(extra="forbid")
        ...         target: float = 3.0
        ...     class BlockSettings(BaseModel):
        ...         model_config = ConfigDict(extra="forbid")
        ...     items, held_out = 8, 8
        ...     def __init__(self, settings, seed):
        ...         self.target = settings.target
        ...         self.noise = 0.1 * np.random.default_rng(seed).standard_normal(16)
        ...         schema = {"type": "object", "properties": {"x": {"type": "number", "minimum": -9, "maximum": 9}}}
        ...         self.variables = (StructuredVariable({"x": 0.0}, schema, name="x"),)
        ...     @classmethod
        ...     def build(cls, settings, blocks, *, seed, folder):
        ...         return cls(settings, seed)
        ...     async def reward(self, values, item, runtime):
        ...         error = abs(values["x"]["x"] - self.target)
        ...         return SampleReward(self.noise[item] - error, feedback=f"off by {error:.1f}")
        >>> study = Study.from_document({
        ...     "title": "near three",
        ...     "problem": {"kind": "near"},
        ...     "optimizer": {"kind": "random"},
        ...     "blocks": [{"iterations": 60}],
        ... }, kinds={"near": Near})
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     outcome = tw.wait(Run(study, out=folder).execute())
        >>> outcome.status, outcome.summary["search"]["winner"]["held_out"]["mean"] > -1.0
        ('finished', True)
    """

    rewarded: ClassVar[bool] = True
    item_name: ClassVar[str] = "sample"
    variables: tuple[StructuredVariable, ...]
    measure: str = ""
    """What a reward is, in a word or two, such as the name of a metric: said where rewards are shown."""
    held_out: int = 0
    """Number of samples that the final choice is made on."""
    test: int = 0
    """Number of samples that only the final report uses."""
    data_keys: ClassVar[tuple[str, ...]] = ("data",)
    """The keys of ``[problem]`` that say which files :meth:`fingerprint` reads: who goes on with a run after these have
    changed names one of them."""

    @abc.abstractmethod
    async def reward(self, values: dict[str, Any], item: int, runtime: Runtime) -> SampleReward:
        """The reward of one candidate on one sample; several of these calls are under way at once.

        Args:
            values: by variable name, JSON; a copy. The variables' present values must play no part.
            item: the sample, 0 … items + held_out + test − 1.
            runtime: where numeric work goes: ``await runtime.map_reduce(task, [item])`` runs on a cluster, too.

        Raises:
            Exception: whatever goes wrong is a failure of this candidate: isolated, counted and shown; the run goes on.
                An answer that is merely wrong is no failure but a low reward.
        """

    def most(self, values: dict[str, Any], item: int) -> Spent:
        """The most tokens and money that :meth:`reward` can cost: reserved from the budget before it is called."""
        return Spent()

    def pays_after(self, noted: Callable[[], Awaitable[None]]) -> bool:
        """Be told what to await before the next :meth:`reward` of this task pays for anything: that the run has noted
        on the disk that it may.

        Returns:
            Whether :meth:`reward` will see to it, and can do something else meanwhile. If not, it is awaited before.
        """
        return False

    def once(self, values: dict[str, Any], item: int) -> Spent:
        """The most that :meth:`reward` can cost if nothing has to be repeated, such as a request that broke off. So
        much is kept back of a budget for the final choice; repetitions there are paid for by what others leave."""
        return self.most(values, item)

    def decisive(self, table: dict[str, Any]) -> Any:
        """What of the ``[problem]`` table decides the rewards, as JSON, by the keys of the table: all of it, with the
        defaults of what it leaves out, unless a problem knows better.

        A run that goes on uses what it knows, and compares scores, only as long as this, the seed and
        :meth:`fingerprint` are the same; else it is refused, unless the user has named a change. Code is not looked at.

        Args:
            table: as the study has it.
        """
        settings = self.Settings.model_validate({key: value for key, value in table.items() if key != "kind"})
        return {"kind": table["kind"], **settings.model_dump(mode="json", by_alias=True, round_trip=True)}

    def fingerprint(self) -> str:
        """A digest of what decides the rewards besides the study's ``[problem]`` table and seed: the content of data
        files, which :attr:`data_keys` name."""
        return ""

    def dearest(self) -> dict[str, Any]:
        """Values, by variable name, of the candidate that costs the most: what a run can cost at most is said with it.
        By default the present ones."""
        return {str(variable.name): variable.json() for variable in self.variables}

    def price_asking(self, engine: Engine) -> None:
        """Give the engine what says how much asking can cost, for the plan and before anything is started: a model with
        the bounds of the one that :meth:`equip` will give it."""

    def equip(self, engine: Engine) -> None:
        """Give the engine what no study can name, once and before it is asked: a language model that this problem
        serves."""

    def concurrency(self, runtime: Runtime) -> int:
        """How many evaluations are in flight at once; by default as many as the runtime has workers."""
        return runtime.workers

    async def feedback(self, batch: NDArray[np.int64], runtime: Runtime) -> Feedback:
        """The loss of the variables' present values: minus the sum of their rewards."""
        values = {str(variable.name): variable.json() for variable in self.variables}
        rewards = [(await self.reward(values, int(item), runtime)).reward for item in batch]
        return Feedback(-float(np.sum(rewards)), {})

    def most_checks(self) -> Spent:
        """The most that :meth:`checks` can cost: said before they are made, and they are not if the study's budget does
        not pay for it. A problem with other checks says here what they evaluate."""
        values = {str(variable.name): variable.json() for variable in self.variables}
        return Spent(1) + self.most(values, 0)

    def checks(self) -> Iterator[Check]:
        """The present values on the first sample: whether they have a reward, and how long it takes."""
        name = f"reward of the start on {self.item_name} 0"
        values = {str(variable.name): variable.json() for variable in self.variables}
        with Local(threads=1) as runtime:
            start = time.monotonic()
            try:
                found = wait(self.reward(values, 0, runtime))
            except Exception as error:
                yield Check(
                    name,
                    f"{type(error).__name__}: {error}",
                    "a number",
                    False,
                    "The search begins with these values; a study whose start fails usually fails everywhere.",
                )
                return
            seconds = time.monotonic() - start
        cost = f", {found.tokens:,} tokens" if found.tokens else ""
        cost += f", {found.money:,.4g} in money" if found.money else ""
        text = f"One evaluation of the start{cost}; the mean of a run is over up to {some(self.items, self.item_name)}."
        yield Check(name, f"{found.reward:.4g}", "a number", True, text, seconds=seconds)

    def results(self) -> dict[str, NDArray[Any]]:
        """No arrays: the values are in ``result.json``."""
        return {}
