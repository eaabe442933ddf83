"""Bounds that do not hold the start, or go beyond what the problem bears, are refused before anything is computed."""

import shutil

import numpy as np
import pytest

from tests.runs.deconvolution import Deconvolution
from tests.runs.going import every_byte, go_on, run, stop_after
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import StudyError
from thalweg.graph import wait
from thalweg.runs import History, QuietDisplay, Run, Study
from thalweg.runs.choosing import iterations_of
from thalweg.runs.tuning import build_optimizer


class Bearing(Deconvolution):
    """It bears some values only."""

    def ranges(self):
        return {"x": (-2.0, 3.0)}


def made(process_model, problem=Deconvolution, start=0.0):
    document = {
        "title": "t",
        "problem": {"kind": "deconvolution"},
        "optimizer": {"kind": "adam", "process_model": process_model},
        "blocks": [{"iterations": 1}],
    }
    study = Study.from_document(document, kinds={"deconvolution": problem})
    fresh = study.build_problem()
    fresh.x.data[:5] = start
    return build_optimizer(study.settings.optimizer, fresh)


@pytest.mark.parametrize("place", ["alone", "in a list", "in a chain", "by variable"])
def test_a_start_outside_of_its_bounds_is_refused(place):
    box = {"kind": "bounds", "lower": 0.0, "upper": 1.0}
    smooth = {"kind": "smooth", "sigma": 1.0}
    hook = {
        "alone": box,
        "in a list": [smooth, box],
        "in a chain": {"kind": "chain", "steps": [smooth, box]},
        "by variable": {"by_variable": {"x": [box]}},
    }[place]
    made(hook)
    made(hook, start=1.0)
    text = (
        r"optimizer.process_model: bounds of 0 to 1, and x starts outside, at 0 to 1.5; give bounds that hold the start"
    )
    with pytest.raises(StudyError, match=text):
        made(hook, start=1.5)


def test_bounds_beyond_what_the_problem_bears_are_refused():
    for inside in ({"lower": -2.0, "upper": 3.0}, {"lower": -1.0}, {"upper": 1.0}, {}):
        made({"kind": "bounds", **inside}, Bearing)
    for beyond, said in (({"lower": -2.5}, "-2.5 to any"), ({"lower": -1.0, "upper": 4.0}, "-1 to 4")):
        with pytest.raises(StudyError, match=f"bounds of {said}, and the problem bears -2 to 3 for x; narrow"):
            made({"kind": "bounds", **beyond}, Bearing)
        made({"kind": "bounds", **beyond})


def test_all_faults_are_told_at_once():
    with pytest.raises(StudyError) as error:
        made({"kind": "bounds", "lower": 5.0, "upper": 6.0}, Bearing)
    assert [path for path, _ in error.value.details["faults"]] == ["optimizer.process_model"] * 2


def test_a_start_that_is_not_a_number_is_left_to_the_problem():
    made({"kind": "bounds", "lower": 0.0}, start=np.nan)


@pytest.mark.parametrize(
    "ranges", [None, [("x", 0.0, 1.0)], {"x": 3.0}, {"x": (0.0,)}, {"x": "ab"}, {"x": (3.0, -2.0)}]
)
def test_ranges_that_are_none_are_named(ranges):
    class Odd(Deconvolution):
        def ranges(self):
            return ranges

    text = (
        r"Odd.ranges returned .* instead of a dictionary" if not isinstance(ranges, dict) else r"Odd.ranges has .* 'x'"
    )
    with pytest.raises(StudyError, match=text):
        made({"kind": "bounds", "lower": 0.0}, Odd)


BOX = {"kind": "bounds", "lower": -1.0, "upper": 1.5}


def boxed(document, **more):
    document["optimizer"]["process_model"] = dict(BOX)
    document["output"] = {"checkpoint_every": 1, "keep": 10, "figures": False}
    document.update(more)
    return document


def model(out, iteration=None):
    store = CheckpointStore(out / "checkpoints")
    number = next((k for k, found in iterations_of(store).items() if found == iteration), None)
    return store.load(number)[0]["variable/x"]


