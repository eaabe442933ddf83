"""Metrics that go with labels, folds and estimators, and those that do not: refused, or said in one line."""

import numpy as np
import pytest
from typer.testing import CliRunner

from thalweg.cli import app
from thalweg.errors import RunError, SearchError, StudyError
from thalweg.graph import wait
from thalweg.runs import Run, Study
from thalweg.runtime import Local

ONE = {"type": "object", "properties": {"kind": {"const": "ridge"}, "alpha": {"type": "number", "minimum": 0.1}}}


@pytest.fixture
def document():
    return {
        "title": "a metric",
        "problem": {
            "kind": "sklearn",
            "data": "diabetes",
            "steps": ["model"],
            "folds": 3,
            "space": {"model": {**ONE, "properties": {**ONE["properties"], "alpha": {"enum": [0.5, 1.0, 2.0]}}}},
            "start": {"model": {"kind": "ridge", "alpha": 1.0}},
        },
        "optimizer": {"kind": "random"},
        "blocks": [{"iterations": 2}],
        "output": {"figures": False},
    }


def with_model(document, kind, **changes):
    document["problem"] |= {
        "space": {"model": {"type": "object", "properties": {"kind": {"const": kind}}}},
        "start": {"model": {"kind": kind}},
        **changes,
    }
    return Study.from_document(document)


@pytest.mark.parametrize(
    ("kind", "changes", "text"),
    [
        ("ridge", {"metric": "accuracy"}, "'accuracy' scores classes, and the labels of the data are numbers"),
        ("ridge", {"metric": "roc_auc"}, "'roc_auc' scores classes, and the labels of the data are numbers"),
        ("svc", {}, "svc predicts classes, and the labels of the data are numbers"),
        ("ridge", {"data": "iris", "metric": "f1_macro"}, "'f1_macro' scores classes, and ridge of .*predicts numbers"),
        ("svc", {"data": "iris", "metric": "f1"}, "'f1' is for two classes, and the data has 3; take 'f1_macro'"),
        ("gaussian_nb", {"data": "iris", "metric": "roc_auc"}, "has 3; take 'roc_auc_ovr'"),
        *(
            (kind, {"data": "iris", "metric": "roc_auc"}, "has 3; take 'balanced_accuracy'")  # without predict_proba
            for kind in ("svc", "linear_svc", "ridge_classifier")
        ),
        ("svc", {"data": "iris", "metric": "acuracy"}, "there is no scorer 'acuracy'.*accuracy"),
        ("svc", {"data": "iris", "metric": "f1_samples"}, "several labels each, and .* one each; take 'f1_macro'"),
        (
            "svc",
            {"data": "iris", "metric": "positive_likelihood_ratio"},
            "is for two classes, and the data has 3; take 'balanced_accuracy'",
        ),
        *(
            (kind, {"data": "breast_cancer", "metric": metric}, f"'{metric}' scores classes, and {kind} of .*numbers")
            for kind, metric in [
                ("ridge", "roc_auc"),
                ("random_forest_regressor", "roc_auc_ovr"),
                ("svr", "average_precision"),
                ("lasso", "top_k_accuracy"),
                ("ridge", "neg_brier_score"),
                ("ridge", "positive_likelihood_ratio"),
            ]
        ),
        *(
            (
                kind,
                {"data": "breast_cancer", "metric": metric},
                f"'{metric}' is computed from predict_proba, which {kind} of .*model does not have{where}",
            )
            for kind, metric, where in [
                ("svc", "neg_log_loss", " with its settings;"),
                ("svc", "roc_auc_ovr", " with its settings;"),
                ("linear_svc", "neg_brier_score", ";"),
                ("ridge_classifier", "d2_log_loss_score", ";"),
            ]
        ),
    ],
)
def test_a_metric_that_cannot_be_computed_is_refused(document, kind, changes, text):
    with pytest.raises(StudyError, match=text):
        with_model(document, kind, **changes).build_problem()


