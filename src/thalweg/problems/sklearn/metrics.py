"""Which scorers of scikit-learn go with which labels and estimators: refused before anything is fitted."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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
_RATIOS = {"positive_likelihood_ratio": "balanced_accuracy", "neg_negative_likelihood_ratio": "balanced_accuracy"}
_OF_CLASS_ONE = {**_OF_TWO_CLASSES, "average_precision": "roc_auc"}  # takes the class 1 for the positive one
_OF_TWO_CLASSES |= {"roc_auc": "roc_auc_ovr", **_RATIOS}
_OF_LAST_CLASS = {"neg_brier_score": "neg_log_loss", "d2_brier_score": "d2_log_loss_score"}  # of names it takes none
_OF_ALL_CLASSES = ("roc_auc", "neg_log_loss")  # how their names begin: each class must be among what is scored


Kind = tuple[str, str, Mapping[str, list[Any]]]
"""(step, estimator, values of its settings that are named): an empty list is a setting that may have others, too."""


def check_metric(metric: str | None, data: Labelled, parts: Parts, kinds: Iterable[Kind]) -> None:
    """Refuse a metric that no scorer is called; estimators that cannot predict the labels, or have no metric in common;
    and what is known of a metric to fail by the labels, the folds and the estimators alone. What depends on settings
    that are searched, such as whether there are probabilities, the evaluations say.

    Args:
        metric: its name; None is the estimators' own.
        data: what is predicted.
        parts: of it.
        kinds: all estimators that a candidate may have.

    Raises:
        StudyError: the metric does not go with the labels, the folds or the estimators.
    """
    kinds = list(kinds)
    pairs = [(step, kind) for step, kind, _ in kinds]
    _check_estimators(data, pairs)
    if metric is None:
        _check_one_sort(pairs)
        return
    about = _about(metric)
    if about != "regression" and about and not data.classes:
        raise StudyError(
            f"problem.metric: {metric!r} scores classes, and the labels of the data are numbers; take one for "
            "regression, such as 'r2' or 'neg_root_mean_squared_error'."
        )
    texts = data.labels.dtype.kind not in "fiub"
    if about == "regression" and texts and not are_texts_of_numbers(data.labels):
        raise StudyError(
            f"problem.metric: {metric!r} scores numbers, and the labels of the data are classes with names; take one "
            "for classification, such as 'accuracy' or 'balanced_accuracy'."
        )
    classifier = next((kind for _, kind in pairs if is_classifier(kind)), None)
    if about == "regression" and texts and classifier and not _reads_texts(metric):
        raise StudyError(
            f"problem.metric: {metric!r} scores numbers, and {classifier} predicts the labels of the data as they are, "
            "which are texts; save the labels as numbers, or take another metric, such as 'r2'."
        )
    for step, kind in dict.fromkeys(pairs):
        _check_response(metric, about, step, kind, [has for *where, has in kinds if where == [step, kind]])
    if data.classes:
        _check_classes(metric, data.labels, parts, kinds)


def _check_response(metric: str, about: str, step: str, kind: str, branches: list[Mapping[str, list[Any]]]) -> None:
    """Refuse an estimator that in no branch says what the metric is computed from: each evaluation would fail."""
    from sklearn.metrics import get_scorer

    needed = getattr(get_scorer(metric), "_response_method", "predict")
    methods = [needed] if isinstance(needed, str) else list(needed)
    if is_regressor(kind) and (about == "classification" or not any(_responds(kind, methods, has) for has in branches)):
        raise StudyError(
            f"problem.metric: {metric!r} scores classes, and {kind} of problem.space.{step} predicts numbers; take "
            "an estimator for classification, or a metric for regression, such as 'r2'."
        )
    if is_classifier(kind) and not any(_responds(kind, methods, has) for has in branches):
        there = any(hasattr(estimator_class(kind), method) for method in methods)
        raise StudyError(
            f"problem.metric: {metric!r} is computed from {' or '.join(methods)}, which {kind} of problem.space.{step} "
            f"does not have{' with its settings' if there else ''}; take another estimator, or a metric of the classes "
            "that are predicted, such as 'balanced_accuracy'."
        )


def _responds(kind: str, methods: list[str], settings: Mapping[str, list[Any]]) -> bool:
    """Whether an estimator has one of the methods, with its defaults or with any setting that it may have."""
    given = [(name, value) for name, values in settings.items() if name != "kind" for value in values or [True]]
    made = [estimator_class(kind)(**one) for one in ({}, *({name: value} for name, value in given))]
    return any(hasattr(one, method) for one in made for method in methods)


def _check_estimators(data: Labelled, kinds: list[tuple[str, str]]) -> None:
    name = None if _are_numbers(data.labels) else data.labels[0]
    for step, kind in kinds:
        if is_classifier(kind) and not data.classes:
            raise StudyError(
                f"problem.space.{step}: {kind} predicts classes, and the labels of the data are numbers; take an "
                "estimator for regression, or save the labels as integers if they are classes."
            )
        if is_regressor(kind) and name is not None:
            raise StudyError(
                f"problem.space.{step}: {kind} predicts numbers, and the labels of the data are names, such as "
                f"{str(name)!r}; take an estimator for classification, or save the labels as numbers."
            )


def _check_one_sort(kinds: list[tuple[str, str]]) -> None:
    """Without a metric each pipeline is scored by its estimator's own, and accuracies do not compare with R²."""
    classes = next((one for one in kinds if is_classifier(one[1])), None)
    numbers = next((one for one in kinds if is_regressor(one[1])), None)
    if classes and numbers:
        raise StudyError(
            f"problem.space: {classes[1]} of the step {classes[0]} is scored by its accuracy, {numbers[1]} of the step "
            f"{numbers[0]} by its R², and the two do not compare: give problem.metric, such as 'r2', by which all are "
            "scored, or take estimators of one sort only."
        )


