"""The history: readable at any time, by anybody, whatever happened to the writer."""

import json
import os
import shutil
import sqlite3
import subprocess
import sys
import textwrap
import threading
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.runs.going import Doing, run
from thalweg.errors import RunError
from thalweg.runs.evaluation import Evaluation
from thalweg.runs.history import History, HistoryWriter
from thalweg.runs.iteration import IterationRecord


def record(k, **metrics):
    return IterationRecord(
        k, k // 10, k // 5 + 1, items=4, loss=8.0 / k, batch=(0, 1, 2, 3), seconds=0.1 * k, metrics=metrics
    )


def journal_mode(path):
    database = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return database.execute("PRAGMA journal_mode").fetchone()[0]
    finally:
        database.close()


def test_columns_metrics_events_and_facts(tmp_path):
    path = tmp_path / "run.sqlite"
    with HistoryWriter(path) as writer:
        writer.fact("seed", 3)
        writer.event("started", "two steps")
        writer.iteration(record(1, error=0.5))
        writer.iteration(record(2, error=0.25, other=1.0))
        writer.event("failed", "it broke", iteration=2, details={"notes": ["at shot 3"]})
    history = History(tmp_path)
    columns = history.iterations()
    assert columns["iteration"].tolist() == [1, 2]
    assert columns["iteration"].dtype == np.int64
    assert columns["misfit"].tolist() == [2.0, 1.0]
    assert columns["loss"].tolist() == [8.0, 4.0]
    assert columns["error"].tolist() == [0.5, 0.25]
    assert np.isnan(columns["other"][0])
    assert columns["other"][1] == 1.0
    assert history.batches() == [[0, 1, 2, 3]] * 2
    assert history.facts() == {"seed": 3}
    events = history.events()
    assert [event["kind"] for event in events] == ["started", "failed"]
    assert events[1]["details"] == {"notes": ["at shot 3"]}
    assert events[1]["iteration"] == 2


def test_floats_come_back_with_the_same_bits(tmp_path):
    values = np.random.default_rng(0).standard_normal(50) * 10.0 ** np.arange(-25, 25)
    with HistoryWriter(tmp_path / "run.sqlite") as writer:
        for k, value in enumerate(values, 1):
            writer.iteration(IterationRecord(k, 0, 1, 1, float(value), (0,), 0.0, {"m": float(value)}))
    columns = History(tmp_path).iterations()
    assert columns["loss"].tobytes() == values.tobytes()
    assert columns["m"].tobytes() == values.tobytes()


def test_a_zero_has_the_same_sign_before_and_after_the_table(tmp_path, document, kinds, monkeypatch):
    """SQLite's tables have no −0; metrics are JSON, which has."""
    row = Evaluation(1, 1, 0, "key", 0, "search", "done", reward=-0.0)
    with HistoryWriter(tmp_path / "run.sqlite") as writer:
        writer.evaluation(row)
        writer.iteration(IterationRecord(1, 0, 1, 1, 0.0, (0,), 0.0, {"m": -0.0}))
    history = History(tmp_path)
    assert [str(reward) for reward in (row.reward, history.evaluations()[0].reward)] == ["0.0", "0.0"]
    assert np.signbit(history.iterations()["m"]).tolist() == [True]

    feedback, seen = kinds["deconvolution"].feedback, []

    async def none_is_left(problem, batch, runtime):
        return replace(await feedback(problem, batch, runtime), loss=-0.0)

    monkeypatch.setattr(kinds["deconvolution"], "feedback", none_is_left)
    display = Doing(7, lambda: None)
    display.iteration = seen.append
    outcome = run(document, kinds, tmp_path / "run", display=display)
    losses = outcome.history.iterations()["loss"]
    assert [str(record.loss) for record in seen] == [str(loss) for loss in losses.tolist()] == ["0.0"] * 7


