"""As many requests are under way at once as was told: no more, and no fewer."""

import asyncio
import json

import pytest

import thalweg as tw
from tests.lm.gathering import Gathering
from tests.problems.programs.labels import answer, document
from thalweg.lm import LanguageModel
from thalweg.runs import Run, Study


def many(model, count):
    async def go():
        asked = (model.complete([{"role": "user", "content": f"word {i}"}]) for i in range(count))
        return await asyncio.gather(*asked)

    return [answer.text for answer in tw.wait(go())]


@pytest.mark.parametrize("concurrency", [1, 2, 3, 8, 16])
def test_as_many_are_under_way_at_once_as_told(concurrency):
    """Nobody is answered until so many are there, time after time."""
    count = 3 * concurrency
    with Gathering(concurrency) as stub:
        model = LanguageModel(stub.url, "stub", concurrency=concurrency, retries=0)
        assert many(model, count) == [f"{i} word" for i in range(count)]
    assert stub.late == 0
    assert stub.most_at_once == concurrency
    assert len(stub.requests) == count


def test_eight_are_if_nothing_is_told():
    with Gathering(8) as stub:
        assert many(LanguageModel(stub.url, "stub", retries=0), 16) == [f"{i} word" for i in range(16)]
    assert (stub.late, stub.most_at_once) == (0, 8)


def test_a_place_is_free_again_after_a_failure():
    """Of three at once two fail; the others are three at once again."""

    def picky(body):
        if body["messages"][-1]["content"] in ("word 0", "word 1"):
            raise ValueError("not these")
        return "fine"

    async def go(model):
        asked = (model.complete([{"role": "user", "content": f"word {i}"}]) for i in range(9))
        return await asyncio.gather(*asked, return_exceptions=True)

    with Gathering(3, picky) as stub:
        found = tw.wait(go(LanguageModel(stub.url, "stub", concurrency=3, retries=0)))
    assert [getattr(one, "text", "failed") for one in found] == ["failed"] * 2 + ["fine"] * 7
    assert (stub.late, stub.most_at_once) == (0, 3)


@pytest.mark.parametrize("concurrency", [1, 16])
def test_a_whole_study_asks_as_many_at_once(tmp_path, concurrency):
    """Sixty evaluations in an iteration."""
    with Gathering(concurrency, answer, once=True) as stub:
        study = document(tmp_path, stub.url, held_out=4, test=4)
        study["problem"]["lm"] |= {"concurrency": concurrency, "retries": 0}
        study["blocks"] = [{"iterations": 1}]
        outcome = tw.wait(Run(Study.from_document(study, folder=tmp_path), out=tmp_path / "run").execute())
    assert (outcome.status, outcome.summary["search"]["failed"]) == ("finished", 0)
    assert stub.late == 0
    assert stub.most_at_once == concurrency
    assert len(stub.requests) > 60


def test_a_rewriting_model_is_asked_for_all_candidates_of_an_iteration_at_once(tmp_path):
    """Four of them in each, without the start."""

    def model(body):
        if "tune programs" in body["messages"][0]["content"]:
            return json.dumps({"instructions": f"Say a color. {body['seed']}"})
        return answer(body)

    class Asked(Gathering):
        """Holds what is asked for candidates."""

        async def _respond(self, line, headers, content, writer):
            if b"tune programs" in content:
                return await super()._respond(line, headers, content, writer)
            return await super(Gathering, self)._respond(line, headers, content, writer)

    with Asked(4, model) as stub:
        study = document(tmp_path, stub.url, train=2, held_out=0, test=0)
        study["problem"]["lm"] |= {"concurrency": 16, "retries": 0}
        study["problem"]["steps"][0]["examples"] = 0
        study["optimizer"] = {"kind": "rewrite", "candidates": 4, "max_tokens": 60, "start_first": False}
        study["blocks"] = [{"iterations": 2}]
        outcome = tw.wait(Run(Study.from_document(study, folder=tmp_path), out=tmp_path / "run").execute())
    assert stub.late == 0
    assert [one["origin"] for one in outcome.history.candidates()] == ["rewritten"] * 8
