"""Labels that are texts of numbers: classes with these names, and numbers for regression."""

import numpy as np
import pytest

from thalweg.errors import StudyError
from thalweg.graph import wait
from thalweg.problems.sklearn import PipelineProblem
from thalweg.problems.sklearn.estimators import ESTIMATORS
from thalweg.problems.sklearn.metrics import is_regressor
from thalweg.runtime import Local

REGRESSORS = [kind for kind in ESTIMATORS if kind != "none" and is_regressor(kind)]


@pytest.fixture
def made(tmp_path):
    features = np.random.default_rng(0).normal(size=(60, 2))

    def make(names, *kinds, metric=None, **select):
        path = tmp_path / f"{type(names[0]).__name__}.npz"
        np.savez(path, features=features, labels=np.array(names)[(features[:, 0] > 0).astype(int)])
        model = {"type": "object", "properties": {"kind": {"enum": [*kinds]}}}
        space, start = {"model": model}, {"model": {"kind": kinds[0]}}
        if select:
            select = {"kind": "select_k_best", **select}
            properties = {name: {"const": value} for name, value in select.items()}
            space["select"], start["select"] = {"type": "object", "properties": properties}, select
        settings = PipelineProblem.Settings(
            data=str(path), steps=sorted(space, reverse=True), space=space, start=start, folds=3, metric=metric
        )
        return PipelineProblem(settings, seed=0)

    return make


def refusal(problem):
    return next((str(error) for error, _ in problem.objections()), None)


def scores(problem, kind=None):
    value = problem.variables[0].data if kind is None else {"model": {"kind": kind}}
    with Local(threads=1) as runtime:
        return [wait(problem.reward({"pipeline": value}, item, runtime)).reward for item in range(problem.items)]


@pytest.mark.parametrize("metric", [None, "r2", "neg_mean_squared_error", "neg_max_error", "neg_median_absolute_error"])
@pytest.mark.parametrize("kind", REGRESSORS)
def test_regressors_have_the_scores_of_the_numbers(made, kind, metric):
    problem = made(("1", "3"), kind, metric=metric)
    assert refusal(problem) is None
    found = scores(problem)
    assert found == pytest.approx(scores(made((1, 3), kind, metric=metric)), rel=1e-12)
    assert all(np.isfinite(found))


def test_so_have_features_that_are_chosen_for_them(made):
    chosen = {"score_func": "f_regression", "k": 1}
    found = scores(made(("1", "3"), "ridge", **chosen))
    assert found == scores(made((1, 3), "ridge", **chosen))
    assert min(found) > 0.3


def test_classifiers_and_regressors_are_ranked_by_what_is_of_numbers(made):
    problem = made(("0", "1"), "ridge", "logistic_regression")
    assert "give problem.metric, such as 'r2'" in refusal(problem)
    problem = made(("0", "1"), "ridge", "logistic_regression", metric="r2")
    numbers = made((0, 1), "ridge", "logistic_regression", metric="r2")
    assert refusal(problem) is None
    for kind in ("ridge", "logistic_regression"):
        assert scores(problem, kind) == scores(numbers, kind)
    assert "take an estimator for classification" in refusal(made(("0", "1"), "ridge", metric="accuracy"))


def test_a_classifier_says_texts_which_a_few_metrics_do_not_read(made):
    for metric in ("neg_max_error", "neg_median_absolute_error"):
        said = refusal(made(("0", "1"), "ridge", "svc", metric=metric))
        assert said.startswith(f"problem.metric: {metric!r} scores numbers, and svc predicts the labels of the data as")
        assert "save the labels as numbers" in said
        assert refusal(made((0, 1), "ridge", "svc", metric=metric)) is None
    assert refusal(made(("0", "1"), "svc", metric="neg_root_mean_squared_error")) is None


def test_names_are_no_numbers(made):
    assert "'r2' scores numbers, and the labels" in refusal(made(("0", "b"), "svc", metric="r2"))
    assert "ridge predicts numbers, and the labels" in refusal(made(("0", "b"), "ridge"))
    with pytest.raises(StudyError, match="nothing to predict"):
        made(("0", "0"), "ridge")
