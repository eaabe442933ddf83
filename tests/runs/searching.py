"""A quick problem with rewards, which counts what is asked of it; and going on with a run of it, or ending one."""

import asyncio

import numpy as np
import pytest
from pydantic import BaseModel, ConfigDict

from thalweg.graph import wait
from thalweg.runs import RewardProblem, Run
from thalweg.search import SampleReward, Spent, StructuredVariable

NUMBER = {"type": "number", "minimum": -4.0, "maximum": 4.0}
SCHEMA = {
    "type": "object",
    "properties": {"x": NUMBER, "y": NUMBER},
    "required": ["x", "y"],
    "additionalProperties": False,
}


class Valley(RewardProblem):
    """−(x − 1)² − (y + 2)², seen through noise that belongs to the sample."""

    kind = "valley"

    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid")
        samples: int = 6
        held_out: int = 6
        test: int = 6
        noise: float = 0.5
        tokens: int = 0
        bound: int = 0
        fails: float = 9.0  # candidates with x above it fail

    class BlockSettings(BaseModel):
        model_config = ConfigDict(extra="forbid")

    calls: list = []  # noqa: RUF012 (every instance of a test counts into the same list)
    flying = most_flying = 0
    at_once = 1
    delays = None
    stop_at = task = None
    patient = False

    def __init__(self, settings, seed):
        self.settings = settings
        self.items, self.held_out, self.test = settings.samples, settings.held_out, settings.test
        count = self.items + self.held_out + self.test
        self.noise = settings.noise * np.random.default_rng(seed).standard_normal(count)
        self.variables = (StructuredVariable({"x": -3.0, "y": 3.0}, SCHEMA, name="point"),)

    @classmethod
    def build(cls, settings, blocks, *, seed, folder):
        return cls(settings, seed)

    def concurrency(self, runtime):
        return self.at_once

    def most(self, values, item):
        return Spent(tokens=self.settings.bound or self.settings.tokens)

    async def reward(self, values, item, runtime):
        cls = type(self)
        cls.calls.append((values["point"]["x"], values["point"]["y"], item))
        if cls.stop_at is not None and len(cls.calls) == cls.stop_at:
            cls.task.cancel()
            if cls.patient:  # ended once, a run waits for what is in flight
                for _ in range(20):
                    await asyncio.sleep(0)
            else:  # ended twice, it gives it up
                for _ in range(20):
                    await asyncio.sleep(0)
                cls.task.cancel()
                await asyncio.sleep(60)
        cls.flying += 1
        cls.most_flying = max(cls.most_flying, cls.flying)
        try:
            if cls.delays is not None:
                await asyncio.sleep(float(cls.delays.random()) / 200)
            x, y = values["point"]["x"], values["point"]["y"]
            if x > self.settings.fails:
                raise ValueError(f"x is {x}")
            reward = -((x - 1.0) ** 2) - (y + 2.0) ** 2 + self.noise[item]
            return SampleReward(reward, f"x is off by {x - 1:.2f}", tokens=self.settings.tokens)
        finally:
            cls.flying -= 1


def valley():
    """A class of its own for each test, with its own counts."""
    return type("Valley", (Valley,), {"calls": [], "flying": 0, "most_flying": 0})


def resume(cls, out, *overrides):
    return Run.resume(out, kinds={"valley": cls}, overrides=overrides)


def dies(cls, at, made):
    """The run is cancelled twice in a call."""

    async def cancelled():
        cls.stop_at = at
        cls.task = asyncio.ensure_future(made.execute())
        with pytest.raises(asyncio.CancelledError):
            await cls.task
        cls.stop_at = None

    wait(cancelled())
