"""The folder of a run: never over what is there, files whole or not at all."""

import contextlib
import json
import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from thalweg.errors import RunError
from thalweg.runs.digest import model_digest
from thalweg.runs.files import replacing
from thalweg.runs.folder import RunFolder


def test_the_next_free_number_is_taken_and_nothing_is_written_over(tmp_path):
    (tmp_path / "runs" / "head-2").mkdir(parents=True)
    made = [RunFolder.create_next(tmp_path / "runs", "head").path.name for _ in range(3)]
    assert made == ["head-1", "head-3", "head-4"]


def test_many_at_once_get_folders_of_their_own(tmp_path):
    made = []
    threads = [
        threading.Thread(target=lambda: made.append(RunFolder.create_next(tmp_path / "runs", "a").path))
        for _ in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 20


def test_an_empty_or_new_folder_is_taken_and_another_is_refused(tmp_path):
    (tmp_path / "empty").mkdir()
    RunFolder.create(tmp_path / "empty")
    RunFolder.create(tmp_path / "new" / "deep")
    with pytest.raises(RunError, match="is not empty"):
        RunFolder.create(tmp_path / "new")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(RunError, match="cannot be made"):
        RunFolder.create(tmp_path / "file")
    with pytest.raises(RunError, match="is a file"):
        RunFolder.create_next(tmp_path / "file", "a")
    assert (tmp_path / "file").read_text() == "mine"


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path):
    path = tmp_path / "summary.json"
    path.write_text("before")

    def fail():
        with replacing(path) as file:
            file.write(b"half of it")
            raise KeyError("stopped")

    with pytest.raises(KeyError):
        fail()
    assert path.read_text() == "before"
    assert os.listdir(tmp_path) == ["summary.json"]
    with replacing(path) as file:
        file.write(b"after")
    assert path.read_text() == "after"
    assert os.listdir(tmp_path) == ["summary.json"]
    with pytest.raises(RunError, match="cannot be written"), replacing(tmp_path / "none" / "file"):
        pass


