"""Which scorers of scikit-learn go with which labels and estimators: refused before anything is fitted."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np

from thalweg.errors import StudyError
from thalweg.problems.sklearn.data import Labelled, Parts
from thalweg.problems.sklearn.estimators import estimator_class

_OF_TWO_CLASSES = {
    "f1": "f1_macro",
    "precision": "precision_macro",
    "recall": "recall_macro",
    "jaccard": "jaccard_macro",
}
_OF_TWO_CLASSES |= {"roc_auc": "roc_auc_ovr"}
_OF_ALL_CLASSES = ("roc_auc", "neg_log_loss")  # how their names begin: each class must be among what is scored


def check_metric(metric: str | None, data: Labelled, parts: Parts, kinds: Iterable[tuple[str, str]]) -> None:
    """Refuse a metric that no scorer is called, or that would fail with every pipeline of a study.

    Args:
        metric: its name; None is the estimators' own.
        data: what is predicted.
        parts: of it.
        kinds: (step, estimator) of all that a candidate may have.

    Raises:
        StudyError: the metric does not go with the labels, the folds or the estimators.
    """
    for step, kind in kinds:
        if is_classifier(kind) and not data.classes:
            raise StudyError(
                f"problem.space.{step}: {kind} predicts classes, and the labels of the data are numbers; take an "
                "estimator for regression, or save the labels as integers if they are classes."
            )
    if metric is None:
        return
    about = _about(metric)
    if about != "regression" and about and not data.classes:
        raise StudyError(
            f"problem.metric: {metric!r} scores classes, and the labels of the data are numbers; take one for "
            "regression, such as 'r2' or 'neg_root_mean_squared_error'."
        )
    if about == "regression" and data.labels.dtype.kind not in "fiub":
        raise StudyError(
            f"problem.metric: {metric!r} scores numbers, and the labels of the data are classes with names; take one "
            "for classification, such as 'accuracy' or 'balanced_accuracy'."
        )
    for step, kind in kinds:
        if about == "classification" and is_regressor(kind):
            raise StudyError(
                f"problem.metric: {metric!r} scores classes, and {kind} of problem.space.{step} predicts numbers; take "
                "an estimator for classification, or a metric for regression, such as 'r2'."
            )
    if data.classes:
        _check_classes(metric, data.labels, parts)


def is_classifier(kind: str) -> bool:
    """Whether an estimator predicts classes."""
    return _mixes(kind, "Classifier")


def is_regressor(kind: str) -> bool:
    """Whether an estimator predicts numbers."""
    return _mixes(kind, "Regressor")


def _mixes(kind: str, what: str) -> bool:
    return kind != "none" and any(cls.__name__ == f"{what}Mixin" for cls in estimator_class(kind).__mro__)


def _about(metric: str) -> str:
    """``"classification"``, ``"regression"``, ``"ranking"`` of classes, or nothing if that is not known."""
    from sklearn.metrics import get_scorer, get_scorer_names

    from thalweg.runs.validation import meant

    names = get_scorer_names()
    if metric not in names:
        raise StudyError(f"problem.metric: there is no scorer {metric!r}{meant(metric, names)}.")
    module = getattr(getattr(get_scorer(metric), "_score_func", None), "__module__", "")
    last = module.rpartition(".")[2].lstrip("_")
    return last if last in ("classification", "regression", "ranking") else ""


def _check_classes(metric: str, labels: Any, parts: Parts) -> None:
    classes = np.unique(labels)
    if metric in _OF_TWO_CLASSES and len(classes) > 2:
        raise StudyError(
            f"problem.metric: {metric!r} is for two classes, and the data has {len(classes)}; take "
            f"{_OF_TWO_CLASSES[metric]!r}."
        )
    if not metric.startswith(_OF_ALL_CLASSES):
        return
    scored = [("fold", rows) for _, rows in parts.folds]
    scored += [("held-out chunk", rows) for rows in parts.held_out] + [("test chunk", rows) for rows in parts.test]
    for what, rows in scored:
        there = np.unique(labels[rows])
        if len(there) < len(classes):
            names = ", ".join(map(str, there[:5].tolist()))
            raise StudyError(
                f"problem.metric: {metric!r} needs each of the {len(classes)} classes among the rows that it scores, "
                f"and the {len(rows)} rows of a {what} have only {names}. Take fewer folds (problem.folds), another "
                "metric, or more rows.",
                path="problem.folds",
            )
