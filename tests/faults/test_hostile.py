"""Files that somebody made to do harm: refused by us, at once, in little memory, and nothing of theirs is run."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.faults import hostile_checkpoints, hostile_histories, hostile_studies
from thalweg import errors
from thalweg.checkpoints import CheckpointStore

ROOT = Path(__file__).parents[2]
SECONDS = 1.0  # of the processor, so that it does not matter who else uses the machine
MEMORY = 64 << 20


class Reader:
    """See ``hostile_reader.py``."""

    def __init__(self, folder):
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("hostile_reader.py"))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=folder,
            env=os.environ
            | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TMPDIR": str(folder), "PYTHONPATH": str(ROOT)},
        )
        self.folder = folder
        assert self.process.stdout.readline() == "ready\n"

    def read(self, how, path):
        self.process.stdin.write(json.dumps({"how": how, "path": str(path)}) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        assert self.process.wait(60) == 0
        assert not (self.folder / "thalweg-was-here").exists()


@pytest.fixture(scope="module")
def reader(tmp_path_factory):
    made = Reader(tmp_path_factory.mktemp("reader"))
    yield made
    made.close()


def size(path):
    """Bytes that are on the disk: a file of holes has few."""
    files = [path] if not path.is_dir() else path.rglob("*")
    return sum(file.lstat().st_blocks * 512 for file in files if not file.is_symlink())


def assert_cheap(said, path):
    assert "ended" not in said, said
    assert said["events"] == [], said
    assert said["cpu"] < SECONDS, said
    assert said["grown"] <= 2 * size(path) + MEMORY, said


def assert_refused(said, path):
    assert_cheap(said, path)
    assert said["refused"] is not None, "it was taken for good"
    assert said["ours"], said
    assert issubclass(getattr(errors, said["refused"]), errors.ThalwegError)
    assert len(said["text"]) > 20


def test_the_watch_sees(reader, tmp_path):
    """Else it would prove nothing."""
    said = {how: reader.read(how, tmp_path) for how in ("spin", "eat", "eval", "import", "touch")}
    assert said["spin"]["cpu"] > 0.05
    assert said["eat"]["grown"] > 90 << 20
    assert any(event.startswith("exec ") for event in said["eval"]["events"])
    assert any(event.startswith("import ") for event in said["import"]["events"])
    assert any(event.startswith("open ") for event in said["touch"]["events"])


@pytest.fixture(scope="module")
def good(tmp_path_factory):
    """A checkpoint, a history and a run, which are taken for good before anything is done to them."""
    folder = tmp_path_factory.mktemp("good")
    CheckpointStore(folder / "store").save({"variable/x": np.arange(3.0)}, {"iteration": 1})
    hostile_histories.good(folder / "run.sqlite")
    hostile_histories.good_run(folder / "run")
    (folder / "study.toml").write_text(hostile_studies.GOOD)
    return folder


def test_what_is_good_is_taken(reader, good):
    for how, name in (("checkpoint", "store"), ("history", "run.sqlite"), ("run", "run"), ("resume", "run")):
        said = reader.read(how, good / name)
        assert (said["refused"], said["faults"], said["events"]) == (None, [], []), how
    assert reader.read("study", good / "study.toml")["refused"] is None


@pytest.mark.parametrize("name", hostile_checkpoints.CASES)
def test_a_hostile_checkpoint(reader, good, tmp_path, name):
    folder = tmp_path / "store" / "000001"
    shutil.copytree(good / "store", folder.parent)
    hostile_checkpoints.CASES[name](folder)
    said = reader.read("checkpoint", folder.parent)
    assert_refused(said, folder.parent)
    assert said["refused"] in ("CheckpointCorruptError", "CheckpointVersionError", "CheckpointError")
    assert str(folder) in said["text"]
    assert_cheap(reader.read("meta", folder.parent), folder.parent)


@pytest.mark.parametrize("name", ["../../outside", "/outside", "variable/../../../outside", "a\0b", "..", "x/.."])
def test_names_of_arrays_lead_nowhere(reader, tmp_path, name):
    """In a checkpoint a name is a key; in an archive that others unpack it would be a path."""
    store = CheckpointStore(tmp_path / "deep" / "run" / "checkpoints")
    meta = {"iteration": 1, "block": 0, "block_iteration": 1, "selection": None, "misfit": 1.0}
    store.save({name: np.zeros(3)}, meta)
    before = sorted(tmp_path.rglob("*"))
    said = reader.read("checkpoint", store.folder)
    assert (said["refused"], said["events"]) == (None, [])
    assert_refused(reader.read("export", store.folder.parent), store.folder)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("name", hostile_studies.CASES)
def test_a_hostile_study(reader, tmp_path, name):
    path = tmp_path / "study.toml"
    hostile_studies.CASES[name](path)
    said = reader.read("study", path)
    assert_refused(said, path)
    assert said["refused"] == "StudyError"


@pytest.mark.parametrize("name", hostile_studies.DATA)
def test_a_study_with_hostile_data(reader, tmp_path, name):
    path = tmp_path / "study.toml"
    hostile_studies.DATA[name](path)
    said = reader.read("data", path)
    assert_refused(said, tmp_path)


@pytest.mark.parametrize("how", ["history", "writer"])
@pytest.mark.parametrize("name", hostile_histories.CASES)
def test_a_hostile_history(reader, good, tmp_path, name, how):
    path = tmp_path / "run.sqlite"
    shutil.copyfile(good / "run.sqlite", path)
    hostile_histories.CASES[name](path)
    said = reader.read(how, path)
    if how == "history" and name not in hostile_histories.FOR_WRITERS:
        assert_refused(said, path)
        assert said["refused"] == "RunError"
    elif how == "writer" and name in hostile_histories.FOR_WRITERS | hostile_histories.FOREIGN:
        assert_refused(said, path)
    else:
        assert_cheap(said, path)
        assert said["refused"] in (None, "RunError"), said
    if name == "a journal that names another file":
        assert (tmp_path / "precious").read_text() == "x"


@pytest.mark.parametrize("name", hostile_histories.RUNS)
def test_a_hostile_run(reader, good, tmp_path, name):
    """Read by a report, and gone on with."""
    folder = tmp_path / "run"
    shutil.copytree(good / "run", folder)
    hostile_histories.RUNS[name](folder)
    said = reader.read("run", folder)
    assert_cheap(said, folder)
    assert said["ours"] is not False, said
    if name not in hostile_histories.NOT_FOR_RESUME:
        said = reader.read("resume", folder)
        assert_refused(said, folder)


def test_there_are_many():
    count = len(hostile_checkpoints.CASES) + len(hostile_studies.CASES) + len(hostile_studies.DATA)
    assert count + len(hostile_histories.CASES) + len(hostile_histories.RUNS) >= 150
