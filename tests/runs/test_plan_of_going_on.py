"""What is said of a run that would go on: ``thalweg resume --dry-run``."""

import pytest

from tests.runs.going import every_byte, run
from tests.runs.test_bounding import Outside, boxed, by_an_earlier_version
from thalweg.graph import wait
from thalweg.runs import Run


@pytest.fixture
def every(document):
    return document | {"output": {"checkpoint_every": 1, "keep": 20, "figures": False}}


def plan(out, kinds, iteration=None, *changes):
    before = every_byte(out)
    lines = wait(Run.resume(out, kinds=kinds, iteration=iteration, overrides=changes).plan())
    assert every_byte(out) == before
    return [(name, value) for name, value in lines if name in ("goes on", "given up", "note")]


def test_what_goes_is_counted(tmp_path, every, kinds):
    out = tmp_path / "run"
    run(every, kinds, out)
    assert plan(out, kinds, 3) == [
        ("goes on", "from iteration 3; at most 4 are left"),
        ("given up", "4 iterations after its checkpoint are computed again"),
        ("given up", "4 checkpoints after that"),
    ]
    assert plan(out, kinds, 0)[1:] == [
        ("given up", "7 iterations are computed again"),
        ("given up", "7 checkpoints"),
    ]
    assert plan(out, kinds, None, "blocks.1.iterations=6") == [("goes on", "from iteration 7; at most 3 are left")]


def test_a_damaged_checkpoint_that_is_passed_over_is_told(tmp_path, every, kinds):
    out = tmp_path / "run"
    run(every, kinds, out)
    (out / "checkpoints" / "000007" / "state.safetensors").write_bytes(b"damaged")
    goes_on, given_up, (name, text) = plan(out, kinds)
    assert goes_on == ("goes on", "from iteration 6; at most 1 are left")
    assert given_up == ("given up", "1 iteration after its checkpoint is computed again")
    assert name == "note"
    assert text.startswith("checkpoint 7 is damaged, so the one before is used")


def test_what_a_run_is_told_of_its_start_and_bounds_is_there(tmp_path, document, monkeypatch):
    out, kinds = tmp_path / "run", {"deconvolution": Outside}
    boxed(document)["optimizer"]["process_model"]["upper"] = 4.0
    by_an_earlier_version(monkeypatch, document, kinds, out)
    notes = [text for name, text in plan(out, kinds) if name == "note"]
    for part in ("a new run would be refused: the start is too low", "and the problem bears -2 to 3"):
        assert [text for text in notes if part in text], part


def test_what_was_read_and_is_other_is_told(tmp_path, every, kinds, monkeypatch):
    out = tmp_path / "run"
    monkeypatch.setattr(kinds["deconvolution"], "inputs", lambda self: {"problem.noise": "one"}, raising=False)
    run(every, kinds, out)
    monkeypatch.setattr(kinds["deconvolution"], "inputs", lambda self: {"problem.noise": "other"})
    change = ("problem.noise=0.03", "blocks.1.iterations=6")
    text = "problem.noise: what is there is not what the iterations before were made with"
    assert ("note", text) in plan(out, kinds, None, *change)
