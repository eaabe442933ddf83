"""Which versions a report lists, and that a search which goes on with other ones of its libraries says so."""

import importlib.metadata
import re
import sys
import tomllib
from pathlib import Path

import optuna
import pytest
import scipy

from tests.runs.searching import dies, resume, valley
from thalweg.graph import wait
from thalweg.runs import History, QuietDisplay, Run, Study, machine
from thalweg.runs.bits import computed_with
from thalweg.runs.compare import Comparison
from thalweg.runs.record import RunRecord
from thalweg.runs.report import write_report
from thalweg.runtime.identity import differences, identity

DOCUMENT = {
    "title": "v",
    "problem": {"kind": "valley"},
    "optimizer": {"kind": "tpe"},
    "blocks": [{"iterations": 4}],
    "output": {"figures": False, "checkpoint_every": 1},
}


class Notes(QuietDisplay):
    def __init__(self):
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def older(monkeypatch):
    """Within it some libraries say that they are another version."""
    real = importlib.metadata.version

    def switch(**versions):
        monkeypatch.setattr(machine, "version", lambda name: versions.get(name) or real(name))

    return switch


def search(cls, out):
    return Run(Study.from_document(DOCUMENT, kinds={"valley": cls}), out=out)


def warnings(out):
    return [event for event in History(out).events() if event["kind"] == "warning" and "last bits" in event["text"]]


def test_the_report_and_the_summary_of_a_search_name_what_its_engine_is(tmp_path):
    outcome = wait(search(valley(), tmp_path / "run").execute())
    versions = outcome.summary["versions"]
    assert (versions["optuna"], versions["scipy"]) == (optuna.__version__, scipy.__version__)
    text = write_report(tmp_path / "run").read_text()
    assert f"<dt>optuna</dt><dd>{optuna.__version__}</dd>" in text
    (began,) = [event for event in outcome.history.events() if event["kind"] == "started"]
    assert began["details"]["versions"]["optuna"] == began["details"]["identity"]["optuna"] == optuna.__version__


def test_every_library_that_thalweg_may_use_is_listed_where_it_is_loaded(monkeypatch):
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    extras = [name for extra, names in project["optional-dependencies"].items() if extra != "test" for name in names]
    names = {re.match(r"[\w-]+", wanted)[0] for wanted in [*project["dependencies"], *extras]}
    assert names - machine._PACKAGES.keys() == set()
    for name, module in {"cmaes": "cmaes", "scikit-learn": "sklearn", "httpx": "httpx", "torch": "torch"}.items():
        monkeypatch.delitem(sys.modules, module, raising=False)
        assert name not in machine.all_versions()
        monkeypatch.setitem(sys.modules, module, machine)
        assert machine.all_versions()[name] == importlib.metadata.version(name)
    assert machine.all_versions().keys() >= {"python", "thalweg", "numpy", "numba", "scipy", "pydantic", "distributed"}


def test_a_search_that_goes_on_with_another_engine_version_says_so(tmp_path, older):
    cls, out = valley(), tmp_path / "run"
    older(optuna="0.9", scipy="0.1")
    dies(cls, 20, search(cls, out))
    older()
    display = Notes()
    again = Run.resume(out, kinds={"valley": cls}, display=display)
    said = f"optuna is {optuna.__version__} here and 0.9 there"
    assert any(said in value for name, value in wait(resume(cls, out).plan()) if name == "note")
    outcome = wait(again.execute())
    assert outcome.status == "finished"
    (warning,) = warnings(out)
    assert warning["details"]["differences"] == [f"scipy is {scipy.__version__} here and 0.1 there", said]
    assert any(said in note for note in display.notes)
    found = computed_with(RunRecord.read(out))
    assert found["optuna"] == ["0.9", optuna.__version__]
    assert Comparison.read([out, out]).to_json()["computed_with_differences"]["optuna"] == [found["optuna"]] * 2


def test_nothing_is_told_of_what_was_not_recorded_or_is_not_other(tmp_path, monkeypatch):
    cls, out = valley(), tmp_path / "run"
    with monkeypatch.context() as before:
        before.setattr("thalweg.runs.opening.libraries", lambda study: {})  # as versions before did
        before.setattr("thalweg.runs.assembling.libraries", lambda study: {})
        dies(cls, 20, search(cls, out))
        dies(cls, 40, resume(cls, out))
    assert wait(resume(cls, out).execute()).status == "finished"
    assert warnings(out) == []
    assert computed_with(RunRecord.read(out))["optuna"] == [optuna.__version__]
    assert Comparison.read([out, out]).to_json()["computed_with_differences"] == {}


def test_workers_are_compared_by_what_they_were():
    mine = identity()
    assert differences(mine, {**mine, "optuna": "0.9"}) == differences({**mine, "scipy": "1"}, mine) == []
    assert differences(mine, {name: value for name, value in mine.items() if name != "numba"}) == [
        f"numba is {mine['numba']} here and unknown there"
    ]


def test_an_optimization_by_gradients_is_not_compared_by_what_happens_to_be_loaded(document, kinds):
    assert machine.libraries(Study.from_document(document, kinds=kinds)) == {}
