"""``thalweg report``: what is on the page, that it needs nothing else, and that it reads whatever state a run is in."""

import itertools
import re
import shutil
import time
from html.parser import HTMLParser

import numpy as np
import pytest

from tests.runs.deconvolution import Deconvolution
from thalweg.errors import RunError
from thalweg.graph import wait
from thalweg.runs import History, Run, Study
from thalweg.runs.folder import RunFolder
from thalweg.runs.history import HistoryWriter
from thalweg.runs.iteration import IterationRecord
from thalweg.runs.loop import Loop
from thalweg.runs.norms import norm
from thalweg.runs.record import RunRecord
from thalweg.runs.report import write_report
from thalweg.runs.report.changes import changes_of
from thalweg.runs.report.charts import Curve, _thinned, chart
from thalweg.runs.report.markup import element, join, table
from thalweg.runs.report.models import Models, draw_models

EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)>&\"'"
VOID = {"meta", "img", "br", "link", "input"}


class Page(HTMLParser):
    """The elements and the text of a page; tags must close in order."""

    def __init__(self, text):
        super().__init__()
        self.elements, self.open, self.texts = [], [], []
        self.feed(text)
        self.close()
        assert self.open == []
        self.text = " ".join(" ".join(self.texts).split())

    def handle_starttag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.elements.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.texts.append(data)

    def tags(self, name):
        return [attributes for tag, attributes in self.elements if tag == name]


def run(document, kinds, out, **options):
    return wait(Run(Study.from_document(document, kinds=kinds, **options), out=out).execute())


def report(folder, out):
    return Page(write_report(folder, out / "report.html").read_text(encoding="utf-8"))


def needs_nothing_else(page):
    assert not page.tags("script")
    assert not page.tags("link")
    for _, attributes in page.elements:
        assert not any(name.startswith("on") for name in attributes)
        for name in ("src", "href", "xlink:href", "action", "data"):
            address = attributes.get(name) or "#"
            assert address.startswith(("#", "data:image/png;base64,")), address
        assert "url(" not in re.sub(r"url\(#", "", attributes.get("style") or "")
    policies = [meta for meta in page.tags("meta") if meta.get("http-equiv") == "Content-Security-Policy"]
    assert policies[0]["content"].startswith("default-src 'none'")


def test_a_finished_run_is_on_one_page_that_needs_nothing_else(tmp_path, document, kinds):
    outcome = run(document, kinds, tmp_path / "run", overrides=["problem.noise=0.02"])
    path = write_report(tmp_path / "run")
    assert path == tmp_path / "run" / "report.html"
    text = path.read_text(encoding="utf-8")
    page = Page(text)
    needs_nothing_else(page)
    columns = outcome.history.iterations()
    for expected in (
        *("A blurred signal", "finished", "7 iterations in", "low", "block 2", outcome.summary["digest"], "Seed"),
        *("Step size", "Gradient norm", "Learning rate", "Seconds an iteration", "Items by worker", "per sample"),
        *(f"{columns['misfit'][0]:.4e}", f"{columns['misfit'][-1]:.4e}", "processor", "numba", np.__version__),
        *("error end", "started", "problem.noise", "0.02", 'kind = "deconvolution"', "after low", "truth"),
    ):
        assert expected in page.text, expected
    assert "has ['seed'], which are the run's own" in page.text  # the warning of that run
    # One drawn by the problem; the misfit, which the page draws itself, is left out.
    assert len(page.tags("img")) == 1
    assert len(page.tags("svg")) >= 7
    assert "#a0f1" not in text, "every color is the page's"
    assert "prefers-color-scheme: dark" in text
    assert sum(outcome.history.facts()["items_by_worker"].values()) == columns["items"].sum()


def test_what_comes_from_a_run_is_text(tmp_path, document, kinds):
    document["title"] = document["description"] = EVIL
    document["blocks"][0]["name"] = EVIL
    document["problem"]["fail_at"] = 7
    with pytest.raises(ZeroDivisionError):
        run(document, kinds, tmp_path / "run")
    with HistoryWriter(tmp_path / "run" / "run.sqlite") as writer:
        writer.event("warning", EVIL, details={"notes": [EVIL], "set": [EVIL]})
        writer.event(EVIL, EVIL)
        writer.iteration(IterationRecord(7, 1, 1, 1, 1.0, (0,), 9.0, {EVIL: 1.0}))
        writer.fact("items_by_worker", {EVIL: 3})
    (tmp_path / "run" / "figures" / f"{EVIL.replace('/', '')}.png").write_bytes(b"no picture")
    shutil.copy(tmp_path / "run" / "figures" / "signal.png", tmp_path / "run" / "figures" / '"><script>.png')
    page = report(tmp_path / "run", tmp_path)
    needs_nothing_else(page)
    assert page.text.count("<script>alert(1)</script>") >= 10
    assert "ZeroDivisionError: the simulator broke" in page.text
    assert not [image for image in page.tags("img") if "onerror" in image]


