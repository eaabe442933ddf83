"""Readers of a run that is going on, also from where no memory can be shared with who writes it."""

import contextlib
import errno
import json
import shutil
import sqlite3
import threading
import time

import numpy as np
import pytest

from tests.runs.going import Doing, go_on, run
from tests.runs.searching import valley
from thalweg.checkpoints import CheckpointStore
from thalweg.errors import CheckpointCorruptError, CheckpointError, RunError
from thalweg.runs import History, tables, wal
from thalweg.runs.exporting import export
from thalweg.runs.folder import RunFolder
from thalweg.runs.history import HistoryWriter
from thalweg.runs.iteration import IterationRecord
from thalweg.runs.lock import WriterLock
from thalweg.runs.record import RunRecord


def record(k):
    return IterationRecord(k, 0, 1, items=1, loss=1.0 / k, batch=(0,), seconds=0.1 * k)


def mode_of(path):
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return database.execute("PRAGMA journal_mode").fetchone()[0]
    finally:
        database.close()


def test_the_end_of_a_run_waits_for_a_reader(tmp_path):
    """One that looks at that moment does not leave the history with its log beside it for ever."""
    path = tmp_path / "run.sqlite"
    writer = HistoryWriter(path)
    writer.iteration(record(1))
    writer.flush()
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, check_same_thread=False)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM iterations").fetchone() == (1,)
    closing = threading.Thread(target=writer.close)
    closing.start()
    time.sleep(0.3)
    assert closing.is_alive()
    reader.close()
    closing.join(60)
    assert mode_of(path) == "delete"
    assert [file.name for file in tmp_path.iterdir()] == ["run.sqlite"]


def test_a_reader_that_does_not_go_leaves_the_log_and_loses_nothing(tmp_path, monkeypatch):
    monkeypatch.setattr(wal, "PATIENCE", 0.05)
    path = tmp_path / "run.sqlite"
    writer = HistoryWriter(path)
    writer.iteration(record(1))
    writer.flush()
    reader = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM iterations").fetchone() == (1,)
    writer.iteration(record(2))
    writer.close()
    reader.close()
    assert mode_of(path) == "wal"
    assert History(path).iterations()["iteration"].tolist() == [1, 2]
    with HistoryWriter(path) as writer:
        writer.iteration(record(3))
    assert mode_of(path) == "delete"


def test_a_reader_of_a_run_that_had_ended_does_not_keep_it_from_going_on(tmp_path, monkeypatch):
    """Without a log a reader that holds a snapshot would have every commit wait, and fail in the end."""
    monkeypatch.setattr(wal, "PATIENCE", 0.05)
    path = tmp_path / "run.sqlite"
    with HistoryWriter(path) as writer:
        writer.iteration(record(1))
    mode = path.stat().st_mode
    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM iterations").fetchone() == (1,)
        with HistoryWriter(path) as writer:
            assert writer.shared
            writer.iteration(record(2))
            began = time.monotonic()
            writer.flush()
            assert time.monotonic() - began < 5, "it has waited for the reader"
            assert History(path).iterations()["iteration"].tolist() == [1, 2]
            assert reader.execute("SELECT count(*) FROM iterations").fetchone() == (1,)
    assert History(path).iterations()["loss"].tolist() == [1.0, 0.5]
    assert mode_of(path) == "delete"
    assert [file.name for file in tmp_path.iterdir()] == ["run.sqlite"]
    assert path.stat().st_mode == mode


def test_where_a_reader_and_a_full_disk_meet_nothing_has_changed(tmp_path, monkeypatch):
    monkeypatch.setattr(wal, "PATIENCE", 0.05)
    path = tmp_path / "run.sqlite"
    with HistoryWriter(path) as writer:
        writer.iteration(record(1))
    before = path.read_bytes()

    def full(old, new):
        raise OSError(errno.ENOSPC, "No space left on device")

    with contextlib.closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM iterations").fetchone() == (1,)
        with monkeypatch.context() as patch:
            patch.setattr(wal.shutil, "copyfileobj", full)
            with pytest.raises(
                RunError, match=r"cannot be opened: .*run\.sqlite cannot be written: No space left on device\.$"
            ):
                HistoryWriter(path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["run.sqlite"]
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("thalweg-history")]


def no_shared_memory(monkeypatch):
    """SQLite's own locks for file systems that have no others: it refuses a log there, as it must on some networks."""
    connect = sqlite3.connect

    def connecting(place, **options):
        if isinstance(place, str):
            return connect(f"{place}&vfs=unix-dotfile", **options)
        return connect(f"{place.absolute().as_uri()}?vfs=unix-dotfile", uri=True, **options)

    monkeypatch.setattr(tables.sqlite3, "connect", connecting)


