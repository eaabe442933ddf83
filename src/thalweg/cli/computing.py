"""Commands that compute: ``run``, ``resume`` and ``check``."""

from __future__ import annotations

import shlex
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from thalweg.cli.app import app
from thalweg.cli.failing import fail, refuse
from thalweg.cli.options import (
    DryRunOption,
    QuietOption,
    RunArgument,
    SchedulerOption,
    SetOption,
    StudyArgument,
    ThreadsOption,
    TracebackOption,
    WorkersOption,
)

if TYPE_CHECKING:
    from thalweg.runs import Display, Run, Study


@app.command()
def run(
    study: StudyArgument,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="DIR",
            help="The folder of this run, empty or new; default: the next free `runs/STUDY-N`.",
            show_default=False,
        ),
    ] = None,
    changes: SetOption = None,
    threads: ThreadsOption = None,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, if there is one; begin it if there is not.")
    ] = False,
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Run a study.

    Everything about the run ends up in one folder: the study as it ran, the history, checkpoints, pictures,
    the model (`result.npz`, of a search `result.json`) and the figures (`summary.json`). Ctrl-C stops after the
    shots that are being worked on and leaves the run readable; a second one stops at once.

        thalweg run head --set blocks.0.iterations=4 --out runs/try
    """
    if resume and out is None:
        typer.secho("Error: --resume goes with --out.", fg="red", bold=True, err=True)
        typer.echo("Say which run is meant: its folder, or `thalweg resume RUN`.", err=True)
        raise typer.Exit(2)
    changes = [*_placing(threads, workers, scheduler), *(changes or [])]
    loaded = _load(study, changes, traceback)
    if resume and out is not None and (out / "run.sqlite").is_file():
        from thalweg.runs.overrides import path_of

        named = [path_of(change) for change in changes]
        _go_on(out, [], loaded, named, quiet=quiet, traceback=traceback, dry_run=dry_run)
        return
    if dry_run:
        _print_plan(_session(loaded, out, None), traceback)
        return
    display, close = _display(loaded, quiet)
    _execute(_session(loaded, out, display), close, quiet, traceback)


@app.command()
def resume(
    folder: RunArgument,
    changes: SetOption = None,
    iteration: Annotated[
        int | None,
        typer.Option(
            "--iteration",
            metavar="N",
            min=0,
            help="Go on from the checkpoint of iteration N (0: the beginning); what was made after it goes. Default: "
            "the newest.",
            show_default=False,
        ),
    ] = None,
    threads: ThreadsOption = None,
    workers: WorkersOption = None,
    scheduler: SchedulerOption = None,
    dry_run: DryRunOption = False,
    quiet: QuietOption = False,
    traceback: TracebackOption = False,
) -> None:
    """Go on with a run that was stopped, was killed, or is to have more iterations.

    It continues from its newest checkpoint, to the same bits as if it had never stopped. The study is the one in
    the folder; what is to change is named with --set.

        thalweg resume runs/head-1

        thalweg resume runs/head-1 --set blocks.2.iterations=40

    Where the last steps have spoiled the model, go on from an earlier checkpoint with other settings.

        thalweg resume runs/head-1 --iteration 10 --set optimizer.learning_rate=2.0
    """
    changes = [*_placing(threads, workers, scheduler), *(changes or [])]
    _go_on(folder, changes, None, [], quiet=quiet, traceback=traceback, dry_run=dry_run, iteration=iteration)


def _print_plan(session: Run, traceback: bool) -> None:
    import asyncio

    try:
        plan = asyncio.run(session.plan())
    except Exception as error:
        refuse(error, traceback)
    typer.echo(session.study.settings.title)
    width = max(len(name) for name, _ in plan)
    for name, value in plan:
        typer.echo(f"  {name:<{width}}  " + value.replace("\n", "\n" + " " * (width + 4)))


def _go_on(
    folder: Path,
    overrides: list[str],
    study: Study | None,
    named: list[str],
    *,
    quiet: bool,
    traceback: bool,
    dry_run: bool,
    iteration: int | None = None,
) -> None:
    from thalweg.runs.session import Run

    try:
        session = Run.resume(folder, overrides=overrides, study=study, named=named, iteration=iteration)
    except Exception as error:
        refuse(error, traceback)
    if dry_run:
        _print_plan(session, traceback)
        return
    display, close = _display(session.study, quiet)
    session.show(display)
    _execute(session, close, quiet, traceback)


def _execute(session: Run, close: Any, quiet: bool, traceback: bool) -> None:
    """Run it in the terminal, with Ctrl-C and errors as a user expects them."""
    from thalweg.runs.interrupt import Interrupted, run_interruptible

    def on_second() -> None:
        try:
            session.abandon()
        finally:
            close()
            _say_how_to_go_on(session.folder, quiet)

    try:
        run_interruptible(session.execute(), on_first=session.announce_stop, on_second=on_second)
    except Interrupted as stopped:
        # A signal that came when all was done and written down has not stopped anything.
        if session.outcome is None or session.outcome.status != "finished":
            _say_how_to_go_on(session.folder, quiet)
            raise typer.Exit(128 + stopped.signal) from None
    except Exception as error:
        close()
        if session.outcome is None:
            refuse(error, traceback)  # before there was a run: the study is at fault
        folder, hint = session.outcome.folder, ""
        if (folder / "run.sqlite").is_file():  # else the error says where it is
            hint = f"Everything until then is in {folder}; {_going_on(folder)}{_earlier(folder)}"
        fail("The run stopped.", error, traceback, code=1, hint=hint)
    if quiet and session.outcome is not None:
        typer.echo(str(session.outcome.folder))


def _going_on(folder: Path) -> str:
    return f"go on with: thalweg resume {shlex.quote(str(folder))}"


def _earlier(folder: Path) -> str:
    """How to go on from before what has failed, if there are checkpoints of then."""
    from thalweg.runs.choosing import iteration_before

    before = iteration_before(folder)
    if before is None:
        return ""
    return f"; or from before the last steps: thalweg resume {shlex.quote(str(folder))} --iteration {before}"


def _say_how_to_go_on(folder: Path | None, quiet: bool) -> None:
    """Of a run that was stopped, unless nobody listens any more, or a signal came in the middle of a line."""
    with suppress(OSError, RuntimeError):
        if folder is not None:
            typer.echo(str(folder) if quiet else _going_on(folder))
        elif not quiet:
            typer.echo("stopped before anything was computed")
        sys.stdout.flush()


@app.command()
def check(
    study: StudyArgument,
    changes: SetOption = None,
    threads: ThreadsOption = None,
    traceback: TracebackOption = False,
) -> None:
    """Check a study before hours are spent on it.

    Validates the file, prints what the run will need, and measures what could be wrong (for a wave problem:
    adjoint and gradient tests, stability, points a wavelength, memory, expected time). Exits with 1 if a
    check fails. Of a search it evaluates the start on one sample, which a language model is paid for: it says before
    what that can cost, and `thalweg run --dry-run` does without.

        thalweg check head --set problem.order=8
    """
    from rich.console import Console

    from thalweg.runs.checking import print_checks

    loaded = _load(study, [*_placing(threads), *(changes or [])], traceback)
    try:
        good = print_checks(loaded, Console())
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except Exception as error:
        refuse(error, traceback)
    raise typer.Exit(0 if good else 1)


def _load(name: str, changes: list[str], traceback: bool) -> Study:
    from thalweg.runs.shipped import find_study
    from thalweg.runs.study import Study

    try:
        return Study.load(find_study(name), overrides=changes)
    except Exception as error:
        refuse(error, traceback)


def _placing(threads: int | None, workers: int | None = None, scheduler: str | None = None) -> list[str]:
    """The change of a study that says where its work is done, instead of what it says itself; --set comes later."""
    import json

    tables = {
        "--threads": (threads, f"{{ threads = {threads} }}"),
        "--workers": (workers, f'{{ kind = "dask", workers = {workers} }}'),
        "--scheduler": (scheduler, f'{{ kind = "dask", scheduler = {json.dumps(scheduler)} }}'),
    }
    said = {name: table for name, (value, table) in tables.items() if value is not None}
    if len(said) > 1:
        typer.secho(f"Error: {' does not go with '.join(list(said)[:2])}.", fg="red", bold=True, err=True)
        typer.echo(
            "The work is done in threads, in worker processes of this machine, or on a scheduler's cluster. Name one.",
            err=True,
        )
        raise typer.Exit(2)
    return [f"runtime={table}" for table in said.values()]


def _display(study: Study, quiet: bool) -> tuple[Display, Any]:
    """The display, and what gives the terminal back."""
    from rich.console import Console

    from thalweg.runs.display import PlainDisplay, QuietDisplay
    from thalweg.runs.live import LiveDisplay

    if quiet:
        return QuietDisplay(), lambda: None
    console = Console()
    if console.is_terminal and not console.is_dumb_terminal:
        live = LiveDisplay(console, item_name=study.problem_class.item_name)
        return live, live.close
    return PlainDisplay(sys.stdout, item_name=study.problem_class.item_name), lambda: None


def _session(study: Study, out: Path | None, display: Display | None) -> Run:
    from thalweg.runs.session import Run

    return Run(study, out=out, display=display)
