"""What a problem read besides its study is known by its digest: a run does not go on with something else unnoticed."""

import json
import shutil
import sqlite3
from pathlib import Path

import numpy as np
import pytest

from tests.runs.going import Stopping, every_byte, fingerprint, stopped
from thalweg.errors import RunError, StudyError
from thalweg.graph import wait
from thalweg.runs import History, Run, Study, find_study
from thalweg.runs.compare import Comparison
from thalweg.runs.folder import RunFolder
from thalweg.runs.kept_shots import digest_of_study
from thalweg.runs.places import place_of, places

COUNT = 4
KEY = "problem.observed.path"
SMALL = [
    f"problem.sources.count={COUNT}",
    "problem.steps=160",
    "blocks.0.iterations=3",
    "blocks.1.iterations=2",
    "output.checkpoint_every=1",
    "output.figures=false",
]


class Telling(Stopping):
    """Keeps what it is told."""

    def __init__(self, iteration):
        super().__init__(iteration)
        self.notes = []

    def note(self, text):
        self.notes.append(text)


@pytest.fixture
def project(tmp_path):
    """A folder with a study of traces in a file, and a run of it that was stopped after two iterations."""
    folder = tmp_path / "project"
    folder.mkdir()
    text = find_study("inclusion").read_text()
    (folder / "mine.toml").write_text(text)
    write(folder, 1.0)
    session, display = Run(study(folder), out=folder / "run", display=(display := Stopping(2))), display
    stopped(session, display)
    return folder


def study(folder, *more):
    traces = "problem.observed={ kind = 'file', path = 'survey.npz' }"
    return Study.load(folder / "mine.toml", overrides=[*SMALL, traces, *more])


def write(folder, factor):
    rng = np.random.default_rng(0)
    traces = factor * 1e-3 * rng.standard_normal((COUNT, 160, COUNT))
    np.savez(folder / "survey.npz", traces=traces.astype(np.float32))


@pytest.fixture
def from_a_file(project):
    """The same project, whose run began with the model of a file."""
    write_start(project, 1500.0)
    display = Stopping(2)
    stopped(Run(study(project, START), out=project / "begun", display=display), display)
    return project


START = "problem.start={ kind = 'file', path = 'start.npz' }"


def write_start(folder, speed):
    np.savez(folder / "start.npz", vp=np.full((72, 72), speed, np.float32))


def go_on(run, **how):
    return wait(Run.resume(run, **how).execute())


def whole(folder, out):
    wait(Run(study(folder), out=out).execute())
    return fingerprint(out)


def test_other_data_under_the_same_path_is_refused_and_put_back_it_goes_on(project, tmp_path):
    expected = whole(project, tmp_path / "whole")
    before = every_byte(project / "run")
    write(project, 1.3)
    with pytest.raises(RunError, match=r"problem\.observed\.path: what is there is not what the run .* began with"):
        go_on(project / "run")
    with pytest.raises(RunError, match=r"--set problem\.observed\.path="):
        go_on(project / "run", overrides=["problem.region.taper=0.001"])
    assert every_byte(project / "run") == before
    write(project, 1.0)  # another file, to the last byte of its header, but the same numbers
    go_on(project / "run")
    assert fingerprint(project / "run") == expected


def test_new_data_that_is_named_is_taken_and_known_from_then_on(project):
    old = History(project / "run").facts()["inputs"]
    assert set(old) == {"problem.observed.path"}
    write(project, 1.3)
    display = Telling(3)
    stopped(Run.resume(project / "run", overrides=["problem.observed.key='traces'"], display=display), display)
    new = History(project / "run").facts()["inputs"]
    assert new != old
    told = [(e["iteration"], e["text"]) for e in History(project / "run").events() if e["kind"] == "warning"]
    assert told == [(2, "problem.observed.path: what is there is not what the iterations before were made with")]
    assert [text for text in display.notes if "resumed" in text or "what is there" in text] == [
        "resumed from iteration 2",
        "problem.observed.path: what is there is not what the iterations before were made with",
    ]
    write(project, 1.0)
    with pytest.raises(RunError, match="is not what the run"):
        go_on(project / "run")
    write(project, 1.3)
    assert go_on(project / "run").status == "finished"


