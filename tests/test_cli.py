"""The command, as a user calls it: in processes of its own."""

import json
import os
import pty
import select
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from thalweg.runs import History

HERE = Path(__file__).parent

STUDY = """
title = "A blurred signal"
seed = 3
[problem]
kind = "deconvolution"
[optimizer]
kind = "adam"
learning_rate = 0.05
[[blocks]]
name = "low"
iterations = 4
selection = "random"
batch_size = 2
cutoff = 0.3
[[blocks]]
iterations = 3
"""


@pytest.fixture(scope="session")
def plugin(tmp_path_factory):
    """A folder that Python takes for an installed package with a kind of problem."""
    folder = tmp_path_factory.mktemp("plugin")
    shutil.copyfile(HERE / "runs" / "deconvolution.py", folder / "deconvolution_plugin.py")
    information = folder / "deconvolution_plugin-1.0.dist-info"
    information.mkdir()
    (information / "METADATA").write_text("Metadata-Version: 2.1\nName: deconvolution-plugin\nVersion: 1.0\n")
    (information / "entry_points.txt").write_text(
        "[thalweg.problems]\ndeconvolution = deconvolution_plugin:Deconvolution\n"
    )
    return folder


@pytest.fixture
def place(tmp_path, plugin):
    (tmp_path / "blur.toml").write_text(STUDY)
    return Place(tmp_path, {**os.environ, "PYTHONPATH": str(plugin), "COLUMNS": "100", "NO_COLOR": "1"})


class Place:
    """A folder to call the command in."""

    def __init__(self, folder, environment):
        self.folder, self.environment = folder, environment

    def command(self, *arguments):
        return [sys.executable, "-m", "thalweg", *arguments]

    def __call__(self, *arguments):
        return subprocess.run(
            self.command(*arguments),
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=120,
        )

    def start(self, *arguments, **options):
        return subprocess.Popen(
            self.command(*arguments), cwd=self.folder, env=self.environment, start_new_session=True, **options
        )


def summary_of(folder):
    return json.loads((folder / "summary.json").read_text())


def wait_until(condition, *, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "it never happened"
        time.sleep(0.01)


def iterations(folder):
    try:
        return len(History(folder).iterations()["loss"])
    except Exception:  # not there yet
        return 0


def test_run_prints_plain_lines_where_the_output_is_no_terminal(place):
    done = place("run", "blur.toml", "--set", "blocks.1.iterations=2")
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "\x1b" not in done.stdout
    lines = done.stdout.splitlines()
    assert lines[0] == "A blurred signal"
    assert "  memory: less than 1 MiB" in lines
    assert "recording: 6/6" in lines
    assert any(line.startswith("iteration 6/6  misfit ") for line in lines)
    assert any(line.startswith("  digest") for line in lines)
    assert lines[-1] == "picture: runs/blur-1/figures/signal.png"
    assert summary_of(place.folder / "runs" / "blur-1")["iterations"] == 6
    again = place("run", "blur.toml", "--quiet", "--threads", "1", "--set", "blocks.1.iterations=2")
    assert again.stdout == "runs/blur-2\n"
    first, second = (summary_of(place.folder / "runs" / f"blur-{k}") for k in (1, 2))
    assert first["digest"] == second["digest"]
    assert "threads = 1" in (place.folder / "runs" / "blur-2" / "study.toml").read_text()


def test_an_occupied_folder_is_refused(place):
    (place.folder / "mine").mkdir()
    (place.folder / "mine" / "thesis.txt").write_text("years")
    done = place("run", "blur.toml", "--out", "mine")
    assert done.returncode == 2
    assert "is not empty (there is thesis.txt)" in done.stderr
    assert "Traceback" not in done.stderr
    assert [p.name for p in (place.folder / "mine").iterdir()] == ["thesis.txt"]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["run", "blur.toml", "--set", "problem.nois=0.1"], ["problem.nois: unknown key", '"noise"']),
        (["run", "blur.toml", "--set", "blocks.5.iterations=1"], ["blocks.5", "entries 0 to 1"]),
        (
            ["run", "blur.toml", "--set", "seed=-1", "--set", "problem.noise=x"],
            ["2 faults", "seed: got -1", "problem.noise"],
        ),
        (
            ["check", "blur.toml", "--set", "problem.kind=deconvolutio"],
            ['nearest known one is "deconvolution"'],
        ),
        (
            ["run", "blurr.toml"],
            ["There is no study 'blurr.toml'", 'there are: blur.toml; the nearest known one is "blur.toml"'],
        ),
        (["check", "blr"], ["There is no study 'blr'", "there are: blur.toml."]),
        (["run", "blur.toml", "--set", "blocks.0.batch_size=99"], ["blocks.0.batch_size: got 99", "6 items"]),
        (["studies", "--copy", "no-such"], ["There is no study 'no-such'"]),
    ],
)
def test_a_bad_study_gets_one_readable_block_and_exit_code_2(place, arguments, expected):
    done = place(*arguments)
    assert done.returncode == 2
    for text in expected:
        assert text in done.stderr
    assert "Traceback" not in done.stderr + done.stdout
    assert not (place.folder / "runs").exists()


