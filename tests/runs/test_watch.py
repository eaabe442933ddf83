"""``thalweg watch`` and the other commands about runs, as a user calls them."""

import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
from rich.console import Console
from typer.testing import CliRunner

from thalweg.cli import app
from thalweg.cli.options import complete_run
from thalweg.errors import RunError
from thalweg.graph import wait
from thalweg.runs import History, Run, Study
from thalweg.runs.folder import RunFolder
from thalweg.runs.history import HistoryWriter
from thalweg.runs.iteration import IterationRecord
from thalweg.runs.record import RunRecord
from thalweg.runs.watch import Sight, watch_run

STUDY = """title = "Something slow"
[problem]
kind = "k"
[[blocks]]
name = "[red]low"
iterations = 4
selection = "random"
batch_size = 2
[[blocks]]
iterations = 3
selection = "random"
batch_size = 5
"""


class Slow:
    """A run that this process writes, one step each time somebody sleeps."""

    def __init__(self, path):
        self.folder = RunFolder.create(path)
        self.folder.write_summary({"status": "running", "title": "Something slow"})
        self.writer = HistoryWriter(self.folder.history)
        self.writer.fact("study", STUDY)
        self.writer.event("started", "7 iterations in 2 blocks")
        self.writer.flush()
        self.done = 0
        self.last = 7

    def step(self, seconds=0.0):
        if self.done == self.last:
            self.writer.close()
            self.folder.release()
            return
        self.done += 1
        block, items = (0, 2) if self.done <= 4 else (1, 5)
        record = IterationRecord(
            self.done, block, 1, items, 8.0 / self.done, tuple(range(items)), 2.0 * self.done, {"error": 0.5}
        )
        self.writer.iteration(record)
        if self.done == 3:
            self.writer.event("warning", "a worker has died", iteration=3)
        self.writer.flush()

    def finish(self, seconds=0.0):
        self.step()
        if self.done == 7:
            self.folder.write_summary({"status": "finished", "title": "Something slow", "seconds": 15.0})


@pytest.fixture
def slow(tmp_path):
    found = Slow(tmp_path / "run")
    yield found
    found.writer.close()
    found.folder.release()


def watched(slow, *, terminal=False, **options):
    stream = io.StringIO()
    console = Console(file=stream, width=100, force_terminal=terminal, no_color=True, highlight=False)
    status = watch_run(slow.folder.path, console, **options)
    return status, stream.getvalue()


def test_lines_until_the_run_ends(slow):
    status, text = watched(slow, sleep=slow.finish, least=0.0)
    assert status == "finished"
    assert text.splitlines() == [
        "Something slow",
        f"  run folder: {slow.folder.path}",
        "started: 7 iterations in 2 blocks",
        "iteration 0/7  preparing",
        "iteration 1/7  [red]low  misfit 4.0000e+00  error 0.5",
        # 2 s for 2 items: 4 items are left in this block, 15 in the next.
        "iteration 2/7  [red]low  misfit 2.0000e+00  error 0.5  (about 19 s left)",
        "warning: a worker has died",
        "iteration 3/7  [red]low  misfit 1.3333e+00  error 0.5  (about 17 s left)",
        "iteration 4/7  [red]low  misfit 1.0000e+00  error 0.5  (about 15 s left)",
        "iteration 5/7  block 2  misfit 3.2000e-01  error 0.5",
        "iteration 6/7  block 2  misfit 2.6667e-01  error 0.5  (about 2.0 s left)",
        "iteration 7/7  block 2  misfit 2.2857e-01  error 0.5",
        "finished: 7 of 7 iterations, 15 s",
        f"next: thalweg report {slow.folder.path}",
    ]


def test_a_block_of_all_items_has_all(slow):
    slow.writer.fact("study", STUDY.replace("batch_size = 5\n", "").replace('random"\n', 'all"\n'))
    slow.writer.fact("items", 6)
    for _ in range(2):
        slow.step()
    assert Sight.of(RunRecord.read(slow.folder.path)).left == 1.0 * (2 * 2 + 3 * 6)


def test_of_a_run_that_was_stopped_nothing_is_left(slow):
    for _ in range(3):
        slow.step()
    slow.folder.write_summary({"status": "interrupted"})
    assert Sight.of(RunRecord.read(slow.folder.path)).left is None


