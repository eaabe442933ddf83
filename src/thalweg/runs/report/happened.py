"""What happened, in order: the history's events, and the ends that nobody could write down."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import Any

from thalweg.runs.record import BEGINNINGS, ENDINGS, RunRecord
from thalweg.runs.report.failures import FAILED_ITEM
from thalweg.runs.report.markup import Markup, element, section

_EVENTS = 200
KILLED = "killed"


def happened(record: RunRecord) -> Markup:
    """The section."""
    events = _with_kills(record)
    shown = events if len(events) <= _EVENTS else [*events[: _EVENTS // 2], *events[-_EVENTS // 2 :]]
    rows = [
        element(
            "div",
            element("div", element("b", event["kind"], class_=event["kind"] if event["kind"].isalpha() else "")),
            element("div", _when(event), class_="dim"),
            element("div", *_text(event)),
            class_="event",
        )
        for event in shown
    ]
    left = len(events) - len(shown)
    note = element("p", f"{left} events between are left out.", class_="dim") if left else ""
    if not rows:
        return Markup("")
    return section("What happened", *rows, note)


def moment(seconds: float) -> str:
    """A time since the epoch, with its zone."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z", time.localtime(seconds))


def _with_kills(record: RunRecord) -> list[dict[str, Any]]:
    """The events, and one where a process has ended that left no word of it."""
    found: list[dict[str, Any]] = []
    working = False
    for event in record.events:
        kind = event["kind"]
        if kind in BEGINNINGS and working:
            found.append(_kill(f"before {moment(event['time'])}"))
        working = kind in BEGINNINGS or (working and kind not in ENDINGS)
        if kind != FAILED_ITEM:
            found.append(event)
    if working and record.status == KILLED:
        found.append(_kill(f"after iteration {record.done}"))
    return found


def _kill(when: str) -> dict[str, Any]:
    text = "The process left no word of its end: it was killed, its machine stopped, or Ctrl-C was pressed twice."
    return {"kind": KILLED, "when": when, "text": text, "details": {}}


def _when(event: dict[str, Any]) -> str:
    return str(event["when"] if "when" in event else f"{moment(event['time'])}, iteration {event['iteration']}")


def _text(event: dict[str, Any]) -> Iterable[Any]:
    yield event["text"]
    details = event["details"] if isinstance(event["details"], dict) else {}
    for note in details.get("notes") or []:
        yield element("div", str(note), class_="dim")
    changed = details.get("set") or []
    if changed:
        yield element("div", "set: ", element("code", ", ".join(map(str, changed))), class_="dim")
