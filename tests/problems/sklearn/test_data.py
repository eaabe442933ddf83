"""Files that cannot be read, and why."""

import io
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest

from thalweg.errors import StudyError
from thalweg.problems.sklearn import PipelineProblem
from thalweg.problems.sklearn.data import load

FEATURES = np.random.default_rng(0).normal(size=(40, 2))
LABELS = (FEATURES[:, 0] > 0).astype(int)


def saved(save=np.savez):
    written = io.BytesIO()
    save(written, features=FEATURES, labels=LABELS)
    return bytearray(written.getvalue())


CHILD = """
import os, sys
from thalweg.errors import StudyError
from thalweg.problems.sklearn.data import load
if os.getuid() == 0:
    os.setuid(65534)  # root may read everything
try:
    load(sys.argv[1])
except StudyError as error:
    print(error)
"""


@pytest.fixture
def folder():
    """One that anybody may enter, which those of a test of root are not."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    (made / "closed").chmod(0o755)
    shutil.rmtree(made)


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="there are no permissions like these")
def test_what_may_not_be_read_is_told_with_the_reason_of_the_system(folder):
    (folder / "closed").mkdir()
    for path in (folder / "own.npz", folder / "closed" / "own.npz"):
        path.write_bytes(saved())
    (folder / "own.npz").chmod(0)
    (folder / "closed").chmod(0)
    for path in (folder / "own.npz", folder / "closed" / "own.npz"):
        done = subprocess.run([sys.executable, "-c", CHILD, str(path)], capture_output=True, text=True, check=False)
        assert done.stdout.strip() == f"problem.data: {path} cannot be read: Permission denied.", done.stderr


def test_so_is_what_cannot_be_a_file(tmp_path):
    with pytest.raises(StudyError, match=r"problem\.data: .*xxx cannot be read: File name too long\."):
        load(str(tmp_path / ("x" * 300)))
    with pytest.raises(StudyError, match=r"problem\.data: .* cannot be read: Is a directory\."):
        load(str(tmp_path))
    with pytest.raises(StudyError, match=r"'.*own\.npz' is neither one of breast_cancer, .*No such file"):
        load(str(tmp_path / "own.npz"))


def test_a_damaged_file_is_said_to_be_damaged_and_where(tmp_path):
    path = tmp_path / "own.npz"

    def refused(raw):
        path.write_bytes(raw)
        with pytest.raises(StudyError) as caught:
            load(str(path))
        return str(caught.value)

    raw = saved()
    raw[600] ^= 0xFF
    assert refused(raw) == f"problem.data: {path} is damaged: Bad CRC-32 for file 'features.npy'."
    raw = saved(np.savez_compressed)
    raw[raw.index(b"labels.npy") - 200] ^= 0xFF  # before the labels are the compressed features
    assert refused(raw).startswith(f"problem.data: {path} is damaged: ")
    raw = saved()
    raw[raw.rindex(b"PK\x01\x02")] ^= 0xFF
    assert refused(raw) == f"problem.data: {path} is damaged: Bad magic number for central directory."
    raw = saved()
    raw[raw.index(b"PK\x01\x02") + 10] = 99  # the method that the features are compressed by
    assert refused(raw) == f"problem.data: {path} cannot be read: That compression method is not supported."
    assert refused(saved()[:500]).startswith(f"problem.data: {path} is no .npz file. Save")
    for place in range(4):
        raw = saved()
        raw[place] ^= 0xFF
        first = f"problem.data: {path} is damaged, or no .npz file: its first bytes are not those of one."
        assert refused(raw) == first
    assert refused(b"before it " + saved()) == first


def zipped(path, members, method=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, raw in members.items():
            file.writestr(name, raw)


def test_so_is_one_that_is_compressed_by_another_way(tmp_path):
    path = tmp_path / "own.npz"
    with np.load(io.BytesIO(saved())) as file:
        members = {f"{name}.npy": as_npy(file[name]) for name in file.files}
    zipped(path, members, zipfile.ZIP_LZMA)
    assert np.array_equal(load(str(path)).features, FEATURES)
    raw = bytearray(path.read_bytes())
    start = raw.index(b"features.npy") + len("features.npy") + 9  # behind the header and what LZMA is set to
    raw[start : start + 40] = b"\xff" * 40
    path.write_bytes(raw)
    with pytest.raises(StudyError) as caught:
        load(str(path))
    assert str(caught.value) == f"problem.data: {path} is damaged: Corrupt input data."


def as_npy(array):
    written = io.BytesIO()
    np.save(written, array)
    return written.getvalue()


def test_members_that_are_no_arrays_are_refused(tmp_path):
    path = tmp_path / "own.npz"
    for members in ({"features": b"1 2", "labels": b"0"}, {"features.npy": as_npy(FEATURES), "labels": b"0"}):
        zipped(path, members)
        with pytest.raises(StudyError) as caught:
            load(str(path))
        assert str(caught.value).startswith(
            f"problem.data: {path} has features or labels that are no arrays; save them with np.savez("
        )


def test_a_path_that_leads_nowhere_is_refused(tmp_path):
    (tmp_path / "loop.npz").symlink_to("loop.npz")
    space = {"model": {"type": "object", "properties": {"kind": {"const": "ridge"}}}}
    for name, said in (("loop.npz", ".*(Symlink loop|Too many levels)"), ("a\0b.npz", ".*null")):
        settings = PipelineProblem.Settings(data=name, steps=["model"], space=space, start={"model": {"kind": "ridge"}})
        with pytest.raises(StudyError, match=rf"^problem\.data: .* cannot be read: {said}"):
            PipelineProblem.build(settings, [], seed=0, folder=tmp_path)


def test_one_that_is_read_has_what_was_saved(tmp_path):
    path = tmp_path / "own.npz"
    path.write_bytes(saved())
    found = load(str(path))
    assert np.array_equal(found.features, FEATURES)
    assert np.array_equal(found.labels, LABELS)
    assert found.classes
