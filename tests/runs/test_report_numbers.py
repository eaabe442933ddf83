"""The numbers that the pictures of ``thalweg report`` and ``thalweg compare`` are drawn of are those of the history."""

import re
from importlib import import_module

import numpy as np
import pytest

from thalweg.runs.compare import Comparison, draw_comparison
from thalweg.runs.folder import RunFolder
from thalweg.runs.history import HistoryWriter
from thalweg.runs.iteration import IterationRecord
from thalweg.runs.record import RunRecord
from thalweg.runs.report.charts import Curve, chart
from thalweg.runs.workers import COUNTED

STUDY = 'title = "T"\n[[blocks]]\nname = "low"\niterations = 3\n[[blocks]]\niterations = 2\n'
SECONDS = [0.5, 0.75, 2.0, 5.0, 6.5]
MISFITS = [8.0, 4.0, 2.0, 30.0, 3.0]
"""Of batches of two items; two blocks, the second from iteration 4 on."""
METRICS = {
    "step_norm": [0.1, 0.3, 0.2, 0.7, 0.4],
    "gradient_norm": [11.0, 7.0, 5.0, 3.0, 2.0],
    "learning_rate": [0.05, 0.04, 0.03, 0.02, 0.01],
    "model_error": [0.9, 0.8, 0.85, 0.6, 0.5],
    "own_count": [1.0, -2.0, 0.0, 12.0, 6.0],
}
FIRST, SECOND = slice(0, 3), slice(3, 5)


def make(path, misfits=MISFITS, metrics=METRICS, *, facts=None):
    folder = RunFolder.create(path)
    with HistoryWriter(folder.history, {"study": STUDY, **(facts or {})}) as writer:
        for k, (misfit, seconds) in enumerate(zip(misfits, SECONDS, strict=True)):
            found = {name: values[k] for name, values in metrics.items()}
            writer.iteration(IterationRecord(k + 1, k // 3, 1, 2, 2 * misfit, (0, 1), seconds, found))
        writer.event("resumed", "from iteration 3", iteration=3)
    folder.release()
    return path


@pytest.fixture
def drawn(tmp_path, monkeypatch):
    """Of each chart of the page, by title, the curves: x, y and name."""
    found = {}

    def listening(title, curves, **options):
        found[title] = [(curve.x.tolist(), curve.y.tolist(), curve.name) for curve in curves]
        return chart(title, curves, **options)

    pages = import_module("thalweg.runs.report.page")  # the package has a function of that name
    monkeypatch.setattr(pages, "chart", listening)
    record = RunRecord.read(make(tmp_path / "run", facts={COUNTED: {"worker 0": 3, "worker 1": 6, "worker 2": 1}}))
    found["page"] = pages.page(record)
    return found


def by_block(values):
    return [([1.0, 2.0, 3.0], values[FIRST], "low"), ([4.0, 5.0], values[SECOND], "block 2")]


def test_the_misfit_is_that_of_the_history_relative_to_the_first_of_its_block(drawn):
    assert drawn["Misfit"] == by_block([1.0, 0.5, 0.25, 1.0, 0.1])


@pytest.mark.parametrize(
    ("title", "name"),
    [
        ("Step size", "step_norm"),
        ("Gradient norm", "gradient_norm"),
        ("Learning rate", "learning_rate"),
        ("model error", "model_error"),
        ("own count", "own_count"),
    ],
)
def test_each_metric_is_drawn_of_its_own_column(drawn, title, name):
    assert drawn[title] == by_block(METRICS[name])


def test_the_seconds_of_an_iteration_are_those_since_its_neighbor(drawn):
    [(x, y, name)] = drawn["Seconds an iteration"]
    assert (x, name) == ([2.0, 3.0, 4.0, 5.0], "")
    np.testing.assert_array_equal(y, [0.25, 1.25, np.nan, 1.5])  # the run went on with iteration 4


def test_the_items_of_each_worker_are_those_that_were_counted(drawn):
    text = drawn["page"].partition("Items by worker")[2]
    rows = re.findall(r"<tr>(.*?)</tr>", text[: text.index("</table>")])
    cells = [re.findall(r">(worker \d)<.*?>(\d+)<.*?width:([\d.]+)%", row) for row in rows]
    assert [cell for row in cells for cell in row] == [
        *(("worker 0", "3", "50.0"), ("worker 1", "6", "100.0"), ("worker 2", "1", "16.7"))
    ]


@pytest.fixture
def plotted(monkeypatch):
    """What Matplotlib's axes are given: x and y of each line, and its label."""
    from matplotlib.axes import Axes

    lines, plot = [], Axes.plot

    def listening(self, x, y, **options):
        lines.append((np.array(x), np.array(y), options.get("label")))
        return plot(self, x, y, **options)

    monkeypatch.setattr(Axes, "plot", listening)
    return lines


def equal(found, expected):
    assert [label for _, _, label in found] == [label for _, _, label in expected]
    for (x, y, _), (other_x, other_y, _) in zip(found, expected, strict=True):
        np.testing.assert_array_equal(x, other_x)
        np.testing.assert_array_equal(y, other_y)


def test_a_chart_draws_the_numbers_of_its_curves(plotted):
    x, y = np.array([1.0, 2.0, 4.0]), np.array([3.0, np.nan, 0.5])
    nothing = Curve(x, np.full(3, np.nan), "nothing")
    assert chart("t", [Curve(x, y, "a"), nothing, Curve(x + 4, 2 * y, "b", 1)])
    equal(plotted, [(x, y, None), (x + 4, 2 * y, None)])


def test_the_curves_of_compare_are_the_misfits_with_a_gap_between_blocks(tmp_path, plotted):
    others = [5.0, 4.5, 0.25, 7.0, 6.0]
    make(tmp_path / "a"), make(tmp_path / "b", others)
    comparison = Comparison.read([tmp_path / "a", tmp_path / "b"])
    draw_comparison(comparison, tmp_path / "x.svg")
    x = [1.0, 2.0, 3.0, np.nan, 4.0, 5.0]
    a, b = comparison.names
    equal(plotted, [(x, [*m[FIRST], np.nan, *m[SECOND]], n) for m, n in ((MISFITS, a), (others, b))])


def test_the_curves_of_compared_searches_are_the_best_rewards(tmp_path, plotted):
    rewards = {"a": [0.2, 0.2, 0.5, 0.5, 0.75], "b": [-0.5, 0.1, 0.1, 0.3, 0.3]}
    for name, best in rewards.items():
        make(tmp_path / name, metrics={"best": best, "evaluations": [1.0, 2.0, 3.0, 4.0, 5.0]})
    comparison = Comparison.read([tmp_path / name for name in rewards])
    draw_comparison(comparison, tmp_path / "x.svg")
    x = [1.0, 2.0, 3.0, np.nan, 4.0, 5.0]
    equal(
        plotted,
        [
            (x, [*best[FIRST], np.nan, *best[SECOND]], name)
            for best, name in zip(rewards.values(), comparison.names, strict=True)
        ],
    )
