"""Executes the Python blocks of README.md and docs/ as tests (docstrings are pytest's own doctests), and takes a sample
of the largest tables of cases."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from sybil import Sybil
from sybil.parsers.markdown import PythonCodeBlockParser, SkipParser

from tests.sampling import sample

pytest_collect_file = Sybil(parsers=[PythonCodeBlockParser(), SkipParser()], patterns=["*.md"]).pytest()


@pytest.hookimpl(trylast=True)  # who asks for cases by name gets them
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Of a test marked ``sampled(count)`` so many cases run, chosen by its name; all with THALWEG_TESTS=all."""
    tables: dict[str, tuple[int, list[pytest.Item]]] = {}
    for item in items:
        if (mark := item.get_closest_marker("sampled")) is not None:
            tables.setdefault(item.nodeid.partition("[")[0], (mark.args[0], []))[1].append(item)
    left_out: set[pytest.Item] = set()
    for test, (count, cases) in tables.items():
        left_out |= set(cases) - set(sample(cases, count, seed=test))
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


@pytest.fixture(autouse=True, scope="module")
def what_libraries_keep_is_not_looked_at_again() -> Iterator[None]:
    """What JAX and PyTensor have compiled stays, and each collection of garbage would go through all of it."""
    yield
    gc.collect()
    gc.freeze()