def test_a_failing_run_says_what_happened_and_where_everything_is(place):
    done = place("run", "blur.toml", "--set", "problem.fail_at=3")
    assert done.returncode == 1
    assert "ZeroDivisionError: the simulator broke" in done.stderr
    assert "Everything until then is in runs/blur-1" in done.stderr
    assert "Traceback" not in done.stderr
    assert summary_of(place.folder / "runs" / "blur-1")["status"] == "failed"
    assert iterations(place.folder / "runs" / "blur-1") == 2
    done = place("run", "blur.toml", "--set", "problem.fail_at=3", "--traceback")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "deconvolution_plugin.py" in done.stderr


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_stops_cleanly(place, number):
    out = place.folder / "out"
    slow = ["--set", "problem.pause=0.02", "--set", "blocks.0.iterations=5000", "--out", "out"]
    with place.start("run", "blur.toml", *slow, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: iterations(out) >= 3)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 128 + number, stderr
    assert "Traceback" not in stderr
    assert "press Ctrl-C again" in stdout
    summary = summary_of(out)
    assert summary["status"] == "interrupted"
    steps = summary["iterations"]
    assert iterations(out) == steps >= 3
    assert not list(out.glob("run.sqlite-*"))
    assert "interrupted" in [event["kind"] for event in History(out).events()]
    # The variables are as after the last committed step: those of a run of so many iterations.
    only = f'blocks=[{{iterations={steps}, selection="random", batch_size=2, cutoff=0.3, name="low"}}]'
    done = place("run", "blur.toml", "--quiet", "--set", only, "--out", "again")
    assert done.returncode == 0, done.stderr
    assert summary_of(place.folder / "again")["digest"] == summary["digest"]
    with np.load(out / "result.npz") as one, np.load(place.folder / "again" / "result.npz") as other:
        assert one["x"].tobytes() == other["x"].tobytes()


def test_the_second_signal_stops_at_once(place):
    out = place.folder / "out"
    slow = ["--set", "problem.pause=3600.0", "--out", "out"]
    with place.start("run", "blur.toml", *slow, stdout=subprocess.PIPE, text=True) as process:
        wait_until(lambda: (out / "summary.json").exists() and process.stdout.readline().startswith("block 1"))
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        wait_until(lambda: "press Ctrl-C again" in process.stdout.readline())
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        rest = process.communicate(timeout=30)[0]
        assert time.monotonic() - began < 20
    assert process.returncode == 130
    assert summary_of(out)["status"] == "interrupted"
    assert iterations(out) == 0
    assert rest.splitlines()[-1] == "go on with: thalweg resume out"


