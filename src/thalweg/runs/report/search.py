"""What a report says of a search: what was chosen and on what evidence, and what each field was tried at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from thalweg.runs.history import History
from thalweg.runs.record import RunRecord
from thalweg.runs.report.charts import paint, picture
from thalweg.runs.report.markup import Markup, element, section, table
from thalweg.runs.search_figures import candidate_means

_ROWS = 25  # candidates in the table
_FIELDS = 40  # pictures of fields
_WORD = 40  # characters of a text that can stand under an axis
_NAMES = 20  # different texts that can


def search_sections(record: RunRecord) -> list[Markup]:
    """The sections of a search; none for other runs.

    Raises:
        RunError: the history cannot be read.
    """
    history = History(record.folder.history)
    candidates = history.candidates()
    if not candidates:
        return []
    means = candidate_means(history)
    values = {candidate["number"]: candidate["values"] for candidate in candidates}
    origins = {candidate["number"]: candidate["origin"] for candidate in candidates}
    return [
        section("Search", element("div", _chosen(record), _best(record, means), class_="charts")),
        section(
            "What was tried", element("div", *_fields(values, means), class_="charts"), _ranked(values, origins, means)
        ),
    ]


def _chosen(record: RunRecord) -> Markup:
    search = record.facts.get("search")
    if search is None:
        return element("p", "The final choice is made when the run ends.", class_="dim")
    try:
        return _evidence(search)
    except (LookupError, TypeError, ValueError, AttributeError):  # somebody else's file
        return element("p", "What the history says of the final choice cannot be read: it is damaged.")


def _evidence(search: Any) -> Markup:
    winner, start = search["winner"], search.get("start") or {}
    rows = []
    for part, name in (("search", "search samples"), ("held_out", "held-out samples"), ("test", "test samples")):
        if part in winner:
            rows.append((name, _mean(winner[part]), _mean(start[part]) if part in start else "–"))
    parts: list[Markup] = [
        element("p", f"Candidate {winner['candidate']} was chosen on {search['chosen_on']}."),
        element("pre", json.dumps(winner["values"], indent=2, ensure_ascii=False)),
        table(["mean reward on", "chosen", "start"], rows),
    ]
    if "difference" in search:
        found = search["difference"]
        text = (
            f"On the test samples, which nothing else has seen, the chosen one is better than the start by "
            f"{found['mean']:+.4g}; 95 % interval {found['low']:+.4g} to {found['high']:+.4g} (paired bootstrap)."
        )
        parts.append(element("p", text))
    spent = search["spent"]
    text = f"Spent: {spent['evaluations']} evaluations, {spent['tokens']} tokens, {spent['money']:.4g} in money."
    if search.get("lost_in_flight"):
        text += f" {search['lost_in_flight']} evaluations were in flight when a process died, and are charged in full."
    if search.get("stopped"):
        text += f" Stopped by {search['stopped']}."
    return element("div", *parts, element("p", text, class_="dim"))


def _mean(part: dict[str, Any]) -> str:
    error = part.get("standard_error")
    band = f" ± {error:.2g}" if error else ""
    if "low" in part and part["low"] != part["high"]:
        band = f" ({part['low']:.4g} to {part['high']:.4g})"
    return f"{part['mean']:.4g}{band}"


def _best(record: RunRecord, means: dict[int, tuple[int, float, int]]) -> Markup:
    columns = record.iterations

    def draw(axes: Any) -> None:
        if means:
            tried = np.array([(iteration, mean) for iteration, mean, _ in means.values()])
            axes.plot(tried[:, 0], tried[:, 1], "o", color=paint(1), markersize=3.0, alpha=0.6)
        if "best" in columns:
            low, high = columns["best_low"], columns["best_high"]
            axes.fill_between(columns["iteration"], low, high, color=paint(0), alpha=0.25, step="post", linewidth=0)
            axes.step(columns["iteration"], columns["best"], where="post", color=paint(0), linewidth=1.6)

    caption = element(
        "figcaption",
        element("b", "Best so far"),
        " The best candidate's mean reward with its confidence band; dots are all candidates.",
    )
    return element("figure", caption, picture("best so far", draw, x="iteration"))


def _fields(values: dict[int, Any], means: dict[int, tuple[int, float, int]]) -> Iterator[Markup]:
    tried: dict[str, list[tuple[Any, float]]] = {}
    for number, entry in values.items():
        if number in means:
            for path, value in _leaves(entry, ""):
                tried.setdefault(path, []).append((value, means[number][1]))
    shown = 0
    for path, points in tried.items():
        drawn = _field(path, points)
        if drawn is not None and shown < _FIELDS:
            shown += 1
            yield drawn


def _field(path: str, points: list[tuple[Any, float]]) -> Markup | None:
    rewards = np.array([reward for _, reward in points])
    different = {json.dumps(value) for value, _ in points}
    if len(different) < 2:
        return None
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value, _ in points)
    if not numeric and (len(different) > _NAMES or max(map(len, different)) > _WORD):
        return None  # free text: the table has it

    def draw(axes: Any) -> None:
        if numeric:
            xs = np.array([float(value) for value, _ in points])
            if xs.min() > 0 and xs.max() / 50 >= xs.min():
                axes.set_xscale("log")
        else:
            names = sorted(different)
            xs = np.array([float(names.index(json.dumps(value))) for value, _ in points])
            axes.set_xticks(range(len(names)), [name.strip('"') for name in names], rotation=20, ha="right")
            axes.set_xlim(-0.5, len(names) - 0.5)
        axes.plot(xs, rewards, "o", color=paint(0), markersize=3.6, alpha=0.7)

    return element("figure", element("figcaption", element("b", path)), picture(path, draw, x=path.rsplit(".", 1)[-1]))


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _leaves(entry, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        yield f"{path} (length)", len(value)
    else:
        yield path, value


def _ranked(values: dict[int, Any], origins: dict[int, str], means: dict[int, tuple[int, float, int]]) -> Markup:
    order = sorted(means, key=lambda number: (-means[number][1], number))
    rows = []
    for number in order[:_ROWS]:
        iteration, mean, samples = means[number]
        text = json.dumps(values.get(number), ensure_ascii=False)
        rows.append((number, iteration, f"{mean:.5g}", samples, origins.get(number, ""), text[:600]))
    failed = len(values) - len(means)
    more = len(order) - len(rows)
    words = [f"{more} more are in run.sqlite." if more > 0 else "", f"{failed} have no reward." if failed else ""]
    text = " ".join(word for word in words if word)
    head = ["candidate", "iteration", "mean reward", "samples", "origin", "values"]
    return element("div", table(head, rows), *([element("p", text, class_="dim")] if text else []), class_="wide")
