"""What the report says and shows of ends without a word, failed items, colors, and narrow windows."""

from __future__ import annotations

import re

import numpy as np

from tests.runs.test_report import Page
from thalweg.runs.history import HistoryWriter
from thalweg.runs.iteration import IterationRecord
from thalweg.runs.record import RunRecord
from thalweg.runs.report import write_report
from thalweg.runs.report.happened import happened
from thalweg.runs.report.models import Models, _png, draw_models, read_models
from thalweg.runs.report.style import STYLE


def kinds_of(folder):
    page = happened(RunRecord.read(folder.path))
    return re.findall(r'<div class="event"><div><b class="\w+">(\w+)</b>', page), Page(page).text


def test_a_kill_has_a_row(started):
    folder, writer = started
    writer.flush()
    assert kinds_of(folder)[0] == ["started"], "it goes on"
    writer.event("resumed", "from iteration 2", iteration=2)
    writer.event("warning", "w", iteration=3)
    writer.event("interrupted", "stopped by the user", iteration=3)
    writer.event("resumed", "from iteration 3", iteration=3)
    writer.flush()
    found, text = kinds_of(folder)
    assert found == ["started", "killed", "resumed", "warning", "interrupted", "resumed"]
    assert "left no word of its end" in text
    writer.close()
    folder.release()
    found, text = kinds_of(folder)
    assert found[-2:] == ["resumed", "killed"]
    assert text.count("left no word of its end") == 2
    assert "after iteration 3" in text


def test_failed_items_are_said_to_be_of_how_many(started, tmp_path):
    folder, writer = started
    for item in (0, 1):
        details = {"item": item, "error": "E", "worker": "thread 1", "traceback": ""}
        writer.event("failed_item", "item failed", iteration=2, details=details)
    writer.flush()
    page = Page(write_report(folder.path, tmp_path / "report.html").read_text(encoding="utf-8"))
    assert "2 failed items were left out, of 6 in all iterations" in page.text


def test_the_scale_of_colors_is_that_of_start_truth_and_result(tmp_path):
    folder = tmp_path / "run"
    (folder / "models").mkdir(parents=True)
    with HistoryWriter(folder / "run.sqlite") as writer:
        writer.fact("study", '[[blocks]]\nname = "one"\niterations = 1\n[[blocks]]\nname = "two"\niterations = 1\n')
        for k in (1, 2):
            writer.iteration(IterationRecord(k, k - 1, 1, 2, 8.0 / k, (0, 1), 0.5 * k))
    truth, beyond = np.linspace(1.0, 2.0, 400).reshape(20, 20), np.linspace(0.0, 3.0, 400).reshape(20, 20)
    np.savez(folder / "models" / "block-0.npz", vp=beyond)
    np.savez(folder / "models" / "block-1.npz", vp=truth)
    np.savez(folder / "result.npz", vp=truth, truth=truth)
    text = draw_models(read_models(RunRecord.read(folder)))
    assert re.search(r'class="scale">1<i [^>]*></i>2</div>', text)
    assert "What is beyond the scale has the color of its end." in text
    assert _png(truth, 1.0, 2.0) in text
    assert _png(beyond, 1.0, 2.0) in text
    assert "0 to 3" in Page(text).text, "its own range is said"
    within = draw_models(Models({"vp": [("truth", truth), ("after one", truth)]}, [], [], []))
    assert "beyond" not in within


def test_a_picture_is_whole_in_a_narrow_window_until_somebody_asks_for_a_larger_one():
    narrow = STYLE[STYLE.index("@media (max-width: 560px)") :]
    for rule in re.findall(r"[^{}]*\{[^{}]*(?:overflow-x: auto|max-width: none)[^{}]*\}", narrow):
        assert ".picture:has(:checked)" in rule
    assert ".charts > figure, section > figure:not(.picture) { max-width: 560px; }" in STYLE