def test_a_reader_that_leaves_does_not_end_the_run(place):
    slow = ["--set", "problem.pause=0.02", "--out", "out"]
    with place.start("run", "blur.toml", *slow, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "A blurred signal\n"
        process.stdout.close()
        stderr = process.stderr.read()
        assert process.wait(timeout=60) == 0, stderr
    assert stderr == ""
    summary = summary_of(place.folder / "out")
    assert summary["status"] == "finished"
    assert any("the display broke" in text for text in summary["warnings"])


def test_on_a_terminal_there_is_a_live_display(place):
    main, side = pty.openpty()
    environment = {**place.environment, "TERM": "xterm-256color"}
    environment.pop("NO_COLOR")
    process = subprocess.Popen(
        place.command("run", "blur.toml"),
        cwd=place.folder,
        env=environment,
        stdin=side,
        stdout=side,
        stderr=side,
    )
    os.close(side)
    output = b""
    while True:
        try:
            if not select.select([main], [], [], 60)[0]:
                break
            chunk = os.read(main, 65536)
        except OSError:
            break
        if not chunk:
            break
        output += chunk
    os.close(main)
    assert process.wait(timeout=60) == 0
    text = output.decode()
    assert "\x1b[?25l" in text  # the cursor is hidden while the bars move
    assert text.rindex("\x1b[?25h") > text.rindex("\x1b[?25l")
    for expected in ("A blurred signal", "measurements", "finished", "digest", "figures/signal.png"):
        assert expected in text


def test_check_prints_plan_and_table_and_says_by_its_exit_code(place):
    done = place("check", "blur.toml")
    assert done.returncode == 0, done.stderr
    for text in (
        "memory",
        "less than 1 MiB",
        "6 measurements",
        "7 in 2 blocks",
        "adjoint test",
        "<= 1e-12",
        "2 of 2 checks",
    ):
        assert text in done.stdout
    done = place("check", "blur.toml", "--set", "problem.noise=0.5")
    assert done.returncode == 1
    assert "NOT OK" in done.stdout
    assert "Too much noise." in done.stdout
    assert not (place.folder / "runs").exists()


def test_help_version_and_studies(place):
    done = place("--help")
    assert done.returncode == 0
    for command in ("run", "check", "studies"):
        assert command in done.stdout
    for command in ("run", "check", "studies"):
        text = place(command, "--help").stdout
        assert f"thalweg {command}" in text, "an example teaches"
    assert place("--version").stdout.startswith("thalweg ")
    assert place("studies").returncode == 0


def test_the_help_imports_nothing_heavy(place):
    heavy = ["numba", "scipy", "pydantic", "matplotlib", "sqlite3", "safetensors", "torch", "jax"]
    code = f"import sys, thalweg.cli; print([name for name in {heavy!r} if name in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=place.environment, timeout=60
    )
    assert done.stdout.strip() == "[]", done.stderr


def test_shipped_studies_are_found_copied_and_completed(place, tmp_path, monkeypatch):
    from thalweg.errors import StudyError
    from thalweg.runs import shipped

    folder = tmp_path / "shipped"
    folder.mkdir()
    (folder / "wave.toml").write_text(STUDY + "\n[output]\nfigures = false\n")
    (folder / "head.toml").write_text('title = "A head"\ndescription = "In a ring."\n')
    monkeypatch.setattr(shipped, "studies_folder", lambda: folder)
    assert shipped.shipped_names() == ["head", "wave"]
    assert shipped.shipped_studies()[0].description == "In a ring."
    assert shipped.find_study("head") == folder / "head.toml"
    assert shipped.find_study(str(folder / "head.toml")) == folder / "head.toml"
    with pytest.raises(StudyError, match='With Thalweg come: head, wave; the nearest known one is "head"'):
        shipped.find_study("haed")
    with pytest.raises(StudyError, match="it is a folder"):
        shipped.find_study(str(folder))
    copied = shipped.copy_study("head", tmp_path)
    assert copied.read_bytes() == (folder / "head.toml").read_bytes()
    with pytest.raises(StudyError, match="is there already"):
        shipped.copy_study("head", tmp_path)

    from thalweg.cli.options import complete_study

    monkeypatch.chdir(tmp_path)
    assert complete_study("he") == ["head", "head.toml"]
    assert "blur.toml" in complete_study("b")


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ('optimizer.process_grad=[{kind=["mask"]}]', "optimizer"),
        ('output.folder="a\\u0000b"', "cannot be made: embedded null byte"),
        ("problem.length=100000000000000", "MemoryError"),
        ('problem.truth_file="study.toml"', "cannot be built by Deconvolution: FileNotFoundError"),
    ],
)
def test_an_error_of_others_in_a_study_is_refused_readably(place, change, expected):
    done = place("run", "blur.toml", "--set", change)
    assert done.returncode == 2, done.stdout + done.stderr
    assert done.stderr.startswith("Error: Nothing was computed.")
    assert expected in done.stderr
    assert "Traceback" not in done.stderr
    assert not list(place.folder.glob("runs/*"))


