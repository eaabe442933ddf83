"""What the extra ``test`` promises is there, so that no ``importorskip`` of these tests ever skips without a word."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]
COMMANDS = ("mypy", "ruff")
"""Distributions that are used from the command line."""


def name_of(requirement: str) -> str:
    """The normalized name of the distribution that a requirement is for."""
    found = re.match(r"[A-Za-z0-9][A-Za-z0-9._-]*", requirement)
    assert found is not None, requirement
    return re.sub(r"[-_.]+", "-", found[0]).lower()


def packages() -> dict[str, list[str]]:
    """The names to import by distribution."""
    found: dict[str, list[str]] = {}
    for package, distributions in importlib.metadata.packages_distributions().items():
        for distribution in distributions:
            found.setdefault(name_of(distribution), []).append(package)
    return found


WANTED = sorted({name_of(requirement) for requirement in EXTRAS["test"]})
PACKAGES = packages()


IMPORTING = """
import importlib, json, sys
said = {}
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except BaseException as error:
        said[name] = repr(error)
print("\\n" + json.dumps(said))
"""
"""In a process of its own: some libraries change what the tests after this one would find."""


@pytest.fixture(scope="module")
def failures(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What cannot be imported of all that the extra brings, and why."""
    names = [package for distribution in WANTED for package in importable(distribution)]
    done = subprocess.run(
        [sys.executable, "-c", IMPORTING, *names],
        capture_output=True,
        text=True,
        env={**os.environ, "KERAS_BACKEND": "torch", "KERAS_HOME": str(tmp_path_factory.mktemp("keras"))},
        timeout=600,
        check=True,
    )
    found: dict[str, str] = json.loads(done.stdout.splitlines()[-1])
    return found


def importable(distribution: str) -> list[str]:
    """The names that a distribution is imported by."""
    return [name for name in PACKAGES.get(distribution, []) if name.isidentifier() and not name.startswith("_")]


@pytest.mark.parametrize("distribution", [name for name in WANTED if name not in COMMANDS])
def test_a_library_of_the_test_extra_can_be_imported(distribution: str, failures: dict[str, str]) -> None:
    names = importable(distribution)
    assert names, f"{distribution} is not installed; pip install -e '.[test]'"
    assert {name: failures[name] for name in names if name in failures} == {}


@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_of_the_test_extra_is_there(command: str) -> None:
    assert command in WANTED
    assert shutil.which(command, path=sysconfig.get_path("scripts")) is not None


def test_every_other_extra_is_part_of_the_test_extra() -> None:
    """Whatever a user may install is tested, in no older version than a user may have."""
    tested = {name_of(requirement): requirement for requirement in EXTRAS["test"]}
    for extra, requirements in EXTRAS.items():
        for requirement in requirements:
            assert tested.get(name_of(requirement)) == requirement, extra


def test_whatever_the_tests_would_skip_without_is_part_of_it() -> None:
    """Each ``importorskip`` of the tests is for a library of the extra, or a dependency of Thalweg's."""
    installed = {name_of(requirement) for requirement in [*EXTRAS["test"], *PROJECT["dependencies"]]}
    known = {package for distribution in installed for package in PACKAGES.get(distribution, [])}
    wanted = {
        found.partition(".")[0]
        for path in sorted((ROOT / "tests").rglob("*.py"))
        for found in re.findall(r"importorskip\(\s*\"([\w.]+)\"", path.read_text(encoding="utf-8"))
    }
    assert wanted, "no test asks for a library"
    assert wanted - known == set()
