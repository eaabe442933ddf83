"""Choosing a scikit-learn pipeline and its settings by cross-validation, as a run."""

from thalweg.problems.sklearn.problem import PipelineProblem

__all__ = ["PipelineProblem"]
