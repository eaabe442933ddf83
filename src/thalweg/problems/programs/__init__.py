"""Programs that call a language model, and the search for their instructions and examples, as a run."""

from thalweg.problems.programs.generate import Generate
from thalweg.problems.programs.metrics import register_metric
from thalweg.problems.programs.problem import ProgramProblem
from thalweg.problems.programs.program import Program
from thalweg.problems.programs.steps import Outcome, Step

__all__ = ["Generate", "Outcome", "Program", "ProgramProblem", "Step", "register_metric"]