def test_few_lines_of_a_fast_run(slow):
    _, text = watched(slow, sleep=slow.finish, least=3600.0)
    assert [line for line in text.splitlines() if line.startswith("iteration")] == [
        "iteration 0/7  preparing",
        "iteration 7/7  block 2  misfit 2.2857e-01  error 0.5",
    ]


def test_a_killed_run_ends_the_watching(slow):
    slow.last = 2
    status, text = watched(slow, sleep=slow.step, least=0.0)
    assert status == "killed"
    assert text.splitlines()[-2:] == ["killed: 2 of 7 iterations, 4.0 s", f"next: thalweg resume {slow.folder.path}"]


def test_on_a_terminal_there_are_bars(slow):
    status, text = watched(slow, terminal=True, sleep=slow.finish)
    assert status == "finished"
    assert "━" in text
    assert "3/7" in text
    assert "[red]low" in text
    assert "2/4" in text
    assert "Ctrl-C ends the watching, not the run" in text
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l"), "the cursor is given back"


def test_what_is_seen_after_a_resumption(slow):
    for _ in range(4):
        slow.step()
    slow.writer.forget_after(2)
    sight = Sight.of(RunRecord.read(slow.folder.path, last=1))
    assert (sight.done, sight.block_done, sight.block_total, sight.left) == (2, 2, 4, None)


def test_a_run_whose_study_is_lost(tmp_path):
    folder = RunFolder.create(tmp_path / "[bold]run")
    with HistoryWriter(folder.history) as writer:
        writer.iteration(IterationRecord(3, 1, 1, 2, 8.0, (0, 1), 1.0))
    folder.release()
    stream = io.StringIO()
    assert watch_run(folder.path, Console(file=stream, width=100)) == "killed"
    assert "iteration 3  block 2  misfit 4.0000e+00" in stream.getvalue()
    assert "[bold]run" in stream.getvalue()


def test_no_run(tmp_path):
    with pytest.raises(RunError, match="no such folder"):
        watch_run(tmp_path / "run", Console(file=io.StringIO()))


def test_ctrl_c_leaves_the_run_alone(slow):
    slow.step()
    # A background job ignores SIGINT, and so do its children until they say otherwise.
    start = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); from thalweg import cli; cli.main()"
    )
    command = [sys.executable, "-c", start, "watch", str(slow.folder.path)]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            for line in process.stdout:
                if line.startswith("iteration 1/7"):
                    break
            process.send_signal(signal.SIGINT)
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    assert process.returncode == 130, stderr
    assert "the run goes on" in stdout
    assert "Traceback" not in stderr
    assert slow.folder.writer_alive()
    slow.step()
    assert len(History(slow.folder.path).iterations()["loss"]) == 2


@pytest.fixture
def command(tmp_path, document, kinds, monkeypatch):
    """The command, in a folder with two runs."""
    monkeypatch.chdir(tmp_path)
    document["output"] = {"figures": False}
    for name in ("one", "two"):
        wait(Run(Study.from_document(document, kinds=kinds), out=tmp_path / "runs" / name).execute())

    def call(*arguments):
        return CliRunner().invoke(app, arguments, env={"COLUMNS": "200", "NO_COLOR": "1"})

    return call


def test_the_commands(command, tmp_path):
    done = command("report", "runs/one")
    assert (done.exit_code, done.stdout) == (0, "runs/one/report.html\n")
    done = command("report", "runs/one/run.sqlite", "--out", "page.html")
    assert (done.exit_code, done.stdout) == (0, "page.html\n")
    assert (tmp_path / "page.html").read_text().startswith("<!DOCTYPE html>")
    done = command("compare", "runs/one", "runs/two/", "--out", "both.png")
    assert done.exit_code == 0, done.output
    assert "All ended with the same model, to the last bit: runs/one, runs/two." in done.stdout
    assert done.stdout.endswith("picture: both.png\n")
    assert (tmp_path / "both.png").stat().st_size > 10_000
    done = command("compare", "runs/one", "runs/two", "--json", "--out", "again.png")
    assert json.loads(done.stdout)["same_model"] == [["runs/one", "runs/two"]]
    done = command("watch", "runs/one")
    assert done.exit_code == 0
    assert "finished: 7 of 7 iterations" in done.stdout


