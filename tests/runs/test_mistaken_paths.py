"""A path that is something else than it was taken for: the error says what it is, and what goes with that."""

import codecs

import pytest

from tests.runs.going import run
from thalweg.errors import RunError, StudyError
from thalweg.runs import History, Study, find_study
from thalweg.runs.exporting import export
from thalweg.runs.folder import RunFolder
from thalweg.runs.history import HistoryWriter
from thalweg.runs.record import RunRecord


def test_a_run_that_has_no_checkpoint_yet_is_a_run(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    HistoryWriter(folder.history).close()
    with pytest.raises(RunError, match=r"The run .*run has no checkpoint yet"):
        export(tmp_path / "run")
    with pytest.raises(RunError, match="is it the folder of a run"):
        export(tmp_path)


def test_a_study_is_no_run(tmp_path):
    (tmp_path / "mine.toml").touch()
    with pytest.raises(
        RunError, match=r"no run in '.*mine\.toml'\. It is a study, which .thalweg run. makes a run of; the folder"
    ):
        RunRecord.read(tmp_path / "mine.toml")
    with pytest.raises(RunError, match="There is no such folder; the folder of a run is"):
        RunRecord.read(tmp_path / "none")


def test_the_study_of_a_run_names_the_run(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    HistoryWriter(folder.history).close()
    folder.study.touch()
    with pytest.raises(RunError, match=r"study\.toml' is a file of the run '.*run'; name the run's folder"):
        RunRecord.read(folder.study)


def test_arrays_are_exported_under_no_other_ending(tmp_path, document, kinds):
    run(document, kinds, tmp_path / "run")
    with pytest.raises(RunError, match=r"let it end with \.npz, such as model\.npz"):
        export(tmp_path / "run", tmp_path / "model.mat")
    assert not (tmp_path / "model.mat").exists()


def test_the_file_of_a_history_is_not_asked_for_as_a_folder(tmp_path):
    for path in (tmp_path, tmp_path / "run.sqlite"):
        with pytest.raises(RunError, match=rf"There is no history .*run\.sqlite; is {tmp_path} the folder of a run\?"):
            History(path)


def test_the_folder_of_a_run_is_no_study_and_goes_on(tmp_path, document, kinds):
    run(document, kinds, tmp_path / "a run")
    with pytest.raises(StudyError) as caught:
        find_study(str(tmp_path / "a run"))
    assert str(caught.value).splitlines() == [
        f"{str(tmp_path / 'a run')!r} is the folder of a run, and no study.",
        f"To go on with the run: thalweg resume '{tmp_path / 'a run'}'",
        f"To make another one of its study: thalweg run '{tmp_path / 'a run' / 'study.toml'}'",
    ]


def test_another_folder_is_not_like_any_study(tmp_path):
    with pytest.raises(StudyError, match="it is a folder") as caught:
        find_study(str(tmp_path))
    assert "nearest" not in str(caught.value)
    (tmp_path / "mine.toml").touch()
    with pytest.raises(StudyError, match=r"In it there are mine\.toml"):
        find_study(str(tmp_path))


def test_a_byte_order_mark_is_no_fault(tmp_path, document, kinds):
    text = Study.from_document(document, kinds=kinds).text
    file = tmp_path / "study.toml"
    file.write_bytes(codecs.BOM_UTF8 + text.encode())
    study = Study.load(file, kinds=kinds)
    assert study.text == text
    assert study.settings.title == "A blurred signal"
    file.write_bytes(codecs.BOM_UTF8 * 2 + text.encode())
    with pytest.raises(StudyError, match="is no TOML"):
        Study.load(file, kinds=kinds)
