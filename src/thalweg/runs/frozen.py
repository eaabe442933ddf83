"""The study as it ran: its text, from the run's folder or else of its history, and the document that it is."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thalweg.errors import RunError
from thalweg.runs.files import read_small
from thalweg.runs.folder import RunFolder
from thalweg.runs.toml import parse

_CURE = "Remove it, and it is made again of the history; or restore it from a copy."


def study_text(folder: RunFolder, facts: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    """The text of the study, and what must be said of it: where the file is gone the history has it."""
    text = facts.get("study")
    if isinstance(text, str) and not os.path.lexists(folder.study):
        return text, (f"{folder.study.name} was missing; it is made again of the history",)
    try:
        return read_small(folder.study), ()
    except (OSError, ValueError) as error:
        raise RunError(f"{folder.study}, the study as it ran, cannot be read: {error}. {_CURE}") from error


def document_of(text: Any, path: Path, cure: str = _CURE) -> dict[str, Any]:
    """The document that a text is, which comes from ``path``; where it is damaged ``cure`` says what to do."""
    try:
        return parse(text)
    except (TypeError, ValueError, RecursionError) as error:
        raise RunError(f"The study as it ran, in {path}, is damaged: {error}. {cure}") from error
