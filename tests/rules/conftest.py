"""The oracles of ``tests/references``, as a fixture: tests are no packages, and load what they share by its path."""

import importlib.util
import sys
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def oracles():
    """The module ``oracles.py`` of that folder."""
    name = "references_oracles"
    if name not in sys.modules:
        path = Path(__file__).parents[1] / "references" / "oracles.py"
        specification = importlib.util.spec_from_file_location(name, path)
        module = importlib.util.module_from_spec(specification)
        sys.modules[name] = module
        specification.loader.exec_module(module)
    return sys.modules[name]
