"""Bounds that do not hold the start, or go beyond what the problem bears, are refused before anything is computed."""

import numpy as np
import pytest

from tests.runs.deconvolution import Deconvolution
from thalweg.errors import StudyError
from thalweg.runs import Study
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
