"""Disks that are full, fail, or may not be written: said clearly, nothing lost, and it goes on when they are mended."""

import errno
import json
import os
import shutil
import sqlite3
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import numpy as np
import pytest

from tests.faults import victim
from tests.faults.bits import bits, fingerprint
from tests.faults.disk import KINDS, REALLY_FULL, FaultyDisk
from tests.sampling import ALL, sample
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import CheckpointError, RunError
from thalweg.graph import wait
from thalweg.runs import History, QuietDisplay, Run, Study
from thalweg.runs.history import HistoryWriter
from thalweg.runs.iteration import IterationRecord
from thalweg.runs.record import RunRecord

ROOT = Path(__file__).parents[2]
ITERATIONS = 8
CODES = (errno.ENOSPC, errno.EIO)


def state(step):
    rng = np.random.default_rng(step)
    return {"variable/x": rng.standard_normal(50), "slots/m": rng.standard_normal((3, 4)).astype("f4")}, {"step": step}


def save(store, step, **keywords):
    arrays, meta = state(step)
    return store.save(arrays, meta, **keywords)


def assert_holds(store, steps):
    """The store has these generations, each with the bits that were saved, and nothing else is in its folder."""
    assert store.generations() == sorted(steps)
    for number, step in steps.items():
        arrays, meta, _ = store.load(number)
        assert (bits(arrays), meta) == (bits(state(step)[0]), state(step)[1])


def clean(store):
    return sorted(os.listdir(store.folder)) == [f"{number:06d}" for number in store.generations()]


@pytest.fixture
def store(tmp_path):
    made = CheckpointStore(tmp_path / "store")
    save(made, 1)
    save(made, 2)
    return made


def calls_of(disk, work):
    """How many calls of each kind a piece of work makes, when nothing fails."""
    disk.counts = dict.fromkeys(KINDS, 0)
    work()
    return dict(disk.counts)


@pytest.mark.parametrize("dead", [False, True], ids=["one call", "the disk from there on"])
@pytest.mark.parametrize("code", CODES, ids=["ENOSPC", "EIO"])
@pytest.mark.parametrize("replaces", [False, True], ids=["new", "replaced"])
def test_every_call_of_a_save_may_fail(tmp_path, monkeypatch, code, dead, replaces):
    """Whichever it is: the error says why, readers saw whole generations only, the next save works and cleans up."""
    folder, seen = tmp_path / "store", []

    def watch():
        reader = CheckpointStore(folder)
        for number in reader.generations():
            arrays, meta, _ = reader.load(number)
            assert bits(arrays) == bits(state(meta["step"])[0])
            seen.append(number)

    disk = FaultyDisk(monkeypatch, folder)
    store = CheckpointStore(folder)
    save(store, 1)
    save(store, 2)
    generation = 2 if replaces else None
    counts = calls_of(disk, lambda: save(store, 3, generation=generation))
    assert counts["write"] >= 4
    assert counts["fsync"] >= 4
    assert counts["rename"] == (2 if replaces else 1)
    holds = {1: 1, 2: 3} if replaces else {1: 1, 2: 2, 3: 3}
    assert_holds(store, holds)
    disk.watch, step = watch, 3
    for kind, count in counts.items():
        for number in range(count):
            step += 1
            disk.fail(kind, number, code, dead=dead)
            with pytest.raises(CheckpointError, match=os.strerror(code)) as caught:
                save(store, step, generation=generation)
            assert str(folder) in str(caught.value)
            assert disk.hits >= 1
            disk.heal()
            if dead and store.generations()[-1] == (generation or max(holds) + 1):
                # Its name was given when the disk died, and could not be taken back: it must be whole at least.
                _, meta, last = store.load()
                if meta["step"] == step:
                    holds = {**holds, last: step}
            if not (dead and replaces):
                assert_holds(store, holds)
                assert dead or clean(store)
            arrays, _, _ = store.load(1)
            assert bits(arrays) == bits(state(1)[0])
            step += 1
            path = save(store, step, generation=generation)
            holds = {**holds, int(path.name): step}
            assert_holds(store, holds)
            assert clean(store)
    assert len(seen) > 100


def test_a_generation_that_was_being_replaced_comes_back(store, monkeypatch):
    """Killed between the two renames: the old one is beside its place, and the next save puts it back."""
    rename = os.rename

    def killed(old, new):
        if Path(new).name == "000002":
            raise KeyboardInterrupt
        rename(old, new)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        with pytest.raises(KeyboardInterrupt):
            save(store, 9, generation=2)
    save(store, 3)
    assert_holds(store, {1: 1, 2: 2, 3: 3})
    assert clean(store)


