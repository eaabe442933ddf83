"""How a command ends that could not do its work: one block that says what happened, why, and what to do."""

from __future__ import annotations

from typing import NoReturn

import typer


def refuse(error: Exception, traceback: bool) -> NoReturn:
    """End a command before there is a run: the study, or what it names, is at fault."""
    from thalweg.errors import ThalwegError

    what = "Nothing was computed" + ("." if isinstance(error, ThalwegError) else ": an unexpected error.")
    fail(what, error, traceback, code=2)


def fail(what: str, error: Exception, traceback: bool, *, code: int, hint: str = "") -> NoReturn:
    """Print one block that says what happened, why, and what to do, and exit."""
    import traceback as tracebacks

    from thalweg.errors import ThalwegError

    ours = isinstance(error, ThalwegError)
    inner = getattr(error, "details", {}).get("traceback")  # of what failed in an evaluation, and is an error no more
    if traceback:
        typer.echo("".join(tracebacks.format_exception(error)), err=True)
        if inner:
            typer.echo(f"{inner}\n", err=True)
    typer.secho(f"Error: {what}", fg="red", bold=True, err=True)
    typer.echo(str(error) if ours else f"{type(error).__name__}: {error}", err=True)
    for note in getattr(error, "__notes__", []):
        typer.echo(f"({note})", err=True)
    if hint:
        typer.echo(hint, err=True)
    foreign = (
        not ours
        or bool(inner)
        or (error.__cause__ is not None and not isinstance(error.__cause__, (ThalwegError, OSError)))
    )
    if foreign and not traceback:
        typer.echo("With --traceback you see where in the program it came from.", err=True)
    raise typer.Exit(code)
