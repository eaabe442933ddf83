"""An optimization as a thing on disk: a study goes in, a folder with history, checkpoints, figures and a
model comes out."""

from thalweg.runs.digest import model_digest
from thalweg.runs.display import Display, PlainDisplay, QuietDisplay
from thalweg.runs.history import History
from thalweg.runs.problem import Check, Feedback, Problem, Progress
from thalweg.runs.rewards import RewardProblem
from thalweg.runs.selection import Batch, Selection
from thalweg.runs.session import Outcome, Run, run_study
from thalweg.runs.shipped import find_study
from thalweg.runs.study import Study

__all__ = [
    "Batch",
    "Check",
    "Display",
    "Feedback",
    "History",
    "Outcome",
    "PlainDisplay",
    "Problem",
    "Progress",
    "QuietDisplay",
    "RewardProblem",
    "Run",
    "Selection",
    "Study",
    "find_study",
    "model_digest",
    "run_study",
]