@pytest.mark.parametrize("kind", REALLY_FULL)
def test_a_disk_that_is_really_full(tmp_path, kind):
    disk = REALLY_FULL[kind](tmp_path)
    try:
        store = CheckpointStore(disk.folder / "store")
        save(store, 1)
        disk.fill()
        with pytest.raises(CheckpointError, match=r"No space left on device|File too large"):
            save(store, 2)
        assert_holds(store, {1: 1})
        disk.clear()
        save(store, 3)
        assert_holds(store, {1: 1, 2: 3})
        assert clean(store)
    finally:
        disk.close()


def as_nobody(folder, script):
    """What a script prints that may read a folder and not write it; its imports come before that holds."""
    head = """
        import os, sys
        from pathlib import Path
        import numpy as np
        from thalweg.checkpoints import CheckpointStore
        from thalweg.errors import CheckpointError, RunError
        from thalweg.runs import Run, Study
        from thalweg.runs.record import RunRecord
        from thalweg.runs import session
        sys.path.insert(0, sys.argv[2])
        from tests.faults import victim
        kinds = victim.kinds()
        folder = Path(sys.argv[1])
        Study.from_document(victim.document(8), kinds=kinds)
        if os.getuid() == 0:
            os.setuid(65534)
        try:
            open(folder / "probe", "w")
        except PermissionError:
            pass
        else:
            raise SystemExit("the folder is writable after all")
    """
    code = textwrap.dedent(head) + textwrap.dedent(script)
    done = subprocess.run(
        [sys.executable, "-c", code, str(folder), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd="/",
    )
    assert done.stderr == ""
    return done.stdout


@pytest.fixture
def open_to_all():
    """A folder that every user can reach; pytest's own are for their owner."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder
        for path in [folder, *folder.rglob("*")]:
            if path.is_dir():
                path.chmod(0o755)


def read_only(folder):
    for path in [*folder.rglob("*"), folder]:
        path.chmod(0o555 if path.is_dir() else 0o444)


def test_a_read_only_store(open_to_all):
    store = CheckpointStore(open_to_all / "store")
    save(store, 1)
    read_only(store.folder)
    said = as_nobody(
        store.folder,
        """
        store = CheckpointStore(folder)
        try:
            store.save({"x": np.zeros(3)}, {"step": 2})
        except CheckpointError as error:
            print(error)
        try:
            store.prune(1)
        except CheckpointError as error:
            print(error)
        arrays, meta, number = store.load()
        print(number, meta, arrays["variable/x"].tobytes().hex())
        """,
    ).splitlines()
    assert said[0] == f"cannot save to {store.folder}: [Errno 13] Permission denied: " + said[0].rpartition(": ")[2]
    assert said[1] == f"1 {{'step': 1}} {state(1)[0]['variable/x'].tobytes().hex()}"
    store.folder.chmod(0o755)
    (store.folder / "000001").chmod(0o755)
    save(store, 2)
    assert_holds(store, {1: 1, 2: 2})


# A whole run on such a disk.


def study(iterations=ITERATIONS, **problem):
    document = victim.document(iterations)
    document["problem"] |= problem
    return Study.from_document(document, kinds=victim.kinds())


@pytest.fixture(scope="module")
def expected(tmp_path_factory):
    """The fingerprint of the run that no fault has hit."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    wait(Run(study(), out=folder).execute())
    return fingerprint(folder)


def go_on(folder):
    outcome = wait(Run.resume(folder, kinds=victim.kinds()).execute())
    assert outcome.status == "finished"
    assert not list(folder.rglob(".*"))
    assert not (folder / "run.sqlite-wal").exists()
    return fingerprint(folder)


def saved(folder):
    """The iteration of the newest checkpoint; 0 before there is one."""
    store = CheckpointStore(folder / "checkpoints")
    return store.load()[1]["iteration"] if store.generations() else 0


def at(iteration, work):
    """A display that does something after an iteration."""

    class Doing(QuietDisplay):
        def iteration(self, record):
            if record.iteration == iteration:
                work()

    return Doing()


@pytest.fixture(scope="module")
def calls(tmp_path_factory):
    """How many calls of each kind a run makes on its checkpoints, and on all of its files."""
    counts = []
    for place in ("checkpoints", "."):
        with pytest.MonkeyPatch.context() as patch:
            folder = tmp_path_factory.mktemp("counted") / "run"
            disk = FaultyDisk(patch, folder / place)
            wait(Run(study(), out=folder).execute())
            counts.append(dict(disk.counts))
    return counts


FAULTS = [(kind, code, share) for kind in KINDS for code in CODES for share in (0.0, 0.3, 0.6, 0.95)]


@pytest.mark.parametrize(("kind", "code", "share"), sample(FAULTS, 10, seed=4))
def test_a_run_whose_checkpoint_fails_stops_and_goes_on(tmp_path, monkeypatch, expected, calls, kind, code, share):
    folder = tmp_path / "run"
    disk = FaultyDisk(monkeypatch, folder / "checkpoints")
    # The first folder is that of all checkpoints; without it there is no run.
    disk.fail(kind, max(int(share * calls[0][kind]), kind == "mkdir"), code)
    with pytest.raises(CheckpointError, match=f"cannot (save to|prune) .*{os.strerror(code)}"):
        wait(Run(study(), out=folder).execute())
    assert disk.hits == 1
    summary = json.loads((folder / "summary.json").read_text())
    assert summary["status"] == "failed"
    assert os.strerror(code) in summary["error"]["text"]
    # The fault is over when the run closes, so what was computed is there, unless it hit the very last write.
    assert summary["iterations"] == len(History(folder).iterations()["loss"])
    assert saved(folder) == summary["iterations"] or saved(folder) == ITERATIONS - 1
    disk.heal()
    assert go_on(folder) == expected


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9] if ALL else [0.5])
@pytest.mark.parametrize("code", CODES, ids=["ENOSPC", "EIO"])
def test_a_run_whose_disk_dies_goes_on_when_it_is_mended(tmp_path, monkeypatch, expected, calls, code, share):
    folder = tmp_path / "run"
    disk = FaultyDisk(monkeypatch, folder)
    disk.fail("fsync", int(share * calls[1]["fsync"]), code, dead=True)
    with pytest.raises((CheckpointError, RunError), match=os.strerror(code)):
        wait(Run(study(), out=folder).execute())
    disk.heal()
    record = RunRecord.read(folder)
    assert record.status in ("failed", "killed")
    assert saved(folder) <= len(record.iterations["loss"])
    assert go_on(folder) == expected


