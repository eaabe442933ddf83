"""A run of a search goes on with what its user has named, and no more; one that cannot go on loses nothing."""

import json

import pytest

from tests.runs.searching import SCHEMA, resume, valley
from thalweg.errors import RunError
from thalweg.graph import wait
from thalweg.runs import History, Run, Study
from thalweg.runs.compared import compared_from
from thalweg.runs.folder import RunFolder
from thalweg.runs.report import write_report
from thalweg.runs.search_figures import candidate_means
from thalweg.search import StructuredVariable

MORE = "blocks.0.iterations=6"


@pytest.fixture
def document():
    return {
        "title": "a valley",
        "problem": {"kind": "valley", "noise": 0.1},
        "optimizer": {"kind": "tpe", "candidates": 2, "finalists": 2},
        "blocks": [{"iterations": 3, "selection": "random", "batch_size": 3}],
        "output": {"checkpoint_every": 1, "keep": 50, "figures": False},
    }


def made(document, cls, out):
    return wait(Run(Study.from_document(document, kinds={"valley": cls}), out=out).execute())


def goes_on(cls, out, *overrides):
    return wait(resume(cls, out, *overrides).execute())


def of_data(digest):
    cls = valley()
    cls.fingerprint = lambda self: digest
    cls.data_keys = ("samples",)
    return cls


# -- what is named -----------------------------------------------------------------------------


def test_other_data_are_named_by_their_own_key_only(tmp_path, document):
    made(document, of_data("a"), tmp_path / "run")
    with pytest.raises(RunError, match=r"(?s)digest of the data: 'a' → 'b'.*--set problem\.samples=\.\.\."):
        goes_on(of_data("b"), tmp_path / "run", MORE, "problem.noise=0.2")
    with pytest.raises(RunError, match="digest of the data"):
        goes_on(of_data("b"), tmp_path / "run", MORE, "problem.bound=0")
    outcome = goes_on(of_data("b"), tmp_path / "run", MORE, "problem.samples=6")
    assert outcome.summary["search"]["not_compared"] == 6


def test_a_default_that_code_has_changed_is_named_by_its_own_key(tmp_path, document):
    made(document, valley(), tmp_path / "run")
    cls = valley()
    cls.decisive = lambda self, table: {**super(cls, self).decisive(table), "rounding": "down"}
    with pytest.raises(RunError, match=r"rounding: not there → 'down'.*\n.*\(--set problem\.rounding="):
        goes_on(cls, tmp_path / "run", MORE, "problem.bound=0")


def test_a_default_that_is_spelled_out_is_no_change(tmp_path, document):
    made(document, valley(), tmp_path / "run")
    search = goes_on(valley(), tmp_path / "run", MORE, "problem.fails=9.0", "problem.samples=6").summary["search"]
    assert "not_compared" not in search


# -- what may be named -------------------------------------------------------------------------


def test_a_change_may_be_one_of_the_space_and_of_the_samples(tmp_path, document):
    old = made(document, valley(), tmp_path / "run").summary["search"]
    cls = valley()
    wide = {"type": "number", "minimum": 5.0, "maximum": 6.0}
    schema = {**SCHEMA, "properties": {"x": wide, "y": wide}}
    init = cls.__init__

    def elsewhere(self, settings, seed):
        init(self, settings, seed)
        self.variables = (StructuredVariable({"x": 5.0, "y": 5.0}, schema, name="point"),)

    cls.__init__ = elsewhere
    outcome = goes_on(cls, tmp_path / "run", MORE, "problem.samples=9", 'optimizer.kind="random"')
    search = outcome.summary["search"]
    assert (search["not_compared"], search["start"]["candidate"]) == (6, 6)
    candidates = outcome.history.candidates()
    assert [one["number"] for one in candidates] == list(range(12))
    assert candidates[6]["values"] == {"point": {"x": 5.0, "y": 5.0}}
    assert all(5.0 <= one["values"]["point"]["x"] <= 6.0 for one in candidates[6:])
    assert {item for _, _, item in cls.calls} == set(range(9 + 6 + 6))
    assert search["spent"]["evaluations"] == old["spent"]["evaluations"] + len(cls.calls)
    assert set(candidate_means(outcome.history)) == set(range(6, 12))
    more = goes_on(cls, tmp_path / "run", "blocks.0.iterations=7").summary["search"]
    assert more["not_compared"] == 6
    assert "Candidates 0 to 5" in write_report(outcome.folder).read_text()


