"""What the report of a search and its picture draw, against numbers that are computed from the evaluations here."""

import math
import re
from collections import defaultdict

import numpy as np
import pytest
from matplotlib.figure import Figure
from pydantic import BaseModel

from tests.runs.pictures import pictures_of
from thalweg.graph import wait
from thalweg.runs import RewardProblem, Run, Study
from thalweg.runs.report import write_report
from thalweg.runs.search_figures import plot_search
from thalweg.search import SampleReward, StructuredVariable

ITEMS = 8
CONFIDENCE, Z = 0.9, 1.2815515655446004  # the normal distribution's quantile

SCHEMA = {
    "type": "object",
    "properties": {
        "x": {"type": "number", "minimum": -4.0, "maximum": 4.0},
        "weight": {"type": "number", "minimum": 1e-3, "maximum": 1e3, "x-scale": "log"},
        "kind": {"enum": ["plain", "wide", "cut"]},
        "widths": {"type": "array", "items": {"type": "integer", "minimum": 1, "maximum": 9}, "maxItems": 4},
        "fixed": {"const": 3},
    },
    "required": ["x", "weight", "kind", "widths", "fixed"],
}
START = {"x": -3.0, "weight": 0.5, "kind": "wide", "widths": [2], "fixed": 3}


class Fields(RewardProblem):
    """A number, one in the logarithm, a choice and a list; on one of the samples a choice fails."""

    kind = "fields"
    items, held_out, test = ITEMS, 3, 0

    class Settings(BaseModel, extra="forbid"):
        pass

    class BlockSettings(BaseModel, extra="forbid"):
        pass

    def __init__(self):
        self.variables = (StructuredVariable(START, SCHEMA, name="field"),)

    @classmethod
    def build(cls, settings, blocks, *, seed, folder):
        return cls()

    async def reward(self, values, item, runtime):
        found = values["field"]
        if found["kind"] == "cut" and item == 2:
            raise ValueError("it slipped")
        noise = math.sin(7.0 * item + found["x"])
        return SampleReward(2.0 - abs(found["x"] - 1.0) - 0.1 * math.log10(found["weight"]) ** 2 + noise)


@pytest.fixture(scope="module")
def searched(tmp_path_factory):
    """The history of a search on some of the samples at a time, and the page of its report."""
    document = {
        "title": "fields",
        "seed": 3,
        "problem": {"kind": "fields"},
        "optimizer": {"kind": "random", "candidates": 2, "confidence": CONFIDENCE},
        "blocks": [{"iterations": 9, "selection": "random", "batch_size": 3}],
        "output": {"figures": False},
    }
    study = Study.from_document(document, kinds={"fields": Fields})
    outcome = wait(Run(study, out=tmp_path_factory.mktemp("fields") / "run").execute())
    assert outcome.status == "finished"
    return outcome.history, write_report(outcome.folder).read_text(), outcome.summary["search"]


class Known:
    """What is known of the candidates after an iteration, from the evaluations of the search up to it::

    m_i ± z · s / √n_i · √(1 − n_i / N),   s² = Σ_i Σ_j (r_ij − m_i)² / Σ_i (n_i − 1)
    """

    def __init__(self, history, iteration):
        self.rewards, self.failed = defaultdict(dict), set()
        for row in history.evaluations():
            if row.stage == "search" and row.iteration <= iteration:
                if row.status == "failed":
                    self.failed.add(row.candidate)
                else:
                    assert row.item not in self.rewards[row.candidate], "nothing is scored twice"
                    self.rewards[row.candidate][row.item] = row.reward
        self.means = {number: np.mean(list(rewards.values())) for number, rewards in self.rewards.items()}
        squares = sum(sum((r - self.means[n]) ** 2 for r in rs.values()) for n, rs in self.rewards.items())
        self.deviation = math.sqrt(squares / sum(len(rewards) - 1 for rewards in self.rewards.values()))
        whole = [number for number in self.rewards if number not in self.failed]
        self.best = max(whole, key=lambda number: self.bounds(number)[0])

    def bounds(self, number):
        count = len(self.rewards[number])
        half = Z * self.deviation / math.sqrt(count) * math.sqrt(1 - count / ITEMS)
        return self.means[number] - half, self.means[number] + half


def known_by_iteration(history):
    return [Known(history, int(iteration)) for iteration in history.iterations()["iteration"]]


def points_of(history):
    """Of each candidate that has not failed: values, first iteration, mean, and whether it is of all samples."""
    known = Known(history, math.inf)
    return [
        (one["values"]["field"], one["iteration"], known.means[one["number"]], len(known.rewards[one["number"]]))
        for one in history.candidates()
        if one["number"] in known.means and one["number"] not in known.failed
    ]


def steps(iterations, heights):
    """The corners of a curve that keeps each height until the next iteration."""
    corners = [(iterations[0], heights[0])]
    for k in range(1, len(iterations)):
        corners += [(iterations[k], heights[k - 1]), (iterations[k], heights[k])]
    return np.array(corners)


def same_points(found, expected):
    """Both have the same points, in whatever order, and however often."""
    found, expected = np.asarray(found), np.asarray(expected)
    distances = np.abs(found[:, None] - expected[None]).max(axis=2)
    assert distances.min(axis=0).max() < 1e-5, "one is missing"
    assert distances.min(axis=1).max() < 1e-5, "one is there that should not be"


def same_dots(found, expected):
    assert len(found) == len(expected)
    same_points(found, expected)


