"""The figure of what a killed run pays again is none where the answers are not found."""

import importlib
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def modules(monkeypatch):
    """Import from ``benchmarks`` of this repository, not from a package of that name that a peer brings along."""
    monkeypatch.syspath_prepend(str(ROOT))
    for name in [name for name in sys.modules if name.partition(".")[0] == "benchmarks"]:
        monkeypatch.delitem(sys.modules, name)
    return importlib.import_module


def test_a_killed_run_whose_answers_are_not_found_is_an_error(monkeypatch, modules):
    from thalweg.lm import requests

    key = requests.request_key
    monkeypatch.setattr(requests, "request_key", lambda body, sample: key(body, sample + 1))  # of none that was asked
    with pytest.raises(RuntimeError, match=r"^only 0 answers to \d+ requests are found on the disk$"):
        modules("benchmarks.lm_calls").killed(modules("benchmarks.contest").Options(quick=True))