def test_where_there_can_be_no_log_it_is_said_and_the_bits_are_the_same(tmp_path, document, kinds, monkeypatch):
    expected = run(document, kinds, tmp_path / "log").summary["digest"]
    no_shared_memory(monkeypatch)
    display = Doing(1, lambda: None)
    display.note = (notes := []).append
    outcome = run(document, kinds, tmp_path / "none", display=display)
    assert outcome.summary["digest"] == expected
    assert any("has no shared memory" in note for note in notes)
    assert wal.NOT_SHARED in [event["text"] for event in outcome.history.events() if event["kind"] == "warning"]
    assert mode_of(tmp_path / "none" / "run.sqlite") == "delete"
    assert len(outcome.history.iterations()["loss"]) == len(History(tmp_path / "log").iterations()["loss"])


def test_who_keeps_a_history_without_a_log_from_being_written_is_named_in_the_error(tmp_path, monkeypatch):
    no_shared_memory(monkeypatch)
    path = tmp_path / "run.sqlite"
    writer = HistoryWriter(path)
    assert not writer.shared
    writer._thread.submit(lambda: writer._database.execute("PRAGMA busy_timeout = 50")).result()
    with contextlib.closing(tables.sqlite3.connect(path, isolation_level=None)) as reader:
        reader.execute("BEGIN")
        assert reader.execute("SELECT count(*) FROM iterations").fetchone() == (0,)
        writer.iteration(record(1))
        with pytest.raises(RunError, match=r"database is locked.*end the program that has it open"):
            writer.flush()
    with pytest.raises(RunError):
        writer.close()
    assert len(History(path).iterations()["loss"]) == 0


def test_a_copy_is_of_one_moment_though_the_log_begins_anew_meanwhile(tmp_path, monkeypatch):
    """The worst moment: the database is copied, and the log, in which the newest rows were, is emptied before it is."""
    path = tmp_path / "run.sqlite"
    writer = HistoryWriter(path)
    for k in range(1, 6):
        writer.iteration(record(k))
    writer.flush()
    copyfile, copies = shutil.copyfile, []

    def copying(source, target):
        copyfile(source, target)
        copies.append(source.name)
        if len(copies) == 1:
            for k in range(6, 11):
                writer.iteration(record(k))
            writer.flush()
            ask = writer._thread.submit(lambda: writer._database.execute("PRAGMA wal_checkpoint(RESTART)").fetchone())
            assert ask.result()[0] == 0
            writer.iteration(record(11))
            writer.flush()

    monkeypatch.setattr(wal.shutil, "copyfile", copying)
    with wal.copied(path) as copy:
        assert History(copy).iterations()["iteration"].tolist() == list(range(1, 12))
    assert copies == ["run.sqlite", "run.sqlite-wal"] * 2
    writer.close()


def test_copies_of_a_busy_history_are_whole(tmp_path):
    path = tmp_path / "run.sqlite"
    writer = HistoryWriter(path)
    writer._thread.submit(lambda: writer._database.execute("PRAGMA wal_autocheckpoint = 2").fetchone()).result()
    written, stop = [0], threading.Event()

    def write():
        k = 0
        while not stop.is_set():
            k += 1
            writer.iteration(record(k))
            writer.flush()
            written[0] = k

    thread = threading.Thread(target=write)
    thread.start()
    try:
        whole = 0
        for _ in range(30):
            least = written[0]
            rows = None
            with contextlib.suppress(OSError), wal.copied(path) as copy:  # it may be written faster than that
                database = sqlite3.connect(copy)
                assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
                rows = [k for (k,) in database.execute("SELECT iteration FROM iterations ORDER BY iteration")]
                database.close()
            if rows is not None:
                assert rows == list(range(1, len(rows) + 1))
                assert len(rows) >= least
                whole += 1
        assert whole
    finally:
        stop.set()
        thread.join()
        writer.close()


def test_from_another_machine_a_copy_is_read(tmp_path, monkeypatch):
    """Processes on two machines share no memory, which SQLite would need to read along."""
    with monkeypatch.context() as patch:
        patch.setattr("thalweg.runs.lock.socket.gethostname", lambda: "node17")
        folder = RunFolder.create(tmp_path / "run")
    writer = HistoryWriter(folder.history)
    writer.iteration(record(1))
    writer.flush()
    opened = []
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda place, **keywords: opened.append(place) or connect(place, **keywords)
    )
    shared = (tmp_path / "run" / "run.sqlite-shm").read_bytes()
    assert RunRecord.read(tmp_path / "run").iterations["iteration"].tolist() == [1]
    assert opened
    assert not any(str(tmp_path) in place for place in opened)
    assert (tmp_path / "run" / "run.sqlite-shm").read_bytes() == shared
    writer.close()
    assert History(tmp_path / "run").iterations()["iteration"].tolist() == [1]
    assert str(tmp_path) in opened[-1]  # one plain file is read where it is
    folder.release()


