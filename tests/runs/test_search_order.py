"""Values reach rewards and files with their keys in one order, whether the run was stopped in between or not."""

import json

import pytest
from pydantic import BaseModel

from thalweg.graph import wait
from thalweg.runs import RewardProblem, Run, Study
from thalweg.search import SampleReward, StructuredVariable

UNIT = {"type": "number", "minimum": 0.0, "maximum": 1.0}
SCHEMA = {"type": "object", "properties": {"z": UNIT, "a": UNIT}, "required": ["z", "a"]}


def prompting():
    """A problem whose reward reads the values as a text, as a prompt has them."""

    class Prompting(RewardProblem):
        kind, items, held_out, test = "prompting", 8, 4, 2
        texts: list = []  # noqa: RUF012 (a class of its own for each test)

        class Settings(BaseModel, extra="forbid"):
            pass

        class BlockSettings(BaseModel, extra="forbid"):
            pass

        @classmethod
        def build(cls, settings, blocks, *, seed, folder):
            problem = cls()
            problem.variables = (StructuredVariable({"a": 0.5, "z": 0.5}, SCHEMA, name="v"),)  # not as the schema
            return problem

        async def reward(self, values, item, runtime):
            self.texts.append(json.dumps(values))
            return SampleReward(next(iter(values["v"].values())) + 0.01 * item)  # what comes first counts

    return Prompting


def study(kind, cls, iterations):
    return Study.from_document(
        {
            "title": "order",
            "problem": {"kind": "prompting"},
            "optimizer": {"kind": kind, "candidates": 2},
            "blocks": [{"iterations": iterations, "selection": "random", "batch_size": 2}],
            "output": {"figures": False},
        },
        kinds={"prompting": cls},
    )


@pytest.mark.parametrize("kind", ["random", "tpe", "evolution", "cma_es"])
def test_rewards_that_read_the_values_as_text_are_the_same_after_a_break(tmp_path, kind):
    whole, cut = prompting(), prompting()
    expected = wait(Run(study(kind, whole, 6), out=tmp_path / "whole").execute()).summary["search"]
    wait(Run(study(kind, cut, 3), out=tmp_path / "cut").execute())
    again = Run.resume(tmp_path / "cut", overrides=["blocks.0.iterations=6"], kinds={"prompting": cut})
    search = wait(again.execute()).summary["search"]
    assert {tuple(json.loads(text)["v"]) for text in cut.texts} == {("z", "a")}
    assert set(whole.texts) <= set(cut.texts), "cut made a final choice in between"
    assert search["winner"] == expected["winner"]
    results = [(tmp_path / name / "result.json").read_text() for name in ("whole", "cut")]
    assert results[0] == results[1]
    assert list(json.loads(results[0])["v"]) == ["z", "a"]


def test_the_variables_of_a_run_that_ends_before_it_could_go_on_keep_their_order(tmp_path):
    cls = prompting()
    wait(Run(study("random", cls, 3), out=tmp_path / "run").execute())
    before = (tmp_path / "run" / "result.json").read_text()

    async def prepare(self, runtime, progress):
        raise OSError("the server is down")

    cls.prepare = prepare
    with pytest.raises(OSError, match="down"):
        wait(Run.resume(tmp_path / "run", overrides=["blocks.0.iterations=6"], kinds={"prompting": cls}).execute())
    assert json.loads((tmp_path / "run" / "result.json").read_text()).keys() == json.loads(before).keys()
    assert list(json.loads((tmp_path / "run" / "result.json").read_text())["v"]) == list(json.loads(before)["v"])