def test_other_samples_are_dealt_from_their_beginning_whether_it_dies_or_not(tmp_path, document):
    ends = []
    for name in ("whole", "cut"):
        made(document, valley(), tmp_path / name)
        goes_on(valley(), tmp_path / name, "blocks.0.iterations=5" if name == "cut" else MORE, "problem.samples=9")
        if name == "cut":
            goes_on(valley(), tmp_path / name, MORE)
        history = History(tmp_path / name)
        tried = [one["values"] for one in history.candidates()]
        ends.append((history.batches(), tried, history.facts()["search"]["winner"]))
    assert ends[0] == ends[1]
    one_pass = [int(item) for batch in ends[0][0][3:6] for item in batch]
    assert sorted(one_pass) == list(range(9))


def test_other_variables_are_refused(tmp_path, document):
    made(document, valley(), tmp_path / "run")
    cls = valley()
    init = cls.__init__

    def renamed(self, settings, seed):
        init(self, settings, seed)
        self.variables = (StructuredVariable({"x": 0.0, "y": 0.0}, SCHEMA, name="place"),)

    cls.__init__ = renamed
    with pytest.raises(RunError, match="point is not in the study any more"):
        goes_on(cls, tmp_path / "run", MORE, "problem.noise=0.2")


# -- what cannot go on -------------------------------------------------------------------------


def down(digest="a"):
    cls = of_data(digest)

    async def prepare(self, runtime, progress):
        raise OSError("the server is down")

    cls.prepare = prepare
    return cls


@pytest.mark.parametrize("change", [[], ["problem.noise=0.2"], ["problem.samples=9"]])
def test_a_run_that_could_not_go_on_still_has_its_choice(tmp_path, document, change):
    chosen = made(document, of_data("a"), tmp_path / "run").summary["search"]
    result = (tmp_path / "run" / "result.json").read_text()
    means = candidate_means(History(tmp_path / "run"))
    with pytest.raises(OSError, match="down"):
        goes_on(down(), tmp_path / "run", MORE, *change)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert (summary["status"], summary["search"]) == ("failed", chosen)
    assert json.loads(result) == chosen["winner"]["values"]
    assert (tmp_path / "run" / "result.json").read_text() == result
    history = History(tmp_path / "run")
    assert history.facts()["search"] == chosen
    assert candidate_means(history) == means
    assert compared_from(history.facts()) == (0, 0)
    assert "no reward" not in write_report(tmp_path / "run").read_text()
    outcome = goes_on(of_data("a"), tmp_path / "run")  # what was named needs no name again
    assert outcome.summary["search"].get("not_compared", 0) == (6 if change else 0)
    assert outcome.summary["search"] == History(tmp_path / "run").facts()["search"] != chosen


def test_a_change_holds_from_the_moment_that_the_study_in_the_folder_has_it(tmp_path, document, monkeypatch):
    made(document, valley(), tmp_path / "run")
    write = RunFolder.write_study

    def dies(self, text):
        write(self, text)
        raise OSError("killed")

    monkeypatch.setattr(RunFolder, "write_study", dies)
    with pytest.raises(OSError, match="killed"):
        goes_on(valley(), tmp_path / "run", MORE, "problem.noise=0.2")
    monkeypatch.undo()
    assert "noise = 0.2" in (tmp_path / "run" / "study.toml").read_text()
    assert goes_on(valley(), tmp_path / "run").summary["search"]["not_compared"] == 6


def test_what_was_agreed_to_and_taken_back_needs_its_name_again(tmp_path, document):
    made(document, of_data("a"), tmp_path / "run")
    with pytest.raises(OSError, match="down"):
        goes_on(down("b"), tmp_path / "run", MORE, "problem.samples=6")
    goes_on(of_data("a"), tmp_path / "run")
    with pytest.raises(RunError, match="digest of the data: 'a' → 'b'"):
        goes_on(of_data("b"), tmp_path / "run", "blocks.0.iterations=8")