def test_who_reads_while_a_run_ends_sees_the_end(tmp_path, document, kinds, monkeypatch):
    """The history is read, then the run ends, then the summary is read: they would not belong together."""
    live, before = tmp_path / "live", tmp_path / "before"
    run(document, kinds, live, display=Doing(4, lambda: shutil.copytree(live, before)))
    shown = tmp_path / "shown"
    shutil.copytree(before, shown)
    moment, reads = History.moment, []

    def ending(self, **keywords):
        found = moment(self, **keywords)
        reads.append(len(found.iterations["loss"]))
        if len(reads) == 1:
            shutil.rmtree(shown)
            shutil.copytree(live, shown)
        return found

    monkeypatch.setattr(History, "moment", ending)
    found = RunRecord.read(shown)
    assert reads[0] < 7
    assert (found.status, found.done, len(reads)) == ("finished", 7, 2)


def test_a_generation_that_is_removed_while_it_is_read_is_not_called_damaged(tmp_path, monkeypatch):
    store = CheckpointStore(tmp_path)
    for k in range(3):
        store.save({"x": np.zeros(3)}, {"step": k})
    import thalweg.checkpoints.store as module

    read = module.read_manifest

    def pruned(path):
        found = read(path)
        CheckpointStore(tmp_path).prune(1)
        return found

    monkeypatch.setattr(module, "read_manifest", pruned)
    with pytest.raises(CheckpointError, match="000001 was removed while it was read") as caught:
        store.load(1)
    assert not isinstance(caught.value, CheckpointCorruptError)
    assert store.load()[2] == 3


def test_a_checkpoint_is_exported_while_the_run_removes_old_ones(tmp_path, document, kinds, monkeypatch):
    run(document, kinds, tmp_path / "run", "output.checkpoint_every=1")
    meta, asked = CheckpointStore.meta, []

    def pruned(self, generation=None):
        if not asked:
            CheckpointStore(self.folder).prune(1)
        asked.append(generation)
        return meta(self, generation)

    monkeypatch.setattr(CheckpointStore, "meta", pruned)
    with np.load(export(tmp_path / "run", tmp_path / "x.npz")) as file:
        assert json.loads(str(file["meta"]))["iteration"] == 7
    assert len(asked) > 1


def test_no_array_replaces_another_in_an_archive(tmp_path):
    """Names that NumPy uses itself get others, which may be taken."""
    arrays = {name: np.full(2, k) for k, name in enumerate(["file", "file_", "meta", "meta_", "allow_pickle", "x"])}
    store = CheckpointStore(tmp_path / "run" / "checkpoints")
    meta = {"iteration": 1, "block": 0, "block_iteration": 1}
    store.save({f"variable/{name}": array for name, array in arrays.items()}, meta)
    with np.load(export(tmp_path / "run", tmp_path / "x.npz")) as file:
        assert sorted(int(file[name][0]) for name in file.files if name != "meta") == list(range(6))
        assert json.loads(str(file["meta"])) == meta
        assert (int(file["file_"][0]), int(file["meta_"][0])) == (1, 3)
    folder = RunFolder.create(tmp_path / "other")
    folder.write_result(arrays)
    with np.load(folder.result) as file:
        assert sorted(int(file[name][0]) for name in file.files) == list(range(6))
        assert int(file["meta"][0]) == 2
    store.save({"variable/optimizer/m": np.zeros(1), "optimizer/m": np.zeros(1)}, meta)
    with pytest.raises(RunError, match="two arrays"):
        export(tmp_path / "run", tmp_path / "y.npz")


def test_who_may_not_read_the_lock_does_not_call_the_writer_dead(tmp_path, monkeypatch):
    folder = RunFolder.create(tmp_path / "run")

    def denied(*arguments):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("thalweg.runs.lock.os.open", denied)
        assert WriterLock(folder.lock).is_held() is None
    assert WriterLock(folder.lock).is_held() is True


def test_a_lock_that_cannot_be_signed_is_given_back(tmp_path, monkeypatch):
    path = tmp_path / "run"
    RunFolder.create(path).release()
    folder = RunFolder(path)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("thalweg.runs.lock.os.pwrite", full)
        with pytest.raises(RunError, match="No space left"):
            folder.reopen()
    assert RunFolder(path).writer_alive() is False
    folder.reopen()
    said = folder.lock.read_text()
    assert said.split(", since ")[1].split()[2] == time.strftime("%z")  # whoever reads it may be somewhere else
    folder.release()


def test_what_a_search_goes_on_from_is_read_beside_the_event_loop(tmp_path, monkeypatch):
    """Ten thousand evaluations take a second to read, in which nobody could stop the run."""
    cls = valley()
    document = {
        "title": "a valley",
        "problem": {"kind": "valley"},
        "optimizer": {"kind": "tpe", "candidates": 2},
        "blocks": [{"iterations": 3}],
        "output": {"figures": False},
    }
    run(document, {"valley": cls}, tmp_path / "run")
    read, places = History.evaluations, []

    def reading(history):
        rows = read(history)
        places.append((threading.current_thread() is threading.main_thread(), len(rows)))
        return rows

    monkeypatch.setattr(History, "evaluations", reading)
    count = len(read(History(tmp_path / "run")))
    go_on(tmp_path / "run", {"valley": cls}, "blocks.0.iterations=4")
    assert places[0] == (False, count)
    assert not any(in_the_loop for in_the_loop, _ in places)
