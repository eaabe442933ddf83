"""What a problem objects to: a run that begins is refused, one that goes on where it comes of a change."""

import json

import pytest

from tests.runs.deconvolution import Deconvolution
from tests.runs.going import every_byte, go_on, run, stop_after
from thalweg.errors import DispersionError, StudyError
from thalweg.graph import wait
from thalweg.runs import Run, Study
from thalweg.runs.objecting import behind


class Objecting(Deconvolution):
    """It has come to find noise bad, and what its file says."""

    noise, digest = 0.01, "a"

    def objections(self):
        faults = (
            [(f"noise of {self.settings.noise:g}", ("problem.noise",))] if self.settings.noise >= self.noise else []
        )
        if self.digest == "bad":
            faults.append(("a bad file", ("problem.data",)))
        return [(StudyError(text), keys) for text, keys in faults]

    def summary(self):
        return {}

    def inputs(self):
        return {"problem.data.path": self.digest}


KINDS = {"deconvolution": Objecting}


@pytest.fixture
def stopped(tmp_path, document, monkeypatch):
    document["output"] = {"figures": False}
    document["problem"]["noise"] = 0.02
    with monkeypatch.context() as patched:
        patched.setattr(Objecting, "noise", 1.0)
        stop_after(document, KINDS, tmp_path / "run", 3)
    return tmp_path / "run"


def test_a_run_that_begins_is_refused_for_the_first(tmp_path, document):
    document["problem"]["noise"] = 0.02
    with pytest.raises(StudyError, match=r"^noise of 0.02"):
        run(document, KINDS, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_that_goes_on_is_told_of_what_was_so_before_and_refused_for_what_is_new(stopped, monkeypatch):
    before = every_byte(stopped)
    for change in ("problem.noise=0.03", "problem.noise=0.01"):
        with pytest.raises(StudyError, match=rf"^noise of {change[-4:]}"):
            go_on(stopped, KINDS, change)
        with pytest.raises(StudyError, match=rf"^noise of {change[-4:]}"):
            wait(Run.resume(stopped, kinds=KINDS, overrides=[change]).plan())
    with monkeypatch.context() as patched:  # behind the one that is old
        patched.setattr(Objecting, "digest", "bad")
        with pytest.raises(StudyError, match=r"^a bad file"):
            go_on(stopped, KINDS)
    assert every_byte(stopped) == before
    outcome = go_on(stopped, KINDS, "optimizer.learning_rate=0.01")
    told = ["a new run would be refused: noise of 0.02"]
    assert outcome.summary["warnings"] == json.loads((stopped / "summary.json").read_text())["warnings"] == told
    assert [e["text"] for e in outcome.history.events() if e["kind"] == "warning"] == told


def test_what_a_change_has_cured_is_not_told(stopped):
    outcome = go_on(stopped, KINDS, "problem.noise=0.005")
    assert (outcome.status, outcome.summary["warnings"]) == ("finished", [])


def test_what_stops_a_run_that_goes_on_is_said_before_its_cause(stopped, document, monkeypatch):
    def build(cls, *args, **kwargs):
        raise behind(StudyError("it is in km/s"), DispersionError("too coarse", points=2))

    document["problem"]["noise"] = 0.0
    monkeypatch.setattr(Objecting, "build", classmethod(build))
    with pytest.raises(StudyError, match=r"^it is in km/s$"):
        Study.from_document(document, kinds=KINDS).build_problem()
    with pytest.raises(DispersionError, match=r"^too coarse A new run would be refused: it is in km/s$") as error:
        go_on(stopped, KINDS)
    assert error.value.details == {"points": 2}
