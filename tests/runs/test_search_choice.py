"""A search with nothing to choose is refused before it is paid for, and no other search is."""

import asyncio

import pytest

from tests.runs.searching import dies, valley
from thalweg.errors import StudyError
from thalweg.graph import wait
from thalweg.runs import Run, Study
from thalweg.search import SampleReward, StructuredVariable

ONE = {"const": "a"}


def texts(schema, start):
    """A problem that is worth the length of a text."""
    plain = valley()

    class Texts(plain):
        def __init__(self, settings, seed):
            super().__init__(settings, seed)
            self.variables = (StructuredVariable(start, schema, name="point"),)

        async def reward(self, values, item, runtime):
            cls = type(self)
            cls.calls.append((values["point"], item))
            if len(cls.calls) == cls.stop_at:
                cls.task.cancel()
                await asyncio.sleep(0)
                cls.task.cancel()
                await asyncio.sleep(60)
            return SampleReward(float(len(values["point"])), "")

    return Texts


def made(cls, out, kind="random", **block):
    document = {
        "title": "texts",
        "problem": {"kind": "valley"},
        "optimizer": {"kind": kind},
        "blocks": [{"iterations": 4, **block}],
        "output": {"checkpoint_every": 1, "figures": False},
    }
    return Run(Study.from_document(document, kinds={"valley": cls}), out=out)


@pytest.mark.parametrize("kind", ["random", "tpe", "evolution", "auto", "halving"])
def test_a_start_outside_a_pool_of_one_has_that_one_to_be_compared_with(tmp_path, kind):
    pool = {"type": "string", "x-pool": ["brief and good"]}
    search = wait(made(texts(pool, "x"), tmp_path / "run", kind).execute()).summary["search"]
    assert search["winner"]["values"] == {"point": "brief and good"}
    assert search["winner"]["test"]["mean"] == 14.0
    with pytest.raises(StudyError, match=r"nothing to choose.*take one iteration"):
        wait(made(texts(pool, "brief and good"), tmp_path / "other", kind).plan())


def test_the_start_alone_is_scored_on_all_batches_and_not_twice(tmp_path):
    cls = texts(ONE, "a")
    batches = {"selection": "every", "batch_size": 2}
    search = wait(made(cls, tmp_path / "run", **batches, iterations=3).execute()).summary["search"]
    assert search["winner"]["search"]["samples"] == 6
    with pytest.raises(StudyError, match="take 3 iterations, which are all batches"):
        wait(made(cls, tmp_path / "other", **batches).plan())


def test_a_run_that_has_begun_without_a_choice_goes_on(tmp_path, monkeypatch):
    cls = texts(ONE, "a")
    with monkeypatch.context() as before:
        before.setattr("thalweg.runs.rewarded._refuse_without_choice", lambda *_: None)
        dies(cls, 4, made(cls, tmp_path / "run", selection="every", batch_size=1, iterations=9))
    outcome = wait(Run.resume(tmp_path / "run", kinds={"valley": cls}).execute())
    assert outcome.status == "finished"
    assert outcome.summary["search"]["winner"]["search"]["samples"] == 6