def test_a_standing_change_that_changes_nothing_does_not_name_other_data(project):
    """As a job has it that is started again and again: ``thalweg run mine.toml --out run --resume --set ...``."""
    named = ["problem.observed", "problem.steps", "blocks.0.iterations"]
    before = every_byte(project / "run")
    write(project, 1.3)
    with pytest.raises(RunError, match=r"--set problem\.observed\.path=") as error:
        go_on(project / "run", study=study(project), named=named)
    assert f"thalweg resume {project / 'run'} --set problem.observed.path=" in str(error.value)
    assert every_byte(project / "run") == before
    with pytest.raises(RunError, match="is not what the run"):  # something else changes
        go_on(project / "run", study=study(project, "blocks.0.iterations=4"), named=named)
    (project / "survey.npz").rename(project / "other.npz")
    moved = study(project, "problem.observed.path='other.npz'")
    assert go_on(project / "run", study=moved, named=named).status == "finished"


def test_runs_of_other_data_are_not_called_the_same(project, tmp_path):
    go_on(project / "run")
    whole(project, tmp_path / "one")
    write(project, 1.3)
    whole(project, tmp_path / "other")
    runs = [project / "run", tmp_path / "one", tmp_path / "other"]
    assert Comparison.read(runs[:2]).study_differences() == {}
    ((key, values),) = Comparison.read(runs).study_differences().items()
    assert key == "problem.observed.path, content"
    assert values[0] == values[1] != values[2]


