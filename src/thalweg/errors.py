"""Every error that Thalweg raises on purpose, in one tree.

::

    ThalwegError
    ├── GraphError                        recording and running the adjoint graph
    │   ├── HiddenVariableError           a Variable inside a list, tuple, dict or set of arguments
    │   ├── OutputError                   a forward returned something other than Variables
    │   ├── SeedError                     an adjoint run without a usable seed
    │   ├── AdjointReturnError            an adjoint returned the wrong number or kind of gradients
    │   ├── GraphFreedError               a second run over a graph whose saved data is gone
    │   └── ModifiedSinceForwardError     a Variable was changed in place between forward and adjoint
    ├── GradientError                     a gradient that cannot be used
    │   ├── GradientShapeError
    │   ├── GradientDtypeError
    │   ├── NonFiniteGradientError
    │   └── MissingGradientError
    ├── OptimizerError                    update rules, schedules, optimizers
    │   ├── HyperparameterError           out of range, not finite, unknown
    │   ├── ParameterError                a parameter that cannot be updated in place
    │   ├── RuleError                     a rule whose text or declarations a backend cannot run
    │   ├── StateMismatchError            saved state that does not fit the optimizer
    │   └── UninitializedError            a subclass forgot super().__init__()
    ├── CheckpointError                   state on disk
    │   ├── CheckpointCorruptError        damaged: names file and entry
    │   └── CheckpointVersionError        written by a newer major format
    ├── SimulationError                   a simulation that would be wrong, refused before computing
    │   ├── UnstableTimeStepError
    │   ├── DispersionError
    │   ├── PositionError
    │   ├── SpeedError
    │   └── ShapeError
    ├── SearchError                       searching: values, schemas, spaces, candidates, rewards
    │   ├── SchemaError                   a schema that is none, or cannot be searched
    │   └── ValueMismatchError            a value that does not fit its schema, or is no JSON
    ├── LanguageModelError                an answer of a language model that was not to be had
    │   ├── EndpointError                 the server gave none: not reached, refused, too slow
    │   ├── AnswerError                   it gave something that cannot be used
    │   └── SpendingError                 the budget does not allow the request; nothing was sent
    ├── StudyError                        a study file that cannot be run
    ├── RunError                          a run that cannot be started or continued
    └── MissingExtraError                 an optional dependency is not installed

Each message says what was wrong (name, what was given, what was expected) and what to do. Where it applies an
error also carries the names as attributes, so that a program need not parse the message.
"""

from __future__ import annotations

from typing import Any


class ThalwegError(Exception):
    """Base of all errors of this library.

    ``details`` holds what the message says as data, for instance ``error.details["variable"]``.
    """

    def __init__(self, message: str, **details: Any) -> None:
        super().__init__(message)
        self.details = details


class GraphError(ThalwegError):
    """Recording or running the adjoint graph failed."""


class HiddenVariableError(GraphError, TypeError):
    """A Variable was passed inside a container, where it cannot be tracked."""


class OutputError(GraphError, TypeError):
    """A forward returned something other than a Variable or a tuple of Variables."""


class SeedError(GraphError, ValueError):
    """An adjoint run was started without a usable seed."""


class AdjointReturnError(GraphError, TypeError):
    """An adjoint returned the wrong number or kind of gradients."""


class GraphFreedError(GraphError, RuntimeError):
    """The graph's saved data was released by an earlier run (use ``retain_graph=True`` to keep it)."""


class ModifiedSinceForwardError(GraphError, RuntimeError):
    """A Variable that the adjoint needs was changed in place after the forward."""


class GradientError(ThalwegError):
    """A gradient cannot be used."""


class GradientShapeError(GradientError, ValueError):
    """A gradient's shape differs from its variable's."""


class GradientDtypeError(GradientError, TypeError):
    """A gradient's dtype differs from its variable's."""


class NonFiniteGradientError(GradientError, ArithmeticError):
    """A gradient holds NaN or infinity."""


class MissingGradientError(GradientError, ValueError):
    """A step was asked for and there is no gradient."""


class OptimizerError(ThalwegError):
    """An update rule, schedule or optimizer was used wrongly."""


class HyperparameterError(OptimizerError, ValueError):
    """A hyperparameter is unknown, not finite or out of its range."""


class ParameterError(OptimizerError, TypeError):
    """A parameter cannot be updated in place."""


class RuleError(OptimizerError, TypeError):
    """An update rule cannot be run: its text, or how it is declared or wrapped."""


class StateMismatchError(OptimizerError, ValueError):
    """Saved state does not fit the optimizer that it is loaded into."""


class UninitializedError(OptimizerError, RuntimeError):
    """An optimizer was used whose class did not call ``super().__init__()``."""


class CheckpointError(ThalwegError):
    """State on disk cannot be written or read."""


class CheckpointCorruptError(CheckpointError):
    """State on disk is damaged."""


class CheckpointVersionError(CheckpointError):
    """State on disk was written by a newer major format."""


class SimulationError(ThalwegError, ValueError):
    """A simulation would be wrong, so it was refused before computing."""


class UnstableTimeStepError(SimulationError):
    """The time step is larger than the scheme's stability limit."""


class DispersionError(SimulationError):
    """There are too few grid points in the shortest wavelength."""


class PositionError(SimulationError):
    """A source or receiver lies outside the grid."""


class SpeedError(SimulationError):
    """A sound speed is not finite or not positive."""


class ShapeError(SimulationError):
    """Arrays that belong together have different shapes."""


class SearchError(ThalwegError, ValueError):
    """Searching: values, schemas, spaces, candidates, rewards."""


class SchemaError(SearchError):
    """A schema that is none, or cannot be searched."""


class ValueMismatchError(SearchError):
    """A value that does not fit its schema, or is no JSON."""


class LanguageModelError(ThalwegError, RuntimeError):
    """An answer of a language model that was not to be had."""


class EndpointError(LanguageModelError):
    """A language model's server gave no answer."""


class AnswerError(LanguageModelError):
    """A language model's answer cannot be used."""


class SpendingError(LanguageModelError):
    """A budget does not allow a request to a language model, which was not sent."""


class StudyError(ThalwegError, ValueError):
    """A study file cannot be run."""


class RunError(ThalwegError, RuntimeError):
    """A run cannot be started or continued."""


class MissingExtraError(ThalwegError, ImportError):
    """An optional dependency is not installed."""
