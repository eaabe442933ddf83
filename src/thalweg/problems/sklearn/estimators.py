"""From the JSON value of a pipeline to the pipeline: by names that are registered here, never by import paths.

A value has one object a step; its ``kind`` names the estimator, the other entries are the estimator's own parameters::

    {"scale": {"kind": "standard_scaler"}, "model": {"kind": "svc", "C": 10.0, "gamma": 0.02}}

``{"kind": "none"}`` leaves the step out. Where a parameter is a function, it is named, too::

    {"select": {"kind": "select_k_best", "score_func": "mutual_info_classif", "k": 8}, ...}
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from functools import cache, partial
from importlib import import_module
from reprlib import repr as brief  # of values that may be anybody's: neither long nor too deep
from typing import Any

from thalweg.errors import MissingExtraError, SearchError

ESTIMATORS: dict[str, str] = {
    "none": "",
    # scaling
    "standard_scaler": "sklearn.preprocessing:StandardScaler",
    "min_max_scaler": "sklearn.preprocessing:MinMaxScaler",
    "max_abs_scaler": "sklearn.preprocessing:MaxAbsScaler",
    "robust_scaler": "sklearn.preprocessing:RobustScaler",
    "normalizer": "sklearn.preprocessing:Normalizer",
    "quantile_transformer": "sklearn.preprocessing:QuantileTransformer",
    "power_transformer": "sklearn.preprocessing:PowerTransformer",
    "polynomial_features": "sklearn.preprocessing:PolynomialFeatures",
    # fewer or other features
    "pca": "sklearn.decomposition:PCA",
    "truncated_svd": "sklearn.decomposition:TruncatedSVD",
    "nystroem": "sklearn.kernel_approximation:Nystroem",
    "variance_threshold": "sklearn.feature_selection:VarianceThreshold",
    "select_k_best": "sklearn.feature_selection:SelectKBest",
    "select_percentile": "sklearn.feature_selection:SelectPercentile",
    # classification
    "logistic_regression": "sklearn.linear_model:LogisticRegression",
    "ridge_classifier": "sklearn.linear_model:RidgeClassifier",
    "svc": "sklearn.svm:SVC",
    "linear_svc": "sklearn.svm:LinearSVC",
    "k_neighbors_classifier": "sklearn.neighbors:KNeighborsClassifier",
    "gaussian_nb": "sklearn.naive_bayes:GaussianNB",
    "decision_tree_classifier": "sklearn.tree:DecisionTreeClassifier",
    "random_forest_classifier": "sklearn.ensemble:RandomForestClassifier",
    "extra_trees_classifier": "sklearn.ensemble:ExtraTreesClassifier",
    "hist_gradient_boosting_classifier": "sklearn.ensemble:HistGradientBoostingClassifier",
    "mlp_classifier": "sklearn.neural_network:MLPClassifier",
    # regression
    "linear_regression": "sklearn.linear_model:LinearRegression",
    "ridge": "sklearn.linear_model:Ridge",
    "lasso": "sklearn.linear_model:Lasso",
    "elastic_net": "sklearn.linear_model:ElasticNet",
    "svr": "sklearn.svm:SVR",
    "k_neighbors_regressor": "sklearn.neighbors:KNeighborsRegressor",
    "random_forest_regressor": "sklearn.ensemble:RandomForestRegressor",
    "extra_trees_regressor": "sklearn.ensemble:ExtraTreesRegressor",
    "hist_gradient_boosting_regressor": "sklearn.ensemble:HistGradientBoostingRegressor",
}
"""The estimators that a study can name; ``module:class``."""

SCORE_FUNCTIONS: dict[str, str] = {
    # of classes
    "f_classif": "sklearn.feature_selection:f_classif",
    "mutual_info_classif": "sklearn.feature_selection:mutual_info_classif",
    "chi2": "sklearn.feature_selection:chi2",
    # of numbers
    "f_regression": "sklearn.feature_selection:f_regression",
    "r_regression": "sklearn.feature_selection:r_regression",
    "mutual_info_regression": "sklearn.feature_selection:mutual_info_regression",
}
"""What ``select_k_best`` and ``select_percentile`` can score features by, their ``score_func``; ``module:function``."""

_NOT_FROM_A_VALUE = frozenset({"random_state", "n_jobs", "verbose", "memory", "warm_start"})


@cache
def estimator_class(kind: str) -> Any:
    """The class that a name stands for.

    Raises:
        SearchError: nothing is registered under it.
        MissingExtraError: scikit-learn is not installed.
    """
    if kind not in ESTIMATORS or kind == "none":
        raise SearchError(f"there is no estimator {kind!r}; known: {', '.join(sorted(ESTIMATORS))}")
    return _imported(ESTIMATORS[kind])


def score_function(name: Any, seed: int) -> Any:
    """The function that a name stands for; one that draws random numbers draws them from the seed.

    Raises:
        SearchError: nothing is registered under it.
        MissingExtraError: scikit-learn is not installed.
    """
    if not isinstance(name, str) or name not in SCORE_FUNCTIONS:
        raise SearchError(f"there is no score function {brief(name)}; known: {', '.join(sorted(SCORE_FUNCTIONS))}")
    found = _imported(SCORE_FUNCTIONS[name])
    return partial(found, random_state=seed) if "random_state" in inspect.signature(found).parameters else found


def _imported(place: str) -> Any:
    module, _, name = place.partition(":")
    try:
        return getattr(import_module(module), name)
    except ImportError as error:
        raise MissingExtraError(
            'Pipelines of scikit-learn need scikit-learn; install it with: pip install "thalweg[sklearn]"'
        ) from error


def parameters_of(kind: str) -> frozenset[str]:
    """The parameters of an estimator that a value may set; the run sets its random state itself."""
    if kind == "none":
        return frozenset()
    return frozenset(inspect.signature(estimator_class(kind)).parameters) - _NOT_FROM_A_VALUE


def make_pipeline(value: Mapping[str, Any], steps: Sequence[str], seed: int) -> Any:
    """The pipeline that a value describes.

    Args:
        value: one object a step.
        steps: in which order the steps come.
        seed: the random state of each estimator that has one.

    Raises:
        SearchError: a step has no kind, an unknown one, or parameters that its estimator does not have; or there is no
            such score function.
        MissingExtraError: scikit-learn is not installed.

    Example:
        >>> from thalweg.problems.sklearn.estimators import make_pipeline
        >>> value = {"scale": {"kind": "none"}, "model": {"kind": "svc", "C": 2.0}}
        >>> make_pipeline(value, ["scale", "model"], seed=0)
        Pipeline(steps=[('model', SVC(C=2.0, random_state=0))])
    """
    parts = []
    for step in steps:
        entry = value.get(step)
        if not isinstance(entry, Mapping) or "kind" not in entry:
            raise SearchError(f"the step {step!r} is {brief(entry)}; it must be an object with a kind.")
        kind = entry["kind"]
        if not isinstance(kind, str):
            raise SearchError(f"the step {step!r} has the kind {brief(kind)}; it must be the name of an estimator.")
        if kind == "none":
            continue
        cls = estimator_class(kind)
        given = {name: setting for name, setting in entry.items() if name != "kind"}
        unknown = sorted(given.keys() - parameters_of(kind))
        if unknown:
            raise SearchError(
                f"{kind} of the step {step!r} has no parameter {unknown[0]!r}; it has "
                f"{', '.join(sorted(parameters_of(kind)))}."
            )
        if "score_func" in given:
            given["score_func"] = score_function(given["score_func"], seed)
        random = {"random_state": seed} if "random_state" in inspect.signature(cls).parameters else {}
        parts.append((step, cls(**given, **random)))
    from sklearn.pipeline import Pipeline

    return Pipeline(parts)