def test_sums_of_shots_are_of_their_data_wherever_it_is(project, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(project, moved)
    here, there = study(project), study(moved)
    assert digest_of_study(here, {KEY: "a"}) == digest_of_study(there, {KEY: "a"})
    assert digest_of_study(here, {KEY: "a"}) != digest_of_study(here, {KEY: "b"})
    assert digest_of_study(here, None) != digest_of_study(there, None), "who knows what is in the files there"


def test_a_file_that_changes_while_the_run_is_at_work_is_refused(project):
    problem = study(project).build_problem()
    write(project, 1.3)
    with pytest.raises(StudyError, match="is not what the run began with"):
        wait(problem.begin_block(0)) or problem._band.value


def test_a_project_that_was_moved_with_its_runs_goes_on(project, tmp_path):
    expected = whole(project, tmp_path / "whole")
    moved = project.rename(tmp_path / "elsewhere")
    go_on(moved / "run")
    assert fingerprint(moved / "run") == expected
    assert History(moved / "run").facts()["study_folder"] == str(moved)


def test_the_files_of_a_study_that_is_given_are_those_beside_it(project, tmp_path):
    expected = whole(project, tmp_path / "whole")
    (tmp_path / "archive").mkdir()
    run = (project / "run").rename(tmp_path / "archive" / "run")
    moved = project.rename(tmp_path / "moved")
    with pytest.raises(StudyError, match="There is no file"):
        go_on(run)
    go_on(run, study=study(moved))
    assert fingerprint(run) == expected


def test_a_copied_project_goes_on_with_its_own_files(project, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(project, copy)
    write(copy, 1.3)
    with pytest.raises(RunError, match=rf"is not what the run .* \(relative paths start at {copy}\)"):
        go_on(copy / "run")
    go_on(copy / "run", overrides=["problem.observed.path='survey.npz'"])
    told = [event["text"] for event in History(copy / "run").events() if event["kind"] == "warning"]
    assert any(f"files are read from {copy}" in text for text in told)
    assert go_on(project / "run").status == "finished"
    changed = Comparison.read([project / "run", copy / "run"])
    old, new = (json.dumps(History(place / "run").facts()["inputs"][KEY][:12]) for place in (project, copy))
    assert changed.study_differences() == {f"{KEY}, content": [old, new]}
    change = {"after_iteration": 2, "key": f"{KEY}, content", "before": old, "after": new}
    assert [run["changes"] for run in changed.to_json()["runs"]] == [[], [change]]


def test_a_run_that_was_moved_alone_finds_the_files_of_its_project(project, tmp_path):
    expected = whole(project, tmp_path / "whole")
    (tmp_path / "archive").mkdir()
    moved = (project / "run").rename(tmp_path / "archive" / "run")
    go_on(moved)
    assert fingerprint(moved) == expected


def test_a_folder_that_cannot_be_looked_into_is_not_where_the_files_are(monkeypatch, tmp_path):
    def refused(self):
        raise PermissionError(self)

    monkeypatch.setattr(Path, "is_file", refused)
    facts = places(tmp_path / "project", tmp_path / "project" / "run")
    assert place_of(facts, "mine", tmp_path / "elsewhere" / "run") == (tmp_path / "project", None)


def test_killed_before_the_new_study_is_there_the_old_one_goes_on(project, monkeypatch, tmp_path):
    expected = whole(project, tmp_path / "whole")
    shutil.copy(project / "survey.npz", project / "kept.npz")
    write(project, 1.3)
    (project / "survey.npz").rename(project / "other.npz")
    (project / "kept.npz").rename(project / "survey.npz")

    class KilledError(BaseException):
        pass

    def killed(self, text):
        raise KilledError

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, "write_study", killed)
        session = Run.resume(project / "run", overrides=["problem.observed.path='other.npz'"])
        with pytest.raises(KilledError):
            session._open(session.study.build_problem())
    go_on(project / "run")
    assert fingerprint(project / "run") == expected


@pytest.mark.parametrize("edited", [False, True])
def test_where_the_model_began_cannot_change_any_more(project, edited):
    """It would be the start in the result of a run that was never there, and the model's error be measured with it."""
    run = project / "run"
    if edited:
        file = run / "study.toml"
        text = file.read_text()
        assert "speed = 1500.0" in text
        file.write_text(text.replace("speed = 1500.0", "speed = 1480.0", 1))
    before = every_byte(run)
    for change in ("problem.start.speed=1480.0", "problem.start={ kind = 'constant', speed = 1480.0 }"):
        with pytest.raises(
            RunError, match=r"problem\.start\.speed: .* not where the model .* of iteration 2.* new run"
        ):
            go_on(run, overrides=[change])
    if not edited:
        write_start(project, 1500.0)
        with pytest.raises(RunError, match=r"problem\.start\.(kind|path): .* not where the model"):
            go_on(run, overrides=[START])
    assert every_byte(run) == before


def test_neither_can_the_file_that_says_where_it_began(from_a_file):
    run = from_a_file / "begun"
    write_start(from_a_file, 1480.0)
    before = every_byte(run)
    for named in ([], [START], ["problem.start.path='start.npz'"]):
        with pytest.raises(RunError, match=r"problem\.start\.path: .* not where the model .* Put back"):
            go_on(run, overrides=named)
    assert every_byte(run) == before
    write_start(from_a_file, 1500.0)
    shutil.move(from_a_file / "start.npz", from_a_file / "moved.npz")
    assert go_on(run, overrides=["problem.start.path='moved.npz'"]).status == "finished"
    whole = wait(Run(study(from_a_file, "problem.start.speed=1500.0"), out=from_a_file / "whole").execute())
    assert History(run).iterations()["loss"].tolist() == whole.history.iterations()["loss"].tolist()


def test_before_there_is_a_checkpoint_it_may_change(project):
    run = project / "run"
    shutil.rmtree(run / "checkpoints")
    database = sqlite3.connect(run / "run.sqlite", isolation_level=None)
    database.execute("DELETE FROM facts WHERE name = 'checkpointed'")
    database.execute("DELETE FROM iterations")
    database.close()
    outcome = go_on(run, overrides=["problem.start.speed=1480.0"])
    with np.load(run / "result.npz") as result:
        assert np.all(result["start"] == 1480.0)
    other = wait(Run(study(project, "problem.start.speed=1480.0"), out=project / "other").execute())
    assert outcome.summary["digest"] == other.summary["digest"]
