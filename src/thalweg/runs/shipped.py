"""The studies that come with the library, and how a name on the command line becomes a file."""

from __future__ import annotations

import shlex
import tomllib
from dataclasses import dataclass
from pathlib import Path

from thalweg.errors import StudyError
from thalweg.runs.validation import meant


@dataclass(frozen=True)
class ShippedStudy:
    """A study that comes with the library.

    Args:
        name: what ``thalweg run NAME`` calls it.
        path: its file.
        title: from the file.
        description: from the file, one line.
    """

    name: str
    path: Path
    title: str
    description: str


def studies_folder() -> Path | None:
    """Where the studies are: inside the installed package, or beside ``src`` in the source tree."""
    package = Path(__file__).resolve().parents[1]
    tree = package.parents[1]
    candidates = [package / "studies"]
    if (tree / "pyproject.toml").is_file():  # else that folder is somebody else's
        candidates.append(tree / "studies")
    return next((folder for folder in candidates if folder.is_dir()), None)


def shipped_names() -> list[str]:
    """The names of the shipped studies, sorted."""
    folder = studies_folder()
    return sorted(path.stem for path in folder.glob("*.toml")) if folder else []


def shipped_studies() -> list[ShippedStudy]:
    """The shipped studies, sorted by name."""
    folder = studies_folder()
    found = []
    for name in shipped_names():
        assert folder is not None
        path = folder / f"{name}.toml"
        document = tomllib.loads(path.read_text(encoding="utf-8"))
        found.append(ShippedStudy(name, path, document.get("title", ""), document.get("description", "")))
    return found


def find_study(name: str) -> Path:
    """The file of a study: a path, or the bare name of a shipped one; a file of that name in the present
    folder wins.

    Raises:
        StudyError: there is none; it names what is near.

    Example:
        >>> from thalweg.runs import find_study
        >>> find_study("head").name
        'head.toml'
    """
    path = Path(name)
    folder, shipped = studies_folder(), shipped_names()
    try:
        if path.is_file():
            return path
        if folder is not None and name in shipped:
            return folder / f"{name}.toml"
        beside = sorted(p.name for p in path.parent.glob("*.toml")) if path.parent.is_dir() else []
        is_folder = path.is_dir()
    except (OSError, ValueError) as error:  # a path that cannot be one: too long, not allowed
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise StudyError(f"There is no study {name!r}: {why}. Give the path of a TOML file.", name=name) from error
    if is_folder and name.strip():
        raise _no_study(name, path)
    lines = [f"There is no study {name!r}."]
    if not name.strip():
        lines = ["The name of the study is empty."]
    if beside:
        lines.append(f"In {path.parent}/ there are: {', '.join(beside)}{meant(path.name, beside)}.")
    if shipped:
        lines.append(f"With Thalweg come: {', '.join(shipped)}{meant(path.stem, shipped)}.")
    lines.append("Give the path of a TOML file, or a name that `thalweg studies` lists.")
    raise StudyError("\n".join(lines), name=name)


def _no_study(name: str, folder: Path) -> StudyError:
    """The error of a folder that was named instead of a study."""
    if (folder / "run.sqlite").is_file():
        lines = [
            f"{name!r} is the folder of a run, and no study.",
            f"To go on with the run: thalweg resume {shlex.quote(name)}",
            f"To make another one of its study: thalweg run {shlex.quote(str(folder / 'study.toml'))}",
        ]
    else:
        inside = sorted(path.name for path in folder.glob("*.toml"))
        lines = [f"There is no study {name!r}: it is a folder."]
        lines += [f"In it there are {', '.join(inside)}."] if inside else []
        lines.append("Give the path of a TOML file, or a name that `thalweg studies` lists.")
    return StudyError("\n".join(lines), name=name)


def copy_study(name: str, folder: Path) -> Path:
    """Write a shipped study into a folder and return the new file.

    Raises:
        StudyError: there is no study of that name, or a file of its name is there already.
    """
    source, shipped = studies_folder(), shipped_names()
    if source is None or name not in shipped:
        known = f" There are: {', '.join(shipped)}{meant(name, shipped)}." if shipped else ""
        raise StudyError(f"There is no study {name!r} among those that come with Thalweg.{known}", name=name)
    target = folder / f"{name}.toml"
    try:
        with target.open("xb") as file:
            file.write((source / f"{name}.toml").read_bytes())
    except FileExistsError:
        raise StudyError(f"{target} is there already; move it away, or copy into another folder.", name=name) from None
    except OSError as error:
        raise StudyError(f"{target} cannot be written: {error.strerror or error}.", name=name) from error
    return target
