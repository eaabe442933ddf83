"""Gives the rows of ``table.py`` to the tests that ask for one; tests are no packages, so it is loaded by its path."""

import importlib.util
import sys
from pathlib import Path

import pytest


def load_table():
    name = "schedules_table"
    if name not in sys.modules:
        specification = importlib.util.spec_from_file_location(name, Path(__file__).with_name("table.py"))
        module = importlib.util.module_from_spec(specification)
        sys.modules[name] = module
        specification.loader.exec_module(module)
    return sys.modules[name].TABLE


@pytest.fixture(scope="session")
def table():
    return load_table()


def pytest_generate_tests(metafunc):
    rows = load_table()
    if "library" in metafunc.fixturenames:
        pairs = [pytest.param(row, name, id=f"{id}-{name}") for id, row in rows.items() for name in row.oracles]
        metafunc.parametrize(("row", "library"), pairs)
    elif "row" in metafunc.fixturenames:
        metafunc.parametrize("row", rows.values(), ids=rows)
