"""What went wrong: what ended the run, the items that were left out, warnings, damage in the folder."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from thalweg.runs.record import RunRecord
from thalweg.runs.report.markup import Markup, element, join, section
from thalweg.runs.report.models import Models

FAILED_ITEM = "failed_item"
"""The kind of the events that tell of an item that was left out; they have a table of their own."""

_GROUPS = 50


def failures(record: RunRecord, models: Models) -> Markup:
    """The section; nothing if all went well."""
    texts = [event["text"] for event in record.events if event["kind"] == "warning"]
    texts += [str(text) for text in record.summary.get("warnings") or []]
    texts += [*record.faults, *models.faults]
    texts += [f"checkpoint {c.number} is damaged: {c.fault}" for c in models.checkpoints if is_damaged(c.fault)]
    warnings = [_note("warning", text) for text in dict.fromkeys(texts)]
    return section("Failures and warnings", _ending(record), _left_out(record), *warnings)


def is_damaged(fault: str) -> bool:
    """Whether a checkpoint's fault is one, and not just that nobody has looked."""
    return bool(fault) and not fault.startswith("not checked")


def _ending(record: RunRecord) -> Markup:
    """What a failed run failed by."""
    error = record.summary.get("error")
    events = [event for event in record.events if event["kind"] == "failed"]
    if isinstance(error, dict):
        lines = [f"{error.get('type')}: {error.get('text')}", *(error.get("notes") or [])]
        return join([_note("failed", "\n".join(map(str, lines))), _traceback("Traceback", error.get("traceback"))])
    if record.status == "failed" and events:
        details = _details(events[-1])
        lines = [events[-1]["text"], *(details.get("notes") or [])]
        note = _note("failed", "\n".join(map(str, lines)))
        return join([note, _traceback("Traceback", details.get("traceback"))])
    return Markup("")


def _left_out(record: RunRecord) -> Markup:
    """The items that were left out: which, when, by whom, why."""
    events = [event for event in record.events if event["kind"] == FAILED_ITEM]
    if not events:
        return Markup("")
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    for event in events:
        details = _details(event)
        found.setdefault((str(details.get("item")), str(details.get("error"))), []).append(event)
    shown = [_group(item, error, group) for (item, error), group in list(found.items())[:_GROUPS]]
    what = "1 failed item was" if len(events) == 1 else f"{len(events)} failed items were"
    what += f" left out, of {record.iterations['items'].sum():.0f} in all iterations"
    rest = len(found) - len(shown)
    return join(
        [
            _note("warning", f"{what}, and the sums weighted for those that are missing, as the study allows."),
            *shown,
            element("p", f"{rest} more are in the history.", class_="dim") if rest else "",
        ]
    )


def _group(item: str, error: str, events: list[dict[str, Any]]) -> Markup:
    """One item that failed in one way, as often as it did."""
    first = _details(events[0])
    times = "once" if len(events) == 1 else f"{len(events)} times"
    iterations = "iteration" if len(events) == 1 else "iterations"
    when = f"{times}, {iterations} {_some(event['iteration'] for event in events)}"
    who = _some(dict.fromkeys(str(_details(event).get("worker")) for event in events))
    return element(
        "div",
        element("div", element("b", f"item {item}"), " ", element("span", when, class_="dim")),
        element("div", error),
        element("div", who, class_="dim"),
        _traceback("Traceback", first.get("traceback")),
        class_="failure",
    )


def _some(values: Iterable[Any], most: int = 6) -> str:
    texts = [str(value) for value in values]
    return ", ".join(texts[:most]) + (f" and {len(texts) - most} more" if len(texts) > most else "")


def _traceback(title: str, text: Any) -> Markup:
    if not isinstance(text, str) or not text:
        return Markup("")
    return element("details", element("summary", title), element("pre", element("code", text)))


def _note(kind: str, text: str) -> Markup:
    return element("div", element("span", text), class_=f"note {kind}")


def _details(event: dict[str, Any]) -> dict[str, Any]:
    return event["details"] if isinstance(event["details"], dict) else {}