def test_files_have_the_usual_permissions(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    folder.write_study("title = 1")
    (tmp_path / "usual").touch()
    assert folder.study.stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_summary_is_strict_json_and_says_what_was_lost(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    lost = folder.write_summary(
        {
            "a": np.float32(0.5),
            "b": [np.int64(3), float("nan")],
            "c": {"d": np.array([1.0, np.inf])},
            "e": tmp_path,
            "f": True,
            "g": None,
        }
    )

    def refuse(text):
        raise AssertionError(text)

    read = json.loads(folder.summary.read_text(), parse_constant=refuse)
    assert read == {
        "a": 0.5,
        "b": [3, None],
        "c": {"d": [1.0, None]},
        "e": str(tmp_path),
        "f": True,
        "g": None,
    }
    assert lost == ["b.1", "c.d.1"]


def test_results_are_arrays_without_pickle(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    folder.write_result({"x": np.arange(3.0), "file": np.ones(2, "f4"), "label": np.array("water")})
    with np.load(folder.result, allow_pickle=False) as read:
        assert read["x"].tolist() == [0, 1, 2]
        assert read["file_"].dtype == np.float32
        assert str(read["label"]) == "water"
    with pytest.raises(RunError, match=r"\['bad'\] hold Python objects"):
        folder.write_result({"bad": np.array([None])})
    assert folder.result.exists()


def test_digest_is_of_names_dtypes_shapes_and_bytes():
    x = np.arange(6, dtype="f4").reshape(2, 3)
    digest = model_digest({"x": x, "y": np.float64(2.0)})
    assert digest == model_digest({"y": np.array(2.0), "x": np.asfortranarray(x)})
    assert digest == model_digest({"x": x.astype(">f4"), "y": np.array(2.0)})
    others = [{"x": x + 1e-6}, {"x": x.T.copy()}, {"x": x.astype("f8")}, {"z": x}, {"x": x.reshape(3, 2)}]
    assert len({model_digest({**other, "y": np.array(2.0)}) for other in others} | {digest}) == 6
    assert model_digest({"x": np.zeros(0)}) != model_digest({"x": np.zeros((0, 1))})


def test_digest_is_what_its_documentation_says():
    import hashlib

    x = np.array([[1.5, 2.0]], "<f8")
    by_hand = hashlib.sha256(b"x\n<f8\n(1, 2)\n" + x.tobytes()).hexdigest()
    assert model_digest({"x": x}) == by_hand


def test_a_file_is_on_the_disk_before_it_takes_its_place_and_the_folder_after(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (done.append(("sync", os.fstat(fd).st_ino)), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append(("rename", os.stat(a).st_ino)), replace(a, b)))
    with replacing(tmp_path / "file") as file:
        file.write(b"text")
    inode = (tmp_path / "file").stat().st_ino
    assert done == [("sync", inode), ("rename", inode), ("sync", tmp_path.stat().st_ino)]


def test_a_folder_that_cannot_be_says_what_to_do(tmp_path):
    for make in (RunFolder.create, lambda path: RunFolder.create_next(path, "a")):
        for path in (tmp_path / "a\0b", tmp_path / ("x" * 300)):
            with pytest.raises(RunError, match=r"cannot be made: .*Name another one \(--out"):
                make(path)


def test_the_kernel_knows_whether_the_writer_lives(tmp_path):
    path = tmp_path / "run"
    script = (
        "import time; from pathlib import Path; from thalweg.runs.folder import RunFolder\n"
        f"folder = RunFolder.create(Path({str(path)!r})); print('made', flush=True); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE) as process:
        assert process.stdout.readline() == b"made\n"
        assert RunFolder(path).writer_alive() is True
        with pytest.raises(RunError, match="is in use: a run is going on"):
            RunFolder.create(path)
        process.kill()
    assert RunFolder(path).writer_alive() is False
    (path / "summary.json").write_text("{}")
    with pytest.raises(RunError, match="is not empty"):
        RunFolder.create(path)
    mine = RunFolder.create(tmp_path / "mine")
    assert RunFolder(mine.path).writer_alive() is True
    assert not os.get_inheritable(next(fd for fd in range(3, 256) if _is(fd, mine.lock)))
    mine.release()
    assert RunFolder(mine.path).writer_alive() is False


def _is(descriptor, path):
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except OSError:
        return False


def test_the_beginning_of_a_run_that_was_killed_is_taken_over(tmp_path):
    """Before there is a history there is nothing in it; whoever runs `--resume` again and again must get on."""
    path = tmp_path / "run"
    RunFolder.create(path).release()
    for leave in (
        lambda: None,
        lambda: (path / "figures").rmdir(),
        lambda: (path / "study.toml").write_text("seed = 1"),
        lambda: (path / ".study.toml.abc").write_text("half"),
        lambda: (path / ".run.sqlite.new").write_bytes(b""),
        lambda: (path / ".run.sqlite.new-journal").write_bytes(b""),
    ):
        leave()
        folder = RunFolder.create(path)
        assert folder.writer_alive()
        with pytest.raises(RunError, match="is in use"):
            RunFolder.create(path)
        assert folder.checkpoints.is_dir()
        assert folder.figures.is_dir()
        assert not list(path.glob(".study.toml.*"))
        folder.release()
    (path / "notes.txt").write_text("mine")
    with pytest.raises(RunError, match="is not empty"):
        RunFolder.create(path)
    (path / "notes.txt").unlink()
    (path / "checkpoints" / "000001").mkdir()
    with pytest.raises(RunError, match="is not empty"):
        RunFolder.create(path)
    (path / "checkpoints" / "000001").rmdir()
    (path / "run.sqlite").write_bytes(b"")
    with pytest.raises(RunError, match="is not empty"):
        RunFolder.create(path)


@pytest.mark.parametrize("lives", [0.5, 600.0])
def test_a_killed_writer_whose_child_still_has_the_lock(tmp_path, monkeypatch, lives):
    """A process that is killed while it starts another one leaves its lock to it for a moment, or for longer."""
    code = f"""
import os, sys, time, signal
from pathlib import Path
from thalweg.runs.folder import RunFolder
folder = RunFolder.create(Path(sys.argv[1]))
child = os.fork()
if child == 0:
    os.close(1)  # or whoever reads it would wait
    time.sleep({lives})
    os._exit(0)
print(child, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    path = tmp_path / "run"
    done = subprocess.run([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE, text=True, bufsize=0)
    assert done.returncode == -9
    child = int(done.stdout)
    try:
        if lives > 60:
            monkeypatch.setattr("thalweg.runs.lock.PATIENCE", 0.1)
            with pytest.raises(RunError, match="is gone, and one that it started still holds the lock"):
                RunFolder(path).refuse_a_second_writer()
        else:
            RunFolder(path).refuse_a_second_writer()
            RunFolder(path).reopen()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child, 9)


def test_a_child_that_was_forked_meanwhile_keeps_no_lock_that_was_given_back(tmp_path):
    """A pool of a simulator's, say, which lives on in the notebook that ran the run."""
    code = """
import os, sys, time
from pathlib import Path
from thalweg.runs.folder import RunFolder
path = Path(sys.argv[1])
for ends in (False, True):
    folder = RunFolder.create(path)
    ended, end = os.pipe()
    child = os.fork()
    if child == 0:
        if ends:
            folder.release()  # of its copy: the run is its parent's
        os.write(end, b".")
        time.sleep(600)
    os.read(ended, 1)
    alive = RunFolder(path).writer_alive()
    folder.release()
    print(alive, RunFolder(path).writer_alive())
    os.kill(child, 9)
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "run")], stdout=subprocess.PIPE, text=True)
    assert done.stdout.splitlines() == ["True False"] * 2


def test_what_was_made_is_in_the_folders_above_when_the_power_fails(tmp_path, monkeypatch):
    """A folder's name is in the one above it, which has to reach the disk, too."""
    synced = []
    fsync = os.fsync
    monkeypatch.setattr(os, "fsync", lambda fd: (synced.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    RunFolder.create(tmp_path / "runs" / "mine")
    assert synced == [str(tmp_path), str(tmp_path / "runs"), str(tmp_path / "runs" / "mine")]
    synced.clear()
    RunFolder.create_next(tmp_path / "runs", "a")
    assert synced == [str(tmp_path / "runs"), str(tmp_path / "runs" / "a-1")]


def test_what_a_killed_process_was_writing_goes(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    folder.write_model(0, {"x": np.zeros(2)})
    folder.write_values({"a": 1})
    folder.release()
    left = [
        ".study.toml.x",
        ".summary.json.x",
        ".run.sqlite.x",
        ".result.npz.x",
        ".result.json.x",
        "models/.block-0.npz.x",
        "figures/.a.png",
    ]
    for name in left:
        (folder.path / name).write_bytes(b"half")
    RunFolder(folder.path).reopen()
    assert not list(folder.path.rglob(".*"))
    assert folder.values.is_file()


def test_the_models_of_later_blocks_are_forgotten(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    folder.forget_models(0)
    for block in (0, 2, 10):
        folder.write_model(block, {"x": np.zeros(2)})
    (folder.models / "block-x.npz").touch()
    folder.forget_models(2)
    assert sorted(path.name for path in folder.models.iterdir()) == ["block-0.npz", "block-x.npz"]
