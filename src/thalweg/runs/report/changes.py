"""What ``--set`` changed in a study, when it began and each time it went on."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from thalweg.runs.record import RunRecord, parsed
from thalweg.runs.resuming import INPUTS

NOT_THERE = "(not there)"
_SHORT_DIGEST = 12


@dataclass(frozen=True)
class Change:
    """One changed key.

    Args:
        when: in words.
        key: its dotted path.
        before: its value, as text.
        after: the same.
        iteration: after which one it holds; 0 if all that there is of the run was made with it.
    """

    when: str
    key: str
    before: str
    after: str
    iteration: int = 0


def changes_of(record: RunRecord) -> list[Change]:
    """The changes of a run's study, in order.

    What a key was before the run began is not in the folder, only what it was changed to; what a resumption
    changed is known from both texts.
    """
    changes: list[Change] = []
    events = [e for e in record.events if e["kind"] in ("started", "resumed") and isinstance(e["details"], dict)]
    before = [event["details"].get("study_before") for event in events]
    contents = [*(_contents(event["details"].get("inputs_before")) for event in events), contents_of(record)]
    for number, event in enumerate(events):
        if event["kind"] == "started":
            for override in event["details"].get("set") or []:
                key, _, value = str(override).partition("=")
                changes.append(Change("at the start", key.strip(), "(the study file's)", value.strip()))
        elif before[number] is not None:
            later = next((text for text in before[number + 1 :] if text is not None), record.text)
            when = f"resumed at iteration {event['iteration']}"
            first = min(e["iteration"] for e in events[number:])  # what is computed again has it, too
            found = [
                *differences(parsed(before[number]), parsed(later)),
                *(
                    (k, was, contents[number + 1][k])
                    for k, was in contents[number].items()
                    if k in contents[number + 1]
                ),
            ]
            changes += [Change(when, *change, iteration=first) for change in found if change[1] != change[2]]
    return changes


def differences(old: dict[str, Any], new: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
    """(dotted path, value before, value after) of each key in which two documents differ.

    Example:
        >>> from thalweg.runs.report.changes import differences
        >>> list(differences({"a": {"b": 1}, "c": [1]}, {"a": {"b": 2}}))
        [('a.b', '1', '2'), ('c', '[1]', '(not there)')]
    """
    before, after = flat(old), flat(new)
    for key in [*before, *(key for key in after if key not in before)]:
        if before.get(key, NOT_THERE) != after.get(key, NOT_THERE):
            yield key, before.get(key, NOT_THERE), after.get(key, NOT_THERE)


def contents_of(record: RunRecord) -> dict[str, str]:
    """What was in the files that a run's study names (:meth:`thalweg.runs.Problem.inputs`), by digest, at last."""
    return _contents(record.facts.get(INPUTS))


def _contents(inputs: Any) -> dict[str, str]:
    entries = inputs.items() if isinstance(inputs, dict) else ()
    return {f"{key}, content": json.dumps(str(digest)[:_SHORT_DIGEST]) for key, digest in entries}


def flat(document: Any, path: str = "") -> dict[str, str]:
    """The values of a document, as text, by dotted path."""
    entries: Any = None
    if isinstance(document, dict):
        entries = document.items()
    elif isinstance(document, list) and any(isinstance(entry, dict) for entry in document):
        entries = enumerate(document)
    if entries is None or (path and not document):
        return {path: json.dumps(document, default=str, ensure_ascii=False)}
    found: dict[str, str] = {}
    for key, value in entries:
        found |= flat(value, f"{path}.{key}" if path else str(key))
    return found
