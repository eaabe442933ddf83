"""The page: what is in it, in which order."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
from numpy.typing import NDArray

from thalweg.runs.bits import IDENTITY, compiled_for
from thalweg.runs.compared import ScoredOn
from thalweg.runs.display import duration
from thalweg.runs.figures import MISFIT_MARK
from thalweg.runs.record import CAPTIONS, ENDINGS, RunRecord
from thalweg.runs.report.changes import changes_of
from thalweg.runs.report.charts import Curve, chart
from thalweg.runs.report.failures import failures, is_damaged
from thalweg.runs.report.happened import happened, moment
from thalweg.runs.report.markup import Markup, clean, element, join, pairs, section, table
from thalweg.runs.report.models import Models, draw_models, png_address, read_models
from thalweg.runs.report.search import search_sections
from thalweg.runs.report.style import STYLE
from thalweg.runs.summary import SHOWN_APART
from thalweg.runs.tables import COLUMNS
from thalweg.runs.telling import on_some
from thalweg.runs.workers import COUNTED

_NORMS = {
    "step_norm": ("Step size", "‖change of the variables‖, in their unit."),
    "gradient_norm": ("Gradient norm", "‖gradient‖ of the batch, before any transform."),
    "learning_rate": ("Learning rate", "as the schedule had it."),
}
_LARGEST_PICTURE = 24 << 20  # bytes
# Where the window is narrow: the whole picture, and for whoever asks a larger one that scrolls.
_LARGER = Markup('<label class="larger"><input type="checkbox"> larger</label>')
# No script and no address outside the page: a browser that keeps to this asks nobody for anything.
_POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def page(record: RunRecord) -> str:
    """The whole page of a run, as HTML."""
    models = read_models(record)
    body = element(
        "main",
        _head(record),
        _cards(record),
        failures(record, models),
        *(search if (search := search_sections(record)) else [_pictures(record), draw_models(models), _curves(record)]),
        _timings(record),
        happened(record),
        _study(record),
        _origin(record, models),
    )
    meta = join(
        [
            Markup('<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'),
            Markup(f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'),
            element("title", f"{record.title} ({record.status})"),
            Markup(f"<style>{STYLE}</style>"),
        ]
    )
    head = element("head", meta)
    return f'<!DOCTYPE html>\n<html lang="en">{head}{element("body", body)}</html>\n'


def _head(record: RunRecord) -> Markup:
    kind = record.facts.get("problem") or record.summary.get("problem") or "unknown"
    where = f"run {record.name}, problem {kind}, as of {moment(time.time())}"
    description = record.document.get("description")
    return element(
        "header",
        element("h1", record.title),
        *([element("p", description)] if description else []),
        element("p", element("span", record.status, class_=f"status {record.status}"), " ", _words(record)),
        *([element("p", f"Stopped by {stopped}.")] if (stopped := record.summary.get("stopped")) else []),
        element("p", where, class_="dim"),
    )


def _words(record: RunRecord) -> str:
    of = f" of {record.total}" if record.total else ""
    so_far = f"after {record.done}{of} iterations"
    return {
        "finished": f"{record.done} iterations in {duration(record.seconds)}",
        "running": f"{record.done}{of} iterations, {duration(record.seconds)} so far",
        "killed": f"{so_far}: its process is gone without a word; thalweg resume goes on with it",
        "interrupted": f"{so_far}; thalweg resume goes on with it",
    }.get(record.status, so_far)


def _cards(record: RunRecord) -> Markup:
    cards: list[tuple[str, str]] = [("iterations", f"{record.done}" + (f" / {record.total}" if record.total else ""))]
    cards.append(("time", duration(record.seconds)))
    misfit, block = record.iterations["misfit"], record.iterations["block"]
    if "best" in record.iterations:
        cards.append((_best_of(record), f"{record.iterations['best'][-1] + 0.0:.5g}"))
        cards.append(("evaluations in the search", f"{record.iterations['evaluations'][-1]:.0f}"))
    elif len(misfit):
        last = misfit[block == block[-1]]
        cards.append((f"misfit an item, {record.block_name(int(block[-1]))}", f"{last[0]:.3e} → {last[-1]:.3e}"))
    captions = record.facts.get(CAPTIONS)
    captions = captions if isinstance(captions, dict) else {}
    own = [(name, value) for name, value in record.summary.items() if name not in SHOWN_APART]
    for name, value in own:
        if isinstance(value, (int, float, str)) and not isinstance(value, bool):
            text = f"{value:.5g}" if isinstance(value, float) else str(value)
            cards.append((str(captions.get(name, name.replace("_", " "))), text))
    return element("div", *(element("div", element("b", v), element("span", n)) for n, v in cards), class_="cards")


def _best_of(record: RunRecord) -> str:
    """What the best reward is, and of how many samples, as far as the run says it."""
    on = ScoredOn.of(record.facts)
    metric = f" ({on.measure})" if on.measure else ""
    count = record.iterations["best_samples"][-1] if "best_samples" in record.iterations else np.nan
    counted = on_some(count, on.search, on.item_name) if np.isfinite(count) else ""
    return f"best reward in the search{metric}{',' if counted else ''}{counted}"


def _pictures(record: RunRecord) -> Markup:
    figures = []
    faults = []
    try:
        paths = sorted(record.folder.figures.glob("*.png"), key=lambda path: (path.name != "result.png", path.name))
    except OSError:
        paths = []
    for path in paths:
        try:
            if path.stat().st_size > _LARGEST_PICTURE:
                faults.append(f"{path.name} has more than {_LARGEST_PICTURE >> 20} MiB, so it is left out.")
                continue
            data = path.read_bytes()
        except OSError as error:
            faults.append(f"{path.name} cannot be read: {error.strerror or error}.")
            continue
        if not data.startswith(b"\x89PNG\r\n\x1a\n"):
            faults.append(f"{path.name} is no PNG picture, so it is left out.")
        elif MISFIT_MARK.encode() not in data[:4096]:  # the page has that curve itself
            image = Markup(f'<img alt="{element("x", path.stem)[3:-4]}" src="{png_address(data)}">')
            caption = element("figcaption", element("b", path.stem), " ", _LARGER)
            figures.append(element("figure", caption, image, class_="picture"))
    missing = ""
    if record.status in ("running", "killed"):
        ended = any(event["kind"] in ENDINGS for event in record.events)
        missing = "" if figures else "The problem draws when the run ends."
        if figures and ended:
            missing = "They are of an earlier end of the run; the problem draws again when the run ends."
    return section(
        "Pictures",
        *figures,
        *(element("p", text, class_="dim") for text in [*faults, *([missing] if missing else [])]),
    )


def _curves(record: RunRecord) -> Markup:
    columns = record.iterations
    if not len(columns["iteration"]):
        return section("Progress", element("p", "No iteration is done yet.", class_="dim"))
    metrics = [name for name in columns if name not in COLUMNS]
    charts = [
        chart("Misfit", _by_block(record, columns["misfit"], relative=True), text="÷ first of its block.", log=True),
        *(
            chart(title, _by_block(record, columns[name]), text=text, log=True)
            for name, (title, text) in _NORMS.items()
            if name in metrics
        ),
        *(chart(name.replace("_", " "), _by_block(record, columns[name])) for name in metrics if name not in _NORMS),
    ]
    return section("Progress", element("div", *charts, class_="charts"), _blocks(record))


def _by_block(record: RunRecord, values: NDArray[np.float64], *, relative: bool = False) -> list[Curve]:
    numbers, blocks = record.iterations["iteration"].astype(np.float64), record.iterations["block"]
    present = np.unique(blocks)
    curves = []
    for index in present:
        here = blocks == index
        y = values[here].astype(np.float64)
        if relative and y[0] != 0:
            with np.errstate(all="ignore"):
                y = y / y[0]
        name = record.block_name(int(index)) if len(present) > 1 else ""
        curves.append(Curve(numbers[here], y, name, int(index)))
    return curves


def _blocks(record: RunRecord) -> Markup:
    columns = record.iterations
    rows = []
    for index, planned in enumerate(record.block_iterations):
        misfit = columns["misfit"][columns["block"] == index]
        done = f"{len(misfit)} / {planned}"
        if len(misfit):
            ratio = f"{misfit[-1] / misfit[0]:.3f}" if misfit[0] else ""
            rows.append((record.block_name(index), done, f"{misfit[0]:.4e}", f"{misfit[-1]:.4e}", ratio))
        else:
            rows.append((record.block_name(index), done, "", "", ""))
    if not rows:
        return Markup("")
    head = ["block", "iterations", "first misfit", "last misfit", "ratio"]
    return join([element("h3", "Blocks"), table(head, rows, numbers=[1, 2, 3, 4])])


def _timings(record: RunRecord) -> Markup:
    columns = record.iterations
    seconds, numbers = columns["seconds"], columns["iteration"]
    lines: list[tuple[str, str]] = []
    parts = record.summary.get("seconds_by_part")
    if isinstance(parts, dict) and parts:
        known = {str(name): float(value) for name, value in parts.items() if isinstance(value, (int, float))}
        resumed = len(_sessions(record)) > 1
        lines += [(f"{name}, last process" if resumed else name, duration(value)) for name, value in known.items()]
        rest = record.seconds - sum(known.values())
        if record.status in ("finished", "interrupted", "failed") and rest > 0 and not resumed:
            lines.append(("building and closing", duration(rest)))
    figure = Markup("")
    if len(seconds) > 1:
        steps = np.diff(seconds)
        starts = {event["iteration"] + 1 for event in record.events if event["kind"] == "resumed"}
        steps[np.isin(numbers[1:], list(starts))] = np.nan  # those hold the preparation, too
        good = steps[np.isfinite(steps)]
        if len(good):
            items = columns["items"][1:][np.isfinite(steps)]
            lines.append(("an iteration", f"median {_short(np.median(good))}, longest {_short(good.max())}"))
            lines.append(("an item", f"median {_short(np.median(good / items))}"))
        text = "between the ends of neighbors; without the first after a start."
        curves = [Curve(numbers[1:].astype(np.float64), steps)]
        figure = chart("Seconds an iteration", curves, text=text)
    lines.append(("all", duration(record.seconds)))
    peak = record.summary.get("peak_memory_bytes")
    if isinstance(peak, (int, float)):
        lines.append(("peak memory (own process)", f"{peak / 2**20:.0f} MiB"))
    workers = _workers(record)
    return section("Time", element("div", element("div", pairs(lines), workers), figure, class_="charts"))


def _short(seconds: float) -> str:
    return f"{seconds * 1e3:.3g} ms" if seconds < 1 else duration(float(seconds))


def _workers(record: RunRecord) -> Markup:
    found = record.facts.get(COUNTED)
    if not isinstance(found, dict) or not found:
        return Markup("")
    counts = {str(name): count for name, count in found.items() if isinstance(count, int)}
    most = max(counts.values(), default=0) or 1
    rows = [
        (name, count, element("span", class_="bar", style=f"width:{100 * count / most:.1f}%"))
        for name, count in counts.items()
    ]
    return join([element("h3", "Items by worker"), table(["worker", "items", ""], rows, numbers=[1])])


def _study(record: RunRecord) -> Markup:
    rows = changes_of(record)
    changes = (
        [
            element("h3", "Changed on the command line"),
            table(
                ["when", "key", "before", "after"],
                [(c.when, element("code", c.key), element("code", c.before), element("code", c.after)) for c in rows],
            ),
            element("h3", "As it ran"),
        ]
        if rows
        else []
    )
    return section("Study", *changes, element("pre", element("code", record.text.strip("\n"))) if record.text else "")


def _origin(record: RunRecord, models: Models) -> Markup:
    digests: list[tuple[Any, Any]] = []
    if record.summary.get("digest") and record.status != "running":
        digests.append(("variables, at the end", element("code", record.summary["digest"])))
    digests += [(f"variables, {label}", element("code", digest)) for label, digest in models.digests]
    checkpoints = [
        (
            c.number,
            "" if c.iteration is None else c.iteration,
            f"{c.size / 2**20:.2f} MiB",
            element("span", c.fault or "whole", class_="failed" if is_damaged(c.fault) else "finished"),
        )
        for c in models.checkpoints
    ]
    parts: list[Markup] = []
    if digests:
        about = "SHA-256 of names, shapes and bits: the same digest means the same model, to the last bit."
        parts += [element("h3", "Digests"), element("p", about, class_="dim"), pairs(digests)]
    if checkpoints:
        head = ["checkpoint", "iteration", "size", "its digests"]
        parts += [element("h3", "Checkpoints"), table(head, checkpoints, numbers=[0, 1, 2])]
    seed = record.facts.get("seed", record.summary.get("seed"))
    if seed is not None:
        parts += [element("h3", "Seed"), pairs([("seed", seed)])]
    versions = record.facts.get("versions") or record.summary.get("versions") or {}
    sessions = _sessions(record)
    for number, event in enumerate(sessions, start=1):
        details = event["details"]
        lines = [("began", moment(event["time"])), *_machine(details.get("machine") or {})]
        lines += [(name, value) for name, value in (details.get("versions") or versions).items()]
        lines += compiled_for(details.get(IDENTITY))
        title = "Machine and versions" + (f", process {number} of {len(sessions)}" if len(sessions) > 1 else "")
        parts += [element("h3", title), pairs(lines)]
    if not sessions and isinstance(versions, dict) and versions:
        parts += [element("h3", "Versions"), pairs(versions.items())]
    return section("Origin", *parts)


def _sessions(record: RunRecord) -> list[dict[str, Any]]:
    return [e for e in record.events if e["kind"] in ("started", "resumed") and isinstance(e["details"], dict)]


def _machine(found: dict[str, Any]) -> list[tuple[str, str]]:
    lines = [(name, clean(found[name])) for name in ("host", "system", "processor", "cores") if found.get(name)]
    memory = found.get("memory_bytes")
    return [*lines, *([("memory", f"{memory / 2**30:.1f} GiB")] if isinstance(memory, (int, float)) else [])]
