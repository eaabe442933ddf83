"""Runs that were begun before a metric was refused for some of their estimators."""

import pytest

from thalweg.errors import StudyError
from thalweg.graph import wait
from thalweg.problems.sklearn import PipelineProblem, load_pipeline
from thalweg.runs import Run, Study

REFUSED = "'neg_log_loss' is computed from predict_proba, which linear_svc of problem.space.model does not have"


def of(kind, **parameters):
    return {"type": "object", "properties": {"kind": {"const": kind}, **parameters}, "required": ["kind", *parameters]}


@pytest.fixture
def document():
    some = of("gaussian_nb", var_smoothing={"enum": [1e-9, 1e-5, 1e-3]})
    return {
        "title": "probabilities of some",
        "problem": {
            "kind": "sklearn",
            "data": "breast_cancer",
            "steps": ["model"],
            "folds": 3,
            "space": {"model": {"oneOf": [some, of("linear_svc", C={"enum": [0.1, 1.0]})]}},
            "start": {"model": {"kind": "gaussian_nb", "var_smoothing": 1e-9}},
            "metric": "neg_log_loss",
        },
        "optimizer": {"kind": "random"},
        "blocks": [{"iterations": 3}],
        "output": {"figures": False},
    }


def test_they_go_on_and_are_told(tmp_path, monkeypatch, document):
    with pytest.raises(StudyError, match=REFUSED):
        Study.from_document(document).build_problem()
    with monkeypatch.context() as earlier:
        earlier.setattr(PipelineProblem, "objections", lambda self: [])
        begun = wait(Run(Study.from_document(document), out=tmp_path / "run").execute())
    assert begun.status == "finished"
    outcome = wait(Run.resume(tmp_path / "run", overrides=["blocks.0.iterations=4"]).execute())
    assert outcome.status == "finished"
    assert load_pipeline(tmp_path / "run")[-1].__class__.__name__ == "GaussianNB"
    said = [event.get("text", "") for event in outcome.history.events()]
    told = [text for text in said if "a new run would be refused" in text]
    assert len(told) == 1
    assert REFUSED in told[0]
    changes = ["blocks.0.iterations=5", "problem.metric='acuracy'"]
    with pytest.raises(StudyError, match=r"problem\.metric: there is no scorer 'acuracy'.*accuracy"):
        wait(Run.resume(tmp_path / "run", overrides=changes).execute())