@pytest.mark.parametrize(
    "arguments",
    [("report", "runs/three"), ("compare", "runs/one", "runs/three"), ("watch", "runs/three"), ("compare", "runs/one")],
)
def test_a_run_that_is_not_there_gets_a_sentence_and_exit_code_2(command, arguments):
    done = command(*arguments)
    assert done.exit_code == 2
    assert "Traceback" not in done.output
    if "runs/three" in arguments:
        assert "There is no run in 'runs/three'" in done.stderr
        assert "Runs near there: runs/one, runs/two." in done.stderr


@pytest.mark.parametrize("name", ["report", "compare", "watch"])
def test_the_help_teaches_with_an_example(name):
    done = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "100"})
    assert done.exit_code == 0
    assert re.search(rf"thalweg {name} runs/head-1", done.stdout)


def test_the_names_of_runs_are_completed(command, tmp_path):
    assert complete_run("runs/o") == ["runs/one"]
    assert complete_run("ru") == ["runs/one", "runs/two"]
    assert complete_run(str(tmp_path / "runs" / "t")) == [str(tmp_path / "runs" / "two")]
    assert complete_run("no[") == []
    environment = {
        **os.environ,
        "_THALWEG_COMPLETE": "complete_bash",
        "COMP_WORDS": "thalweg report r",
        "COMP_CWORD": "2",
    }
    code = "import sys; sys.argv = ['thalweg']; from thalweg.cli import app; app(prog_name='thalweg')"
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, timeout=60)
    assert done.stdout.split() == ["runs/one", "runs/two"], done.stderr


def test_reading_a_run_changes_nothing(command, tmp_path):
    folder = tmp_path / "runs" / "one"
    before = {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]}
    assert command("report", "runs/one", "--out", "x.html").exit_code == 0
    assert command("compare", "runs/one", "runs/two").exit_code == 0
    assert command("watch", "runs/one").exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in [folder, *folder.rglob("*")]} == before
    assert np.all(History(folder).iterations()["step_norm"] > 0)


KILLED = """
import os, pathlib, sys
from thalweg.runs.folder import RunFolder
from thalweg.runs.history import HistoryWriter
from thalweg.runs.iteration import IterationRecord
folder = RunFolder.create(pathlib.Path(sys.argv[1]))
writer = HistoryWriter(folder.history)
for k in range(1, 50):
    writer.iteration(IterationRecord(k, 0, 1, 1, 1.0 / k, (0,), 0.1 * k))
writer.flush()
os._exit(9)
"""


def test_runs_in_read_only_folders(command, tmp_path):
    command_line = [sys.executable, "-m", "thalweg"]
    if os.geteuid() == 0:  # root writes where it may not, unless that is taken from it
        if shutil.which("setpriv") is None:
            pytest.skip("needs setpriv, or a user who is not root")
        command_line = ["setpriv", "--bounding-set=-dac_override,-dac_read_search", *command_line]
    subprocess.run([sys.executable, "-c", KILLED, str(tmp_path / "runs" / "killed")], check=False, timeout=60)
    assert (tmp_path / "runs" / "killed" / "run.sqlite-wal").exists(), "a log that was not merged"
    everything = sorted((tmp_path / "runs").rglob("*"), reverse=True)
    for path in everything:
        path.chmod(0o555 if path.is_dir() else 0o444)

    def call(*arguments):
        return subprocess.run([*command_line, *arguments], capture_output=True, text=True, timeout=60, check=False)

    try:
        refused = call("report", "runs/one")
        finished = call("report", "runs/one", "--out", "one.html")
        killed = call("report", "runs/killed", "--out", "killed.html")
    finally:
        for path in reversed(everything):
            path.chmod(0o755 if path.is_dir() else 0o644)
    assert refused.returncode == 2
    assert "Permission denied" in refused.stderr
    assert "--out one.html" in refused.stderr
    assert (finished.returncode, killed.returncode) == (0, 0), finished.stderr + killed.stderr
    assert "killed</span> after 49 iterations" in (tmp_path / "killed.html").read_text(encoding="utf-8")
