"""``thalweg check`` of a search: what a run would refuse is refused, what it costs is said, and what the check itself
asks for is said before."""

import io

import pytest
from rich.console import Console

from tests.problems.programs import labels as programs
from tests.problems.programs.labels import answer
from tests.runs.asking import Texts, document
from tests.runs.searching import valley
from thalweg.errors import StudyError
from thalweg.graph import wait
from thalweg.lm.stub import Stub
from thalweg.runs import Run, Study
from thalweg.runs.checking import print_checks
from thalweg.search import Spent


def texts():
    return type("Texts", (Texts,), {"made": 0})


def checked(study):
    console = Console(file=io.StringIO(), width=300)
    good = print_checks(study, console)
    return good, console.file.getvalue()


def lines_of(printed):
    """Name and value of each line of the plan."""
    found = (line.strip().split("  ", 1) for line in printed.splitlines() if line.startswith("  "))
    return {parts[0]: parts[1].strip() for parts in found if len(parts) == 2}


def valley_study(cls, **more):
    plain = {"title": "a valley", "problem": {"kind": "valley"}, "optimizer": {"kind": "auto"}}
    return Study.from_document({**plain, "blocks": [{"iterations": 6}], **more}, kinds={"valley": cls})


def test_its_plan_is_that_of_a_dry_run():
    """What asking a model costs at most is in it; it was left out."""
    study = Study.from_document(document("http://127.0.0.1:9/v1", None), kinds={"texts": texts()})
    plan = dict(wait(Run(study).plan()))
    assert "for asking a model" in plan["tokens"]
    assert plan.items() <= lines_of(checked(study)[1]).items()


def test_the_model_of_a_program_is_asked_once_and_what_rewriting_by_it_costs_is_said(tmp_path):
    with Stub(answer) as stub:
        study = programs.document(tmp_path, stub.url)
        study["problem"]["steps"][0]["examples"] = 0
        study["problem"]["lm"] |= {"price_prompt": 0.0, "price_completion": 1e6}
        study["optimizer"] = {"kind": "rewrite", "candidates": 2, "finalists": 2, "max_tokens": 60}
        made = Study.from_document(study, folder=tmp_path)
        plan = dict(wait(Run(made).plan()))
        assert len(stub.requests) == 0
        good, printed = checked(made)
        assert len(stub.requests) == 1
    assert good
    assert "for asking a model" in plan["money"]
    lines = lines_of(printed)
    assert lines["money"] == plan["money"]
    assert lines["metric"] == "exact"
    most = made.build_problem().most_checks()
    bounds = f"at most {most.tokens:,} tokens, at most {most.money:,.4g} in money, besides what a run costs"
    assert lines["this check"] == f"asks for 1 evaluation of the start, on sample 0: {bounds}"


def test_it_refuses_what_a_run_refuses():
    cls = texts()
    study = Study.from_document(document("http://127.0.0.1:9/v1", None, budget={"money": 1.0}), kinds={"texts": cls})
    with pytest.raises(StudyError, match=r"optimizer\.lm has no price list"):
        wait(Run(study).plan())
    with pytest.raises(StudyError, match=r"optimizer\.lm has no price list"):
        checked(study)
    assert cls.made == 0


def test_what_it_asks_for_itself_is_said_before():
    cls = valley()
    cls.item_name = "fold"
    told = []

    class Told(io.StringIO):
        def write(self, text):
            told.append((len(cls.calls), text))
            return super().write(text)

    console = Console(file=Told(), width=300)
    study = valley_study(cls, problem={"kind": "valley", "tokens": 7, "bound": 90})
    assert print_checks(study, console)
    (asked,) = [
        made for made, text in told if "asks for 1 evaluation of the start, on fold 0: at most 90 tokens" in text
    ]
    assert asked == 0 < len(cls.calls)
    printed = console.file.getvalue()
    assert "reward of the start on fold 0" in printed
    assert "One evaluation of the start, 7 tokens; the mean of a run is over up to 6 folds." in printed


def test_what_costs_nothing_is_said_to_be_one_evaluation():
    assert (
        lines_of(checked(valley_study(valley()))[1])["this check"] == "asks for 1 evaluation of the start, on sample 0"
    )


def test_what_the_budget_does_not_pay_for_is_not_asked_for():
    """The first sample is dearer than the others, and than what the study may spend."""
    cls = valley()
    cls.most = lambda self, values, item: Spent(tokens=500 if item == 0 else 1)
    good, printed = checked(valley_study(cls, budget={"tokens": 400}))
    assert good
    said = lines_of(printed)["this check"]
    assert said.startswith("asks for nothing: budget.tokens is 400, and it asks for 1 evaluation of the start")
    assert cls.calls == []


def test_what_auto_has_chosen_and_why_is_in_it():
    cls = valley()
    said = "cobyqa, chosen by auto for 2 floats and 6 evaluations: models of the reward learn most from few"
    assert lines_of(checked(valley_study(cls))[1])["engine"] == said
    assert dict(wait(Run(valley_study(cls)).plan()))["engine"] == said
    assert "engine" not in dict(wait(Run(valley_study(cls, optimizer={"kind": "tpe"})).plan()))
