"""Where a study's relative paths start: kept in its run as it is, and as it lies from the run's folder.

A project that was copied, moved or unpacked with its runs in it is known by the study's file, which lies from the run
as it did. So each copy goes on with its own files.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from thalweg.errors import RunError
from thalweg.runs.files import is_file

_ABSOLUTE, _RELATIVE = "study_folder", "study_folder_from_run"


def places(study: Path, run: Path) -> dict[str, str]:
    """What a run keeps of its study's folder, as facts.

    Args:
        study: the folder where relative paths of the study start.
        run: the run's folder.
    """
    study, run = study.absolute(), run.absolute()
    try:
        return {_ABSOLUTE: str(study), _RELATIVE: os.path.relpath(study, run)}
    except ValueError:  # on another drive
        return {_ABSOLUTE: str(study)}


def place_of(facts: Mapping[str, Any], name: str, run: Path) -> tuple[Path, str | None]:
    """The folder where the study's relative paths start now.

    Args:
        facts: of the run's history; may be somebody else's.
        name: of the study: that of its file, without ``.toml``.
        run: the run's folder, wherever it is now.

    Returns:
        The folder that lies from the run as it did, if the study's file is in it; else the one that it was. And a
        sentence, if it is another one than it was.

    Raises:
        RunError: what the history says is no place.

    Example:
        >>> from pathlib import Path
        >>> from tempfile import TemporaryDirectory
        >>> from thalweg.runs.places import place_of, places
        >>> with TemporaryDirectory() as there:
        ...     project = Path(there) / "project"
        ...     project.mkdir()
        ...     _ = (project / "mine.toml").write_text("")
        ...     kept = places(project, project / "runs" / "7")
        ...     moved = project.rename(Path(there) / "moved")
        ...     place_of(kept, "mine", moved / "runs" / "7")[0] == moved
        True
    """
    absolute, relative = facts.get(_ABSOLUTE, str(run)), facts.get(_RELATIVE)
    if not isinstance(absolute, str) or not isinstance(relative, str | None):
        raise RunError(
            f"The history of {run} is damaged: its study's folder is {absolute!r}, {relative!r} from the run."
        )
    known = Path(absolute)
    if relative is not None:
        there = Path(os.path.normpath(run.absolute() / relative))
        if there != known and is_file(there / f"{name}.toml"):
            return there, f"the study's files are read from {there}, where the run lies now; they were in {known}"
    return known, None