def test_new_bounds_that_would_move_the_model_are_refused_though_the_start_fits(tmp_path, document, kinds):
    out = tmp_path / "run"
    run(boxed(document), kinds, out)
    low, high = float(model(out, 5).min()), float(model(out, 5).max())
    assert 0.05 < high < 1.5  # and the start is 0
    before = every_byte(out)
    for change in ("optimizer.process_model.upper=0.05", "optimizer.process_model={kind='bounds', upper=0.05}"):
        text = (
            rf"bounds of .* to 0.05, and x of iteration 5 is outside, at {low:.6g} to {high:.6g}: the next step would"
        )
        with pytest.raises(StudyError, match=text):
            wait(Run.resume(out, kinds=kinds, iteration=5, overrides=[change]).execute())
        with pytest.raises(StudyError, match=text):
            wait(Run.resume(out, kinds=kinds, iteration=5, overrides=[change]).plan())
    assert every_byte(out) == before
    wait(Run.resume(out, kinds=kinds, iteration=5, overrides=["optimizer.process_model.upper=1.2"]).execute())
    assert History(out).iterations()["iteration"][-1] == 7


class High(Deconvolution):
    """The model goes up from 0 everywhere."""

    def _item(self, x, band, data, item):
        return {"loss": float(np.sum((x - 9.0) ** 2)), "x": 2.0 * (x - 9.0)}


def test_bounds_that_hold_the_model_are_taken_though_the_start_is_outside(tmp_path, document):
    out, kinds = tmp_path / "run", {"deconvolution": High}
    document["optimizer"]["learning_rate"] = 0.5
    run(boxed(document), kinds, out, "optimizer.process_model.upper=20.0")
    assert model(out).min() > 2.0
    change = ["optimizer.process_model.lower=2.0", "blocks.1.iterations=5"]
    outcome = wait(Run.resume(out, kinds=kinds, overrides=change).execute())
    assert (outcome.status, outcome.summary["iterations"]) == ("finished", 9)
    assert not [event for event in outcome.history.events() if "bounds of" in event["text"]]


def by_an_earlier_version(monkeypatch, document, kinds, out):
    """Stopped in iteration 3; what a run begins with was not looked at."""
    with monkeypatch.context() as patched:
        patched.setattr("thalweg.runs.tuning.bounds_faults", lambda *args: [])
        patched.setattr("thalweg.runs.study.Study.check_start", lambda *args: None)
        stop_after(document, kinds, out, 3)


class Outside(Bearing):
    """It starts where it may not be."""

    def __init__(self, *args):
        super().__init__(*args)
        self.x.data[:] = -3.0

    def check_start(self):
        raise StudyError("the start is too low")


def test_a_run_of_an_earlier_version_goes_on_with_its_bounds_and_is_told(tmp_path, document, monkeypatch):
    out, kinds, told = tmp_path / "run", {"deconvolution": Outside}, []
    boxed(document)["optimizer"]["process_model"]["upper"] = 4.0  # more than the problem bears
    by_an_earlier_version(monkeypatch, document, kinds, out)
    for change in ("optimizer.process_model.upper=5.0", "problem.noise=0.02"):  # which are looked at again
        with pytest.raises(StudyError, match="and the problem bears -2 to 3 for x"):
            wait(Run.resume(out, kinds=kinds, overrides=[change]).execute())
    display = QuietDisplay()
    monkeypatch.setattr(display, "note", told.append)
    outcome = wait(Run.resume(out, kinds=kinds, display=display).execute())
    assert (outcome.status, outcome.summary["iterations"]) == ("finished", 7)
    warnings = [event["text"] for event in outcome.history.events() if event["kind"] == "warning"]
    for text in (
        "a new run would be refused: the start is too low",
        "bounds of -1 to 4, and the problem bears -2 to 3",
    ):
        assert [note for note in told if text in note]
        assert [note for note in warnings if text in note]
    again = [document, kinds, tmp_path / "new"]
    with pytest.raises(StudyError, match="the start is too low"):
        run(*again)
    with pytest.raises(StudyError, match="the start is too low"):  # it begins, so the start is not past
        wait(Run.resume(out, kinds=kinds, iteration=0).execute())