@pytest.mark.parametrize("iteration", [1, 4, 7] if ALL else [4])
@pytest.mark.parametrize("kind", REALLY_FULL)
def test_a_run_whose_disk_is_really_full_goes_on_when_there_is_room(tmp_path, expected, kind, iteration):
    disk = REALLY_FULL[kind](tmp_path)
    try:
        folder = disk.folder / "run"
        with pytest.raises(
            (CheckpointError, RunError), match=r"cannot (save|be written).*(No space|too large|full|I/O)"
        ):
            wait(Run(study(), out=folder, display=at(iteration, disk.fill)).execute())
        disk.clear()
        assert saved(folder) <= len(History(folder).iterations()["loss"])
        assert go_on(folder) == expected
    finally:
        disk.close()


def test_a_process_whose_files_may_not_grow(tmp_path, expected):
    """RLIMIT_FSIZE from the beginning: the history's log comes to it first, after some iterations."""
    folder = tmp_path / "run"
    script = """
        import resource, sys
        sys.path.insert(0, sys.argv[2])
        from tests.faults import victim
        from pathlib import Path
        from thalweg.errors import ThalwegError
        from thalweg.graph import wait
        from thalweg.runs import Run, Study
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
        try:
            wait(Run(Study.from_document(victim.document(8), kinds=victim.kinds()), out=Path(sys.argv[1])).execute())
        except ThalwegError as error:
            print(error)
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), str(folder), str(ROOT)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stderr == ""
    assert f"The history {folder}/run.sqlite cannot be written: disk I/O error. What was written before" in done.stdout
    made = len(History(folder).iterations()["loss"])
    assert 0 < made < ITERATIONS
    assert saved(folder) <= made
    assert go_on(folder) == expected


def test_a_read_only_run_is_read_and_not_gone_on_with(open_to_all, expected):
    folder = open_to_all / "run"
    # What a process leaves that is killed after 5 iterations: its lock is not copied.
    wait(
        Run(
            study(), out=open_to_all / "live", display=at(5, lambda: shutil.copytree(open_to_all / "live", folder))
        ).execute()
    )
    read_only(folder)
    said = as_nobody(
        folder,
        """
        record = RunRecord.read(folder)
        print(record.status, record.done)
        session = Run.resume(folder, kinds=kinds)
        try:
            session._open(session.study.build_problem())
        except RunError as error:
            print(error)
        """,
    ).splitlines()
    assert said[0].startswith("killed ")
    assert 3 <= int(said[0].split()[1]) <= 5
    assert "Permission denied" in said[1]
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    assert go_on(folder) == expected


# The history alone, under SQLite's own calls.


def record(k):
    return IterationRecord(k, 0, 1, items=1, loss=1.0 / k, batch=(0,), seconds=0.1 * k)


class Taken:
    """The descriptor of the history's log leads to a device instead: what SQLite writes really fails."""

    def __init__(self, path, device):
        log = f"{os.path.realpath(path)}-wal"
        (self.descriptor,) = [
            int(name)
            for name in os.listdir("/proc/self/fd")
            if os.path.exists(f"/proc/self/fd/{name}") and os.readlink(f"/proc/self/fd/{name}") == log
        ]
        self._kept = os.dup(self.descriptor)
        taken = os.open(device, os.O_RDWR)
        os.dup2(taken, self.descriptor)
        os.close(taken)

    def give_back(self):
        os.dup2(self._kept, self.descriptor)
        os.close(self._kept)


