"""What the user sees."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from thalweg.runs.display import Ending, PlainDisplay, QuietDisplay, duration
from thalweg.runs.iteration import IterationRecord
from thalweg.runs.live import LiveDisplay
from thalweg.runs.settings import GenericBlock

BLOCKS = [GenericBlock(name="low", iterations=3), GenericBlock(iterations=2)]


def drive(display):
    display.begin("A study [of brackets]", Path("runs/a-1"), [("memory", "3 MiB")], BLOCKS)
    for done in range(1, 4):
        display.stage(done, 3, "making data")
    k = 0
    for index, block in enumerate(BLOCKS):
        display.begin_block(index, block, 4.0)
        for _ in range(block.iterations):
            k += 1
            for done in range(1, 5):
                display.items(done, 4)
            display.iteration(IterationRecord(k, index, k, 4, 8.0 / k, (0, 1, 2, 3), 0.5 * k, {"error": 1.0 / k}))
    display.note("a note")
    ending = Ending("finished", [("error end", "0.2")], Path("runs/a-1"), Path("runs/a-1/figures/x.png"), ["mind this"])
    display.end(ending)


def test_plain_lines_say_everything_once():
    stream = io.StringIO()
    drive(PlainDisplay(stream, interval=0.0))
    lines = stream.getvalue().splitlines()
    assert lines[:3] == ["A study [of brackets]", "  run folder: runs/a-1", "  memory: 3 MiB"]
    assert "making data: 3/3" in lines
    assert [line.split()[1] for line in lines if line.startswith("iteration")] == [
        "1/5",
        "2/5",
        "3/5",
        "4/5",
        "5/5",
    ]
    assert any("misfit 2.0000e+00  error 1" in line and "left" in line for line in lines)
    assert "block 1 of 2 (low)" in lines
    assert lines[-5:] == [
        "finished:",
        "  error end  0.2",
        "warning: mind this",
        "run: runs/a-1",
        "picture: runs/a-1/figures/x.png",
    ]
    assert "\x1b" not in stream.getvalue()


def test_plain_lines_are_rare_but_never_miss_the_ends_of_a_block():
    stream = io.StringIO()
    drive(PlainDisplay(stream, interval=1000.0))
    lines = [line.split()[1] for line in stream.getvalue().splitlines() if line.startswith("iteration")]
    assert lines == ["1/5", "3/5", "4/5", "5/5"]


def test_on_a_terminal_bars_are_drawn_and_the_table_stays():
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100, height=40)
    drive(LiveDisplay(console, item_name="shot"))
    text = stream.getvalue()
    for expected in (
        "A study [of brackets]",
        "shots",
        "error end",
        "mind this",
        "figures/x.png",
        "finished",
        "memory",
    ):
        assert expected in text
    assert text.endswith("\x1b[0m\n")
    assert "\x1b[?25h" in text  # the cursor is given back


def test_on_a_narrow_terminal_figures_that_do_not_fit_are_left_out_whole():
    """A line that wraps makes the bars jump, and a number that is cut off is another one."""
    stream = io.StringIO()
    display = LiveDisplay(Console(file=stream, force_terminal=True, width=60, height=40), item_name="shot")
    display.begin("t", Path("r"), [], BLOCKS)
    display.begin_block(0, BLOCKS[0], 4.0)
    metrics = {"model_error": 0.123456, "gradient_norm": 0.234567, "step_norm": 0.345678}
    display.iteration(IterationRecord(1, 0, 1, 4, 8.0, (0, 1, 2, 3), 0.5, metrics))
    display.close()
    assert "iteration 1   misfit 2.0000e+00   model_error 0.1235   …" in stream.getvalue()
    assert "gradient_norm" not in stream.getvalue()


def test_quiet_is_quiet(capsys):
    drive(QuietDisplay())
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.04, "0.0 s"), (9.96, "10.0 s"), (59.4, "59 s"), (60, "1 min 0 s"), (3599.9, "1 h 0 min")],
)
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_a_digest_is_whole_on_a_narrow_terminal():
    digest = "0123456789abcdef" * 4
    stream = io.StringIO()
    display = LiveDisplay(Console(file=stream, force_terminal=False, width=80))
    display.end(Ending("finished", [("misfit, block 500 kHz", "1"), ("digest", digest)], Path("runs/a-1")))
    lines = stream.getvalue().splitlines()
    start = next(k for k, line in enumerate(lines) if "digest" in line)
    assert "".join("".join(lines[start : start + 2]).split()) == "digest" + digest


def test_each_stage_is_printed_when_it_begins_and_when_it_ends_and_rarely_between():
    stream = io.StringIO()
    display = PlainDisplay(stream, interval=1000.0)
    display.begin("t", Path("r"), [], BLOCKS)
    display.stage(0, 1, "compiling")
    for done in range(1, 25):
        display.stage(done, 24, "making data")
    display.stage(1, 3, "sorting")
    display.begin_block(0, BLOCKS[0], 4.0)
    assert stream.getvalue().splitlines()[2:-1] == [
        *("compiling: 0/1", "compiling: 1/1", "making data: 1/24", "making data: 24/24", "sorting: 1/3", "sorting: 3/3")
    ]