def test_bounds_of_a_later_study_are_held_against_an_earlier_model(tmp_path, document, kinds):
    """The study in the folder has them; the model of the checkpoint that is gone back to was made without."""
    out = tmp_path / "run"
    document["optimizer"]["learning_rate"] = 0.5
    run(boxed(document), kinds, out)
    high = {k: float(model(out, k).max()) for k in range(1, 8)}
    first = max(high, key=high.get)
    limit = high[7] + 1e-3
    assert limit < high[first]
    wait(
        Run.resume(
            out, kinds=kinds, overrides=[f"optimizer.process_model.upper={limit}", "blocks.1.iterations=4"]
        ).execute()
    )
    with pytest.raises(StudyError, match=rf"x of iteration {first} is outside"):
        wait(Run.resume(out, kinds=kinds, iteration=first).execute())


SCALE = {"kind": "scale", "factor": 2.0}


def boxes_then(*steps, low=-0.01, high=0.02):
    return [{"kind": "bounds", "lower": low, "upper": high}, *steps]


def bound_warnings(outcome):
    return [event["text"] for event in outcome.history.events() if "bounds of" in event["text"]]


def test_bounds_that_something_moves_values_out_of_again_are_not_held_against_the_model(tmp_path, document, kinds):
    out = tmp_path / "run"
    boxed(document)["optimizer"]["process_model"] = boxes_then(SCALE)
    stop_after(document, kinds, out, 3)
    assert model(out).max() > 0.03  # it comes out of the bounds of 0.02 twice as large
    for number, change in enumerate(([], ["optimizer.process_model.0.upper=0.025"], ["blocks.1.iterations=5"])):
        copied = shutil.copytree(out, tmp_path / str(number))
        outcome = go_on(copied, kinds, *change)
        assert (outcome.status, bound_warnings(outcome)) == ("finished", [])
    with pytest.raises(StudyError, match=r"bounds of -0.01 to 0.02, and x of iteration 3 is outside"):
        go_on(out, kinds, "optimizer.process_model=[{kind='bounds', lower=-0.01, upper=0.02}]")  # now they hold it


def test_bounds_that_others_follow_within_them_are_held_against_the_model(tmp_path, document, kinds):
    out = tmp_path / "run"
    run(boxed(document), kinds, out)
    wide = "{kind='bounds', lower=-3, upper=3}"
    for steps in (
        f"{{kind='bounds', lower=-3, upper=0.01}}, {wide}",
        f"{wide}, {{kind='bounds', lower=-3, upper=0.01}}",
    ):
        with pytest.raises(StudyError, match=r"bounds of -3 to 0.01, and x of iteration 5 is outside"):
            wait(Run.resume(out, kinds=kinds, iteration=5, overrides=[f"optimizer.process_model=[{steps}]"]).execute())


def test_bounds_that_become_wider_are_never_refused_though_the_model_is_outside(tmp_path, document, monkeypatch):
    """The run of an earlier version has its model of -3 outside of its bounds, and of the wider ones."""
    out, kinds = tmp_path / "run", {"deconvolution": Outside}
    document["optimizer"]["learning_rate"] = 1e-6
    boxed(document)
    by_an_earlier_version(monkeypatch, document, kinds, out)
    arrays, meta, _ = CheckpointStore(out / "checkpoints").load()
    arrays["variable/x"][:] = -3.0
    CheckpointStore(out / "checkpoints").save(arrays, meta)
    for number, change in enumerate(("lower=-1.5", "upper=2.0")):
        copied = shutil.copytree(out, tmp_path / str(number))
        outcome = go_on(copied, kinds, f"optimizer.process_model.{change}")
        assert any("x of iteration 3 is outside, at -3 to -3" in text for text in bound_warnings(outcome))
    for change in ("lower=-0.5", "upper=1.0"):
        with pytest.raises(StudyError, match="x of iteration 3 is outside"):
            go_on(out, kinds, f"optimizer.process_model.{change}")