def is_classifier(kind: str) -> bool:
    """Whether an estimator predicts classes."""
    return _mixes(kind, "Classifier")


def is_regressor(kind: str) -> bool:
    """Whether an estimator predicts numbers."""
    return _mixes(kind, "Regressor")


def are_texts_of_numbers(labels: Any) -> bool:
    """Whether labels are texts that regression reads as numbers."""
    return labels.dtype.kind in "US" and _are_numbers(labels)


def _reads_texts(metric: str) -> bool:
    """Whether a metric of numbers takes texts of them, which most do."""
    from sklearn.metrics import get_scorer

    texts = np.array(["1", "2"])
    try:
        get_scorer(metric)._score_func(texts, texts)
    except (TypeError, ValueError):
        return False
    return True


def _are_numbers(labels: Any) -> bool:
    try:
        labels.astype(np.float64)
    except (TypeError, ValueError):
        return False
    return True


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
    if metric in _RATIOS:
        return "classification"
    last = module.rpartition(".")[2].lstrip("_")
    return last if last in ("classification", "regression", "ranking") else ""


def _check_classes(metric: str, labels: Any, parts: Parts, kinds: list[Kind]) -> None:
    classes = np.unique(labels)
    if metric.endswith("_samples"):
        raise StudyError(
            f"problem.metric: {metric!r} is for rows with several labels each, and the data has one each; take "
            f"{metric.replace('_samples', '_macro')!r}."
        )
    if metric in _OF_TWO_CLASSES and len(classes) > 2:
        better = _OF_TWO_CLASSES[metric]
        models = [(kind, has) for _, kind, has in kinds if is_classifier(kind)]
        if better == "roc_auc_ovr" and not all(_responds(kind, ["predict_proba"], has) for kind, has in models):
            better = "balanced_accuracy"
        raise StudyError(
            f"problem.metric: {metric!r} is for two classes, and the data has {len(classes)}; take {better!r}."
        )
    instead, first = {**_OF_CLASS_ONE, **_OF_LAST_CLASS}.get(metric), metric in _OF_CLASS_ONE
    named = labels.dtype.kind not in "iub"
    if len(classes) == 2 and instead and (named or (first and 1 not in classes)):
        one, other = classes.tolist()
        raise StudyError(
            f"problem.metric: {metric!r} scores how well one class is found, and does not know which if the classes "
            f"are {one}, {other}; save the labels as 0 and 1, or take {instead!r}."
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