def score(study, value=None):
    """The reward of a value, the start if it is not given, on the first fold."""
    problem = study.build_problem()
    with Local(threads=1) as runtime:
        return wait(problem.reward({"pipeline": value or study.settings.problem["start"]}, 0, runtime)).reward


@pytest.mark.parametrize(
    ("kind", "changes", "low", "high"),
    [
        ("ridge", {"metric": "neg_root_mean_squared_error"}, -80.0, -40.0),
        ("ridge", {"data": "iris"}, 0.8, 1.0),  # classes that are numbers
        ("svc", {"data": "breast_cancer", "metric": "roc_auc"}, 0.9, 1.0),  # without probabilities
        ("linear_svc", {"data": "breast_cancer", "metric": "average_precision"}, 0.9, 1.0),
        ("gaussian_nb", {"data": "breast_cancer", "metric": "roc_auc"}, 0.9, 1.0),  # without a decision function
        ("gaussian_nb", {"data": "breast_cancer", "metric": "positive_likelihood_ratio"}, 3.0, 100.0),
        ("svc", {"data": "iris", "metric": "top_k_accuracy"}, 0.9, 1.0),
        ("svc", {"data": "iris", "metric": "neg_mean_absolute_error"}, -0.2, 0.0),  # classes with an order
        ("svc", {"data": "iris", "metric": "balanced_accuracy"}, 0.8, 1.0),
    ],
)
def test_one_that_can_be_is_not(document, kind, changes, low, high):
    assert low <= score(with_model(document, kind, **changes)) <= high


PROBABLE = {"type": "object", "properties": {"kind": {"const": "svc"}, "probability": {"type": "boolean"}}}
CHOSEN = {"type": "object", "properties": {"kind": {"const": "svc"}, "probability": {"enum": [False, True]}}}
CERTAIN = {"type": "object", "properties": {"kind": {"const": "svc"}, "probability": {"const": True}}}
WITHOUT = {"type": "object", "properties": {"kind": {"const": "svc"}, "probability": {"const": False}}}
FREE = {"type": "object", "properties": {"kind": {"const": "svc"}}}


@pytest.mark.filterwarnings("ignore:The `probability` parameter")  # scikit-learn's, which means to leave it out
@pytest.mark.parametrize("schema", [PROBABLE, CHOSEN, CERTAIN, FREE])
def test_probabilities_may_depend_on_a_setting(document, schema):
    document["problem"] |= {
        "data": "breast_cancer",
        "metric": "neg_log_loss",
        "space": {"model": schema},
        "start": {"model": {"kind": "svc", "probability": True}},
    }
    assert -0.5 < score(Study.from_document(document)) < 0.0
    document["problem"] |= {"space": {"model": WITHOUT}, "start": {"model": {"kind": "svc", "probability": False}}}
    with pytest.raises(StudyError, match=r"computed from predict_proba, which svc .* does not have with its settings"):
        Study.from_document(document).build_problem()


def test_a_regression_metric_of_classes_with_names_is_refused(tmp_path, document):
    features = np.random.default_rng(0).normal(size=(60, 2))
    np.savez(tmp_path / "own.npz", features=features, labels=np.array(["a", "b"])[(features[:, 0] > 0).astype(int)])
    with pytest.raises(StudyError, match="'r2' scores numbers"):
        with_model(document, "svc", data=str(tmp_path / "own.npz"), metric="r2").build_problem()


@pytest.mark.filterwarnings("ignore:The least populated class")  # scikit-learn's, of the same
def test_folds_that_have_one_class_only_are_named(tmp_path, document):
    labels = np.zeros(40, np.int64)
    labels[:12] = 1
    np.savez(tmp_path / "rare.npz", features=np.random.default_rng(0).normal(size=(40, 2)), labels=labels)
    changes = {"data": str(tmp_path / "rare.npz"), "metric": "roc_auc", "folds": 3, "held_out": 0.3, "test": 0.0}
    with_model(document, "logistic_regression", **changes).build_problem()
    with pytest.raises(
        StudyError, match=r"'roc_auc' needs each of the 2 classes .* rows of a .* have only 0\. Take fewer"
    ):
        with_model(document, "logistic_regression", **changes | {"folds": 20, "held_out": 0.0}).build_problem()


