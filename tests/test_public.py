"""The public surface, name by name: whoever changes it changes this list, and the changelog."""

import importlib
import inspect
import pkgutil
import re
from pathlib import Path

import pytest

import thalweg
from thalweg.rules import Rule

PUBLIC: dict[str, set[str]] = {
    "thalweg": {
        *("Variable", "Operator", "Call", "Graph", "Node", "check_adjoint", "check_gradient", "wait"),
        *("Optimizer", "LocalOptimizer", "OptimizationState", "GradientDescent", "SGD", "Momentum", "Nesterov"),
        *("AdaGrad", "RMSProp", "Adadelta", "Adam", "AMSGrad", "AdamW", "Adamax", "Nadam", "RAdam", "Lion", "Rprop"),
        *("LAMB", "ScheduleFreeAdamW", "get_updater", "get_learning_rate", "get_momentum", "normalized_gradient"),
        *("ThalwegError", "errors", "optimizers", "rules", "schedules", "transforms", "__version__"),
    },
    "thalweg.graph": {
        *("Variable", "Operator", "Call", "Graph", "Node", "wait", "run_blocking", "use_executor"),
        *("check_adjoint", "AdjointCheck", "check_gradient", "GradientCheck"),
    },
    "thalweg.checkpoints": {"CheckpointStore", "FORMAT", "canonical", "whole"},
    "thalweg.rules": {
        *("Rule", "Hyperparameter", "Interval", "NoSlots", "registry", "decayed", "lookahead", "averaged"),
        *("gradient_descent", "sgd", "momentum", "nesterov", "adagrad", "rmsprop", "adadelta", "adam", "adamax"),
        *("amsgrad", "adamw", "nadam", "radam", "lion", "rprop", "lamb", "schedule_free_adamw"),
    },
    "thalweg.rules.arithmetic": {
        *("absolute", "cos", "equal", "floor", "if_number", "isfinite", "maximum", "minimum", "sign", "sqrt", "where"),
    },
    "thalweg.lowering": {"Batch", "Kernel", "Part", "address_of", "compile_rule"},
    "thalweg.schedules": {
        *("Schedule", "Fixed", "Exp", "Inv", "Step", "Piecewise", "Polynomial", "Cosine", "OneCycle", "Cyclic"),
        *("WarmUp", "Join", "Chain", "Plateau", "OptimizationState", "Counts", "State", "build", "registry"),
    },
    "thalweg.transforms": {
        *("Transform", "TreeTransform", "ParameterTransform", "ArrayFunction", "mask", "smooth", "scale", "normalize"),
        *("clip_value", "clip_norm", "clip_global_norm", "clip_adaptive", "add_decay", "bounds", "nonnegative"),
        *("simplex", "l1_ball", "l2_ball", "chain", "describe", "build", "registry"),
    },
    "thalweg.optimizers": {
        *("Optimizer", "LocalOptimizer", "GradientDescent", "SGD", "Momentum", "Nesterov", "AdaGrad", "RMSProp"),
        *("Adadelta", "Adam", "AMSGrad", "AdamW", "Adamax", "Nadam", "RAdam", "Lion", "Rprop", "LAMB"),
        *("ScheduleFreeAdamW", "OptimizerSnapshot", "Scheduled", "Group", "build", "registry"),
        *("get_updater", "get_learning_rate", "get_momentum", "normalized_gradient"),
    },
    "thalweg.search": {
        *("Json", "StructuredVariable", "copy_json", "digest_json", "schema_of", "standardize_schema"),
        *("contains_schema", "RewardOptimizer", "Matching", "Reward", "SampleReward"),
        *("Search", "Space", "Engine", "Candidate", "Proposal", "Told", "Limits", "Spent"),
    },
    "thalweg.runtime": {"Runtime", "Local", "Dask", "Watched", "TreeReduction", "add_trees", "Shared", "Pieces"},
    "thalweg.runs": {
        *("Study", "Run", "run_study", "Outcome", "History", "Problem", "Feedback", "Check", "Progress"),
        *("Selection", "Batch", "Display", "PlainDisplay", "QuietDisplay", "find_study", "model_digest"),
        "RewardProblem",
    },
    "thalweg.problems.waves": {
        *("Grid", "Propagator", "Shot", "L2Misfit", "AddTimeDispersion", "RemoveTimeDispersion", "WaveProblem"),
        *("ricker", "tone_burst", "highest_frequency", "line_array", "ring_array"),
    },
    "thalweg.problems.sklearn": {"PipelineProblem", "load_pipeline"},
    "thalweg.problems.programs": {"Generate", "Outcome", "Program", "ProgramProblem", "Step", "register_metric"},
    "thalweg.lm": {
        *("Answer", "AnswerCache", "Counts", "LanguageModel", "Message", "Prices", "Spending", "Structured", "Usage"),
    },
    "thalweg.cli": {"app", "computing", "main", "reading"},
    "thalweg.optimizers.pytensor": {"Symbolic", "require_pytensor", "symbolic"},
    "thalweg.optimizers.jax": {"JaxOptimizer", "JaxState"},
    "thalweg.optimizers.torch": {"TorchOptimizer"},
    "thalweg.dialects.stride": {"Variable", "Operator", "Graph", "Node", "LocalOptimiser", "GradientDescent"},
    "thalweg.dialects.pycmtensor": {
        *("Optimizer", "Adam", "Adamax", "Adadelta", "RMSProp", "Momentum", "AdaGrad", "SGD"),
    },
    "thalweg.dialects.synalinks": {
        *("Optimizer", "Variable", "DataModel", "Empty", "Iteration", "contains_schema", "standardize_schema"),
    },
    "thalweg.dialects.mxnet": {
        *("AbstractOptimizer", "AbstractLearningRateScheduler", "AbstractMomentumScheduler", "OptimizationState"),
        *("AbstractOptimizerOptions", "get_learning_rate", "LearningRate", "get_momentum", "Momentum", "get_updater"),
        *("normalized_gradient", "SGD", "ADAM"),
    },
}

