"""Arguments and options that several commands share, with their completion."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated

import typer


def complete_study(incomplete: str) -> list[str]:
    """Studies that come with Thalweg, files and folders."""
    files = [str(path) for path in Path().glob(f"{incomplete}*.toml")]
    folders = [f"{path}/" for path in Path().glob(f"{incomplete}*") if path.is_dir()]
    return complete_shipped(incomplete) + sorted(files + folders)


def complete_shipped(incomplete: str) -> list[str]:
    """Studies that come with Thalweg."""
    from thalweg.runs.shipped import shipped_names

    return [name for name in shipped_names() if name.startswith(incomplete)]


def complete_run(incomplete: str) -> list[str]:
    """Folders of runs, here and one folder below."""
    from glob import escape, glob  # Path.glob knows no patterns that begin with a slash

    found = [path for depth in ("*", "*/*") for path in glob(f"{escape(incomplete)}{depth}/run.sqlite")]
    return sorted(os.path.dirname(path) for path in found)


StudyArgument = Annotated[
    str,
    typer.Argument(
        metavar="STUDY",
        help="A study file, or the name of a study that comes with Thalweg (`thalweg studies`).",
        autocompletion=complete_study,
        show_default=False,
    ),
]
SetOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="PATH=VALUE",
        help="Change one value of the study; the value is TOML. May be repeated. "
        "Entries of lists go by number: `--set blocks.0.iterations=4`.",
        show_default=False,
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option(
        "--threads",
        metavar="N",
        min=1,
        help="Compute in N threads of this machine; default: what the study says, else every core. The result is the "
        "same.",
        show_default=False,
    ),
]
WorkersOption = Annotated[
    int | None,
    typer.Option(
        "--workers",
        metavar="N",
        min=1,
        help="Compute in N Dask worker processes of this machine, instead of threads. The result is the same.",
        show_default=False,
    ),
]
SchedulerOption = Annotated[
    str | None,
    typer.Option(
        "--scheduler",
        metavar="ADDRESS",
        help="Compute on the Dask cluster of this scheduler, `tcp://host:8786`. The result is the same.",
        show_default=False,
    ),
]
DryRunOption = Annotated[
    bool,
    typer.Option("--dry-run", help="Print what the run would need and could cost at most, and compute nothing."),
]
QuietOption = Annotated[bool, typer.Option("--quiet", help="Print nothing but errors and the path of the run.")]
TracebackOption = Annotated[
    bool, typer.Option("--traceback", help="After an error show where in the program it came from, too.")
]


RunArgument = Annotated[
    Path,
    typer.Argument(metavar="RUN", help="The folder of a run.", autocompletion=complete_run, show_default=False),
]