def test_readable_while_the_writer_is_active_and_one_plain_file_afterwards(tmp_path):
    path = tmp_path / "run.sqlite"
    writer = HistoryWriter(path)
    history = History(path)
    for k in range(1, 21):
        writer.iteration(record(k))
        if k % 5 == 0:
            writer.flush()
            assert len(history.iterations()["loss"]) == k
    assert journal_mode(path) == "wal"
    # A reader with an open snapshot neither blocks the writer nor sees what comes later.
    snapshot = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    snapshot.execute("BEGIN")
    assert snapshot.execute("SELECT count(*) FROM iterations").fetchone() == (20,)
    writer.iteration(record(21))
    writer.flush()
    assert snapshot.execute("SELECT count(*) FROM iterations").fetchone() == (20,)
    snapshot.close()
    writer.close()
    writer.close()
    assert journal_mode(path) == "delete"
    assert [p.name for p in tmp_path.iterdir()] == ["run.sqlite"]
    assert len(history.iterations()["loss"]) == 21


def test_what_was_flushed_survives_a_kill(tmp_path):
    script = f"""
        import os, signal
        from pathlib import Path
        from thalweg.runs.history import HistoryWriter
        from thalweg.runs.iteration import IterationRecord
        writer = HistoryWriter(Path({str(tmp_path / "run.sqlite")!r}))
        for k in range(1, 8):
            writer.iteration(IterationRecord(k, 0, 1, 1, 1.0 / k, (0,), 0.0))
        writer.flush()
        os.kill(os.getpid(), signal.SIGKILL)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(script)], timeout=60)
    assert done.returncode == -9
    assert History(tmp_path).iterations()["loss"].tolist() == [1.0 / k for k in range(1, 8)]
    with HistoryWriter(tmp_path / "run.sqlite") as writer:
        writer.iteration(record(8))
    assert len(History(tmp_path).iterations()["loss"]) == 8


def test_every_torn_end_of_the_log_leaves_a_readable_history(tmp_path):
    """Whatever part of the last writes reached the disk, the rows before are there."""
    live = tmp_path / "live"
    live.mkdir()
    writer = HistoryWriter(live / "run.sqlite")
    for k in range(1, 13):
        writer.iteration(record(k))
        writer.flush()
    log = (live / "run.sqlite-wal").read_bytes()
    assert log
    counts = []
    for length in [*range(0, len(log), 997), len(log) - 1, len(log)]:
        torn = tmp_path / "torn"
        torn.mkdir()
        shutil.copyfile(live / "run.sqlite", torn / "run.sqlite")
        garbage = b"\xa5" * 300 if length < len(log) else b""
        (torn / "run.sqlite-wal").write_bytes(log[:length] + garbage)
        try:
            counts.append(len(History(torn).iterations()["loss"]))
        except RunError:
            counts.append(-1)  # only before the tables themselves were committed
        shutil.rmtree(torn)
    writer.close()
    assert counts == sorted(counts)
    assert counts[-1] == 12
    assert counts[-2] == 11


@pytest.mark.skipif(not hasattr(os, "setuid"), reason="needs POSIX users")
@pytest.mark.parametrize("ended", [True, False], ids=["ended", "killed"])
def test_readable_from_a_read_only_folder(tmp_path, ended):
    """As a user who may not write there, also if the log of a killed run lies beside the database."""
    import tempfile

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = HistoryWriter(tmp_path / "run.sqlite")
        writer.iteration(record(1))
        writer.flush()
        if ended:
            writer.close()
        for file in tmp_path.iterdir():
            if not file.name.endswith("-shm"):
                shutil.copyfile(file, folder / file.name)
                (folder / file.name).chmod(0o444)
        writer.close()
        folder.chmod(0o555)
        script = textwrap.dedent(
            """
            import os, sys
            from pathlib import Path
            from thalweg.runs.history import History
            Path("/").as_uri()  # imports what it needs as long as that may be read
            if os.getuid() == 0:
                os.setuid(65534)  # root may write anywhere; after the imports, which nobody may be kept from
            try:
                open(sys.argv[1] + "/probe", "w")
            except PermissionError:
                pass
            else:
                raise SystemExit("the folder is writable after all")
            print(History(sys.argv[1]).iterations()["misfit"].tolist())
            """
        )
        done = subprocess.run(
            [sys.executable, "-c", script, str(folder)], capture_output=True, text=True, timeout=60, cwd="/"
        )
        folder.chmod(0o755)
    assert done.stderr == ""
    assert done.stdout.strip() == "[2.0]"


def test_a_write_that_fails_is_raised_and_what_was_there_stays(tmp_path):
    path = tmp_path / "run.sqlite"
    writer = HistoryWriter(path)
    writer.iteration(record(1))
    writer.flush()
    writer.iteration(record(1))  # the same iteration twice: the database refuses it
    with pytest.raises(RunError, match="cannot be written"):
        writer.flush()
    with pytest.raises(RunError, match="cannot be written"):
        writer.iteration(record(2))
    with pytest.raises(RunError, match="cannot be written"):
        writer.close()
    assert History(path).iterations()["iteration"].tolist() == [1]
    assert journal_mode(path) == "delete"


def test_not_finite_numbers_are_refused_before_they_are_stored(tmp_path):
    for bad in (float("nan"), float("-inf")):
        with (
            HistoryWriter(tmp_path / "run.sqlite") as writer,
            pytest.raises(ValueError, match="give finite numbers"),
        ):
            writer.iteration(record(1, bad=bad))
    assert len(History(tmp_path).iterations()["loss"]) == 0
    for loss, seconds in ((float("inf"), 0.0), (float("nan"), 0.0), (1.0, float("inf"))):
        with (
            HistoryWriter(tmp_path / "run.sqlite") as writer,
            pytest.raises(ValueError, match="give finite numbers"),
        ):
            writer.iteration(IterationRecord(1, 0, 1, 1, loss, (0,), seconds))
    assert len(History(tmp_path).iterations()["loss"]) == 0


def test_a_metric_may_have_any_name(tmp_path):
    names = ["Δ of v/v₀", 'a "quoted" \\ one', "half of an emoji: \ud83d", "line\nbreak", ""]
    values = {name: 0.1 * k for k, name in enumerate(names)}
    with HistoryWriter(tmp_path / "run.sqlite") as writer:
        writer.iteration(IterationRecord(1, 0, 1, 1, 1.0, (0,), 0.0, values))
    columns = History(tmp_path).iterations()
    assert {name: columns[name].tolist() for name in names} == {name: [value] for name, value in values.items()}


def test_missing_and_damaged_histories_are_named(tmp_path):
    with pytest.raises(RunError, match="There is no history"):
        History(tmp_path)
    (tmp_path / "run.sqlite").write_bytes(b"this is no database" * 100)
    with pytest.raises(RunError, match="cannot be read"):
        History(tmp_path).events()
    with pytest.raises(RunError, match="cannot be opened"):
        HistoryWriter(tmp_path / "no" / "such" / "folder.sqlite")


def test_json_of_batches_is_plain(tmp_path):
    with HistoryWriter(tmp_path / "run.sqlite") as writer:
        writer.iteration(record(1))
    database = sqlite3.connect(tmp_path / "run.sqlite")
    assert json.loads(database.execute("SELECT batch FROM iterations").fetchone()[0]) == [0, 1, 2, 3]
    database.close()


def test_a_commit_waits_for_the_disk(tmp_path):
    with HistoryWriter(tmp_path / "run.sqlite") as writer:
        ask = writer._thread.submit(lambda: writer._database.execute("PRAGMA synchronous").fetchone())
        assert ask.result() == (2,), "FULL: what was flushed is there after a power failure"


def test_a_history_is_never_seen_without_its_tables(tmp_path):
    """Another process reads each history as soon as there is one."""
    script = f"""
        import time
        from pathlib import Path
        from thalweg.runs.history import History
        print("ready", flush=True)
        for k in range(20):
            path = Path({str(tmp_path)!r}) / f"{{k}}.sqlite"
            while not path.exists():
                time.sleep(0)
            for _ in range(3):
                assert len(History(path).iterations()["loss"]) == 0
    """
    command = [sys.executable, "-c", textwrap.dedent(script)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as reader:
        try:
            assert reader.stdout.readline() == "ready\n"
            for k in range(20):
                HistoryWriter(tmp_path / f"{k}.sqlite").close()
            _, said = reader.communicate(timeout=60)
            assert said == ""
        finally:
            reader.kill()
    assert not list(tmp_path.glob("*.new"))


class Gated:
    """A connection whose commits wait at gates, one a commit."""

    def __init__(self, database, gates):
        self._database, self._gates = database, iter(gates)

    def __getattr__(self, name):
        return getattr(self._database, name)

    def execute(self, statement, *arguments):
        if statement == "COMMIT":
            assert next(self._gates).wait(60)
        return self._database.execute(statement, *arguments)


def test_a_flush_waits_for_what_was_there_and_not_for_what_comes_after(tmp_path):
    first, second, flushed = threading.Event(), threading.Event(), threading.Event()
    writer = HistoryWriter(tmp_path / "run.sqlite")
    writer._database = Gated(writer._database, [first, second])
    writer.iteration(record(1))
    waiting = threading.Thread(target=lambda: (writer.flush(), flushed.set()))
    while writer._rows:  # until the first row is in a transaction of its own
        time.sleep(0.001)
    waiting.start()
    while not writer._changed._waiters:
        time.sleep(0.001)
    writer.iteration(record(2))
    assert not flushed.is_set()
    first.set()
    assert flushed.wait(60), "the flush waits for a row that came after it"
    assert History(tmp_path).iterations()["iteration"].tolist() == [1]
    second.set()
    writer.close()
    waiting.join()
    assert History(tmp_path).iterations()["iteration"].tolist() == [1, 2]


def test_what_a_killed_process_left_beside_a_new_history_goes(tmp_path):
    for name in (".run.sqlite.new", ".run.sqlite.new-journal"):
        (tmp_path / name).write_bytes(b"half")
    with HistoryWriter(tmp_path / "run.sqlite") as writer:
        writer.iteration(record(1))
    assert [path.name for path in tmp_path.iterdir()] == ["run.sqlite"]
    assert History(tmp_path).iterations()["iteration"].tolist() == [1]


def test_a_new_history_has_its_facts_from_the_first_moment_on(tmp_path, monkeypatch):
    """Killed before anything else is written, it knows its study all the same."""
    monkeypatch.setattr("thalweg.runs.history.wal.switch", lambda *arguments: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        HistoryWriter(tmp_path / "run.sqlite", {"study": "seed = 1", "study_folder": "/data"})
    assert History(tmp_path).facts() == {"study": "seed = 1", "study_folder": "/data"}
    monkeypatch.undo()
    with HistoryWriter(tmp_path / "run.sqlite", {"study": "another"}):
        pass
    assert History(tmp_path).facts()["study"] == "seed = 1"


def test_rows_for_which_there_was_no_thread_are_written_by_the_next_flush(tmp_path, monkeypatch):
    writer = HistoryWriter(tmp_path / "run.sqlite")

    def none(*arguments):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(writer._thread, "submit", none)
        with pytest.raises(RuntimeError, match="new thread"):
            writer.iteration(record(1))
    writer.flush()
    assert History(tmp_path).iterations()["iteration"].tolist() == [1]
    writer.close()


def test_a_writer_that_had_nothing_to_say_leaves_no_log_of_a_readers(tmp_path):
    HistoryWriter(tmp_path / "run.sqlite").close()
    writer = HistoryWriter(tmp_path / "run.sqlite")
    assert History(tmp_path).events() == []
    writer.close()
    assert [path.name for path in tmp_path.iterdir()] == ["run.sqlite"]