def test_the_first_signal_stops_a_run_whose_reader_has_left(place):
    slow = ["--set", "problem.pause=0.02", "--set", "blocks.0.iterations=5000", "--out", "out"]
    with place.start("run", "blur.toml", *slow, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        process.stdout.close()
        wait_until(lambda: iterations(place.folder / "out") >= 3)
        process.send_signal(signal.SIGINT)
        stderr = process.stderr.read()
        assert process.wait(timeout=60) == 130
    assert stderr == ""
    assert summary_of(place.folder / "out")["status"] == "interrupted"


def test_a_signal_while_pictures_are_drawn_does_not_unmake_a_finished_run(place):
    slow = ["--set", "problem.slow_picture=1.0", "--out", "out"]
    with place.start("run", "blur.toml", *slow, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        wait_until(lambda: (place.folder / "out" / "figures" / "drawing").exists())
        process.send_signal(signal.SIGINT)
        stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 0, stderr
    assert "Already closing" in stdout
    assert "Stopping" not in stdout
    assert summary_of(place.folder / "out")["status"] == "finished"


@pytest.mark.parametrize("module", ["typer", "thalweg.runs.shipped", "thalweg.runs.session"])
def test_an_interrupt_during_the_imports_is_quiet(place, module):
    code = f"""
import sys
class Impatient:
    def find_spec(self, name, path=None, target=None):
        if name == {module!r}:
            raise KeyboardInterrupt
sys.meta_path.insert(0, Impatient())
sys.argv = ["thalweg", "run", "blur.toml"]
from thalweg.cli import main
main()
"""
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env=place.environment,
        cwd=place.folder,
        timeout=60,
    )
    assert done.returncode == 130
    assert "Traceback" not in done.stderr


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_an_output_that_is_full_gets_a_sentence(place):
    with open("/dev/full", "w") as full:
        done = subprocess.run(
            place.command("studies"), stdout=full, stderr=subprocess.PIPE, text=True, env=place.environment, timeout=60
        )
    assert done.returncode == 1
    assert done.stderr.startswith("Error: The output cannot be written: No space left on device.")
    assert "Traceback" not in done.stderr


def test_a_study_without_a_name_is_called_so(place):
    assert "The name of the study is empty." in place("run", "").stderr


def test_check_says_how_long_the_run_will_take_and_why_a_check_matters(place):
    done = place("check", "blur.toml", "--threads", "2", "--set", "problem.noise=0.5")
    # 4 iterations of 2 items and 3 of 6 are 13 rounds of 2 threads, 0.25 s each.
    assert "expected time  about 3.2 s on 2 threads" in done.stdout
    assert done.stdout.count("Too much noise.") == 1
    place.environment["COLUMNS"] = "80"
    done = place("check", "blur.toml", "--threads", "1", "--set", "problem.noise=0.5")
    assert "expected time  about 6.5 s on 1 thread" in done.stdout
    assert "noise: Too much noise." in done.stdout
    assert "Too much noise." not in place("check", "blur.toml").stdout
