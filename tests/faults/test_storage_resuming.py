"""A disk that fails while a run is taken up again, with a change: it goes on with the study of before or with the new
one, whole, and is never called edited."""

import errno
import shutil

import pytest

from tests.faults import victim
from tests.faults.bits import fingerprint
from tests.faults.disk import KINDS, FaultyDisk
from tests.sampling import sample
from thalweg.errors import RunError
from thalweg.graph import wait
from thalweg.runs import History, QuietDisplay, Run, Study
from thalweg.runs.folder import RunFolder

CHANGE = "optimizer.learning_rate.initial=0.01"


@pytest.fixture(scope="module")
def killed(tmp_path_factory):
    """What a process leaves that was killed after some iterations, and what becomes of it without and with a change."""
    live, folder = (tmp_path_factory.mktemp("runs") / name for name in ("live", "killed"))

    class Copying(QuietDisplay):
        def iteration(self, record):
            if record.iteration == 4:
                shutil.copytree(live, folder)

    wait(Run(Study.from_document(victim.document(8), kinds=victim.kinds()), out=live, display=Copying()).execute())
    ends = []
    for overrides in ([], [CHANGE]):
        copy = tmp_path_factory.mktemp("end") / "run"
        shutil.copytree(folder, copy)
        wait(Run.resume(copy, kinds=victim.kinds(), overrides=overrides).execute())
        ends.append(fingerprint(copy))
    assert ends[0] == fingerprint(live)
    assert ends[0] != ends[1]
    return folder, ends


def begin(folder):
    """Take the run up, and go no further."""
    session = Run.resume(folder, kinds=victim.kinds(), overrides=[CHANGE])
    session._open(session.study.build_problem()).give_up()


@pytest.fixture(scope="module")
def calls(killed, tmp_path_factory):
    """The calls that taking up makes, each of which may fail."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("counted") / "run"
        shutil.copytree(killed[0], folder)
        disk = FaultyDisk(patch, folder)
        begin(folder)
        return [(kind, number) for kind in KINDS for number in range(disk.counts[kind])]


@pytest.mark.parametrize("dead", [False, True], ids=["one call", "the disk from there on"])
def test_every_call_of_taking_up_may_fail(tmp_path, monkeypatch, killed, calls, dead):
    folder, ends = killed
    assert {kind for kind, _ in calls} >= {"open", "fsync", "rename"}
    seen = set()
    for kind, number in sample(calls, 8, seed=9):
        copy = tmp_path / f"{kind}-{number}"
        shutil.copytree(folder, copy)
        with monkeypatch.context() as patch:
            disk = FaultyDisk(patch, copy)
            disk.fail(kind, number, errno.ENOSPC, dead=dead)
            with pytest.raises(RunError, match="No space left on device"):
                begin(copy)
            assert disk.hits >= 1
            disk.heal()
        assert RunFolder(copy).writer_alive() is False
        wait(Run.resume(copy, kinds=victim.kinds()).execute())
        end = ends.index(fingerprint(copy))
        seen.add(end)
        new = "initial = 0.01" in (copy / "study.toml").read_text()
        assert end == new
        assert ("initial = 0.01" in History(copy).facts()["study"]) == new
    assert 0 in seen