ERRORS = {
    *("ThalwegError", "GraphError", "HiddenVariableError", "OutputError", "SeedError", "AdjointReturnError"),
    *("GraphFreedError", "ModifiedSinceForwardError", "GradientError", "GradientShapeError", "GradientDtypeError"),
    *("NonFiniteGradientError", "MissingGradientError", "OptimizerError", "HyperparameterError", "ParameterError"),
    *("StateMismatchError", "CheckpointError", "CheckpointCorruptError", "CheckpointVersionError"),
    *("UninitializedError", "RuleError"),
    *("SimulationError", "UnstableTimeStepError", "DispersionError", "PositionError", "SpeedError", "ShapeError"),
    *("SearchError", "SchemaError", "ValueMismatchError", "LanguageModelError"),
    *("EndpointError", "AnswerError", "SpendingError"),
    *("StudyError", "RunError", "MissingExtraError"),
}

# Public names whose docstring has no example of its own, and where one is.
WITHOUT_EXAMPLE = {
    "thalweg.graph.AdjointCheck": "made by check_adjoint",
    "thalweg.graph.GradientCheck": "made by check_gradient",
    "thalweg.graph.run_blocking": "use_executor has it",
    "thalweg.rules.Hyperparameter": "made by Rule.hyperparameters",
    "thalweg.rules.NoSlots": "an empty named tuple",
    "thalweg.lowering.Kernel": "made by compile_rule",
    "thalweg.lowering.Part": "Batch has it",
    "thalweg.lowering.address_of": "Batch has it",
    "thalweg.optimizers.Optimizer": "abstract; LocalOptimizer has it",
    "thalweg.checkpoints.whole": "a check that others share",
    "thalweg.optimizers.jax.JaxState": "made by JaxOptimizer.init",
    "thalweg.search.Matching": "made by RewardOptimizer.matching; docs/structured.md",
    "thalweg.runtime.Runtime": "a protocol; Local has it",
    "thalweg.runs.Run": "Problem has it",
    "thalweg.runs.run_study": "docs/waves.md has it",
    "thalweg.runs.Outcome": "made by run_study; docs/waves.md",
    "thalweg.runs.History": "docs/waves.md has it",
    "thalweg.runs.Batch": "made by Selection.next",
    "thalweg.runs.Display": "a protocol",
    "thalweg.runs.PlainDisplay": "what the command prints; docs/waves.md",
    "thalweg.runs.QuietDisplay": "prints nothing",
    "thalweg.problems.waves.Shot": "made by Propagator.shot",
    "thalweg.problems.waves.RemoveTimeDispersion": "AddTimeDispersion has it",
    "thalweg.problems.waves.WaveProblem": "made by a study; docs/waves.md",
    "thalweg.problems.programs.Outcome": "made by Program.run",
    "thalweg.problems.programs.ProgramProblem": "made by a study; docs/programs.md",
    "thalweg.problems.programs.register_metric": "docs/programs.md has it",
    "thalweg.lm.Counts": "kept by LanguageModel",
    "thalweg.lm.Structured": "made by LanguageModel; docs/programs.md",
    "thalweg.cli.main": "the command",
    "thalweg.optimizers.pytensor.require_pytensor": "raises, or does nothing",
    "thalweg.dialects.stride.LocalOptimiser": "abstract; GradientDescent has it",
}


