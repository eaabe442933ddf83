"""The wave problem as studies use it: runs, refusals, a user's own files, checks."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import numpy as np
import pytest

import thalweg as tw
from thalweg import errors
from thalweg.problems.waves import Grid, Propagator, RemoveTimeDispersion, WaveProblem, ricker
from thalweg.runs import Study, run_study
from thalweg.runtime import Local

STUDIES = Path(__file__).parents[3] / "studies"
KINDS = {"waves": WaveProblem}


@pytest.fixture
def document():
    """The study of seconds, shortened."""
    made = tomllib.loads((STUDIES / "inclusion.toml").read_text())
    for block in made["blocks"]:
        block |= {"iterations": 3}
    return made


def load(document, folder=None):
    return Study.from_document(document, name="test", folder=folder or STUDIES, kinds=KINDS)


@pytest.mark.parametrize("path", sorted(STUDIES.glob("*.toml")), ids=lambda path: path.stem)
def test_shipped_studies_are_valid(path):
    study = Study.load(path, kinds=KINDS)
    problem = study.build_problem()
    assert problem.items >= (12 if isinstance(problem, WaveProblem) else 5)
    problem.close()


def test_a_study_ends_nearer_to_the_truth_and_says_so(document, tmp_path):
    outcome = tw.wait(run_study(load(document), out=tmp_path / "run"))
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert outcome.status == summary["status"] == "finished"
    assert summary["model_error_start"] == 1.0
    assert summary["model_error_end"] < 0.5
    assert 0.5 < summary["model_error_constant"] < 1.0
    assert len(summary["misfit_start"]) == len(summary["misfit_end"]) == 2
    assert summary["gpts_per_second"] > 0.0
    assert summary["peak_memory_bytes"] > 0
    assert len(summary["digest"]) == 64
    with np.load(tmp_path / "run" / "result.npz") as result:
        vp, truth, mask = result["vp"], result["truth"], result["mask"]
        error = np.linalg.norm((vp - truth)[mask]) / np.linalg.norm((result["start"] - truth)[mask])
        assert error == pytest.approx(summary["model_error_end"], rel=1e-5)
    assert (tmp_path / "run" / "figures" / "result.png").stat().st_size > 10_000


def test_one_and_two_threads_give_the_same_bits(document, tmp_path):
    digests = []
    for threads in (1, 2):
        with Local(threads=threads) as runtime:
            outcome = tw.wait(run_study(load(document), out=tmp_path / str(threads), runtime=runtime))
        digests.append(outcome.summary["digest"])
    assert digests[0] == digests[1]


def test_the_gradient_of_a_batch_is_the_derivative_of_its_loss(document):
    document["problem"] |= {"dtype": "float64", "time_step": 3e-7}
    problem = load(document).build_problem()
    batch = np.array([0, 5, 7])
    rng = np.random.default_rng(0)
    direction = 10.0 * rng.standard_normal(problem.setup.grid.shape)
    (vp,) = problem.variables

    async def go():
        with Local(threads=2) as runtime:
            await problem.prepare(runtime, lambda *_: None)
            await problem.begin_block(1)
            base = await problem.feedback(batch, runtime)
            gaps = []
            for h in (0.02, 0.01):
                vp.data = problem.setup.start + h * direction
                loss = (await problem.feedback(batch, runtime)).loss
                gaps.append(abs(loss - base.loss - h * np.vdot(base.gradients["vp"], direction)))
            return gaps

    gaps = tw.wait(go())
    assert gaps[0] / gaps[1] == pytest.approx(4.0, rel=0.05)


def test_observed_data_does_not_know_the_inversion_grid(document):
    """The misfit of the true model is small, but not that of noise alone: another simulator made the data."""
    document["problem"]["observed"] |= {"noise": 0.0}
    problem = load(document).build_problem()
    (vp,) = problem.variables

    async def go():
        with Local(threads=2) as runtime:
            await problem.prepare(runtime, lambda *_: None)
            await problem.begin_block(0)
            everything = np.arange(problem.items)
            before = (await problem.feedback(everything, runtime)).loss
            vp.data = problem.setup.truth.copy()
            return before, (await problem.feedback(everything, runtime)).loss

    before, after = tw.wait(go())
    assert 0.0 < after < 0.02 * before


@pytest.fixture
def own_files(tmp_path):
    """Model, geometry, wavelet and data of a user, made without the study."""
    grid, steps, step = Grid((40, 50), 10.0), 500, 1.5e-3
    start = np.full(grid.shape, 2000.0)
    truth = start.copy()
    truth[15:25, 20:30] = 2150.0
    sources = np.array([(20.0, 45.0), (20.0, 244.4), (20.0, 450.0)])
    receivers = np.stack([np.full(24, 370.0), np.linspace(5.0, 485.0, 24)], axis=1)
    wavelet = ricker(12.0, step, steps, delay=0.35)  # with silence before it, for the low-pass to spread into
    p = Propagator(grid, time_step=step, steps=steps, speed=2000.0, frequency=12.0)
    remove = RemoveTimeDispersion(steps)
    traces = np.stack(
        [
            tw.wait(remove(tw.wait(p(tw.Variable(truth), tw.Variable(wavelet), p.shot([s], receivers))))).data
            for s in sources
        ]
    )
    np.savez(tmp_path / "mine.npz", start=start, truth=truth, sources=sources, receivers=receivers, w=wavelet, d=traces)
    return tmp_path


@pytest.fixture
def own_document():
    def file(key):
        return {"kind": "file", "path": "mine.npz", "key": key}

    return {
        "title": "My own data",
        "problem": {
            "kind": "waves",
            "shape": [40, 50],
            "spacing": 10.0,
            "time_step": 1.5e-3,
            "steps": 500,
            "start": file("start"),
            "truth": file("truth"),
            "observed": file("d"),
            "sources": file("sources"),
            "receivers": file("receivers"),
            "wavelet": file("w"),
        },
        "optimizer": {
            "kind": "momentum",
            "learning_rate": 30.0,
            "momentum": 0.3,
            "process_grad": [{"kind": "smooth", "sigma": 1.5}, {"kind": "normalize"}],
        },
        "blocks": [{"iterations": 4, "low_pass": 15.0}, {"iterations": 4, "optimizer": {"learning_rate": 6.0}}],
    }


def test_a_users_own_model_data_and_geometry(own_files, own_document, tmp_path):
    outcome = tw.wait(run_study(load(own_document, own_files), out=tmp_path / "run"))
    assert outcome.summary["model_error_end"] < 0.8
    starts, ends = outcome.summary["misfit_start"], outcome.summary["misfit_end"]
    assert all(end < start for start, end in zip(starts, ends, strict=True))


@pytest.mark.parametrize(
    ("change", "error", "text"),
    [
        ({"time_step": 3e-3}, errors.UnstableTimeStepError, "largest stable"),
        ({"speeds": [1500.0, 4500.0]}, errors.UnstableTimeStepError, "4500"),
        ({"speeds": [500.0, 2200.0]}, errors.DispersionError, "grid points a wavelength"),
        ({"shape": [40, 51]}, errors.ShapeError, r"\(40, 50\)"),
        ({"steps": 499}, errors.ShapeError, "499"),
        ({"sources": {"kind": "ring", "count": 3, "radius": 500.0}}, errors.PositionError, "outside the model"),
        ({"sources": {"kind": "ring", "count": 4, "radius": 50.0}}, errors.ShapeError, r"\(4, 500, 24\)"),
        ({"start": {"kind": "file", "path": "none.npz"}}, errors.StudyError, "no file"),
        ({"start": {"kind": "file", "path": "mine.npz", "key": "vq"}}, errors.StudyError, "holds no array 'vq'"),
        ({"start": {"kind": "file", "path": "text.npz"}}, errors.StudyError, "cannot be read"),
        ({"start": {"kind": "constant", "speed": -1.0}}, errors.StudyError, "speed"),
        ({"min_offset": 9000.0}, errors.StudyError, "without any receiver"),
        ({"observed": {"kind": "simulated"}}, errors.StudyError, "analytic wavelet"),
        (
            {"observed": {"kind": "file", "path": "silent.npz", "key": "d"}},
            errors.StudyError,
            "all traces in silent.npz that are used are zero",
        ),
        ({"spacin": 10.0}, errors.StudyError, "spacing"),
        ({"spacing": "1e-3"}, errors.StudyError, "spacing"),
        ({"steps": 2**63}, errors.StudyError, "steps"),
        ({"shape": [10**30, 50]}, errors.StudyError, "shape"),
        ({"truth": {"kind": "file", "path": "mine.npz", "key": "start"}}, errors.StudyError, "nothing to find"),
        ({"region": {"kind": "file", "path": "mine.npz", "key": "start"}}, errors.StudyError, "between 0 and 1"),
        (
            {"region": {"kind": "disk", "radius": 5.0, "center": [1e4, 1e4], "taper": 1.0}},
            errors.StudyError,
            "all be 0",
        ),
        (
            {"free_surface": True, "sources": {"kind": "line", "count": 3, "start": [0.0, 50.0], "stop": [0.0, 400.0]}},
            errors.PositionError,
            "free surface",
        ),
    ],
)
def test_bad_studies_are_refused_before_computing(own_files, own_document, change, error, text):
    (own_files / "text.npz").write_text("not an archive")
    np.savez(own_files / "silent.npz", d=np.zeros_like(np.load(own_files / "mine.npz")["d"]))
    document = copy.deepcopy(own_document)
    document["problem"] |= change
    with pytest.raises(error, match=text):
        load(document, own_files).build_problem()


@pytest.mark.parametrize("offset", [False, True])
@pytest.mark.parametrize("silent", [[], [1, 2]])
def test_records_of_zeros_are_found_by_a_check(own_files, own_document, silent, offset):
    setup = load(own_document, own_files).build_problem().setup
    if offset:
        own_document["problem"]["min_offset"] = max(float(np.median(setup.offsets(shot))) for shot in range(3))
        setup = load(own_document, own_files).build_problem().setup
    arrays = dict(np.load(own_files / "mine.npz"))
    for shot in silent:  # what is left out may hold what it likes
        arrays["d"][shot][:, setup.receivers_of(shot)] = 0.0
    assert not offset or all(arrays["d"][shot].any() for shot in silent)
    np.savez(own_files / "mine.npz", **arrays)
    checks = load(own_document, own_files).build_problem().checks()
    check = next(check for check in checks if check.name == "silent shots")
    assert (check.value, check.ok) == (f"{len(silent)} of 3", not silent)
    assert ("all traces of shot 1, 2 that are used are zero" in check.text) == bool(silent)


def changed(document, values):
    """The study with other values at dotted paths."""
    made = copy.deepcopy(document)
    for path, value in values.items():
        *tables, last = path.split(".")
        table = made
        for name in tables:
            table = table[int(name)] if isinstance(table, list) else table[name]
        table[last] = value
    return made


def frequency_that_would_do(error):
    """What the message says: the key, and its largest value."""
    key, value = re.search(r"Set (\S+) to at most (\S+) Hz", str(error)).groups()
    return key, float(value)


@pytest.mark.parametrize(
    ("change", "key"),
    [
        ({"blocks.1.frequency": 400e3}, "blocks.1.frequency"),
        ({"blocks.1.frequency": 105e3}, "blocks.1.frequency"),
        ({"problem.time_correction": False, "blocks.0.frequency": 400e3}, "blocks.0.frequency"),
        ({"problem.wavelet": {"kind": "ricker"}, "blocks.1.frequency": 250e3}, "blocks.1.frequency"),
        ({"problem.order": 8, "problem.observed.finer_space": 0.99, "blocks.1.frequency": 200e3}, "blocks.1.frequency"),
    ],
)
def test_the_frequency_that_a_message_names_would_do_and_hardly_a_higher_one(document, change, key):
    with pytest.raises(errors.DispersionError, match=rf"wavelet of {key.rpartition('.')[0]} ") as caught:
        load(changed(document, change)).build_problem()
    named, value = frequency_that_would_do(caught.value)
    assert named == key
    load(changed(document, change | {named: value})).build_problem()
    with pytest.raises(errors.DispersionError):
        load(changed(document, change | {named: 1.03 * value})).build_problem()


def test_the_spacing_that_a_message_names_would_do(document):
    document["blocks"][1]["frequency"] = 100e3
    with pytest.raises(errors.DispersionError, match="spacing of at most") as caught:
        load(document).build_problem()
    spacing = float(re.search(r"spacing of at most (\S+) m", str(caught.value)).group(1))
    assert 0.9e-3 < spacing < 1e-3
    document["problem"] |= {"spacing": spacing, "shape": [80, 80]}
    load(document).build_problem()


def test_a_frequency_that_all_blocks_share_is_named_where_it_stands(document):
    document["problem"]["wavelet"]["frequency"] = 400e3
    for block in document["blocks"]:
        del block["frequency"]
    with pytest.raises(errors.DispersionError, match=r"wavelet of blocks\.0 ") as caught:
        load(document).build_problem()
    key, value = frequency_that_would_do(caught.value)
    assert key == "problem.wavelet.frequency"
    document["problem"]["wavelet"]["frequency"] = value
    load(document).build_problem()


def test_a_wavelet_from_a_file_is_told_a_low_pass_that_would_do(own_files, own_document):
    own_document["problem"]["speeds"] = [900.0, 2200.0]
    with pytest.raises(errors.DispersionError) as caught:
        load(own_document, own_files).build_problem()
    key, value = frequency_that_would_do(caught.value)
    assert key == "blocks.1.low_pass"
    own_document["blocks"][1]["low_pass"] = value
    load(own_document, own_files).build_problem()


def test_where_no_frequency_would_do_none_is_named(document):
    document["problem"]["speeds"] = [200.0, 1620.0]  # so slow that what fits the grid does not fit the records
    with pytest.raises(errors.DispersionError, match=r"No lower blocks\.0\.frequency helps: Refine the grid"):
        load(document).build_problem()


def test_a_position_is_told_in_few_digits(document):
    line = {"kind": "line", "count": 3, "start": [0.0, 0.0], "stop": [0.02, 10 / 7]}
    with pytest.raises(errors.PositionError, match=r"number 1 at \(0\.01, 0\.714286\) m\."):
        load(changed(document, {"problem.sources": line})).build_problem()


def test_one_receiver_is_not_several(document):
    one = {"kind": "line", "count": 1, "start": [0.01, 0.01], "stop": [0.01, 0.01]}
    problem = load(changed(document, {"problem.receivers": one})).build_problem()
    with Local(threads=1) as runtime:
        assert dict(problem.plan(runtime, 1))["array"] == "12 shots, 1 receiver"


def test_a_mask_of_fractions_is_refused(own_files, own_document):
    np.savez(own_files / "truth.npz", vp=np.full((40, 50), 2100.0), mask=np.full((40, 50), 0.3))
    own_document["problem"]["truth"] = {"kind": "file", "path": "truth.npz", "mask": "mask"}
    with pytest.raises(errors.StudyError, match="True and False"):
        load(own_document, own_files).build_problem()


def test_a_low_pass_that_cuts_off_the_wavelet_or_leaves_nothing_is_refused(own_files, own_document, document):
    own_document["blocks"][0]["low_pass"] = 3.0
    with pytest.raises(errors.StudyError, match="before time 0"):
        load(own_document, own_files).build_problem()
    document["blocks"][0]["low_pass"] = 1e3
    with pytest.raises(errors.StudyError, match=r"leaves nothing|before time 0"):
        load(document).build_problem()


def test_the_finer_simulation_is_checked_before_computing(document):
    document["problem"]["observed"]["finer_space"] = 0.3
    with pytest.raises(errors.UnstableTimeStepError):
        load(document).build_problem()


def test_what_a_study_accepts_does_not_fail_for_its_frequency_later(document):
    """The wavelet that is checked is the one that drives the simulation, its time dispersion added."""
    problem = load(document).build_problem()
    setup = problem.setup
    checked = setup.driven(1)
    shot = setup.propagator(1).shot(setup.sources[:1], setup.receivers)
    slowest = np.full(setup.grid.shape, setup.speeds[0], "f4")
    tw.wait(setup.propagator(1)(tw.Variable(slowest), tw.Variable(checked), shot))
    assert not np.array_equal(checked, setup.wavelet(1))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_bits_do_not_depend_on_the_threads_of_the_linear_algebra(dtype):
    script = (
        "import hashlib, sys, numpy as np, thalweg as tw\n"
        "from thalweg.problems.waves import AddTimeDispersion, L2Misfit, RemoveTimeDispersion\n"
        "x = tw.Variable(np.random.default_rng(0).standard_normal((801, 7)).astype(sys.argv[1]))\n"
        "y = tw.wait(RemoveTimeDispersion(801)(tw.wait(AddTimeDispersion(801)(x))))\n"
        "loss = tw.wait(L2Misfit()(y, x.data))\n"
        "print(hashlib.sha256(y.data.tobytes() + loss.data.tobytes()).hexdigest())\n"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script, dtype],
            env={**os.environ, "OPENBLAS_NUM_THREADS": threads, "OMP_NUM_THREADS": threads},
            capture_output=True,
            text=True,
            check=True,
            timeout=120,
        ).stdout
        for threads in ("1", "2")
    }
    assert len(digests) == 1


@pytest.mark.parametrize("content", ["objects", "text", "a single array"])
def test_what_is_no_archive_of_numbers_is_refused_without_advice_to_load_it_unsafely(own_files, own_document, content):
    path = own_files / "evil.npz"
    if content == "objects":
        np.savez(path, vp=np.array([{"a": 1}], dtype=object))
    elif content == "text":
        path.write_text("depth vp\n0 1500\n")
    else:
        with path.open("wb") as stream:
            np.save(stream, np.zeros((40, 50)))
    own_document["problem"]["start"] = {"kind": "file", "path": "evil.npz", "key": "vp"}
    text = {
        "objects": "cannot be read .* holds Python objects",
        "text": r"is no .npz file; make one with np.savez\(path, vp=array\)",
        "a single array": r"is a single array; save it with np.savez\(path, vp=array\)",
    }
    with pytest.raises(errors.StudyError, match=text[content]) as error:
        load(own_document, own_files).build_problem()
    assert "pickle" not in str(error.value)


def test_a_wavelet_of_a_file_that_has_not_come_to_rest_is_refused(own_files, own_document):
    np.savez(own_files / "cut.npz", wavelet=ricker(12.0, 1.5e-3, 500, delay=0.72))
    own_document["problem"]["wavelet"] = {"kind": "file", "path": "cut.npz"}
    own_document["blocks"][0].pop("low_pass")
    with pytest.raises(errors.StudyError, match=r"blocks.0: in the last half period"):
        load(own_document, own_files).build_problem()


def test_a_frequency_is_needed_and_not_with_a_wavelet_of_ones_own(document, own_files, own_document):
    del document["blocks"][0]["frequency"]
    with pytest.raises(errors.StudyError, match="no frequency"):
        load(document).build_problem()
    own_document["blocks"][0]["frequency"] = 10.0
    with pytest.raises(errors.StudyError, match="low_pass"):
        load(own_document, own_files).build_problem()


def test_checks_measure_what_they_say(document):
    document["problem"]["save_every"] = 4
    checks = {check.name: check for check in load(document).build_problem().checks()}
    assert all(check.ok for check in checks.values()), checks
    assert {"time step", "adjoint test", "gradient test", "error of save_every = 4"} <= set(checks)
    document["problem"]["save_every"] = 40  # far too few wavefields
    assert not {c.name: c for c in load(document).build_problem().checks()}["error of save_every = 40"].ok


def test_memory_is_told_up_front(document):
    problem = load(document).build_problem()
    with Local(threads=2) as runtime:
        memory = dict(problem.plan(runtime, 6))["memory"]
    one_shot = problem.setup.propagator(0).memory("float32")
    assert f"2 × {one_shot / 2**20:.0f} MiB" in memory


def test_bits_do_not_depend_on_whether_kernels_are_compiled_or_read_from_the_cache(tmp_path):
    script = (
        "import hashlib, numpy as np, thalweg as tw\n"
        "from thalweg.problems.waves import Grid, Propagator\n"
        "rng = np.random.default_rng(0)\n"
        "p = Propagator(Grid((40, 50), 10.0), time_step=1e-3, steps=200, speed=2000.0, frequency=12.0,\n"
        "               min_points_per_wavelength=0.1)\n"
        "vp = tw.Variable((2000 + 50 * rng.standard_normal((40, 50))).astype('f4'), name='vp', needs_grad=True)\n"
        "wavelet = tw.Variable(rng.standard_normal(200).astype('f4'), name='wavelet')\n"
        "traces = tw.wait(p(vp, wavelet, p.shot([(55.5, 60.0)], [(300.0, 333.3), (12.0, 400.0)])))\n"
        "tw.wait(traces.adjoint(traces.data))\n"
        "print(hashlib.sha256(traces.data.tobytes() + vp.grad.tobytes()).hexdigest())\n"
    )
    digests = [
        subprocess.run(
            [sys.executable, "-c", script],
            env={**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)},
            capture_output=True,
            text=True,
            check=True,
            timeout=240,
        ).stdout
        for _ in ("compiled", "cached")
    ]
    assert digests[0] == digests[1]
