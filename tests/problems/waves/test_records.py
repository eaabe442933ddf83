"""Records that are too short for the wavelet or for the waves, and speeds that are not what they seem."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import numpy as np
import pytest

from tests.runs.going import every_byte, go_on, stop_after
from thalweg import errors
from thalweg.problems.waves import Grid, WaveProblem, ricker, tone_burst
from thalweg.problems.waves.checks import wave_checks
from thalweg.problems.waves.records import begin_and_peak, check_tail, straight_times
from thalweg.problems.waves.wavelets import ricker_end, tone_burst_end
from thalweg.runs import Study
from thalweg.runs.tuning import build_optimizer
from thalweg.runtime import Local

STUDIES = Path(__file__).parents[3] / "studies"
STEP, STEPS = 2e-4, 300  # s, samples: of the crosshole study


@pytest.fixture
def document():
    return tomllib.loads((STUDIES / "inclusion.toml").read_text())


@pytest.fixture
def crosshole():
    """Two boreholes 43 m apart: 24 ms at 1800 m/s."""
    return {
        "title": "Between two boreholes",
        "problem": {
            "kind": "waves",
            "shape": [60, 50],
            "spacing": 1.0,
            "time_step": STEP,
            "steps": STEPS,
            "sources": {"kind": "line", "count": 6, "start": [5.0, 3.0], "stop": [55.0, 3.0]},
            "receivers": {"kind": "line", "count": 12, "start": [5.0, 46.0], "stop": [55.0, 46.0]},
            "start": {"kind": "constant", "speed": 1800.0},
            "truth": {
                "kind": "inclusion",
                "background": 1800.0,
                "speed": 2000.0,
                "center": [30.0, 25.0],
                "radius": 8.0,
            },
            "observed": {"kind": "simulated"},
            "wavelet": {"kind": "tone_burst", "cycles": 1.5},
        },
        "optimizer": {"kind": "momentum"},
        "blocks": [{"iterations": 1, "frequency": 100.0}],
    }


def build(document):
    return Study.from_document(document, name="test", folder=STUDIES, kinds={"waves": WaveProblem}).build_problem()


def asked_steps(error):
    return int(re.search(r"steps = (\d+)", str(error.value)).group(1))


@pytest.mark.parametrize("frequency", [18e3, 15e3])
def test_a_wavelet_that_the_records_end_would_cut_off_is_refused_and_told_what_holds_it(document, frequency):
    document["blocks"][0]["frequency"] = frequency
    with pytest.raises(errors.StudyError, match=rf"blocks.0: the wavelet of {frequency:g} Hz .* cut off") as error:
        build(document)
    document["problem"]["steps"] = asked_steps(error)
    assert asked_steps(error) == int(np.ceil(tone_burst_end(frequency, 2.0) / 3e-7)) + 1
    build(document)


@pytest.mark.parametrize("kind", ["tone_burst", "ricker"])
def test_what_is_cut_off_is_said_before_what_follows_from_it(crosshole, kind):
    """Most of the wavelet is cut off: its spectrum would ask for a lower frequency, which makes it worse."""
    crosshole["problem"] |= {"steps": 60, "wavelet": {"kind": kind}}
    with pytest.raises(errors.StudyError, match=r"higher frequency\. Frequencies are in Hz") as error:
        build(crosshole)
    assert not isinstance(error.value, errors.DispersionError)


def test_the_ends_of_wavelets_are_where_they_fall_below_a_hundredth_of_their_peak():
    step = 1e-6
    for end, wavelet in (
        (ricker_end(50.0), ricker(50.0, step, 80_000)),
        (tone_burst_end(50.0, 4.0), tone_burst(50.25, step, 80_000, cycles=4.02)),
    ):
        last = step * np.flatnonzero(np.abs(wavelet) > 0.01 * np.abs(wavelet).max())[-1]
        assert last <= end < last + 0.2 / 50.0  # of a burst the envelope counts
    assert ricker_end(50.0) == pytest.approx(
        step * np.flatnonzero(np.abs(ricker(50.0, step, 80_000)) > 0.01)[-1], rel=1e-3
    )


def test_a_sampled_wavelet_must_come_to_rest():
    wavelet = ricker(12.0, 1.5e-3, 500, delay=0.35)
    check_tail(wavelet, 12.0, 1.5e-3, "blocks.0")
    tail = np.abs(wavelet[268 - 28 : 268]).max() / np.abs(wavelet[:268]).max()  # 28 samples are half a period
    with pytest.raises(errors.StudyError, match=rf"blocks.0: in the last half period .* still has {tail:.1%} of its"):
        check_tail(wavelet[:268], 12.0, 1.5e-3, "blocks.0")


def test_records_in_which_nothing_arrives_are_refused_and_told_what_is_enough(crosshole):
    build(crosshole)
    crosshole["problem"]["steps"] = 115  # the wavelet is over, and has not come over
    with pytest.raises(errors.StudyError, match=r"blocks.0: no receiver can hear anything: .* at 1800 m/s") as error:
        build(crosshole)
    crosshole["problem"]["steps"] = asked_steps(error)
    problem = build(crosshole)
    assert arrivals_of(problem).ok
    crosshole["problem"]["steps"] = asked_steps(error) - 1
    assert not arrivals_of(build(crosshole)).ok


def arrivals_of(problem):
    return next(check for check in wave_checks(problem) if check.name == "latest first arrival")


def test_the_check_counts_the_pairs_that_hear_nothing(crosshole):
    crosshole["problem"]["steps"] = 175
    problem = build(crosshole)
    s = problem.setup
    distances = np.hypot(43.0, s.sources[:, None, 0] - s.receivers[None, :, 0])
    peak = begin_and_peak(s.wavelet(0), STEP)[1]
    late = int((distances / 1800.0 + peak > 174 * STEP).sum())
    assert 0 < late < 72
    check = arrivals_of(problem)
    assert (check.ok, check.limit) == (False, "≤ 0.0348 s")
    assert check.value == f"{distances.max() / 1800.0 + peak:.4g} s"
    assert check.text.startswith(f"{late} of 72 pairs of source and receiver")
    with Local(threads=1) as runtime:
        assert dict(problem.plan(runtime, 1))["time"] == f"175 steps of {STEP:g} s; {check.text}"
        crosshole["problem"]["steps"] = int(check.text.rpartition("= ")[2])
        assert ";" not in dict(build(crosshole).plan(runtime, 1))["time"]


def test_travel_times_are_those_along_the_straight_way():
    grid = Grid((101, 101), 1.0)
    speed = np.repeat(np.linspace(1500.0, 2500.0, 101)[:, None], 101, axis=1)
    found = straight_times(grid, speed, (0.0, 50.0), np.array([(100.0, 50.0), (0.0, 80.0)]))
    np.testing.assert_allclose(found, [0.1 * np.log(2500 / 1500), 30 / 1500], rtol=1e-3)


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"start": {"kind": "constant", "speed": 1.8}}, errors.DispersionError, "in m/s: is 1.8 in km/s"),
        ({"speeds": [1900.0, 2400.0]}, errors.StudyError, "from 1800 to 1800 m/s, and may be 1900 to 2400 m/s only"),
        ({"speeds": [1.5, 2.4]}, errors.StudyError, "problem.speeds: .* is 1.5 in km/s"),
        (
            {"speeds": [1500.0, 2400.0], "start": {"kind": "constant", "speed": 1.8}},
            errors.StudyError,
            "problem.speeds: .* is 1.8 in km/s",
        ),
    ],
)
def test_speeds_in_other_units_and_a_start_beyond_its_range_are_refused(crosshole, change, error, text):
    crosshole["problem"] |= change
    with pytest.raises(error, match=text):
        build(crosshole)


def test_a_start_at_the_edge_of_its_range_is_inside_however_it_is_rounded(crosshole):
    crosshole["problem"] |= {"start": {"kind": "constant", "speed": 1800.1}, "speeds": [1800.1, 2400.0]}
    problem = build(crosshole)
    assert float(problem.setup.start.max()) != 1800.1
    bounds = {"kind": "bounds", "lower": 1800.1, "upper": 2400.0}
    build_optimizer({"kind": "momentum", "process_model": bounds}, problem)


def test_bounds_beyond_the_speeds_that_were_checked_are_refused(crosshole):
    crosshole["problem"]["speeds"] = [1500.0, 2400.0]
    problem = build(crosshole)
    for bounds in ({"lower": 1500.0}, {"upper": 2400.0}, {"lower": 1600.0, "upper": 2000.0}):
        build_optimizer({"kind": "momentum", "process_model": {"kind": "bounds", **bounds}}, problem)
    wide = {"kind": "momentum", "process_model": {"kind": "bounds", "lower": 1500.0, "upper": 2500.0}}
    with pytest.raises(errors.StudyError, match="bounds of 1500 to 2500, and the problem bears 1500 to 2400 for vp"):
        build_optimizer(wide, problem)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"speeds": [1850.0, 2400.0]}, "problem.speeds: the starting model goes from 1800 to 1800 m/s"),
        ({"steps": 88}, "would be cut off"),
        ({"steps": 115}, "blocks.0: no receiver can hear anything"),
    ],
)
def test_a_run_that_an_earlier_version_began_goes_on_and_is_told(crosshole, tmp_path, monkeypatch, change, text):
    """Its start and its records are past: a new run is refused, and it must not be lost."""
    crosshole["problem"] |= change
    crosshole["blocks"][0] |= {"iterations": 3, "frequency": 100.0 if "steps" not in change else 80.0}
    crosshole["output"] = {"figures": False}
    kinds, out = {"waves": WaveProblem}, tmp_path / "run"
    with pytest.raises(errors.StudyError, match=text) as refused:
        build(crosshole)
    with monkeypatch.context() as patched:
        patched.setattr(Study, "check_start", lambda *args: None)
        stop_after(crosshole, kinds, out, 1)
    outcome = go_on(out, kinds)
    assert (outcome.status, outcome.summary["iterations"]) == ("finished", 3)
    told = [event["text"] for event in outcome.history.events() if event["kind"] == "warning"]
    assert told.count(f"a new run would be refused: {refused.value}") == 1
    assert f"a new run would be refused: {refused.value}" in outcome.summary["warnings"]
    assert json.loads((out / "summary.json").read_text())["warnings"] == outcome.summary["warnings"]


@pytest.fixture
def begun(crosshole, tmp_path, monkeypatch):
    """Makes a run with two blocks that stopped in the first; that of an earlier version was not looked at."""

    def make(change=None, *frequencies, earlier=True):
        crosshole["problem"] |= change or {}
        low = dict(crosshole["blocks"][0], iterations=2)
        crosshole["blocks"] = [{**low, "frequency": frequency} for frequency in frequencies or (100.0, 100.0)]
        crosshole["output"] = {"figures": False}
        with monkeypatch.context() as patched:
            if earlier:
                patched.setattr(Study, "check_start", lambda *args: None)
            stop_after(crosshole, {"waves": WaveProblem}, tmp_path / "run", 1)
        return tmp_path / "run"

    return make


KINDS = {"waves": WaveProblem}


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("blocks.1.frequency=20.0", "blocks.1: the wavelet of 20 Hz .* cut off"),  # of a block that has not begun
        ("problem.steps=60", "blocks.0: the wavelet of 100 Hz .* cut off"),
        ("problem.steps=115", "blocks.0: no receiver can hear anything"),
        ("problem.wavelet.cycles=8.0", "blocks.0: the wavelet of 100 Hz .* cut off"),
    ],
)
def test_what_a_change_has_cut_off_is_refused_where_a_run_goes_on_as_in_a_new_one(crosshole, begun, change, text):
    out = begun(earlier=False)
    with pytest.raises(errors.StudyError, match=text) as new:
        Study.from_document(crosshole, folder=STUDIES, kinds=KINDS, overrides=[change]).build_problem()
    before = every_byte(out)
    with pytest.raises(errors.ThalwegError) as refused:
        go_on(out, KINDS, change)
    assert str(new.value) in str(refused.value)
    assert every_byte(out) == before
    assert go_on(out, KINDS).summary["warnings"] == []


def test_what_was_cut_off_before_hides_nothing_that_is_new(begun):
    """The second block's wavelet was too long for an earlier version's records already; then the first's is, too."""
    out = begun({"steps": 130}, 100.0, 50.0)
    told = "a new run would be refused: blocks.1: the wavelet of 50 Hz"
    with pytest.raises(errors.StudyError, match=r"^blocks.0: the wavelet of 47 Hz .* cut off"):
        go_on(out, KINDS, "blocks.0.frequency=47.0")
    with pytest.raises(errors.StudyError, match=r"^blocks.1: the wavelet of 48 Hz .* cut off"):
        go_on(out, KINDS, "blocks.1.frequency=48.0")
    with pytest.raises(errors.StudyError, match=r"^blocks.1: the wavelet of 50 Hz .* cut off"):
        go_on(out, KINDS, "problem.steps=131")
    outcome = go_on(out, KINDS, "blocks.1.iterations=3", "optimizer.learning_rate=0.5")
    assert (outcome.status, outcome.summary["iterations"]) == ("finished", 5)
    assert [text[: len(told)] for text in outcome.summary["warnings"]] == [told]