def test_a_running_run_is_read_without_disturbing_it(tmp_path, started):
    folder, writer = started
    page = report(folder.path, tmp_path)
    needs_nothing_else(page)
    assert "running" in page.text
    assert "3 of 7 iterations, 1.5 s so far" in page.text
    assert "one" in page.text
    assert "1 / 5" in page.text  # of block 2
    writer.iteration(IterationRecord(4, 1, 1, 2, 1.0, (0, 1), 2.0))
    writer.flush()
    assert "4 of 7 iterations" in report(folder.path, tmp_path).text
    assert RunRecord.read(folder.path).status == "running"
    folder.release()
    page = report(folder.path, tmp_path)
    assert "killed after 4 of 7 iterations" in page.text
    assert "thalweg resume" in page.text


def test_a_run_that_has_only_begun(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    HistoryWriter(folder.history).close()
    page = report(folder.path, tmp_path)
    assert "No iteration is done yet." in page.text
    folder.release()
    assert RunRecord.read(folder.path).status == "killed"


def test_what_is_damaged_is_named_and_costs_only_itself(tmp_path, document, kinds):
    out = tmp_path / "run"
    document["output"] = {"checkpoint_every": 2}
    run(document, kinds, out)
    whole = report(out, tmp_path).text
    assert "is damaged" not in whole
    assert "whole" in whole
    newest = sorted((out / "checkpoints").iterdir())[-1]
    states = [path for path in newest.iterdir() if path.name != "manifest.json"]
    data = bytearray(states[0].read_bytes())
    data[-1] ^= 1
    states[0].write_bytes(data)
    (out / "summary.json").write_text("{")
    (out / "result.npz").write_bytes(b"PK\x03\x04 no archive")
    (out / "models" / "block-0.npz").write_bytes(b"")
    (out / "figures" / "signal.png").write_bytes(b"<svg onload=alert(1)>")
    page = report(out, tmp_path)
    for name in (
        f"checkpoint {int(newest.name)} is damaged",
        "summary.json",
        "result.npz",
        "block-0.npz",
        "signal.png",
    ):
        assert name in page.text, name
    assert "finished" in page.text  # the history says so, too
    assert "after block 2" in page.text


def test_a_history_that_is_none_is_an_error_that_says_so(tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.sqlite").write_bytes(b"no database, but long enough for a header of one" * 9)
    with pytest.raises(RunError, match="cannot be read"):
        write_report(tmp_path / "run")
    with pytest.raises(RunError, match=r"no such folder.*Runs near there: .*run"):
        write_report(tmp_path / "nur")
    with pytest.raises(RunError, match=r"It has no run\.sqlite"):
        write_report(tmp_path)


def test_nothing_else_in_the_folder_changes(tmp_path, document, kinds):
    run(document, kinds, tmp_path / "run")

    def state():
        return {p: (p.stat().st_mtime_ns, p.stat().st_size) for p in (tmp_path / "run").rglob("*")}

    before = state()
    write_report(tmp_path / "run", tmp_path / "elsewhere.html")
    assert state() == before
    with pytest.raises(RunError, match="There is no folder"):
        write_report(tmp_path / "run", tmp_path / "no" / "where.html")
    with pytest.raises(RunError, match="is a folder"):
        write_report(tmp_path / "run", tmp_path)


def test_what_a_resumption_changed_is_shown(tmp_path, document, kinds):
    document["problem"]["fail_at"] = 6
    with pytest.raises(ZeroDivisionError):
        run(document, kinds, tmp_path / "run")
    changes = ["problem.fail_at=-1", "blocks.1.iterations=4"]
    wait(Run.resume(tmp_path / "run", overrides=changes, kinds=kinds).execute())
    record = RunRecord.read(tmp_path / "run")
    found = {(c.when, c.key): (c.before, c.after) for c in changes_of(record)}
    assert found == {
        ("resumed at iteration 5", "problem.fail_at"): ("6", "-1"),
        ("resumed at iteration 5", "blocks.1.iterations"): ("3", "4"),
    }
    page = report(tmp_path / "run", tmp_path)
    assert "process 2 of 2" in page.text
    assert "resumed at iteration 5" in page.text
    assert sum(record.facts["items_by_worker"].values()) == record.iterations["items"].sum()


def test_norms_are_those_of_the_gradient_and_of_the_step(tmp_path, document, kinds, monkeypatch):
    gradients = []
    feedback = Deconvolution.feedback

    async def listening(self, batch, runtime):
        found = await feedback(self, batch, runtime)
        gradients.append((found.gradients["x"].copy(), self.x.data.copy()))
        return found

    monkeypatch.setattr(Deconvolution, "feedback", listening)
    outcome = run(document, kinds, tmp_path / "run")
    columns = outcome.history.iterations()
    models = [x for _, x in gradients]
    with np.load(tmp_path / "run" / "result.npz") as result:
        models.append(result["x"])
    steps = [np.linalg.norm(after - before) for before, after in itertools.pairwise(models)]
    np.testing.assert_allclose(columns["step_norm"], steps, rtol=1e-12)
    np.testing.assert_allclose(columns["gradient_norm"], [np.linalg.norm(g) for g, _ in gradients], rtol=1e-12)
    # The run itself has the same bits as one that measures nothing.

    async def apply(self, feedback):
        await self._optimizer.apply(feedback)
        return {}

    monkeypatch.setattr(Loop, "_apply", apply)
    assert run(document, kinds, tmp_path / "other").summary["digest"] == outcome.summary["digest"]


def test_a_metric_of_the_problem_keeps_its_name(tmp_path, document, kinds, monkeypatch):
    monkeypatch.setattr(Deconvolution, "metrics", lambda self: {"gradient_norm": -5.0})
    columns = run(document, kinds, tmp_path / "run").history.iterations()
    assert set(columns["gradient_norm"]) == {-5.0}
    assert np.all(columns["step_norm"] > 0)


def test_a_norm_that_is_not_finite_is_left_out():
    assert norm([np.array([3e38, 3e38], np.float32)]) == pytest.approx(3e38 * 2**0.5)
    assert norm([np.array([1e300])]) == np.inf
    assert norm([np.array([3 + 4j])]) == 5.0
    assert norm([]) == 0.0
    assert norm([np.full(100_000, 2.0)]) == pytest.approx(2.0 * 100_000**0.5)


def test_the_model_after_each_block_is_kept(tmp_path, document, kinds):
    run(document, kinds, tmp_path / "run")
    document["blocks"] = document["blocks"][:1]
    first = run(document, kinds, tmp_path / "first")
    with (
        np.load(tmp_path / "run" / "models" / "block-0.npz") as kept,
        np.load(tmp_path / "first" / "result.npz") as result,
    ):
        assert kept["x"].tobytes() == result["x"].tobytes()
    assert first.status == "finished"


@pytest.mark.parametrize("shape", [(), (1,), (3,), (100,), (6, 8), (4, 40), (3, 5, 7), (2, 2, 2, 2), (900, 1300), (0,)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int8"])
def test_variables_of_any_shape_are_drawn(shape, dtype):
    array = np.arange(np.prod(shape, dtype=int)).reshape(shape).astype(dtype)
    other = array.copy()
    if other.size and dtype != "int8":
        other.reshape(-1)[0] = np.nan
        other.reshape(-1)[-1] = np.finfo(dtype).max
    panels = {"v": [("one", array), ("two", other)], "w": [("text", np.array(["a"]))]}
    page = Page(draw_models(Models(panels, [], [], [])))
    pictures = {2: 2, 3: 2}.get(len(shape), 0)
    assert len(page.tags("img")) == pictures
    assert len(page.tags("svg")) == (len(shape) == 1 and shape[0] > 12)
    assert ("v" in page.text) == bool(array.size)


def test_a_curve_is_thinned_without_losing_its_peaks():
    x = np.arange(100_000.0)
    y = np.sin(x / 1e4)
    y[[123, 77_777]] = 50.0, -50.0
    y[5000:5400] = np.nan
    few, values = _thinned(x, y)
    assert len(few) < 2000
    assert np.nanmax(values) == 50.0
    assert np.nanmin(values) == -50.0
    assert np.isnan(values).any()
    assert len(chart("c", [Curve(x, y)])) < 200_000


@pytest.mark.parametrize("log", [False, True])
@pytest.mark.parametrize(
    "values", [[0.0, 0.0], [1e308, -1e308], [5e-324, 1.0], [np.nan, np.inf, 1.0], [3.0], [1e-9, 1e-9]]
)
def test_a_chart_takes_any_numbers(values, log):
    y = np.array(values)
    page = Page(chart("t", [Curve(np.arange(1.0, len(y) + 1), y, "n")], log=log))
    assert len(page.tags("svg")) == 1


def test_a_chart_of_nothing_is_nothing():
    assert chart("t", [Curve(np.array([1.0]), np.array([np.nan]))]) == ""
    assert chart("t", []) == ""


def test_markup_escapes_and_cleans():
    assert element("a", "<", class_='"') == '<a class="&quot;">&lt;</a>'
    assert join(["\x00\x1b[31m\ud800", 3]) == "��[31m?3"
    assert "number" in table(["a"], [["<"]], numbers=[0])


def test_moment_reads_the_newest_iterations(started):
    folder, _ = started
    moment = History(folder.path).moment(last=2)
    assert moment.iterations["iteration"].tolist() == [2, 3]
    assert [event["kind"] for event in moment.events] == ["started"]


def test_moments_say_their_time_zone(monkeypatch):
    """A report is read elsewhere, and twice in autumn it is half past two."""
    from thalweg.runs.report.happened import moment

    monkeypatch.setenv("TZ", "CET-1CEST,M3.5.0,M10.5.0/3")
    try:
        time.tzset()
        assert moment(1761438600) == "2025-10-26 02:30:00 +0200"
        assert moment(1761438600 + 3600) == "2025-10-26 02:30:00 +0100"
    finally:
        monkeypatch.undo()
        time.tzset()
