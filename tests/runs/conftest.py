"""What the tests of runs share."""

import importlib.util
import sys
from pathlib import Path

import pytest


def _load(name):
    path = Path(__file__).with_name(f"{name}.py")
    specification = importlib.util.spec_from_file_location(f"{name}_for_tests", path)
    module = importlib.util.module_from_spec(specification)
    sys.modules[specification.name] = module
    specification.loader.exec_module(module)
    return module


_load("searching")  # test modules import it: searching_for_tests


@pytest.fixture(scope="session")
def deconvolution():
    """The module of the problem that the tests run."""
    return _load("deconvolution")


@pytest.fixture
def kinds(deconvolution):
    deconvolution.Deconvolution.instances.clear()
    return {"deconvolution": deconvolution.Deconvolution}


@pytest.fixture
def document():
    """A study of that problem."""
    return {
        "title": "A blurred signal",
        "seed": 3,
        "problem": {"kind": "deconvolution"},
        "optimizer": {"kind": "adam", "learning_rate": 0.05},
        "blocks": [
            {"name": "low", "iterations": 4, "selection": "random", "batch_size": 2, "cutoff": 0.3},
            {"iterations": 3},
        ],
        "runtime": {"threads": 2},
    }