@pytest.mark.filterwarnings("ignore:The `probability` parameter")
def test_what_is_found_out_late_is_one_line_with_the_metric_and_the_whole_of_it_in_the_history(tmp_path, document):
    document["blocks"] = [{"iterations": 1}]
    document["problem"] |= {"data": "breast_cancer", "metric": "neg_log_loss", "space": {"model": CHOSEN}}
    document["problem"]["start"] = {"model": {"kind": "svc", "probability": False}}  # an SVC that has no probabilities
    study = Study.from_document(document)
    with pytest.raises(RunError) as caught:
        wait(Run(study, out=tmp_path / "run").execute())
    said = str(caught.value)
    assert "\n" not in said
    assert "problem.metric: 'neg_log_loss' cannot be computed for the pipeline of SVC" in said


def test_no_traceback_is_printed_unless_it_is_asked_for(tmp_path, monkeypatch, document):
    from thalweg.problems.sklearn import problem as module

    def broken(*_):
        raise ZeroDivisionError("a fault of ours")

    monkeypatch.setattr(module, "make_pipeline", lambda *a: a if a[0].get("model") else broken())
    monkeypatch.setattr(module, "_prepare_process", broken)
    study = tmp_path / "study.toml"
    study.write_text(
        """
title = "broken"
[problem]
kind = "sklearn"
data = "diabetes"
steps = ["model"]
space = { model = { type = "object", properties = { kind = { enum = ["ridge", "lasso"] } } } }
start = { model = { kind = "ridge" } }
[optimizer]
kind = "random"
[[blocks]]
iterations = 2
"""
    )
    done = CliRunner().invoke(app, ["run", str(study), "--out", str(tmp_path / "run"), "--threads", "1"])
    assert done.exit_code == 1
    assert "candidate 0 on fold 0: ZeroDivisionError: a fault of ours" in done.stderr
    assert "Traceback" not in done.stderr
    assert "With --traceback" in done.stderr
    again = CliRunner().invoke(
        app, ["run", str(study), "--out", str(tmp_path / "again"), "--threads", "1", "--traceback"]
    )
    assert "in broken" in again.stderr
    from thalweg.runs import History

    failures = [event for event in History(tmp_path / "run").events() if event["kind"] == "failure"]
    assert "in broken" in failures[0]["details"]["error"]


def of_kinds(document, *kinds, **changes):
    branches = [{"type": "object", "properties": {"kind": {"const": kind}}, "required": ["kind"]} for kind in kinds]
    document["problem"] |= {"space": {"model": {"oneOf": branches}}, "start": {"model": {"kind": kinds[0]}}, **changes}
    return Study.from_document(document)


@pytest.mark.parametrize("kinds", [("logistic_regression", "ridge"), ("ridge", "svc", "logistic_regression")])
def test_accuracies_and_r2_are_not_ranked_together(document, kinds):
    with pytest.raises(StudyError, match=r"(logistic_regression|svc) .*accuracy, .*ridge .*R².* give problem\.metric"):
        of_kinds(document, *kinds, data="iris").build_problem()


def test_a_metric_of_both_ranks_them_together_and_steps_before_the_last_do_not_count(document):
    study = of_kinds(document, "logistic_regression", "ridge", data="iris", metric="r2")
    rewards = [score(study, {"model": {"kind": kind}}) for kind in ("logistic_regression", "ridge")]
    assert all(0.8 < reward < 1.0 for reward in rewards)
    with pytest.raises(StudyError, match=r"'roc_auc' scores classes, and ridge of .* predicts numbers"):
        of_kinds(document, "logistic_regression", "ridge", data="breast_cancer", metric="roc_auc").build_problem()
    del document["problem"]["metric"]
    study = of_kinds(document, "svc", "logistic_regression", data="iris")
    scale = {"type": "object", "properties": {"kind": {"enum": ["none", "standard_scaler", "select_k_best"]}}}
    study.settings.problem["steps"].insert(0, "scale")
    study.settings.problem["space"]["scale"] = scale
    study.settings.problem["start"]["scale"] = {"kind": "none"}
    assert study.build_problem().measure == "accuracy"