def test_of_a_run_that_goes_on_what_stops_it_is_said_first(begun):
    out = begun({"steps": 130, "speeds": [1850.0, 2400.0]}, 100.0, 50.0)
    for change, text in (
        (
            "blocks.0.frequency=400.0",
            r"^Too few .* the wavelet of blocks.0 reaches .* refused: problem.speeds: the starting model",
        ),
        ("problem.time_step=1e-3", r"^The time step 0.001 s is unstable.* refused: problem.speeds: the starting model"),
    ):
        with pytest.raises(errors.SimulationError, match=text):
            go_on(out, KINDS, change)


def test_of_what_is_cut_off_and_too_coarse_only_that_block_is_named(crosshole, begun):
    """That the second block is cut off does not explain that the first reaches too high."""
    crosshole["problem"]["steps"] = 130
    crosshole["blocks"] = [{"iterations": 1, "frequency": 50.0}, {"iterations": 1, "frequency": 400.0}]
    with pytest.raises(errors.DispersionError, match=r"^Too few .* the wavelet of blocks.1 reaches"):
        build(crosshole)
    crosshole["blocks"] = [{"iterations": 1, "frequency": 100.0}]
    out = begun({"steps": 130}, 50.0, 100.0)
    with pytest.raises(errors.DispersionError, match=r"^Too few .* the wavelet of blocks.1 reaches"):
        go_on(out, KINDS, "blocks.1.frequency=400.0")
