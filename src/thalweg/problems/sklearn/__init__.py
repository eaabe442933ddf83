"""Choosing a scikit-learn pipeline and its settings by cross-validation, as a run."""

from thalweg.problems.sklearn.problem import PipelineProblem
from thalweg.problems.sklearn.winner import load_pipeline

__all__ = ["PipelineProblem", "load_pipeline"]