@pytest.fixture
def named(tmp_path):
    def save(*names):
        features = np.random.default_rng(0).normal(size=(60, 2))
        np.savez(tmp_path / "own.npz", features=features, labels=np.array(names)[(features[:, 0] > 0).astype(int)])
        return str(tmp_path / "own.npz")

    return save


@pytest.mark.parametrize("kind", ["ridge", "random_forest_regressor"])
def test_numbers_are_not_predicted_of_classes_with_names(document, named, kind):
    for changes in ({}, {"metric": "roc_auc"}):
        with pytest.raises(
            StudyError, match=rf"problem\.space\.model: {kind} predicts numbers, .* are names, such as '"
        ):
            with_model(document, kind, data=named("a", "b"), **changes).build_problem()
    with pytest.raises(StudyError, match=f"'roc_auc' scores classes, and {kind} of .* predicts numbers"):
        with_model(document, kind, data=named("0", "1"), metric="roc_auc").build_problem()
    del document["problem"]["metric"]
    assert 0.3 < score(with_model(document, kind, data=named("0", "1"))) <= 1.0  # they are read as numbers


@pytest.mark.parametrize(
    ("metric", "names", "instead"),
    [
        ("f1", ("a", "b"), "f1_macro"),
        ("recall", (2, 3), "recall_macro"),
        ("average_precision", ("0", "1"), "roc_auc"),
        ("neg_brier_score", ("a", "b"), "neg_log_loss"),
    ],
)
def test_a_metric_of_one_class_needs_to_know_which(document, named, metric, names, instead):
    with pytest.raises(
        StudyError, match=rf"'{metric}' .* the classes are {names[0]}, {names[1]}.* 0 and 1, .*{instead}"
    ):
        with_model(document, "logistic_regression", data=named(*names), metric=metric).build_problem()
    study = with_model(document, "logistic_regression", data=named(*names), metric=instead)
    assert (-0.5 < score(study) < 0.0) if instead.startswith("neg_") else (0.7 < score(study) <= 1.0)


@pytest.mark.parametrize(("metric", "names"), [("f1", (1, 2)), ("f1", (False, True)), ("neg_brier_score", (2, 3))])
def test_one_that_knows_is_taken(document, named, metric, names):
    with_model(document, "logistic_regression", data=named(*names), metric=metric).build_problem()


@pytest.mark.filterwarnings("ignore:The `probability` parameter")
def test_branches_of_one_kind_have_a_setting_that_is_searched(document):
    document["problem"] |= {
        "data": "breast_cancer",
        "metric": "neg_log_loss",
        "space": {"model": {"oneOf": [WITHOUT, CERTAIN]}},
        "start": {"model": {"kind": "svc", "probability": True}},
    }
    assert -0.5 < score(Study.from_document(document)) < 0.0
    with pytest.raises(SearchError, match=r"'neg_log_loss' cannot be computed for the pipeline of SVC"):
        score(Study.from_document(document), {"model": {"kind": "svc", "probability": False}})
    other = {**WITHOUT, "properties": {**WITHOUT["properties"], "C": {"enum": [2.0, 3.0]}}, "required": ["C"]}
    document["problem"]["space"]["model"] = {"anyOf": [WITHOUT, other]}
    document["problem"]["start"]["model"]["probability"] = False
    with pytest.raises(StudyError, match=r"computed from predict_proba, which svc .* does not have with its settings"):
        Study.from_document(document).build_problem()


def test_what_is_advised_of_several_classes_is_what_all_classifiers_have(document):
    study = of_kinds(document, "gaussian_nb", "linear_svc", data="iris", metric="roc_auc")
    with pytest.raises(StudyError, match="has 3; take 'balanced_accuracy'"):
        study.build_problem()
    assert 0.8 < score(of_kinds(document, "gaussian_nb", "linear_svc", metric="balanced_accuracy")) <= 1.0