def test_the_history_has_the_best_candidates_mean_with_its_confidence_bounds(searched):
    history, _, search = searched
    columns, known = history.iterations(), known_by_iteration(searched[0])
    bounds = np.array([one.bounds(one.best) for one in known])
    np.testing.assert_array_equal(columns["best_candidate"], [one.best for one in known])
    np.testing.assert_allclose(columns["best"], [one.means[one.best] for one in known], rtol=1e-12)
    np.testing.assert_allclose(columns["best_low"], bounds[:, 0], rtol=1e-10)
    np.testing.assert_allclose(columns["best_high"], bounds[:, 1], rtol=1e-10)
    np.testing.assert_array_equal(columns["best_samples"], [len(one.rewards[one.best]) for one in known])
    assert len(set(columns["best_candidate"])) > 2
    assert min(np.ptp(bounds, axis=1)) == 0.0 < max(np.ptp(bounds, axis=1)), "on all samples nothing is unsure"
    assert known[-1].failed, "one candidate at least is never the best"
    winner, low, high = search["winner"], *known[-1].bounds(search["winner"]["candidate"])
    assert winner["search"]["mean"] == pytest.approx(known[-1].means[winner["candidate"]])
    assert (winner["search"]["low"], winner["search"]["high"]) == (pytest.approx(low), pytest.approx(high))


def test_the_report_draws_the_best_so_far_its_band_and_all_candidates(searched):
    history, page, _ = searched
    picture, known = pictures_of(page)["Best so far"], known_by_iteration(history)
    iterations = history.iterations()["iteration"]
    (line,) = picture.lines["--s1"]
    np.testing.assert_allclose(line, steps(iterations, [one.means[one.best] for one in known]), rtol=0, atol=1e-5)
    (area,) = picture.areas["--s1"]
    lows, highs = zip(*(one.bounds(one.best) for one in known), strict=True)
    same_points(area, np.concatenate([steps(iterations, lows), steps(iterations, highs)]))
    points = points_of(history)
    same_dots(picture.hollow["--s2"], [(at, mean) for _, at, mean, count in points if count < ITEMS])
    whole = [(at, mean) for _, at, mean, count in points if count == ITEMS]
    assert whole
    same_dots(picture.dots["--s2"], whole)


@pytest.mark.parametrize(
    ("path", "value_of"),
    [
        ("field.x", lambda field: field["x"]),
        ("field.weight", lambda field: math.log10(field["weight"])),
        ("field.kind", lambda field: ["cut", "plain", "wide"].index(field["kind"])),
        ("field.widths (length)", lambda field: len(field["widths"])),
    ],
)
def test_the_report_draws_what_each_field_was_tried_at(searched, path, value_of):
    history, page, _ = searched
    picture, points = pictures_of(page)[path], points_of(history)
    assert picture.names == ([] if path != "field.kind" else sorted({field["kind"] for field, *_ in points}))
    assert picture.logarithmic == (path == "field.weight")
    same_dots(picture.hollow["--s1"], [(value_of(field), mean) for field, _, mean, count in points if count < ITEMS])
    same_dots(picture.dots["--s1"], [(value_of(field), mean) for field, _, mean, count in points if count == ITEMS])


def test_a_field_that_is_always_the_same_has_no_picture(searched):
    assert [title for title in pictures_of(searched[1]) if title.startswith("field.")] == [
        "field.x",
        "field.weight",
        "field.kind",
        "field.widths (length)",
    ]


def test_the_table_of_what_was_tried_has_the_best_means_first(searched):
    history, page, _ = searched
    known, tried = Known(history, math.inf), {one["number"]: one for one in history.candidates()}
    rows = re.findall(r"<tr><td>(\d+)</td><td>(\d+)</td><td>([^<]*)</td><td>(\d+) of 8</td>", page)
    ranked = sorted(known.means.keys() - known.failed, key=lambda number: -known.means[number])
    assert [tuple(row) for row in rows] == [
        (str(n), str(tried[n]["iteration"]), f"{known.means[n]:.5g}", str(len(known.rewards[n]))) for n in ranked
    ]


def test_the_figure_draws_the_same_band_line_and_candidates(searched):
    history = searched[0]
    axes, known = Figure().subplots(), known_by_iteration(history)
    plot_search(axes, history)
    iterations, best = history.iterations()["iteration"], [one.means[one.best] for one in known]
    few = np.array([len(one.rewards[one.best]) < ITEMS for one in known])
    assert few.any()
    assert not few.all()
    for line, there in zip(axes.lines, (~few, few), strict=True):
        assert line.get_drawstyle() == "steps-post"
        np.testing.assert_array_equal(line.get_xdata(), iterations)
        np.testing.assert_allclose(line.get_ydata(), np.where(there, best, np.nan), rtol=1e-12)
    (band,) = [one for one in axes.collections if one.get_label().startswith("its bounds")]
    assert band.get_label() == "its bounds (90 % each, 80 % between them)"
    (area,) = band.get_paths()
    lows, highs = zip(*(one.bounds(one.best) for one in known), strict=True)
    same_points(area.vertices, np.concatenate([steps(iterations, lows), steps(iterations, highs)]))
    for label, of_all in (("a candidate", True), ("one on some samples", False)):
        (dots,) = [one for one in axes.collections if one.get_label() == label]
        expected = [(at, mean) for _, at, mean, count in points_of(history) if (count == ITEMS) == of_all]
        same_dots(np.asarray(dots.get_offsets()), expected)
