"""What a report says of a search: what was chosen and on what evidence, and what each field was tried at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import numpy as np

from thalweg.errors import RunError
from thalweg.runs.against import METHOD, against_start
from thalweg.runs.compared import ENGINE, ScoredOn, compared, compared_from, level_of
from thalweg.runs.history import History
from thalweg.runs.record import RunRecord
from thalweg.runs.report.charts import paint, picture, whole_numbers
from thalweg.runs.report.markup import Markup, element, section, table
from thalweg.runs.search_figures import apart, candidate_means
from thalweg.runs.summary import amount
from thalweg.runs.telling import several
from thalweg.search.values import digest_json

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
    try:
        means = candidate_means(history)
        first, _ = compared_from(record.facts)
    except RunError as error:  # somebody else's file
        return [section("Search", element("p", f"What was tried cannot be shown. {error}"))]
    on = ScoredOn.of(record.facts)
    values = {one["number"]: one["values"] for one in candidates if one["number"] >= first}
    origins = {candidate["number"]: candidate["origin"] for candidate in candidates}
    return [
        section(
            "Search",
            *_engine(record),
            element("div", _chosen(record), _best(record, means), class_="charts"),
            _values(record),
        ),
        section(
            "What was tried",
            element("div", *_fields(values, means, on), class_="charts"),
            _ranked(values, origins, means, on),
        ),
    ]


def _engine(record: RunRecord) -> list[Markup]:
    """Which engine was chosen, where the study leaves that open."""
    text = record.facts.get(ENGINE)
    return [element("p", f"The engine is {text}.")] if isinstance(text, str) else []


def _chosen(record: RunRecord) -> Markup:
    search = record.facts.get("search")
    if not search:
        return element("p", "The final choice is made when the run ends.", class_="dim")
    try:
        return _evidence(search, level_of(record.facts))
    except (LookupError, TypeError, ValueError, AttributeError):  # somebody else's file
        return element("p", "What the history says of the final choice cannot be read: it is damaged.")


def _evidence(search: Any, level: str) -> Markup:
    winner, start = search.get("winner") or {}, search.get("start") or {}
    on = ScoredOn.read(search.get("scored_on"))
    rows = []
    for part, name in (("search", "search samples"), ("held_out", "held-out samples"), ("test", "test samples")):
        if part in winner:
            first, other = (
                f"{_mean(one[part])}{on.counted(part, one[part])}" if part in one else "–" for one in (winner, start)
            )
            rows.append((name, first, other))
    parts: list[Markup] = [element("p", "Nothing was chosen: no candidate was scored.")]
    if winner:
        parts = [
            element("p", f"Candidate {winner['candidate']} was chosen on {search['chosen_on']}."),
            table([f"{on.reward} on", "chosen", "start"], rows),
            *_legend(rows, level),
        ]
    parts += [element("p", f"The final choice is incomplete: {text}") for text in search.get("incomplete", ())]
    others = search.get("tested_before", 0)
    against = against_start(search)
    if against is not None:
        untouched = "" if others else ", which nothing else has seen,"
        how = f" The interval is {METHOD}." if "low" in search["difference"] else ""
        text = f"On the test samples{untouched} the chosen one is {' '.join(against)}.{how}"
        parts.append(element("p", text))
    if others:
        text = (
            f"{others} other {'candidate was' if others == 1 else 'candidates were'} scored on test samples before, "
            "for final choices from which the run went on: whoever went on because of them has chosen by these "
            "samples, too, and they are no longer samples that nothing else has seen."
        )
        parts.append(element("p", text))
    spent = search["spent"]
    text = f"Spent: {amount(spent)}."
    if search.get("unused"):
        text += f" Of these, {amount(search['unused'])} were paid for and not used: the study no longer asks for them,"
        text += " or they were given up."
    if search.get("not_compared"):
        text += f" Candidates 0 to {search['not_compared'] - 1} are of before something else decided rewards: nothing "
        text += "is compared with their scores; run.sqlite has them."
    if search.get("lost_in_flight"):
        text += f" {search['lost_in_flight']} evaluations were in flight when a process died, and are charged in full."
    return element("div", *parts, element("p", text, class_="dim"))


def _values(record: RunRecord) -> Markup:
    """What was chosen, in full."""
    search = record.facts.get("search")
    winner = search.get("winner") if isinstance(search, dict) else None
    if not isinstance(winner, dict) or "values" not in winner:
        return Markup("")
    text = json.dumps(winner["values"], indent=2, ensure_ascii=False)
    return element("div", element("h3", "The chosen values"), element("pre", text))


def _mean(part: dict[str, Any]) -> str:
    error = part.get("standard_error")
    band = f" ± {error:.2g}" if error else ""
    if "low" in part and part["low"] != part["high"]:
        band = f" ({part['low']:.4g} to {part['high']:.4g})"
    return f"{part['mean']:.4g}{band}"


def _legend(rows: list[tuple[str, str, str]], level: str) -> list[Markup]:
    """What stands behind a mean, of what is there."""
    cells = " ".join(cell for _, *means in rows for cell in means)
    said = {"(": f"In brackets: confidence bounds{level}.", "±": "± is one standard error."}
    text = " ".join(sentence for mark, sentence in said.items() if mark in cells)
    return [element("p", text, class_="dim")] if text else []


def _best(record: RunRecord, means: dict[int, tuple[int, float, int]]) -> Markup:
    columns, on = record.iterations, ScoredOn.of(record.facts)
    whole, partly = apart(means, on.search)

    def draw(axes: Any) -> None:
        axes.plot(whole[:, 0], whole[:, 1], "o", color=paint(1), markersize=3.0, alpha=0.6)
        axes.plot(partly[:, 0], partly[:, 1], "o", color=paint(1), markersize=3.0, alpha=0.6, fillstyle="none")
        if "best" in columns:
            low, best, high = (compared(columns, record.facts, name) for name in ("best_low", "best", "best_high"))
            axes.fill_between(columns["iteration"], low, high, color=paint(0), alpha=0.25, step="post", linewidth=0)
            axes.step(columns["iteration"], best, where="post", color=paint(0), linewidth=1.6)
        whole_numbers(axes)

    caption = element(
        "figcaption",
        element("b", "Best so far"),
        f" The best candidate's mean reward with its confidence bounds{level_of(record.facts)}; dots are all "
        f"candidates{_hollow(on, len(partly))}.",
    )
    return element("figure", caption, picture("best so far", draw, x="iteration", y=on.reward))


def _hollow(on: ScoredOn, count: int) -> str:
    """What a hollow dot means, if there is one."""
    return f", hollow those that were scored on some of the {on.search} {several(on.item_name)} only" if count else ""


def _fields(values: dict[int, Any], means: dict[int, tuple[int, float, int]], on: ScoredOn) -> Iterator[Markup]:
    tried: dict[str, list[tuple[Any, float, bool]]] = {}
    for number, entry in values.items():
        if number in means:
            _, mean, count = means[number]
            for path, value in _leaves(entry, ""):
                tried.setdefault(path, []).append((value, mean, on.search is None or count >= on.search))
    shown = 0
    for path, points in tried.items():
        drawn = _field(path, points, on)
        if drawn is not None and shown < _FIELDS:
            shown += 1
            yield drawn


def _field(path: str, points: list[tuple[Any, float, bool]], on: ScoredOn) -> Markup | None:
    rewards = np.array([reward for _, reward, _ in points])
    whole = np.array([everywhere for _, _, everywhere in points])
    different = {json.dumps(value) for value, _, _ in points}
    if len(different) < 2:
        return None
    numeric = all(isinstance(value, int | float) and not isinstance(value, bool) for value, _, _ in points)
    if not numeric and (len(different) > _NAMES or max(map(len, different)) > _WORD):
        return None  # free text: the table has it

    def draw(axes: Any) -> None:
        if numeric:
            xs = np.array([float(value) for value, _, _ in points])
            if xs.min() > 0 and xs.max() / 50 >= xs.min():
                axes.set_xscale("log")
            elif all(isinstance(value, int) for value, _, _ in points):
                whole_numbers(axes)
        else:
            names = sorted(different)
            xs = np.array([float(names.index(json.dumps(value))) for value, _, _ in points])
            axes.set_xticks(range(len(names)), [name.strip('"') for name in names], rotation=20, ha="right")
            axes.set_xlim(-0.5, len(names) - 0.5)
        for some, style in ((whole, "full"), (~whole, "none")):
            axes.plot(xs[some], rewards[some], "o", color=paint(0), markersize=3.6, alpha=0.7, fillstyle=style)

    return element(
        "figure",
        element("figcaption", element("b", path)),
        picture(path, draw, x=path.rsplit(".", 1)[-1], y=on.reward),
    )


def _leaves(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, entry in value.items():
            yield from _leaves(entry, f"{path}.{key}" if path else str(key))
    elif isinstance(value, list):
        yield f"{path} (length)", len(value)
    else:
        yield path, value


def _ranked(
    values: dict[int, Any], origins: dict[int, str], means: dict[int, tuple[int, float, int]], on: ScoredOn
) -> Markup:
    firsts: dict[str, int] = {}
    for number in sorted(means):
        firsts.setdefault(digest_json(values[number]), number)
    order = sorted(firsts.values(), key=lambda number: (-means[number][1], number))
    rows = []
    for number in order[:_ROWS]:
        iteration, mean, samples = means[number]
        text = json.dumps(values[number], ensure_ascii=False)
        counted = f"{samples} of {on.search}" if on.search is not None else str(samples)
        rows.append((number, iteration, f"{mean:.5g}", counted, origins.get(number, ""), text[:600]))
    failed = len(values) - len(means)
    more, again = len(order) - len(rows), len(means) - len(order)
    words = [
        f"{more} more {'is' if more == 1 else 'are'} in run.sqlite." if more > 0 else "",
        f"{again} {'candidate has' if again == 1 else 'candidates have'} the values of an earlier one, and its rewards."
        if again
        else "",
        f"{failed} {'candidate has' if failed == 1 else 'candidates have'} no reward." if failed else "",
    ]
    text = " ".join(word for word in words if word)
    head = ["candidate", "iteration", on.reward, several(on.item_name), "origin", "values"]
    return element("div", table(head, rows), *([element("p", text, class_="dim")] if text else []), class_="wide")
