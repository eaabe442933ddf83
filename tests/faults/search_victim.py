"""A search that is to be killed: each call is written down, as a server that is paid would.
``search_victim.py FOLDER LOG run|resume``."""

import asyncio
import os
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from thalweg.graph import wait
from thalweg.runs import RewardProblem, Run, Study
from thalweg.search import SampleReward, Spent, StructuredVariable

NUMBER = {"type": "number", "minimum": -4.0, "maximum": 4.0}
SCHEMA = {"type": "object", "properties": {"x": NUMBER, "y": NUMBER}, "required": ["x", "y"]}
CONCURRENCY = 4
TOKENS, BOUND = 7, 10


class Paid(RewardProblem):
    """A valley whose every look costs."""

    kind = "paid"
    log = None
    items, held_out, test = 4, 4, 0

    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid")

    class BlockSettings(BaseModel):
        model_config = ConfigDict(extra="forbid")

    def __init__(self):
        self.variables = (StructuredVariable({"x": -3.0, "y": 3.0}, SCHEMA, name="point"),)

    @classmethod
    def build(cls, settings, blocks, *, seed, folder):
        return cls()

    def concurrency(self, runtime):
        return CONCURRENCY

    def most(self, values, item):
        return Spent(tokens=BOUND)

    async def reward(self, values, item, runtime):
        x, y = values["point"]["x"], values["point"]["y"]
        os.write(self.log, f"{x!r} {y!r} {item}\n".encode())  # the call has arrived: it will be paid for
        await asyncio.sleep(0.003)
        return SampleReward(-((x - 1.0) ** 2) - (y + 2.0) ** 2 - 0.1 * (item % 3), tokens=TOKENS)


def document():
    return {
        "title": "paid looks",
        "problem": {"kind": "paid"},
        "optimizer": {"kind": "tpe", "candidates": 3, "startup": 6, "finalists": 3},
        "blocks": [{"iterations": 15}],
        "budget": {"tokens": 100_000},
        "output": {"checkpoint_every": 2, "figures": False},
    }


def go(folder, log, what):
    Paid.log = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    try:
        kinds = {"paid": Paid}
        if what == "resume":
            return wait(Run.resume(folder, kinds=kinds).execute())
        return wait(Run(Study.from_document(document(), kinds=kinds), out=folder).execute())
    finally:
        os.close(Paid.log)


if __name__ == "__main__":
    print("ready", flush=True)
    sys.stdin.readline()
    go(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
