"""A problem whose shots say when they begin, and wait where a test wants it; as a program, a run to be killed.

``slow_shots.py FOLDER RUNTIME EVERY``: runs into FOLDER/run, a checkpoint each EVERY iterations; each computed shot
appends a line to FOLDER/shots.
"""

import os
import sys
import time
from pathlib import Path

import numpy as np
from pydantic import BaseModel

import thalweg as tw
from thalweg.runs import Feedback, Problem, Run, Study

ITEMS, ITERATIONS = 11, 3


class Slow(Problem):
    kind = "slow"
    item_name = "shot"

    class Settings(BaseModel, extra="forbid"):
        folder: str
        scale: float = 1.0
        twice: bool = False

    class BlockSettings(BaseModel, extra="forbid"):
        gain: float = 1.0

    def __init__(self, settings, blocks):
        self.settings, self.blocks, self.items = settings, blocks, ITEMS
        self.x = tw.Variable(np.linspace(0.0, 1.0, 33).astype(np.float32), name="x", needs_grad=True)
        self.variables = (self.x,)

    @classmethod
    def build(cls, settings, blocks, *, seed, folder):
        return cls(settings, blocks)

    async def begin_block(self, index):
        self.scale = self.settings.scale * self.blocks[index].gain

    async def feedback(self, batch, runtime):
        task = shot(self.x.data.copy(), self.settings.folder, self.scale)
        total = await runtime.map_reduce(task, [int(i) for i in batch])
        if self.settings.twice:
            again = await runtime.map_reduce(task, [int(i) for i in batch])
            assert again["x"].tobytes() == total["x"].tobytes()
        return Feedback(total["loss"], {"x": total["x"]})


def shot(x, folder, scale):
    """A gradient whose sum depends on the order of the additions in nearly every bit."""

    def task(i):
        place = Path(folder)
        with open(place / "shots", "a") as file:
            file.write(f"{float(x.sum()).hex()} {i}\n")
        waiting = place / f"hold-{i}"
        if waiting.exists() and float(x.sum()).hex() == waiting.read_text():
            (place / f"held-{i}-{os.getpid()}").touch()
            while waiting.exists():
                time.sleep(0.01)
        goal = np.random.default_rng(i).standard_normal(33).astype(np.float32) * np.float32(10.0 ** (i % 5))
        residual = np.float32(scale) * (x - goal)
        return {"loss": float(0.5 * np.sum(residual.astype(np.float64) ** 2)), "x": residual}

    return task


def study(folder, runtime, **output):
    return Study.from_document(
        {
            "title": "slow shots",
            "seed": 2,
            "problem": {"kind": "slow", "folder": str(folder)},
            "optimizer": {"kind": "adam", "learning_rate": 0.05},
            "blocks": [{"iterations": ITERATIONS}],
            "output": {"figures": False, "checkpoint_every": 1, "checkpoint_shots": True, **output},
            "runtime": RUNTIMES[runtime],
        },
        kinds={"slow": Slow},
    )


RUNTIMES = {"one": {"threads": 1}, "two": {"threads": 2}, "dask": {"kind": "dask", "workers": 2}}


if __name__ == "__main__":
    folder, runtime, every = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3])
    tw.wait(Run(study(folder, runtime, checkpoint_every=every), out=folder / "run").execute())
