"""The engine ``auto`` chooses by how many candidates the study will try, and a run that goes on keeps to it."""

import pytest

from tests.runs.searching import valley
from thalweg.graph import wait
from thalweg.runs import History, Run, Study
from thalweg.runs.report import write_report
from thalweg.runs.tuning import build_optimizer


def study_of(cls, blocks, **more):
    document = {
        "title": "a valley",
        "problem": {"kind": "valley", **more.pop("problem", {})},
        "optimizer": {"kind": "auto", "candidates": 2, "finalists": 3},
        "blocks": blocks,
        "output": {"figures": False},
        **more,
    }
    return Study.from_document(document, kinds={"valley": cls})


def part(iterations):
    return {"iterations": iterations, "selection": "random", "batch_size": 2}


@pytest.mark.parametrize(
    ("blocks", "evaluations", "expected"),
    [
        ([{"iterations": 6}], None, 12),
        ([{"iterations": 6}], 80, 6),  # of which 36 are for the final choice, and an iteration has 12
        ([part(6)], None, 12),
        ([part(6)], 60, 8),  # an iteration has two new candidates and an old one on two samples
        ([{"iterations": 2}, part(10)], 80, 10),
        ([{"iterations": 2}, part(10)], None, 24),
        ([{"iterations": 6}], 37, 1),
    ],
)
def test_how_many_candidates_there_will_be(blocks, evaluations, expected):
    study = study_of(valley(), blocks, **({"budget": {"evaluations": evaluations}} if evaluations else {}))
    settings = study.settings
    search = build_optimizer(settings.optimizer, study.build_problem(), 0, study.blocks, settings.budget)
    assert search.engine.evaluations == expected
    search.engine.close()


def test_a_run_chooses_by_it_and_keeps_to_what_was_chosen_when_it_goes_on(tmp_path):
    cls = valley()
    small = {"samples": 1, "held_out": 1, "test": 1}
    for iterations, kind in ((50, "cobyqa"), (51, "cma_es")):
        out = tmp_path / kind
        wait(Run(study_of(cls, [{"iterations": iterations}], problem=small), out=out).execute())
        assert {one["origin"] for one in History(out).candidates()} & {"cobyqa", "cma_es"} == {kind}
    longer = ["blocks.0.iterations=60"]  # of which a new run would make cma_es
    wait(Run.resume(tmp_path / "cobyqa", kinds={"valley": cls}, overrides=longer).execute())
    candidates = History(tmp_path / "cobyqa").candidates()
    assert len(candidates) == 60
    assert "cma_es" not in {one["origin"] for one in candidates}


def test_what_was_chosen_and_why_is_an_event_and_in_the_report(tmp_path):
    cls, out = valley(), tmp_path / "run"
    wait(Run(study_of(cls, [{"iterations": 4}]), out=out).execute())
    said = "cobyqa, chosen by auto for 2 floats and 8 evaluations: models of the reward learn most from few"

    def told():
        return [event["text"] for event in History(out).events() if event["kind"] == "engine"]

    assert told() == [said]
    assert f"The engine is {said}." in write_report(out).read_text()
    wait(Run.resume(out, kinds={"valley": cls}, overrides=["blocks.0.iterations=60"]).execute())
    assert told() == [said], "it is said once"
    assert f"The engine is {said}." in write_report(out).read_text(), "a run that goes on keeps to it"
    resumed = Run.resume(out, kinds={"valley": cls}, overrides=["blocks.0.iterations=90"])
    assert "engine" not in dict(wait(resumed.plan())), "a new run would choose another"


def test_of_another_engine_nothing_is_said(tmp_path):
    study = study_of(valley(), [{"iterations": 2}])
    study = Study.from_document({**study.document, "optimizer": {"kind": "random"}}, kinds={"valley": valley()})
    wait(Run(study, out=tmp_path / "run").execute())
    assert "engine" not in {event["kind"] for event in History(tmp_path / "run").events()}
    assert "The engine is" not in write_report(tmp_path / "run").read_text()