def home(module: str, name: str) -> str:
    """The name under which a thing is listed: that of the subpackage it belongs to, not of ``thalweg``."""
    if module != "thalweg":
        return f"{module}.{name}"
    return next((f"{other}.{name}" for other, names in PUBLIC.items() if other != module and name in names), name)


def documented() -> list[tuple[str, str]]:
    """The public classes and functions: what can have a docstring of its own."""
    return [
        (module, name)
        for module, names in PUBLIC.items()
        for name in sorted(names)
        if inspect.isclass(thing := getattr(importlib.import_module(module), name)) or inspect.isfunction(thing)
    ]


@pytest.mark.parametrize("module", PUBLIC)
def test_the_public_names_are_these(module):
    found = importlib.import_module(module)
    assert set(found.__all__) == PUBLIC[module]
    assert len(found.__all__) == len(set(found.__all__))
    assert all(hasattr(found, name) for name in found.__all__)


def test_no_other_module_has_a_public_list():
    modules = [module.name for module in pkgutil.walk_packages(thalweg.__path__, "thalweg.")]
    listed = {"thalweg", *(name for name in modules if hasattr(importlib.import_module(name), "__all__"))}
    assert listed == PUBLIC.keys()


def test_a_name_means_the_same_thing_everywhere():
    for name in PUBLIC["thalweg"] - {"__version__", "errors", "ThalwegError"}:
        thing = getattr(thalweg, name)
        for module in ("thalweg.graph", "thalweg.optimizers", "thalweg.schedules"):
            if name in PUBLIC[module]:
                assert getattr(importlib.import_module(module), name) is thing


def test_the_errors_are_these_and_drawn_in_one_tree():
    own = thalweg.errors.__name__
    classes = {n: thing for n, thing in vars(thalweg.errors).items() if getattr(thing, "__module__", "") == own}
    assert classes.keys() == ERRORS
    assert all(issubclass(thing, thalweg.ThalwegError) for thing in classes.values())
    drawing = (thalweg.errors.__doc__ or "").partition("::")[2]
    drawn: dict[str, str] = {}
    above: list[str] = []
    for line in drawing.splitlines():
        if (found := re.search(r"\b(\w+Error)\b", line)) is not None:
            depth = found.start() // 4 - 1
            above[depth:] = [found[1]]
            drawn[found[1]] = above[depth - 1] if depth else ""
    assert drawn == {
        name: next((base.__name__ for base in thing.__bases__ if base.__name__ in ERRORS), "")
        for name, thing in classes.items()
    }


@pytest.mark.parametrize(("module", "name"), documented())
def test_each_name_has_a_docstring_with_an_example(module, name):
    text = getattr(importlib.import_module(module), name).__doc__
    assert text, f"{module}.{name} has no docstring"
    if home(module, name) in WITHOUT_EXAMPLE or name in ERRORS:
        return
    assert ">>> " in text, f"{module}.{name} has no example; give it one, or say in WITHOUT_EXAMPLE where one is"


def test_the_exceptions_are_needed():
    for where in WITHOUT_EXAMPLE:
        module, _, name = where.rpartition(".")
        assert name in PUBLIC[module]
        assert ">>> " not in (getattr(importlib.import_module(module), name).__doc__ or ""), f"{where} has an example"


@pytest.mark.parametrize("name", sorted(n for n, r in vars(thalweg.rules).items() if isinstance(r, Rule)))
def test_each_rule_has_its_formula_and_its_source(name):
    rule = getattr(thalweg.rules, name)
    module = importlib.import_module(rule.update.__module__)
    assert "θ" in (module.__doc__ or "")
    assert rule.source
    assert all(hyperparameter.doc for hyperparameter in rule.hyperparameters.values())


def test_the_version_is_the_package_s_own():
    pyproject = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    assert f'version = "{thalweg.__version__}"' in pyproject
