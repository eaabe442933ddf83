"""A problem about texts for an engine that pays for asking; as a program, a run that dies within an evaluation.

Without a limit (0) the study names no folder for the answers.
"""

import os
import sys
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from thalweg.graph import wait
from thalweg.runs import RewardProblem, Run, Study
from thalweg.search import SampleReward, Spent, StructuredVariable

SCHEMA = {"type": "object", "properties": {"text": {"type": "string"}}, "required": ["text"]}


class Texts(RewardProblem):
    """The longer the text, the better, or the worse. Each evaluation adds a line to a file, if there is one."""

    kind = "texts"
    items = 2
    dies = None
    made = 0
    log = None

    class Settings(BaseModel):
        model_config = ConfigDict(extra="forbid")
        sign: float = 1.0
        tokens: int = 1000

    class BlockSettings(BaseModel):
        model_config = ConfigDict(extra="forbid")

    def __init__(self, settings):
        self.settings = settings
        self.variables = (StructuredVariable({"text": "Answer the question. Be brief."}, SCHEMA, name="step"),)

    @classmethod
    def build(cls, settings, blocks, *, seed, folder):
        return cls(settings)

    def concurrency(self, runtime):
        return 1

    def most(self, values, item):
        return Spent(tokens=self.settings.tokens)

    async def reward(self, values, item, runtime):
        cls = type(self)
        cls.made += 1
        if cls.made == cls.dies:
            os._exit(9)
        if cls.log is not None:
            with cls.log.open("a") as file:
                file.write("evaluated\n")
        return SampleReward(self.settings.sign * len(values["step"]["text"]), tokens=self.settings.tokens)


def document(url, cache, **more):
    """A study that rewrites the text, with one request for each candidate."""
    lm = {"base_url": url, "model": "stub", "retries": 0, "timeout": 60.0}
    return {
        "title": "texts",
        "problem": {"kind": "texts"},
        "optimizer": {
            "kind": "rewrite",
            "candidates": 1,
            "finalists": 1,
            "attempts": 1,
            "repairs": 0,
            "history": 1,
            "remarks": 0,
            "max_tokens": 50,
            "lm": lm | ({"cache": str(cache)} if cache is not None else {}),
        },
        "blocks": [{"iterations": 6}],
        "output": {"figures": False, "checkpoint_every": 100},
        **more,
    }


if __name__ == "__main__":
    folder, url, dies, limit = Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    Texts.dies, Texts.log = dies, folder / "log"
    cache = folder / "cache" if limit else None
    budget = {"tokens": limit} if limit else {}
    study = Study.from_document(document(url, cache, budget=budget), kinds={"texts": Texts})
    wait(Run(study, out=folder / "run").execute())
