"""A run that goes on with other versions, or other machine code, has other bits from there on: that is told."""

import io

import pytest
from rich.console import Console

from tests.runs.going import go_on, run, stop_after
from thalweg.runs import History, PlainDisplay
from thalweg.runs.bits import other_bits
from thalweg.runs.compare import Comparison, print_comparison
from thalweg.runs.report import write_report
from thalweg.runtime.identity import identity

HERE = identity()
OLDER = {**HERE, "numba": "0.1", "CPU features": HERE["CPU features"] + ",+abacus"}
SAID = (
    "what decides the last bits is not what it was when the checkpoint was made (there): numba is "
    f"{HERE['numba']} here and 0.1 there; CPU features that only the other side has: +abacus. The iterations from here "
    "on may have other bits than without the break; for the same ones, go on with what it was begun with"
)


@pytest.fixture
def older(monkeypatch):
    """Within it, processes are as they were before."""

    def switch(found):
        monkeypatch.setattr("thalweg.runs.opening.deciding_bits", lambda: found)
        monkeypatch.setattr("thalweg.runs.assembling.deciding_bits", lambda: found)

    return switch


def events(out, kind):
    return [(event["iteration"], event["text"]) for event in History(out).events() if event["kind"] == kind]


def test_going_on_with_another_processor_target_is_told_and_recorded(tmp_path, document, kinds, older):
    older(OLDER)
    stop_after(document, kinds, tmp_path / "run", 5)
    older(HERE)
    stream = io.StringIO()
    outcome = go_on(tmp_path / "run", kinds, display=PlainDisplay(stream))
    assert outcome.status == "finished"
    assert [told for told in events(tmp_path / "run", "warning") if "last bits" in told[1]] == [(5, SAID)]
    assert SAID in stream.getvalue().splitlines()
    began, resumed = [e["details"]["identity"] for e in outcome.history.events() if "versions" in e["details"]]
    assert (began, resumed) == (OLDER, HERE)


def test_nothing_is_told_where_nothing_is_different(tmp_path, document, kinds, older):
    stop_after(document, kinds, tmp_path / "run", 5)
    stream = io.StringIO()
    go_on(tmp_path / "run", kinds, display=PlainDisplay(stream))
    assert "last bits" not in stream.getvalue()
    assert not [text for _, text in events(tmp_path / "run", "warning") if "last bits" in text]


def test_a_search_of_other_versions_is_told_too_and_an_old_checkpoint_says_nothing():
    assert other_bits({"numba": "0.1"}, {"numba": "0.2"})[1] == ["numba is 0.2 here and 0.1 there"]
    for unknown in (None, {}, [], "numba", {"numba": 3}):
        assert other_bits(unknown, HERE) is None
    assert other_bits({"CPU features": "+fma"}, {"CPU features": ""})[1] == [  # as of the target "generic"
        "CPU features that only the other side has: +fma"
    ]
    long = ",".join(f"+feature{i}" for i in range(100))
    text, (line,) = other_bits({"CPU features": long}, {"CPU features": "+fma"})[0], ["+feature99"]
    assert line not in text
    assert len(text) < 600


def test_comparison_and_report_show_with_what_runs_were_computed(tmp_path, document, kinds, older):
    document["output"] = {"figures": False}
    run(document, kinds, tmp_path / "whole")
    older(OLDER)
    stop_after(document, kinds, tmp_path / "broken", 5)
    older(HERE)
    go_on(tmp_path / "broken", kinds)
    comparison = Comparison.read([tmp_path / "whole", tmp_path / "broken"])
    assert comparison.to_json()["computed_with_differences"] == {
        "numba": [[HERE["numba"]], ["0.1", HERE["numba"]]],
        "CPU features": [["none"], ["+abacus", "none"]],
    }
    stream = io.StringIO()
    print_comparison(comparison, Console(file=stream, width=200))
    lines = [line.split() for line in stream.getvalue().splitlines()]
    place = lines.index(["versions", "and", "machine", "code", "that", "differ:"])
    assert lines[place + 1] == ["numba", HERE["numba"], "0.1", "→", HERE["numba"]]
    assert lines[place + 2] == ["CPU", "features", "none", "+abacus", "→", "none"]
    text = write_report(tmp_path / "broken", tmp_path / "report.html").read_text()
    assert text.count("+abacus") >= 2  # what is told, and the process that had it
    assert text.count(f"<dt>code for</dt><dd>{HERE['CPU']}</dd>") == 2
    same = Comparison.read([tmp_path / "whole", tmp_path / "whole"])
    assert same.to_json()["computed_with_differences"] == {}