DEVICES = {"/dev/full": "full|I/O", "/dev/null": "I/O"}
"""Writing to the first is ENOSPC; the second cannot be forced to the disk, so fsync fails."""


@pytest.mark.parametrize("device", DEVICES)
def test_a_history_that_cannot_be_written_says_so_and_loses_nothing(tmp_path, device):
    path = tmp_path / "run.sqlite"
    writer = HistoryWriter(path)
    for k in range(1, 6):
        writer.iteration(record(k))
    writer.flush()
    taken = Taken(path, device)
    writer.iteration(record(6))
    with pytest.raises(RunError, match=rf"{path} cannot be written: .*({DEVICES[device]})"):
        writer.flush()
    assert History(path).iterations()["loss"].tolist() == [1.0 / k for k in range(1, 6)]
    with pytest.raises(RunError, match="cannot be written"):
        writer.iteration(record(7))
    taken.give_back()
    with pytest.raises(RunError, match="cannot be written"):
        writer.close()
    with HistoryWriter(path) as writer:
        writer.iteration(record(6))
    assert History(path).iterations()["loss"].tolist() == [1.0 / k for k in range(1, 7)]


def test_a_history_without_room_says_so_and_loses_nothing(tmp_path):
    """SQLite's own limit of pages, which is its way to a full disk."""
    path = tmp_path / "run.sqlite"
    writer = HistoryWriter(path)
    writer.iteration(record(1))
    writer.flush()
    writer._thread.submit(lambda: writer._database.execute("PRAGMA max_page_count = 8").fetchone()).result()
    writer.event("note", "x" * 100_000)
    with pytest.raises(RunError, match="database or disk is full"):
        writer.flush()
    with pytest.raises(RunError, match="database or disk is full"):
        writer.close()
    assert History(path).iterations()["iteration"].tolist() == [1]
    assert History(path).events() == []
    with HistoryWriter(path) as writer:
        writer.event("note", "x" * 100_000)
    assert [len(event["text"]) for event in History(path).events()] == [100_000]


@pytest.mark.parametrize("device", DEVICES)
def test_a_run_whose_history_fails_stops_and_goes_on(tmp_path, expected, device):
    folder, taken = tmp_path / "run", []
    display = at(4, lambda: taken.append(Taken(folder / "run.sqlite", device)))
    with pytest.raises(RunError, match=r"The history .* cannot be written"):
        wait(Run(study(), out=folder, display=display).execute())
    os.close(taken[0]._kept)
    assert json.loads((folder / "summary.json").read_text())["status"] == "failed"
    # A checkpoint never knows of an iteration that the history has lost.
    made = len(History(folder).iterations()["loss"])
    assert saved(folder) <= made < ITERATIONS
    assert go_on(folder) == expected


def test_a_history_that_cannot_be_made(tmp_path):
    disk = REALLY_FULL["short files"](tmp_path)
    try:
        disk.fill()
        with pytest.raises(RunError, match=r"cannot be opened: (disk I/O error|database or disk is full)"):
            HistoryWriter(tmp_path / "run.sqlite")
    finally:
        disk.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["disk"]
    HistoryWriter(tmp_path / "run.sqlite").close()
    assert sqlite3.connect(f"file:{tmp_path}/run.sqlite?mode=ro", uri=True).execute("PRAGMA quick_check").fetchone()
