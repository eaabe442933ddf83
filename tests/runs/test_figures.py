"""Axes that can be read, and one name for a block in all pictures."""

import tomllib
from pathlib import Path

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import thalweg as tw
from thalweg.runs import Run, Study
from thalweg.runs.figures import readable


@pytest.mark.parametrize(("low", "high"), [(0.93, 1.0), (0.6, 1.0), (0.2, 1.1), (0.03, 1.0)])
def test_a_misfit_that_falls_little_has_several_labels_without_powers(low, high):
    figure = Figure()
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.semilogy([1, 2], [high, low])
    readable(axes)
    figure.canvas.draw()
    bottom, top = axes.get_ylim()
    ticks = zip(axes.get_yticks(), axes.get_yticklabels(), strict=True)
    labels = [label.get_text() for tick, label in ticks if bottom <= tick <= top]
    assert 3 <= len(labels) <= 8
    assert [f"{float(label):g}" for label in labels] == labels
    assert not any(label.get_text() for label in axes.get_yticklabels(minor=True))


def test_both_pictures_call_a_block_the_same(tmp_path, monkeypatch):
    document = tomllib.loads((Path(__file__).parents[2] / "studies" / "inclusion.toml").read_text())
    document["blocks"] = [document["blocks"][0] | {"name": "low", "iterations": 2}]
    said = []
    drawn = Figure.savefig

    def looked_at(figure, *args, **options):
        said.append([t.get_text() for axes in figure.axes if axes.get_legend() for t in axes.get_legend().get_texts()])
        drawn(figure, *args, **options)

    monkeypatch.setattr(Figure, "savefig", looked_at)
    tw.wait(Run(Study.from_document(document), out=tmp_path / "run").execute())
    assert said == [["low"], ["low"]]
