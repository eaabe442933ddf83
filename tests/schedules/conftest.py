"""Gives the rows of ``table.py`` to the tests that ask for one."""

import pytest

from tests.schedules.table import TABLE


def pytest_generate_tests(metafunc):
    if "library" in metafunc.fixturenames:
        pairs = [pytest.param(row, name, id=f"{id}-{name}") for id, row in TABLE.items() for name in row.oracles]
        metafunc.parametrize(("row", "library"), pairs)
    elif "row" in metafunc.fixturenames:
        metafunc.parametrize("row", TABLE.values(), ids=TABLE)
